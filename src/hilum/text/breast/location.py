"""Words for where a finding lies, from its box and the breast's outline alone; no word where they do not tell (L 2.3).

An MLO view tells upper from lower by the level of the nipple, a CC view outer from inner (lateral is at the top of it,
by convention), and both tell the depth: thirds of the way from chest wall to nipple.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Bool

from .record import Box, BreastRecord, Finding, Location
from .terms import Depth, View

MIN_CONFIDENCE = 0.5
UNDECIDED = 0.08  # of the breast's height beside the nipple's level: too near to tell
_BORDER = 0.04  # of the way from chest wall to nipple beside a border of thirds
_TIP = 0.98  # of the farthest column: rows that reach it are the nipple's


@dataclass(frozen=True)
class BreastOutline:
    """What of one view's geometry is known, in pixels of its image."""

    view: View
    nipple_row: float
    nipple_column: float
    chest_wall_column: float
    height: float
    """Rows that the breast covers."""
    confidence: float = 1.0
    """Whether the nipple is where this says, 0 to 1."""


def find_outline(
    mask: Bool[np.ndarray, "row column"], view: View, chest_wall: Literal["left", "right"]
) -> BreastOutline | None:
    """The outline of a breast mask: its nipple is taken to be where it reaches farthest from the chest wall.

    Confidence falls from 1, where that is in the middle of the breast's rows, to 0 at its upper or lower end: there the
    breast is cut by the image, or what reaches farthest is no nipple.

    Returns:
        None for a mask with nothing in it.
    """
    if not mask.any():
        return None
    rows = np.flatnonzero(mask.any(axis=1))
    width = mask.shape[1]
    from_wall = mask if chest_wall == "left" else mask[:, ::-1]
    reach = np.where(from_wall.any(axis=1), width - from_wall[:, ::-1].argmax(axis=1), 0)
    row = float(np.flatnonzero(reach >= _TIP * reach.max()).mean())
    height = float(rows[-1] - rows[0] + 1)
    off_centre = abs((row - rows[0] + 0.5) / height - 0.5) / 0.5
    tip = float(reach.max() - 1)
    tip, wall = (tip, 0.0) if chest_wall == "left" else (width - 1 - tip, width - 1.0)
    return BreastOutline(view, row, tip, wall, height, float(1 - off_centre))


def locate_box(box: Box, outline: BreastOutline, confidence: float | None = None) -> Location:
    """What one view tells of a box's centre.

    Args:
        box: of the same view and in the same pixels as the outline.
        outline: of the breast.
        confidence: of the finding, if a detector drew it; with the outline's it must reach MIN_CONFIDENCE.
    """
    assert box.view == outline.view
    if min(outline.confidence, 1.0 if confidence is None else confidence) < MIN_CONFIDENCE:
        return Location()
    row, column = (box.ymin + box.ymax) / 2, (box.xmin + box.xmax) / 2
    above = (outline.nipple_row - row) / outline.height
    way = (column - outline.chest_wall_column) / (outline.nipple_column - outline.chest_wall_column)
    decided = abs(above) > UNDECIDED
    return Location(
        vertical=("upper" if above > 0 else "lower") if decided and box.view == "mlo" else None,
        horizontal=("outer" if above > 0 else "inner") if decided and box.view == "cc" else None,
        depth=_name_depth(way),
    )


def locate_finding(
    boxes: Iterable[Box], outlines: Mapping[View, BreastOutline], confidence: float | None = None
) -> Location:
    """Where a finding lies by all views it was drawn in.

    What views disagree on stays open, and so does the place of several boxes of one view.
    """
    boxes = list(boxes)
    if len({box.view for box in boxes}) < len(boxes):  # several findings: no one place
        return Location()
    found = [locate_box(box, outlines[box.view], confidence) for box in boxes if box.view in outlines]
    depths = {one.depth for one in found}
    return Location(
        vertical=next((one.vertical for one in found if one.vertical), None),
        horizontal=next((one.horizontal for one in found if one.horizontal), None),
        depth=depths.pop() if len(depths) == 1 else None,
    )


def place_findings(
    record: BreastRecord, outlines: Mapping[View, BreastOutline], spacing_mm: Mapping[View, float] | None = None
) -> BreastRecord:
    """The record with a place and, where the pixel spacing is known, a size for each finding that was drawn.

    Args:
        record: boxes in the pixels of the outlines. What it says of a place is replaced, a size from a table stays.
        outlines: of its views, as far as they are known.
        spacing_mm: of a pixel, by view.
    """
    return replace(record, findings=tuple(_place(one, outlines, spacing_mm or {}) for one in record.findings))


def _place(finding: Finding, outlines: Mapping[View, BreastOutline], spacing_mm: Mapping[View, float]) -> Finding:
    if not finding.boxes:
        return finding
    placed = replace(finding, location=locate_finding(finding.boxes, outlines, finding.confidence))
    sizes = [measure_box(box, spacing_mm[box.view]) for box in finding.boxes if box.view in spacing_mm]
    if not sizes or finding.several or finding.size_source == "table":
        return placed
    return replace(placed, size_mm=max(sizes), size_source="box")


def measure_box(box: Box, spacing_mm: float) -> float:
    """Longer side in mm; `spacing_mm` is that of a pixel of the image the box was drawn on."""
    return max(box.ymax - box.ymin, box.xmax - box.xmin) * spacing_mm


def _name_depth(way: float) -> Depth | None:
    if not -_BORDER <= way <= 1 + _BORDER or any(abs(way - border) < _BORDER for border in (1 / 3, 2 / 3)):
        return None
    return "posterior" if way < 1 / 3 else "middle" if way < 2 / 3 else "anterior"
