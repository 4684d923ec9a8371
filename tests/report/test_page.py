"""The page: sections that can be told apart, notes above the scores, captions that fit the protocol."""

from __future__ import annotations

import io
import json
import re
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path

import pytest

from hilum.evaluate.console import print_probe
from hilum.evaluate.result import Estimate, Hashes, Result, write_json, write_result
from hilum.report.page import write_report
from hilum.report.probe_section import _color, build_probe_section, build_result_section
from hilum.report.training_section import _format_duration
from toy_archive import make_cache

METRICS = ("auroc", "average_precision", "f1", "brier_error", "calibration_error")
HASHES = Hashes("a", "b", "c", "d")


def make_result(name: str, kind: str, *, unit: str = "study", notes: tuple[str, ...] = (), **protocol) -> Result:
    """One finding scored, one too rare, two unknown to the archive."""
    estimates = [
        Estimate(metric, of, value, value and 0.6, value and 0.9, num=num, positives=num and 4)
        for metric in METRICS
        for of, value, num in (("Edema", 0.8, 40), ("Fracture", None, 0), ("Pneumonia", None, 0), ("macro", 0.8, 1))
    ]
    judged = {"kind": kind, "unit": unit, "labels": {"uncertain": "zeros", "blank": "zeros"}, **protocol}
    counts = {"test_patients": 30, "test_studies": 40}
    return Result(name, "findings", judged, 0, estimates, HASHES, counts, 0.95, 100, notes=notes)


def write_probe(folder: Path, arms: dict[str, Result], *, crossval: bool = False, methods: tuple = ()) -> Path:
    """A probe.json; the first arms are encoders, the one named "shuffled labels" a control."""

    def embed(result: Result) -> dict:
        path = write_result(folder / "cells" / result.encoder / "result.json", result)
        return {"path": str(path.relative_to(folder)), "result": json.loads(path.read_text())}

    points = {"all": {"probability": [0.2, 0.8], "frequency": [0.3, 0.7], "num": [20, 20]}}
    summary = {
        "format": "hilum-probe/1",
        "task": "findings",
        "labels": {"uncertain": "zeros", "blank": "zeros"},
        "protocol": "crossval" if crossval else "probe",
        "representation": "both",
        "arms": [
            {
                "name": name,
                "role": "shuffled" if name == "shuffled labels" else "encoder",
                **embed(result),
                "reliability": points,
            }
            for name, result in arms.items()
        ],
        "methods": [embed(result) for result in methods],
        "differences": [],
        "label_efficiency": [],
        "failed": {},
    }
    write_json(folder / "probe.json", summary)
    return folder


def test_notes_stand_above_the_scores_once_and_with_names_where_they_concern_few(tmp_path: Path) -> None:
    said = {"run": ("Half are blanks.", "Pretraining saw 3 patients."), "shuffled labels": ("Half are blanks.",)}
    arms = {
        name: make_result(name, "linear probe", notes=notes, threshold="best F1 on validation")
        for name, notes in said.items()
    }
    section, _ = build_probe_section(write_probe(tmp_path, arms))
    places = {block.heading or block.is_note: place for place, block in enumerate(section.blocks)}
    assert places[True] < places["Beside its controls"]
    assert section.blocks[places[True]].text == ["Half are blanks.", "run: Pretraining saw 3 patients."]


@pytest.mark.parametrize(("crossval", "unit"), [(False, "study"), (True, "view")])
def test_captions_fit_the_protocol(crossval: bool, unit: str, tmp_path: Path) -> None:
    protocol = (
        {"threshold": "best F1 on inner folds", "num_folds": 5} if crossval else {"threshold": "best F1 on validation"}
    )
    kind = "cross-validated linear probe" if crossval else "linear probe"
    arms = {"run": make_result("run", kind, unit=unit, **protocol)}
    section, (tile,) = build_probe_section(write_probe(tmp_path, arms, crossval=crossval))
    said = " ".join(block.caption for block in section.blocks)
    assert ("best on the training part of each fold" in said) == crossval
    assert ("best on validation" in said) != crossval
    assert ("test studies, in bins" in said) != crossval
    assert ("all images, each by probes" in said) == crossval
    assert ("cross-validated" in tile.meaning) == crossval


def test_findings_that_nobody_stated_share_one_line(tmp_path: Path) -> None:
    result = make_result("run", "fine-tuning", threshold="best F1 on validation")
    write_result(tmp_path / "result.json", result)
    section, _ = build_result_section(tmp_path)
    (block,) = (block for block in section.blocks if block.heading == "run by finding")
    assert block.table
    assert [row[0] for row in block.table.rows] == ["Edema"]
    assert "No study with a known state: Fracture, Pneumonia." in block.caption


