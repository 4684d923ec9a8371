"""`hilum evaluate mvmlm`: every task, protocol and share of the labels runs, is kept and compared with the first."""

from __future__ import annotations

import io
import json
import shutil
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from hilum.cache import Cache
from hilum.commands.paper import run_evaluate
from hilum.errors import UserError
from hilum.evaluate.breast_task import read_breast_task
from hilum.evaluate.paper.entrants import Entrant, find_entrants
from hilum.evaluate.paper.index import FINETUNE, FOLDS, PROBE, Suite, read_suite, take_task
from hilum.evaluate.paper.mvmlm import published as mvmlm_published
from hilum.evaluate.paper.mvmlm import suite as mvmlm
from hilum.evaluate.paper.mvmlm.folds import check_drawn, deal_folds, draw_folds, has_seen, list_folds, split_by_fold
from hilum.evaluate.paper.mvmlm.tables import build_mvmlm_tables, describe_delong, tabulate_metrics
from hilum.evaluate.paper.published_yaml import read_published
from hilum.evaluate.result import Hashes, Result, read_result
from hilum.evaluate.scoring.estimates import OF_CLASSES, estimate_scores
from hilum.evaluate.scoring.scores import Scores, read_scores
from hilum.evaluate.task import read_task
from hilum.report.page import write_report

