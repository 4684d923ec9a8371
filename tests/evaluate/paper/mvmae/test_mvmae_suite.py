"""`hilum evaluate mvmae`: every cell of the paper's evaluation runs, is kept, and stands in the right place."""

from __future__ import annotations

import io
import json
import re
import shutil
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from plain_metrics import score_auroc
from rich.console import Console
from shown import write_run, write_shown_archive

from hilum.cache import Cache
from hilum.cache.writer import build_cache
from hilum.commands.paper import print_table, run_evaluate, split_columns
from hilum.errors import UserError
from hilum.evaluate.features import embed_cache
from hilum.evaluate.heads import attentive
from hilum.evaluate.paper import cells
from hilum.evaluate.paper.entrants import find_entrants, identify_weights
from hilum.evaluate.paper.index import INDEX, read_suite
from hilum.evaluate.paper.index_writer import list_run_notes
from hilum.evaluate.paper.mvmae.suite import run_mvmae
from hilum.evaluate.paper.table import SuiteTable, find_estimate, format_percent
from hilum.evaluate.paper.tables import build_tables
from hilum.evaluate.probe.run import probe_encoder
from hilum.evaluate.result import Estimate, Hashes, Result, read_result
from hilum.evaluate.scoring.scores import read_scores
from hilum.evaluate.task import read_task
from hilum.report.page import write_report
from hilum.study import read_studies, write_studies

SETTINGS = {
    "counts": [24],
    "num_seeds": 2,
    "calibration_count": 24,
    "view_count": 20,
    "epochs": 1,
    "representation": "mean",
    "min_positives": 3,
    "num_resamples": 20,
    "precision": "32-true",
    "progress": False,
}
METHODS = ("mvmae", "supervised")
ATTENTIVE = ("attentive", "attentive probe", "rate")


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    """Two archives, one of a published name."""
    folder = tmp_path_factory.mktemp("both")
    tables = [
        write_shown_archive(folder / name, 80, seed=seed, dataset=name)
        for seed, name in enumerate(("mimic-cxr", "ours"))
    ]
    write_studies(pl.concat([read_studies(table) for table in tables], how="diagonal"), folder / "both.parquet")
    build_cache(
        folder / "both.parquet",
        folder / "cache",
        workers=0,
        short_side=64,
        progress=False,
        split_fractions={"train": 0.4, "val": 0.25, "test": 0.35},
    )
    return Cache.open(folder / "cache")