def test_parts_of_the_test_rows_are_shown_where_they_can_be_scored(tmp_path: Path) -> None:
    whole = make_result("run", "linear probe", threshold="best F1 on validation")
    parts = [
        Estimate("auroc", "Edema", 0.7, 0.6, 0.8, num=25, positives=11, slice="sex=F"),
        Estimate("auroc", "macro", 0.7, 0.6, 0.8, num=1, slice="sex=F"),
        Estimate("auroc", "Edema", None, num=15, positives=2, reason="2 positives of 15, 10 needed", slice="sex=M"),
        Estimate("auroc", "macro", None, reason="no finding can be scored", slice="sex=M"),
    ]
    arms = {"run": replace(whole, estimates=[*whole.estimates, *parts]), "shuffled labels": whole}
    section, _ = build_probe_section(write_probe(tmp_path / "some", arms))
    (block,) = (block for block in section.blocks if block.heading == "By part")
    assert block.table
    assert (block.table.columns, block.table.rows) == (
        ["", "studies", "run"],
        [["sex: F", "25", "0.700\n0.600 to 0.800"]],
    )
    assert "Too few for a score: sex: M." in block.caption
    section, _ = build_probe_section(write_probe(tmp_path / "none", {"run": whole}))
    assert not [block for block in section.blocks if block.heading == "By part"]


def test_no_encoder_is_drawn_like_a_control() -> None:
    roles = [*["encoder"] * 5, "untrained", "pixels", "shuffled"]
    colors = [_color({"role": role}, place) for place, role in enumerate(roles)]
    assert len(set(colors)) == len(roles)


def test_a_mean_that_no_finding_enters_is_explained(tmp_path: Path) -> None:
    short = {"Edema": (40, 9), "Fracture": (40, 2), "Pneumonia": (40, 38)}
    estimates = [
        *(
            Estimate("auroc", of, 0.6, num=num, positives=yes, reason=f"{yes} of {num}")
            for of, (num, yes) in short.items()
        ),
        Estimate("auroc", "macro", None, reason="no finding can be scored"),
    ]
    whole = make_result("run", "linear probe", threshold="best F1 on validation")
    rest = [entry for entry in whole.estimates if entry.metric != "auroc"]
    result = replace(whole, estimates=[*estimates, *rest])
    section, _ = build_probe_section(write_probe(tmp_path, {"run": result}))
    said = "no target has enough of both classes among the test rows; nearest is Edema, 9 of 40"
    assert section.blocks[1].text == [f"No score: {said}."]
    shown = io.StringIO()
    with redirect_stdout(shown):
        print_probe(tmp_path / "probe.json", tmp_path, tmp_path)
    assert said in shown.getvalue()
    assert "--min-positives" not in shown.getvalue()  # no such flag


def test_methods_are_drawn_in_place_of_their_seeds(tmp_path: Path) -> None:
    names = [f"ours {seed}" for seed in range(9)]
    arms = {name: make_result(name, "linear probe", threshold="best F1 on validation") for name in names}
    seeds = dict.fromkeys(names, 0.8)
    method = make_result("ours", "mean", runs=list(seeds), values_of_runs={"auroc | macro | all": list(seeds.values())})
    drawn = {}
    for count, methods in enumerate([(), (method,)]):
        section, _ = build_probe_section(write_probe(tmp_path / str(count), arms, methods=methods))
        (block,) = (block for block in section.blocks if block.heading == "By finding")
        drawn[count] = set(re.findall(r"<!-- (ours.*?) -->", block.figures[0]))  # matplotlib's comment on a text
    assert drawn == {0: set(names), 1: {"ours"}}


def test_two_archives_have_two_names_and_two_anchors(tmp_path: Path) -> None:
    for name in ("one", "other"):
        make_cache(tmp_path / name, [2, 1, 1])
    page = tmp_path / "report.html"
    write_report([tmp_path / "one" / "cache", tmp_path / "other" / "cache"], page)
    text = page.read_text()
    anchors = re.findall(r'<section id="([^"]+)"', text)
    assert anchors == ["archive", "archive-2"]
    assert re.findall(r'<a href="#([^"]+)"', text) == anchors
    assert re.findall(r"<h2>([^<]+)</h2>", text) == ["The archive: one/cache", "The archive: other/cache"]
    assert text.count("studies (one/cache)") == text.count("studies (other/cache)") == 1
    write_report([tmp_path / "one" / "cache"], page)
    assert re.findall(r"<h2>([^<]+)</h2>", page.read_text()) == ["The archive"]


def test_durations_are_never_none_at_all() -> None:
    assert [_format_duration(seconds) for seconds in (2.6, 89.0, 240.0, 9000.0)] == ["3 s", "89 s", "4.0 min", "2.5 h"]
