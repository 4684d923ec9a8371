"""Figures of a suite: what they are made of, from results written by hand."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest

from hilum.evaluate.paper.index import Suite
from hilum.evaluate.paper.mvmae.published import find_finding
from hilum.evaluate.result import Estimate, Hashes, Result
from hilum.report.suite_figures import draw_suite, list_radars, plot_radar

FINDINGS = ("Atelectasis", "Edema", "Fracture", "Pneumothorax", "Hilar Mystery")
PARTS = ("dataset=MIMIC-CXR", "dataset=ours", "all")


def write_result(method: str, base: float, num: int = len(FINDINGS)) -> Result:
    """AUROC of the first `num` findings on every part, base + 0.01 for each place; the others have no positives."""
    estimates = [
        Estimate("auroc", name, base + place / 100, slice=part)
        if place < num
        else Estimate("auroc", name, None, slice=part, reason="too few positives")
        for part in PARTS
        for place, name in enumerate(FINDINGS)
    ]
    return Result(method, "findings", {}, 0, estimates, Hashes("a", "b", "c", "d"), {}, 0.95, 1)


def build_suite(kinds: tuple[str, ...] = ("probe", "finetune"), *, paper: bool = True, num: int = 5) -> Suite:
    methods: dict[tuple[str, str, int | None], Result] = {}
    for step, kind in enumerate(kinds):
        for suffix, more in (("", 0.0), (" per finding", 0.01)):
            methods[kind + suffix, "Supervised", None] = write_result("Supervised", 0.6 + 0.1 * step + more, num)
            methods[kind + suffix, "theirs", None] = write_result("theirs", 0.7 + 0.1 * step + more, num)
    encoders = [{"method": name} for name in ("Supervised", "theirs")]
    index: dict[str, Any] = {"archives": ["MIMIC-CXR", "ours"], "encoders": encoders, "suite": "mvmae", "paper": paper}
    return Suite(index, methods, {})


def test_a_radar_plot_for_every_archive_protocol_and_selection() -> None:
    suite = build_suite()
    names = {
        f"radar-{kind}{selection}-{where}"
        for kind in ("probe", "finetune")
        for selection in ("", "-per-finding")
        for where in ("MIMIC-CXR", "ours", "all-archives")
    }
    assert set(list_radars(suite)) == names
    drawn = draw_suite(suite)
    assert set(drawn) == names
    assert all(figure.startswith("<svg") for figure in drawn.values())
    assert "radar-probe-ours" not in draw_suite(build_suite(num=2)), "two spokes are no plot"


def test_a_radar_plot_holds_each_methods_findings() -> None:
    radar = list_radars(build_suite())["radar-finetune-ours"]
    assert radar.findings == FINDINGS
    assert [line.label for line in radar.lines] == ["Supervised", "theirs"]
    assert radar.lines[1].values == pytest.approx([0.8, 0.81, 0.82, 0.83, 0.84])
    chosen = list_radars(build_suite())["radar-finetune-per-finding-ours"]
    assert chosen.lines[1].values == pytest.approx([0.81, 0.82, 0.83, 0.84, 0.85])
    assert chosen.title == "ours, fine-tuned, selected per finding"
    assert list_radars(build_suite(num=4))["radar-finetune-ours"].findings == FINDINGS[:4]


def test_published_values_stand_beside_those_of_the_same_data_set_protocol_and_selection() -> None:
    radars = list_radars(build_suite())
    radar = radars["radar-finetune-MIMIC-CXR"]
    own, _, *lines = radar.lines
    assert [line.label for line in lines] == ["Supervised (published)", "MVMAE (published)"]
    assert all(line.is_published for line in lines)
    assert lines[0].color == own.color, "of its method"
    assert lines[1].color not in {line.color for line in radar.lines[:3]}
    assert lines[1].values[:4] == pytest.approx([0.82, 0.89, 0.73, 0.86])
    assert find_finding("mvmae", "mimic", "Edema") == 89
    assert math.isnan(lines[1].values[4]), "no finding of theirs"
    beside = {name for name, one in radars.items() if any(line.is_published for line in one.lines)}
    assert beside == {"radar-finetune-MIMIC-CXR"}
    probed = list_radars(build_suite(("probe",)))
    assert {name for name, one in probed.items() if len(one.lines) > 2} == {"radar-probe-MIMIC-CXR"}
    asked = list_radars(build_suite(paper=False))
    assert not any(line.is_published for one in asked.values() for line in one.lines)


def test_published_lines_are_dashed_and_named() -> None:
    radars = list_radars(build_suite())
    drawn = plot_radar(radars["radar-finetune-MIMIC-CXR"])
    assert "<!-- MVMAE (published) -->" in drawn
    assert len(re.findall("stroke-dasharray", drawn)) == 4, "two lines, and in the legend"
    assert "stroke-dasharray" not in plot_radar(radars["radar-finetune-ours"])
