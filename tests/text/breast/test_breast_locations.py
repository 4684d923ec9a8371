"""Places from geometry: which view tells what, and where nothing is told."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hilum.text.breast.location import BreastOutline, find_outline, locate_box, locate_finding, place_findings
from hilum.text.breast.record import Box, Finding, Location
from toy_breasts import SPARSE


def build_outline(view, confidence=1.0, wall=0.0, nipple=300.0) -> BreastOutline:
    return BreastOutline(view, 500.0, nipple, wall, 800.0, confidence)


def box_at(view, row, column) -> Box:
    return Box(view, row - 10, column - 20, row + 10, column + 20)


@pytest.mark.parametrize(
    ("view", "row", "column", "expected"),
    [
        ("mlo", 300, 40, Location("upper", None, "posterior")),
        ("mlo", 700, 150, Location("lower", None, "middle")),
        ("cc", 300, 260, Location(None, "outer", "anterior")),
        ("cc", 700, 260, Location(None, "inner", "anterior")),
        ("mlo", 540, 40, Location(None, None, "posterior")),  # at the level of the nipple: neither upper nor lower
        ("mlo", 300, 102, Location("upper")),  # at the border of two thirds
        ("mlo", 300, 340, Location("upper")),  # beyond the nipple: the outline is not right here
    ],
)
def test_a_view_tells_its_own_direction_and_the_depth(view, row, column, expected) -> None:
    assert locate_box(box_at(view, row, column), build_outline(view)) == expected


def test_depth_is_counted_from_the_chest_wall_on_either_side() -> None:
    mirrored = build_outline("cc", wall=999.0, nipple=699.0)
    assert locate_box(box_at("cc", 300, 959), mirrored) == Location(None, "outer", "posterior")


def test_no_word_without_confidence() -> None:
    box = box_at("mlo", 300, 40)
    assert locate_box(box, build_outline("mlo", confidence=0.4)) == Location()
    assert locate_box(box, build_outline("mlo"), confidence=0.3) == Location()


def test_two_views_together_name_the_quadrant_and_agree_on_depth() -> None:
    outlines = {view: build_outline(view) for view in ("cc", "mlo")}
    found = locate_finding([box_at("cc", 300, 40), box_at("mlo", 700, 40)], outlines)
    assert found == Location("lower", "outer", "posterior")
    assert locate_finding([box_at("cc", 300, 40), box_at("mlo", 700, 150)], outlines).depth is None
    assert locate_finding([box_at("cc", 300, 40), box_at("cc", 700, 40)], outlines) == Location()
    assert locate_finding([box_at("cc", 300, 40)], {}) == Location()


@pytest.mark.parametrize("wall", ["left", "right"])
def test_the_outline_of_a_half_ellipse_ends_at_its_nipple(wall) -> None:
    rows, columns = np.mgrid[0:200, 0:120]
    mask = ((rows - 90.0) / 80) ** 2 + (columns / 100.0) ** 2 < 1
    outline = find_outline(mask if wall == "left" else mask[:, ::-1], "cc", wall)
    assert outline is not None
    assert outline.nipple_row == pytest.approx(90, abs=1)
    assert abs(outline.nipple_column - outline.chest_wall_column) == pytest.approx(99, abs=1)
    assert outline.height == pytest.approx(159, abs=2)
    assert outline.confidence > 0.95


def test_a_cut_breast_gives_no_confident_outline() -> None:
    rows, columns = np.mgrid[0:200, 0:120]
    mask = (rows / 160.0) ** 2 + (columns / 100.0) ** 2 < 1  # only its lower half is in the image
    outline = find_outline(mask, "mlo", "left")
    assert outline is not None
    assert outline.confidence < 0.3
    assert find_outline(np.zeros((4, 4), bool), "cc", "left") is None


def test_boxes_give_findings_their_place_and_the_longer_side_in_millimetres() -> None:
    boxes = (box_at("cc", 300, 40), box_at("mlo", 300, 40))  # 20 x 40 pixels
    drawn = Finding("mass", views=("cc", "mlo"), boxes=boxes)
    several = replace(drawn, several=True)
    measured = replace(drawn, size_mm=9.0, size_source="table")
    record = replace(SPARSE, findings=(drawn, several, measured, Finding("clip")))
    placed = place_findings(record, {"mlo": build_outline("mlo")}, {"cc": 0.07, "mlo": 0.1})
    assert [one.location for one in placed.findings] == [Location("upper", None, "posterior")] * 3 + [Location()]
    assert [one.size_mm for one in placed.findings] == [pytest.approx(4.0), None, 9.0, None]
    assert place_findings(record, {}).findings == record.findings
