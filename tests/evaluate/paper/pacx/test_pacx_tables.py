"""PaCX-MAE's published numbers: copied right, consistent where they claim to be, and printed beside a user's own."""

from __future__ import annotations

import copy
import io
from typing import Any

import pytest
from rich.console import Console

from hilum.commands.paper import print_tables
from hilum.evaluate.distilled.alignment_probe import SLICES
from hilum.evaluate.paper.pacx import published
from hilum.evaluate.paper.pacx.published_tables import PacxResults, build_pacx_tables
from hilum.evaluate.paper.published_yaml import read_published
from hilum.evaluate.paper.table import write_markdown
from hilum.evaluate.result import Estimate, Hashes, Result


def list_contradictions(numbers: dict[str, Any]) -> list[str]:
    """What of the published numbers does not fit the others: printed deltas and gaps, rows that stand in two tables."""
    wrong = []
    for table in ("linear_probe", "segmentation"):
        for dataset, arms in numbers[table].items():
            for place in (0, 1):
                delta = 100 * (arms["pacx"][place] - arms["mae"][place])
                if abs(delta - numbers["delta_points"][dataset][place]) > 0.051:
                    wrong.append(f"{dataset}: printed delta {place}")
            if not all(0 <= value <= 1 for row in arms.values() for value in row):
                wrong.append(f"{dataset}: not from 0 to 1")
    for dataset, row in numbers["ablation"]["full"].items():
        if row != numbers["linear_probe"][dataset]["pacx"]:
            wrong.append(f"{dataset}: full ablation is not the linear probe")
    for dataset, (mae, pacx) in numbers["label_efficiency"][1.0].items():
        if [mae, pacx] != [numbers["linear_probe"][dataset][arm][0] for arm in ("mae", "pacx")]:
            wrong.append(f"{dataset}: all labels are not the linear probe")
    for share, gaps in numbers["label_efficiency_gaps"].items():
        for dataset, gap in gaps.items():
            mae, pacx = numbers["label_efficiency"][share][dataset]
            if abs(100 * (pacx - mae) - gap) > 0.051:
                wrong.append(f"{dataset} {share}: printed gap")
    return wrong


def test_published_numbers_fit_each_other():
    assert list_contradictions(read_published("pacx")) == []
    assert set(read_published("pacx")["delta_points"]) == {
        *read_published("pacx")["linear_probe"], *read_published("pacx")["segmentation"],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("table", "key", "arm", "place"),
    [("linear_probe", "VinDr", "pacx", 0), ("segmentation", "QaTa-COV19", "mae", 1), ("ablation", "full", "MedMod", 1)],
)
def test_a_number_copied_wrong_is_found(table, key, arm, place):
    wrong = copy.deepcopy(read_published("pacx"))
    wrong[table][key][arm][place] += 0.01
    assert list_contradictions(wrong)


def test_headlines_of_the_specification():
    """P summary 6 and 7, P 8."""
    pairs = {dataset: [published.find_pair("linear_probe", dataset, arm)[0] for arm in ("mae", "pacx")]
             for dataset in ("VinDr", "MedMod", "CheXchoNet", "NIH-14")}  # fmt: skip
    assert pairs == {
        "VinDr": [0.847, 0.871], "MedMod": [0.695, 0.722], "CheXchoNet": [0.788, 0.803], "NIH-14": [0.772, 0.783]
    }  # fmt: skip
    assert published.find_few_labels(0.01, "CheXchoNet", "pacx") == 0.742
    assert published.find_few_labels(0.01, "CheXchoNet", "imagenet") is None
    assert [published.find_alignment(*key) for key in (("ecg", "mae"), ("labs", "pacx"))] == [0.204, 0.252]
    assert published.find_ablation("lab_teacher_only", "VinDr") == (0.875, 0.248)
    # The reading of P 8: the contrastive term carries the result, the regression term alone is below plain MAE.
    for dataset in ("MedMod", "VinDr"):
        assert (
            published.find_ablation("regression_only", dataset)[0]
            < published.find_pair("linear_probe", dataset, "mae")[0]
        )