@pytest.fixture(scope="module")
def words(both: Cache, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Two runs of one method, one of which saw one archive only."""
    root = tmp_path_factory.mktemp("runs")
    runs = [write_run(root / f"run-{seed}", both, seed) for seed in (1, 2)]
    record = json.loads((runs[1] / "pretraining.json").read_text())
    table = both.table()[both.rows("train")].filter(pl.col("dataset") == "ours")
    images = set(table["views"].explode().struct.field("content_hash").to_list())
    ours = {"images": sorted(images), "people": {}}
    (runs[1] / "pretraining.json").write_text(json.dumps({**record, **ours, "datasets": ["renamed"]}))
    return [f"mvmae={runs[0]},{runs[1]}"]


@pytest.fixture(scope="module")
def folder(both: Cache, words: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("suite")
    with (out / "said.txt").open("w") as said, redirect_stdout(said), redirect_stderr(io.StringIO()):
        run_evaluate(both.path, words, out, paper=True, leave_one_out=True, **{**SETTINGS, "progress": True})
    return out


def find_table(folder: Path, title: str):
    (found,) = [table for table in build_tables(read_suite(folder)) if table.title.startswith(title)]
    return found


def test_every_method_has_every_result(folder: Path) -> None:
    suite = read_suite(folder)
    kinds = {(kind, count) for kind, _, count in suite.methods}
    assert kinds == {
        ("probe", None), ("probe", 24), ("probe per finding", None), ("one view", 20), ("two views", 20),
        ("finetune", None), ("finetune", 24), ("finetune per finding", None),
    }  # fmt: skip
    assert set(suite.methods) == {(kind, method, count) for kind, count in kinds for method in METHODS}
    assert suite.index["failed"] == {}
    wanted = {(kind, *METHODS) for kind in ("probe", "finetune", "one view", "two views")}
    assert set(suite.differences) == wanted | {("second view", method, method) for method in METHODS}
    for result in suite.methods.values():
        assert result.hashes.data == suite.index["data_digest"]


def test_a_method_is_the_mean_of_its_runs_on_every_archive(folder: Path) -> None:
    suite, index = read_suite(folder), json.loads((folder / INDEX).read_text())
    for slice in ("all", "dataset=ours", "mean over datasets", "dataset=ours, commonest findings"):
        seeds = [
            read_result(folder / cell["path"]).find("auroc", slice=slice).value
            for cell in index["cells"]
            if cell["kind"] == "probe" and cell["method"] == "mvmae" and cell["count"] is None
        ]
        assert len(seeds) == 2
        mean = suite.methods["probe", "mvmae", None].find("auroc", slice=slice)
        if slice != "mean over datasets":
            assert mean.value == pytest.approx(np.mean(seeds))
        assert mean.low < mean.value < mean.high


def test_combined_is_a_mean_and_pooled_and_they_differ(folder: Path) -> None:
    result = read_suite(folder).methods["finetune", "supervised", None]
    parts = [result.find("auroc", slice=f"dataset={name}").value for name in ("mimic-cxr", "ours")]
    assert result.find("auroc", slice="mean over datasets").value == pytest.approx(np.mean(parts))
    assert result.find("auroc").value != pytest.approx(np.mean(parts), abs=1e-6)


def test_differences_are_those_of_the_numbers(folder: Path) -> None:
    suite = read_suite(folder)
    for kind in ("probe", "finetune"):
        for slice in ("all", "dataset=mimic-cxr", "mean over datasets"):
            sides = [suite.methods[kind, name, None].find("auroc", slice=slice).value for name in METHODS[:2]]
            found = suite.differences[kind, *METHODS[:2]].find("auroc", slice=slice)
            assert found.value == pytest.approx(sides[0] - sides[1])
            assert found.low <= found.value <= found.high


def test_the_commonest_findings_are_the_same_for_all_and_named(both: Cache, folder: Path) -> None:
    suite = read_suite(folder)
    table = both.table()[both.rows("test")]
    positives = {name: int((table[name] == 1).sum()) for name in ("Edema", "Fracture", "Pneumonia")}
    assert {name for name in positives if positives[name]} <= set(suite.index["commonest_findings"])
    assert len(suite.index["commonest_findings"]) == sum(count > 0 for count in positives.values())
    for (kind, _, count), result in suite.methods.items():
        if kind not in ("probe", "finetune") or count is not None:
            continue
        named = {e.of for e in result.estimates if e.slice == "all, commonest findings"} - {"macro"}
        assert named == set(suite.index["commonest_findings"])


def test_few_labels_are_drawn_by_patient_and_spread_is_kept(folder: Path) -> None:
    suite = read_suite(folder)
    for kind, num in (("probe", 4), ("finetune", 2)):  # two draws: of both networks, or of a network each
        result = suite.methods[kind, "supervised", 24]
        draws = result.protocol["macro_auroc_of_repeats"]
        for slice in ("all", "dataset=ours", "mean over datasets"):
            assert len(draws[slice]) == num
            assert result.find("auroc", slice=slice).value == pytest.approx(np.mean(draws[slice]))
        assert result.counts["train_studies"] < suite.index["num_train"]
    four = suite.methods["probe", "mvmae", 24].protocol["macro_auroc_of_repeats"]["dataset=ours"]
    assert len(four) == 4  # two draws of two runs
    cell = {row[0]: row[1] for row in find_table(folder, "With few labels, linear probe").rows}["mvmae"]
    spread = suite.methods["probe", "mvmae", 24].protocol["macro_auroc_of_repeats"]["mean over datasets"]
    assert cell.endswith(f"spread {100 * min(spread):.1f} to {100 * max(spread):.1f}")
    assert suite.methods["probe", "mvmae", 24].find("brier_error", slice="dataset=ours").value is not None


def test_one_view_and_two_are_of_the_same_studies(both: Cache, folder: Path) -> None:
    suite, index = read_suite(folder), json.loads((folder / INDEX).read_text())
    paths = {cell["kind"]: folder / cell["path"] for cell in index["cells"] if cell["encoder"] == "supervised"}
    one, two = (read_scores(paths[kind].parent / "scores.npz") for kind in ("one view", "two views"))
    assert np.array_equal(one.row, two.row)
    assert (both.studies["num_views"][one.row] == 2).all()
    assert len(one.row) == index["two_view_studies"]["test"]
    assert not np.array_equal(one.logit, two.logit)
    sides = [suite.methods[kind, "supervised", 20].find("auroc").value for kind in ("two views", "one view")]
    gain = suite.differences["second view", "supervised", "supervised"].find("auroc").value
    assert gain == pytest.approx(sides[0] - sides[1])


def test_each_finding_is_of_the_probe_that_validation_chose_for_it(both: Cache, folder: Path, words: list[str]) -> None:
    task = read_task(both, "findings")
    features = embed_cache(both, Path(words[0].partition("=")[2].split(",")[0]), precision="32-true", progress=False)
    probe = probe_encoder(features, task, name="", representation="mean", settings=[1.0])
    edema, fracture = (task.names.index(name) for name in ("Edema", "Fracture"))
    assert score_auroc(probe.val.target[:, edema], probe.val.logit[0, :, edema]) > 0.5
    said = probe.val.logit.copy()
    said[..., edema] *= -1  # worse than the first in this, and right in that
    said[..., fracture] = probe.val.target[:, fracture]
    other = replace(probe, val=replace(probe.val, logit=said), test=replace(probe.test, logit=probe.test.logit + 1))
    merged, best = cells.select_per_finding([probe, other])
    assert (best["Edema"], best["Fracture"]) == (0, 1)
    assert np.array_equal(merged.logit[..., edema], probe.test.logit[..., edema])
    assert np.array_equal(merged.logit[..., fracture], probe.test.logit[..., fracture] + 1)
    index = json.loads((folder / INDEX).read_text())
    (path,) = {
        cell["path"] for cell in index["cells"] if cell["name"] == "supervised: linear probe, selected per finding"
    }
    result = read_result(folder / path)
    assert set(result.protocol["chosen_by_finding"]) == set(result.protocol["targets"])


def test_both_selections_are_of_one_fine_tuning(folder: Path) -> None:
    suite, index = read_suite(folder), json.loads((folder / INDEX).read_text())
    places: dict[str, dict[str, Path]] = {"finetune": {}, "finetune per finding": {}}
    for cell in index["cells"]:
        if cell["kind"] in places and cell["count"] is None:
            places[cell["kind"]][cell["encoder"]] = (folder / cell["path"]).parent
    tuned, chosen = places.values()
    assert set(tuned) == set(chosen) == {encoder["name"] for encoder in index["encoders"]}
    for name in tuned:
        one, other = (read_result(place[name] / "result.json") for place in (tuned, chosen))
        assert one.protocol["history"] == other.protocol["history"], "with the same seconds: one training"
        assert set(other.protocol["best_epoch_of"]) == set(other.protocol["targets"])
        assert one.hashes.weights == other.hashes.weights
        scores = read_scores(chosen[name] / "scores.npz")  # of one epoch: it is every finding's best
        assert np.array_equal(scores.logit, read_scores(tuned[name] / "scores.npz").logit)
    table = find_table(folder, "Selection for all findings or for each, fine-tuned")
    rows = {row[0]: row[1:] for row in table.rows}
    assert list(rows) == [f"{method}, for {what}" for method in METHODS for what in ("all findings", "each finding")]
    own = suite.methods["finetune per finding", "mvmae", None].find("auroc", slice="dataset=ours").value
    cell = rows["mvmae, for each finding"][table.columns[1:].index("ours")]
    assert cell.startswith(f"{100 * own:.1f}\n")
    assert find_table(folder, "Selection for all findings or for each, linear probe").rows


def test_having_no_pretraining_is_several_networks(folder: Path) -> None:
    suite, index = read_suite(folder), json.loads((folder / INDEX).read_text())
    names = [encoder["name"] for encoder in index["encoders"] if encoder["is_random"]]
    assert names == ["supervised", "supervised: network 1"]
    for kind in ("probe", "finetune"):
        found = [
            read_result(folder / cell["path"])
            for cell in index["cells"]
            if (cell["kind"], cell["method"], cell["count"]) == (kind, "supervised", None)
        ]
        assert [result.encoder for result in found] == names
        assert len({result.hashes.weights for result in found}) == 2, "other networks"
        mean = np.mean([result.find("auroc").value for result in found])
        assert suite.methods[kind, "supervised", None].find("auroc").value == pytest.approx(mean)
    few = [cell for cell in index["cells"] if cell["kind"] == "finetune" and cell["count"] == 24]
    assert sum(cell["method"] == "supervised" for cell in few) == 2, "a network for each draw, not for each of both"


def test_a_method_of_fewer_than_three_runs_is_said_to_be(folder: Path, both: Cache, words: list[str]) -> None:
    note = "Fewer than 3 runs: mvmae (2), supervised (2). "
    assert read_suite(folder).index["notes"][0].startswith(note)
    assert (folder / "tables.md").read_text().startswith(note)
    assert note in " ".join((folder / "said.txt").read_text().split())
    entrants = find_entrants(words, 3)
    assert [entrant.seed for entrant in entrants] == [0, 0, 0, 1, 2]
    known = [entrant.settings for entrant in entrants]
    assert len({str(settings) for settings in known}) == 5
    assert all("seed_of_weights" not in settings for settings in known[:3])
    said = list_run_notes(entrants)
    assert [one.startswith("Fewer than 3 runs: mvmae (2). ") for one in said] == [True]
    assert list_run_notes(entrants[2:]) == []


@pytest.mark.parametrize(("head", "title", "setting"), [("knn", "nearest neighbours", "neighbours"), ATTENTIVE])
def test_probes_may_have_another_head(
    head: str, title: str, setting: str, both: Cache, words: list[str], folder: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(attentive, "LEAST_STEPS", 20)  # enough to run, not to learn
    settings = {**SETTINGS, "num_seeds": 1, "representation": None, "protocols": ["probe"], "head": head}
    with redirect_stdout(io.StringIO()):
        run_evaluate(both.path, [words[0].split(",")[0]], tmp_path, paper=True, **settings)
    index = json.loads((tmp_path / INDEX).read_text())
    assert (index["head"], index["failed"]) == (head, {})
    results = {cell["name"]: read_result(tmp_path / cell["path"]) for cell in index["cells"]}
    names = ("", ", 24 labels", ", selected per finding")
    assert {f"mvmae: {title}{name}" for name in names} | {"mvmae: one view", "mvmae: two views"} <= set(results)
    assert {result.protocol["head"] for result in results.values()} == {head}
    read = {result.protocol.get("representation") for result in results.values()} - {None}
    assert read <= ({"tokens"} if head == "attentive" else {"class", "mean", "both"})
    whole = results[f"mvmae: {title}"]
    assert whole.protocol["kind"] == title
    assert setting in whole.protocol
    each = results[f"mvmae: {title}, selected per finding"].protocol["chosen_by_finding"]
    assert all(set(chosen) == {"representation", setting} for chosen in each.values())
    linear = read_suite(folder).methods["probe", "supervised", 24]
    assert linear.protocol["head"] == "linear"
    text = (tmp_path / "tables.md").read_text()
    assert f"All labels, {title} (Table 1)" in text
    assert "linear probe" not in text.lower()


def test_slices_have_counts(both: Cache, folder: Path) -> None:
    rows = {row[0]: row for row in find_table(folder, "By part, linear probe").rows}
    assert {"sex: F", "age: 20-39", "kinds: frontal", "kinds: frontal and lateral", "dataset: ours"} <= set(rows)
    test = both.table()[both.rows("test")]
    women = test.filter(pl.col("sex") == "F")
    assert rows["sex: F"][1:3] == [str(len(women)), str(women["group"].n_unique())]


def test_what_pretraining_saw_is_read_from_its_record_whatever_archives_are_called(folder: Path) -> None:
    rows = {row[0]: [cell.split("\n")[1] for cell in row[1:]] for row in find_table(folder, "Archives seen").rows}
    assert rows == {"mvmae": ["seen by some runs", "seen"], "supervised": ["not seen"] * 2}


def test_published_numbers_stand_beside_ones_own_with_their_faults(folder: Path) -> None:
    table = find_table(folder, "All labels, fine-tuned")
    column = {name: place for place, name in enumerate(table.columns)}
    rows = {row[0].split(" [")[0]: row for row in table.rows}
    own = read_suite(folder).methods["finetune", "mvmae", None].find("auroc", slice="dataset=mimic-cxr").value
    assert rows["mvmae"][column["mimic-cxr AUROC"]].startswith(f"{100 * own:.1f}\n")
    assert rows["MVMAE (published)"][column["mimic-cxr AUROC"]] == "82.74"
    assert rows["MVMAE (published)"][column["mimic-cxr F1"]] == "30.71"
    assert rows["MVMAE (published)"][column["PadChest AUROC"]] == "89.19"
    assert rows["MVMAE (published)"][column["Combined: pooled AUROC"]].startswith("87.43 [")
    assert rows["MVMAE (published)"][column["Combined: mean of archives AUROC"]] == "-"
    assert rows["MVMAE (published)"][column["ours AUROC"]] == "-"
    assert rows["mvmae"][column["PadChest AUROC"]] == "-"
    fairer = rows["BiomedCLIP (published, mean of Tables 5-7)"]
    assert [fairer[column[f"{name} AUROC"]] for name in ("mimic-cxr", "CheXpert", "PadChest")] == [
        "79.7",
        "81.6",
        "84.3",
    ]
    for said in ("contradicts Tables 5-7", "pooled over studies", "200 validation", "88.71", "validation split"):
        assert any(said in note for note in table.footnotes), said
    marked = rows["Independent (published)"][column["PadChest AUROC"]]
    assert any(note.startswith(marked.split(" ")[-1]) and "88.71" in note for note in table.footnotes)
    views = find_table(folder, "One view or two")
    assert any("as 0" in note for note in views.footnotes)
    published = {row[0].split(" [")[0]: row for row in views.rows}["MVMAE (published), two views"]
    assert published[views.columns.index("mimic-cxr")] == "75.22"
    brier = {row[0].split(" [")[0]: row for row in find_table(folder, "Calibration").rows}["MVMAE (published)"]
    assert brier[1] == "0.0832"
    edema = {row[0]: row for row in find_table(folder, "mimic-cxr by finding, fine-tuned").rows}["Edema"]
    assert edema[-5:] == ["88", "89", "88", "89", "89"]


def test_without_paper_nothing_published_is_shown(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "suite")
    index = json.loads((tmp_path / "suite" / INDEX).read_text())
    (tmp_path / "suite" / INDEX).write_text(json.dumps({**index, "paper": False}))
    for table in build_tables(read_suite(tmp_path / "suite")):
        assert not any(
            "ublished" in text for text in (*table.columns, table.caption, *chain(*table.rows), *table.footnotes)
        )


def test_a_second_call_keeps_everything(both: Cache, words: list[str], folder: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("result.json")}
    run_mvmae(both.path, words, folder, paper=True, **SETTINGS)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("result.json")} == before


def test_a_failed_cell_costs_nothing_but_itself_and_its_method(
    both: Cache, words: list[str], folder: Path, tmp_path: Path
) -> None:
    """The scores of one probe are lost and its folder cannot be written: the others stay, its method has no mean."""
    out = tmp_path / "suite"
    shutil.copytree(folder, out)
    index = json.loads((out / INDEX).read_text())
    (cell,) = (cell for cell in index["cells"] if cell["name"] == "mvmae: run-1: linear probe, 24 labels")
    broken = (out / cell["path"]).parent
    (broken / "result.json").unlink()
    (broken / "scores.npz").unlink()
    (broken / "scores.npz").mkdir()
    with pytest.raises(UserError, match=r"1 of \d+ evaluations failed, .*run-1: linear probe, 24 labels"):
        run_evaluate(both.path, words, out, paper=True, **SETTINGS)
    suite = read_suite(out)
    assert list(suite.index["failed"]) == [cell["name"]]
    assert ("probe", "mvmae", 24) not in suite.methods
    assert ("probe", "supervised", 24) in suite.methods
    assert ("probe", "mvmae", None) in suite.methods
    write_report([out], tmp_path / "report.html")
    assert "Evaluations that failed" in (tmp_path / "report.html").read_text()


def test_files_and_report_show_tables_and_figures(folder: Path, tmp_path: Path) -> None:
    text = (folder / "tables.md").read_text()
    assert "## All labels, fine-tuned (Table 1)" in text
    assert re.search(r"^\| supervised \[a\] ", text, re.MULTILINE)  # a probe of random weights is said to be one
    assert "[a] From random weights: a probe of features that learned nothing." in text
    assert "| MVMAE (published)" in text
    names = {path.stem for path in (folder / "figures").iterdir()}
    radars = {
        f"radar-{kind}-all-archives" for kind in ("probe", "finetune", "probe-per-finding", "finetune-per-finding")
    }
    assert {"few-labels-probe", "few-labels-finetune", "views", *radars} <= names
    assert all(path.read_text().startswith("<svg") for path in (folder / "figures").iterdir())
    for kind, title in (("probe", "linear probe"), ("finetune", "fine-tuned")):  # two alike but for their titles
        assert f"<!-- {title} -->" in (folder / f"figures/few-labels-{kind}.svg").read_text()
    write_report([folder], tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    for said in (
        "MVMAE&#39;s protocols",
        "Calibration, linear probe (Table 3)",
        "Label efficiency",
        "AUROC of each finding that enters the mean. Dashed, for archives that the paper has: published",
        "not seen",
        "macro AUROC of mvmae, fine-tuned, mean of archives",
        "Too few: fewer than 30 studies, or no finding that 3 of them have and 3 have not.",
        "89.19",
        "Fewer than 3 runs: mvmae (2), supervised (2).",
    ):
        assert said in page, said


def test_commands_are_given_for_archives_that_no_run_left_out(both: Cache, folder: Path) -> None:
    said = (folder / "said.txt").read_text().splitlines()
    given = [line for line in said if line.startswith("hilum ")]
    assert len(given) == 1  # run-2 saw only ours
    words = given[0].split()
    assert words[:2] == ["hilum", "pretrain"]
    assert words[-5:] == [
        "--out",
        str(folder / "leave-one-out" / "without-ours"),
        "--resume",
        "--data.leave-out",
        "ours",
    ]
    assert words[words.index("--data") + 1] == str(both.path)


@pytest.mark.parametrize(
    ("given", "settings", "message"),
    [
        ([], {}, "names no run"),
        (["a=x,x"], {}, "names a run twice"),
        (["=x"], {}, "expected RUN"),
        (["nowhere"], {}, "nowhere"),
        (None, {"counts": [10**6]}, "--label-counts 1000000: expected 1 to"),
        (None, {"protocols": []}, "names none"),
        (None, {"protocols": ["finetune"], "head": "knn"}, "--head knn has no effect without probes"),
        (None, {"head": "attentive"}, "reads patch tokens, not 'mean'"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_computed(
    both: Cache, words: list[str], given: list[str] | None, settings: dict, message: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message):
        run_mvmae(both.path, words if given is None else given, tmp_path / "out", **{**SETTINGS, **settings})
    assert not (tmp_path / "out").exists()


def test_cells_say_why_they_are_empty_and_nothing_is_minus_nothing() -> None:
    scored = Estimate("auroc", "macro", -0.0004, low=-0.01, high=0.0)
    assert format_percent(scored, sign=True) == "+0.0\n-1.0 to +0.0"
    assert format_percent(replace(scored, value=None, reason="no finding can be scored")) == "too few"
    nothing = Result("a", "t", {}, 0, [], Hashes("a", "b", "c", "d"), {}, 0.95, 1)
    assert format_percent(find_estimate(nothing, "auroc", "macro", "dataset=x")) == "-"


def test_labels_are_limited_in_training_only(both: Cache) -> None:
    task = read_task(both, "findings")
    some = task.rows("train")[:7]
    limited = cells.limit_labels(task, some)
    assert np.array_equal(limited.rows("train"), some)
    assert np.array_equal(limited.rows("test"), task.rows("test"))
    np.testing.assert_array_equal(limited.target[task.rows("val")], task.target[task.rows("val")])


def test_a_narrow_terminal_shows_every_number(capsys: pytest.CaptureFixture[str]) -> None:
    columns = ["", *(f"archive-{place} AUROC" for place in range(9))]
    rows = [["independent: first", *(f"{80 + place}.{place}\n70.0 to 90.0 [a]" for place in range(9))]]
    table = SuiteTable("Wide", columns, rows, "Caption.")
    print_table(table, Console(width=80, force_terminal=False))
    said = capsys.readouterr().out
    assert "…" not in said
    assert all(f"archive-{place}" in said and f"{80 + place}.{place}" in said for place in range(9))
    assert said.count("independent: first") == 3
    assert max(map(len, said.splitlines())) <= 80
    assert split_columns([3, 4, 4, 4], 24) == [[1, 2], [3]], "1 + 6 + 7 + 7 + 7 is 28"
    assert split_columns([3, 4, 4, 4], 28) == [[1, 2, 3]]


def test_a_public_encoder_is_what_its_files_hold(tmp_path: Path) -> None:
    for content in (b"one", b"two"):
        for folder in ("a", "b"):
            (tmp_path / folder).mkdir(exist_ok=True)
            (tmp_path / folder / "model.safetensors").write_bytes(content)
        here, there = (identify_weights(f"timm:resnet18={tmp_path / folder}") for folder in ("a", "b"))
        assert here == there
        (tmp_path / content.decode()).write_text(here)
    assert (tmp_path / "one").read_text() != (tmp_path / "two").read_text()
    assert identify_weights("timm:resnet18=random") == "timm:resnet18=random"