TASKS = ("breast:mass", "image:mass")
PARTS = ("probe", "finetune", "folds")  # pairs of breasts: test_mvmlm_pairs.py
SETTINGS = {
    "tasks": TASKS, "fractions": (0.3, 1.0), "num_seeds": 2, "epochs": 1, "views_per_step": 40, "min_positives": 2,
    "num_resamples": 20, "precision": "32-true",
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(exam_cache: Cache, exam_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("suite")
    with (
        (out / "said.txt").open("w") as said, redirect_stdout(said), redirect_stderr(io.StringIO()),
        pytest.MonkeyPatch.context() as patch,
    ):  # fmt: skip
        patch.setattr("hilum.evaluate.slices.LEAST_ROWS", 4)
        run_evaluate(exam_cache.path, [f"mv_clip={exam_run}"], out, suite="mvmlm", parts=PARTS, paper=True, **SETTINGS)
    return out


def test_every_task_has_every_result_and_its_difference_to_the_first(folder: Path) -> None:
    suite = read_suite(folder)
    assert suite.index["failed"] == {}
    for name, few in zip(TASKS, (6, 12), strict=True):
        task = take_task(suite, name)
        pairs = {(kind, count) for kind in (PROBE, FINETUNE) for count in (few, None)}
        expected = {(kind, method, count) for kind, count in pairs for method in ("mv_clip", "supervised")}
        assert set(task.methods) == expected | {(FOLDS, "supervised", None)}  # the run has seen patients of every fold
        named = {kind if count is None else f"{kind}, {count} labels" for kind, count in pairs}
        assert set(task.differences) == {(name, "supervised", "mv_clip") for name in named}
        assert task.index["shares"] == {str(few): 0.3}
    assert suite.index["tasks"]["breast:mass"]["studies"] == {
        "toy": {"train": 20, "val": 10, "test": 10, "patients": 20, "images": 80}
    }
    assert suite.index["tasks"]["image:mass"]["positives"]["test"] == {"mass": 3}
    assert any("pretraining saw patients or images of them: mv_clip" in note for note in suite.index["notes"])


def test_fine_tunings_differ_in_seed_and_draws_are_nested(folder: Path) -> None:
    index = json.loads((folder / "suite.json").read_text())
    whole = [one for one in index["cells"] if one["kind"] == f"breast:mass, {FINETUNE}" and one["count"] is None]
    assert [one["name"] for one in whole] == [
        "mv_clip: fine-tuned", "mv_clip: fine-tuned, seed 1", "supervised: fine-tuned",
        "supervised: network 1: fine-tuned",
    ]  # fmt: skip
    seeds = [read_result(folder / one["path"]).seed for one in whole]
    assert seeds == [0, 1, 0, 1]
    said = [read_scores((folder / one["path"]).parent / "scores.npz").logit for one in whole]
    assert not np.array_equal(said[0], said[1])
    few = [one for one in index["cells"] if one["kind"] == f"breast:mass, {FINETUNE}" and one["count"] == 6]
    assert all(read_result(folder / one["path"]).counts["train_rows"] == 6 for one in few)


def test_differences_have_both_tests(folder: Path) -> None:
    suite = read_suite(folder)
    result = take_task(suite, "breast:mass").differences[PROBE, "supervised", "mv_clip"]
    assert {one.metric for one in result.estimates} == set(mvmlm.COMPARED) - set(OF_CLASSES)
    found = result.protocol["delong"]["mass"]
    assert found is None or found["difference"] == pytest.approx(result.find("auroc").value, abs=1e-6)


def test_tables_stand_in_console_file_and_report(folder: Path, exam_cache: Cache) -> None:
    suite, said = read_suite(folder), (folder / "said.txt").read_text()
    titles = [table.title for table in build_mvmlm_tables(suite)]
    assert titles == [
        "Tasks", "All tasks, linear probe", "All tasks, fine-tuned", "Few labels, linear probe",
        "Few labels, fine-tuned", "By folds", "By site, linear probe", "By site, fine-tuned",
        *(
            f"{task}: {what}"
            for task in TASKS
            for what in (
                "metrics, linear probe", "metrics, fine-tuned", "differences to mv_clip", "by part, linear probe",
                "by part, fine-tuned",
            )
        ),
        "Risk of cancer, published", "Archives seen in pretraining",
    ]  # fmt: skip
    assert "MV-MLM, headline (published)" in said.replace("\n", " ") or "headline" in said
    (pairs,) = (one for one in build_mvmlm_tables(suite) if one.title == "breast:mass: differences to mv_clip")
    assert [row[-1] for row in pairs.rows] != ["-"] * len(pairs.rows)
    lone = replace(result := next(iter(suite.differences.values())), estimates=[])
    assert (describe_delong(lone), describe_delong(result) != "-") == ("-", True)  # too few rows: no p either
    assert (
        "0.04 to 0.05 on one public test split, and on yours below what the table of tasks says"
        in (folder / "tables.md").read_text()
    )
    write_report([folder], folder / "report.html", title="toy")
    page = (folder / "report.html").read_text()
    assert "MV-MLM&#39;s protocols" in page or "MV-MLM's protocols" in page
    assert all(title in page for title in ("breast:mass: differences to mv_clip", "labelled training breasts"))


def test_sites_stand_with_their_counts(folder: Path) -> None:
    """Of every five studies three are site 1's; left breasts of odd studies have a mass, two of them in its test."""
    tables = {table.title: table for table in build_mvmlm_tables(read_suite(folder))}
    for kind in ("linear probe", "fine-tuned"):
        table = tables[f"By site, {kind}"]
        rows = {row[0]: row[1:] for row in table.rows}
        assert table.columns[1:] == ["training", "validation", "test", "test patients", "mv_clip", "supervised"]
        assert rows["breast:mass, site 1"][:4] == ["3 of 12", "1 of 6", "2 of 6", "3"]
        assert rows["breast:mass, site 2"][:4] == ["2 of 8", "1 of 4", "1 of 4", "2"]
        assert 0 <= float(rows["breast:mass, site 1"][4].split()[0]) <= 100
        assert "few" in rows["breast:mass, site 2"][4]  # one positive, and two are asked for
        parts = tables[f"breast:mass: by part, {kind}"]
        assert parts.columns[1:3] == ["breasts", "patients"]
        assert {"site: 1", "site: 2", "sex: F"} <= {row[0] for row in parts.rows}
        assert not any(row[0].startswith("fold") for row in parts.rows)


def test_published_numbers_carry_what_contradicts_them(folder: Path) -> None:
    tables = {table.title: table for table in build_mvmlm_tables(read_suite(folder))}
    probes, tuned = tables["All tasks, linear probe"], tables["All tasks, fine-tuned"]
    published = {row[0].split(" (published)")[0]: row[1] for row in probes.rows if "(published)" in row[0]}
    assert published == {
        "Custom-CLIP": "68.0 [a]", "MV-CLIP": "69.4 [a] [c]", "MV-CLIP+Tr (MV-MLM)": "70.8 [a] [d]",
        "MV-MLM, headline": "76.5",
    }  # fmt: skip
    assert [text for text in probes.footnotes if "0.6941 is given for both 10 % and 100 %" in text]
    assert [text for text in probes.footnotes if "its 0.7649 for mass is below the 0.8614" in text]
    assert [row[1] for row in tuned.rows if "(published)" in row[0]] == ["85.1 [a]", "86.1 [a]"]
    assert mvmlm_published.find_headline("breast:calcification") == 0.9393
    assert mvmlm_published.find_ablation(PROBE, "mv_clip", "breast:calcification") is None


def test_published_risks_stand_apart_and_say_which_c_index_they_are(folder: Path) -> None:
    suite = read_suite(folder)
    (table,) = (one for one in build_mvmlm_tables(suite) if one.title == "Risk of cancer, published")
    assert table.columns == ["", "test exams", "C-index", "AUC, 2 years", "AUC, 3 years", "AUC, 5 years"]
    rows = {tuple(row[:2]): row[2:] for row in table.rows}
    assert rows["MV-MLM (published) [a] [b]", "private"] == ["0.73", "0.76", "-", "0.69"]
    assert rows["Mirai (published) [b] [d]", "Karolinska"] == ["0.81", "-", "-", "-"]
    assert rows["BREST (published) [e]", "BREST's, 7,596 women"] == ["-", "-", "0.727", "-"]
    assert rows["Mirai (published) [e]", "BREST's, 7,596 women"] == ["-", "-", "0.700", "-"]
    assert table.footnotes[0].startswith("[a] Which C-index it is of is not told")
    assert mvmlm_published.RISK_MODELS.keys() == read_published("mvmlm")["risk"].keys()
    suite.index["paper"] = False
    assert "Risk of cancer, published" not in {one.title for one in build_mvmlm_tables(suite)}


def test_the_same_again_does_nothing_and_a_lost_cell_is_made_anew(
    folder: Path, exam_cache: Cache, exam_run: Path
) -> None:
    def note() -> dict[str, int]:
        return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in folder.glob("cells/*/*/result.json")}

    def again() -> None:
        run_evaluate(
            exam_cache.path,
            [f"mv_clip={exam_run}"],
            folder,
            suite="mvmlm",
            parts=PARTS,
            paper=True,
            progress=False,
            **SETTINGS,
        )

    before, index = note(), (folder / "suite.json").read_bytes()
    again()
    assert (note(), (folder / "suite.json").read_bytes()) == (before, index)
    lost = next(path for path in sorted(before) if "linear-probe-" in path and "breast-mass" in path)
    (folder / lost).unlink()
    again()
    assert {path for path, at in note().items() if at != before[path]} == {lost}


def test_ordered_classes_have_columns_of_their_own() -> None:
    """Kappa and balanced accuracy stand where a task has classes, one number of all of them, and nowhere else."""
    target = np.eye(3)[np.arange(60) % 3]
    logit = (target + np.eye(3)[0] / 2)[None]  # all are right: kappa and accuracy are 1
    scores = Scores(tuple("abc"), target, logit, 0 * logit, np.arange(60), np.arange(60), classes="density")
    for one in (scores, replace(scores, classes=None)):
        estimates = estimate_scores(one, ("auroc", "quadratic_kappa", "balanced_accuracy"), num_resamples=20)
        result = Result("run", "breast:density", {}, 0, estimates, Hashes("", "", "", ""), {}, 0.95, 20)
        suite = Suite({"encoders": [{"method": "run"}]}, {(PROBE, "run", None): result}, {})
        (table,) = tabulate_metrics(suite, "breast:density", PROBE)
        of_classes = ["quadratic-weighted kappa x 100", "balanced accuracy"] if one.classes else []
        assert table.columns == ["", "AUROC", *of_classes]
        assert all(cell.startswith("100.0") for cell in table.rows[0][1:])
        assert ("no threshold is fitted" in table.caption) == bool(one.classes)


# --- tasks


def test_tasks_that_cannot_be_scored_are_left_out_unless_asked_for(exam_cache: Cache) -> None:
    found, notes = mvmlm.find_tasks(exam_cache, (), ())
    breasts = ["mass", "malignancy", "birads", "birads5", "density"]
    assert list(found) == [*(f"breast:{name}" for name in breasts), "image:mass"]
    unrecorded = "is left out: the study table does not record it."
    assert notes == [f"breast:calcification {unrecorded}", f"image:calcification {unrecorded}"]
    with pytest.raises(UserError, match="no task 'breast:calcification'"):
        mvmlm.find_tasks(exam_cache, ["breast:calcification"], ())
    with pytest.raises(UserError, match="expected shares of the labelled training rows"):
        mvmlm.count_labels(found["breast:mass"], (1.5,))


def test_each_task_left_out_says_why(exam_cache: Cache, tmp_path: Path) -> None:
    copy = Cache.open(shutil.copytree(exam_cache.path, tmp_path / "cache"))
    table = copy.table()
    less = table.with_columns(
        pl.col("breasts").list.eval(pl.element().struct.with_fields(density=pl.lit("a"), assessment=pl.lit(None)))
    ).cast({"breasts": table.schema["breasts"]})
    less.write_parquet(copy.path / "studies.parquet")
    found, notes = mvmlm.find_tasks(copy, (), ())
    assert list(found) == ["breast:mass", "breast:malignancy", "image:mass"]
    said = {note.partition(" is left out: ")[0]: note.partition(" is left out: ")[2] for note in notes}
    assert said["breast:birads"] == "of no breast of this cache is known what task 'breast:birads' asks."
    assert said["breast:density"].startswith("Task breast:density has a single class: density=a is present in all 40")
    assert "A score needs both" in said["breast:density"]


def test_an_archive_to_leave_out_that_is_not_there_is_named(exam_cache: Cache) -> None:
    with pytest.raises(UserError, match="there is no archive 'nowhere' to leave out"):
        mvmlm.find_tasks(exam_cache, (), ("nowhere",))


def test_images_are_all_probed_whatever_a_run_is_shown_of_a_study(
    exam_cache: Cache, exam_run: Path, tmp_path: Path
) -> None:
    shutil.copytree(exam_run, tmp_path / "capped")
    config = json.loads((tmp_path / "capped" / "config.json").read_text())
    config["data"]["max_views"] = 1
    (tmp_path / "capped" / "config.json").write_text(json.dumps(config))
    settings = {**SETTINGS, "tasks": ("image:mass",), "fractions": (1.0,), "num_seeds": 1, "progress": False}
    out = tmp_path / "out"
    mvmlm.run_mvmlm(exam_cache.path, [str(tmp_path / "capped")], out, parts=("probe",), **settings)
    cells = take_task(read_suite(out), "image:mass").methods
    assert [one.find("auroc", "mass").num for one in cells.values()] == [20, 20]  # five test studies of four images


# --- folds


def test_every_row_is_tested_once_by_those_who_did_not_see_it(exam_cache: Cache, folder: Path) -> None:
    folds, task = list_folds(exam_cache), read_task(exam_cache, "breast:mass")
    assert folds == ["0", "1", "2", "3"]
    fold = deal_folds(exam_cache, task, folds)
    assert fold.tolist() == [row // 4 % 4 for row in range(40)]
    tested = []
    for place in range(4):
        part = split_by_fold(task, fold, place, 4)
        tested += part.rows("test").tolist()
        assert set(fold[part.rows("val")]) == {(place + 1) % 4}
        patients = [set(part.patient[part.rows(split)].tolist()) for split in ("train", "val", "test")]
        assert sum(map(len, patients)) == len(set.union(*patients)) == 20
    assert sorted(tested) == list(range(40))
    result = take_task(read_suite(folder), "breast:mass").methods[FOLDS, "supervised", None]
    assert {one.slice for one in result.estimates} >= {f"fold={name}" for name in folds}  # of the mean of two networks
    (table,) = [one for one in build_mvmlm_tables(read_suite(folder)) if one.title == "By folds"]
    assert table.columns == ["", "pooled", *(f"fold {name}" for name in folds)]
    index = json.loads((folder / "suite.json").read_text())
    cell = next(one for one in index["cells"] if one["kind"] == f"breast:mass, {FOLDS}")
    scores = read_scores((folder / cell["path"]).parent / "scores.npz")
    assert scores.row.tolist() == list(range(40))
    np.testing.assert_array_equal(scores.target, task.target)
    own = read_result(folder / cell["path"])
    assert [len(own.protocol["chosen_by_fold"]), own.counts["test_rows"]] == [4, 40]


def test_a_patient_in_two_folds_is_refused(exam_cache: Cache, tmp_path: Path) -> None:
    class Shared(Cache):
        def table(self) -> pl.DataFrame:
            return exam_cache.table().with_columns(extra_fold=pl.int_range(pl.len()).mod(3).cast(pl.String))

    cache = Shared.open(exam_cache.path)
    task = read_breast_task(exam_cache, "breast:mass")
    assert deal_folds(cache, task, ["0", "1", "2"])[:4].tolist() == [0, 0, 1, 1]
    together = task.patient.copy()
    together[2:4] = together[0]
    task.__dict__["patient"] = together
    with pytest.raises(UserError, match="extra_fold deals some patient to several folds"):
        deal_folds(cache, task, ["0", "1", "2"])


def test_drawn_folds_are_of_whole_patients_and_of_nothing_else(exam_cache: Cache) -> None:
    task = read_task(exam_cache, "breast:mass")
    fold = draw_folds(task, 4)
    assert set(fold) == {0, 1, 2, 3}
    for patient in np.unique(task.patient):
        assert len(set(fold[task.patient == patient])) == 1
    order = np.random.default_rng(0).permutation(len(fold))[:34]  # another order, some gone
    moved = {name: getattr(task, name)[order] for name in ("target", "study", "patient", "split")}
    part = replace(task, group=task.group.gather(order), **moved)
    assert draw_folds(part, 4).tolist() == fold[order].tolist()
    images = read_task(exam_cache, "image:mass")
    assert draw_folds(images, 4).tolist() == [fold[2 * study] for study in images.study]  # of every task alike
    with pytest.raises(UserError, match="--folds 2: expected 3 at least"):
        check_drawn(exam_cache, 2)
    with pytest.raises(UserError, match=r"folds of its own .*leave --folds out"):
        check_drawn(exam_cache, 4)
    with pytest.raises(UserError, match=r"--folds 90: with 20 patients \d+ of the folds have anybody"):
        draw_folds(task, 90)


def test_drawn_folds_pool_every_labelled_row(
    exam_cache: Cache, exam_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = Cache.table
    monkeypatch.setattr(Cache, "table", lambda cache: table(cache).drop("extra_fold"))
    settings = {**SETTINGS, "tasks": ("breast:mass",), "num_seeds": 1, "progress": False, "parts": ("folds",)}
    with pytest.raises(UserError, match=r"has no column extra_fold with 3 values or more\. --folds 4 draws them"):
        mvmlm.run_mvmlm(exam_cache.path, [str(exam_run)], tmp_path, **settings)
    mvmlm.run_mvmlm(exam_cache.path, [str(exam_run)], tmp_path, num_folds=4, **settings)
    suite = read_suite(tmp_path)
    (cell,) = suite.index["cells"]  # of random weights: the run has seen patients of every fold
    scores = read_scores((tmp_path / cell["path"]).parent / "scores.npz")
    assert scores.row.tolist() == read_task(exam_cache, "breast:mass").rows().tolist()
    (table_of_folds,) = [one for one in build_mvmlm_tables(suite) if one.title == "By folds"]
    assert table_of_folds.columns == ["", "pooled", *(f"fold {number} of 4" for number in range(1, 5))]


# --- convolutional entrants


def test_convolutional_encoders_take_part(exam_cache: Cache, exam_run: Path) -> None:
    run, random = find_entrants([str(exam_run)])
    assert isinstance(run, Entrant)
    assert (run.is_own, random.is_own) == (False, False)  # no attention of patches to be rolled out
    assert random.is_random
    assert (has_seen(exam_cache, run), has_seen(exam_cache, random)) == (True, False)
    supervised = find_entrants([f"supervised={'supervised:' + str(exam_run)}"])[0]
    assert (supervised.is_random, supervised.is_own) == (True, False)


def test_a_cache_of_chests_is_told_what_the_suite_is_about(shown_cache: Cache) -> None:
    with pytest.raises(UserError, match="knows of no findings of breasts"):
        mvmlm.find_tasks(shown_cache, (), ())