def test_data_sets_are_known_by_their_other_names():
    known = {"ChestX-ray14": "NIH-14", "vindr_cxr": "VinDr", "QaTa-COV19-v2": "QaTa-COV19", "MedMod": "MedMod"}
    assert {name: published.match_benchmark(name) for name in known} == known
    assert published.match_benchmark("PadChest") is None


def make_result(*estimates: Estimate) -> Result:
    return Result("e", "t", {}, 0, list(estimates), Hashes("d", "s", "w", "c"), {}, 0.95, 100)


def make_pair(first: str, second: str) -> Result:
    return make_result(*(Estimate(metric, "macro", 0.5, 0.4, 0.6) for metric in (first, second)))


RESULTS = PacxResults(
    probes={("pacx", "ChestX-ray14"): make_pair("auroc", "f1"), ("mae", "own"): make_pair("auroc", "f1")},
    few_labels={("pacx", "ChestX-ray14", 0.01): make_pair("auroc", "f1")},
    segmentations={("pacx", "phantom hearts"): make_pair("iou", "dice")},
    ablation={("regression only", "VinDr-CXR"): make_pair("auroc", "f1")},
    alignment={
        ("pacx", "ecg"): make_result(
            *(
                Estimate(metric, "ecg", 0.25, 0.2, 0.3, slice=slice)
                for metric in ("centred_cosine", "r2", "cosine")
                for slice in SLICES.values()
            )
        )
    },
)


def test_own_results_stand_first_and_the_published_beside_them():
    tables = {table.title: table for table in build_pacx_tables(RESULTS, paper=True)}
    assert list(tables) == ["Linear probe", "Few labels", "Ablation", "Segmentation", "Alignment"]
    probe = tables["Linear probe"]
    assert probe.columns[:5] == ["", "ChestX-ray14 AUROC", "ChestX-ray14 F1", "own AUROC", "own F1"]
    assert "NIH-14 AUROC" not in probe.columns
    rows = {row[0].partition(" [")[0]: row[1:] for row in probe.rows}
    assert rows["pacx"][:3] == ["50.0\n40.0 to 60.0", "50.0\n40.0 to 60.0", "-"]
    assert [cell.partition(" [")[0] for cell in rows["PaCX-MAE (published)"][:4]] == ["78.3", "11.5", "-", "-"]
    assert len({len(row) for row in probe.rows} | {len(probe.columns)}) == 1
    few = tables["Few labels"]
    cell = few.rows[-1][few.columns.index("ChestX-ray14 1%")]
    assert cell.startswith("67.3 [")
    last = tables["Alignment"].rows[-1]
    assert last[0].startswith("PaCX-MAE (published), penalty 10 [")
    assert last[1].startswith("0.229 [")
    assert last[4].startswith("0.252 [")
    assert [row[0] for row in tables["Alignment"].rows[:4]] == [f"pacx, {slice}" for slice in SLICES.values()]
    assert any(row[0].startswith("regression term only (published)") for row in tables["Ablation"].rows)


def test_every_footnote_is_used_and_every_mark_explained():
    tables = build_pacx_tables(RESULTS, paper=True)
    said = {note.partition("] ")[2] for table in tables for note in table.footnotes}
    assert said == set(published.FOOTNOTES.values())
    for table in tables:
        marks = {part.partition("]")[0] for row in table.rows for cell in row for part in cell.split(" [")[1:]}
        assert marks == {note[1 : note.index("]")] for note in table.footnotes}


def test_without_the_paper_there_is_nothing_but_the_users_own():
    tables = build_pacx_tables(RESULTS, paper=False)
    assert len(tables) == 5
    text = write_markdown(tables)
    assert "published" not in text
    assert "[a]" not in text
    assert build_pacx_tables(PacxResults(), paper=False) == []
    assert len(build_pacx_tables(PacxResults(), paper=True)) == 5


def test_they_print_as_the_other_suite_does():
    out = io.StringIO()
    print_tables(build_pacx_tables(RESULTS, paper=True), Console(file=out, width=140), ["one note"])
    text = out.getvalue()
    assert "PaCX-MAE (published)" in text
    assert "one-dimensional convolutional network" in text
    assert text.rstrip().endswith("one note")
