"""Places and sizes of the findings of a cache's breasts, by the outlines that its images show (L 2.3).

Only of a cache that a policy of mammograms made: its images show the whole breast, the chest wall on the left. Of a
view with two images a record does not say on which a box was drawn: that view says nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import polars as pl

from hilum.breast_views import find_spacing
from hilum.cache import Cache
from hilum.imaging.affine import map_boxes_from_source
from hilum.imaging.mammography.frame import find_breast_pixels

from .location import BreastOutline, find_outline, place_findings
from .record import Box, BreastRecord, Finding
from .terms import View


def place_cached(cache: Cache, records: Sequence[BreastRecord]) -> list[BreastRecord]:
    """The records with a place, and where pixels' size is known a size in mm, of each finding that was drawn.

    Args:
        cache: whose images are read, those with a box alone; of one that does not show the breast alone and its chest
            wall at the left nothing is.
        records: of its study table.
    """
    if not cache.turns_breasts:
        return list(records)
    images = list_images(cache)
    return [
        _place(cache, record, images[record.dataset, record.study, record.laterality])
        if any(finding.boxes for finding in record.findings)
        else record
        for record in records
    ]


def list_images(cache: Cache) -> dict[tuple[str, str, str], dict[View, list[int]]]:
    """(dataset, study, side) -> view -> rows of the cache's images."""
    views = cache.table().select("dataset", "study", "views").explode("views").unnest("views").with_row_index("row")
    assert len(views) == len(cache.views), "the study table lists other views than the cache"
    found: dict[tuple[str, str, str], dict[View, list[int]]] = defaultdict(lambda: defaultdict(list))
    for view in views.filter(pl.col("kind").is_in(["cc", "mlo"])).iter_rows(named=True):
        found[view["dataset"], view["study"], view["laterality"]][view["kind"]].append(view["row"])
    return found


def _place(cache: Cache, record: BreastRecord, images: Mapping[View, Sequence[int]]) -> BreastRecord:
    """Boxes are looked at in pixels of the cached images, and kept in those of the archive's."""
    alone = {view: rows[0] for view, rows in images.items() if len(rows) == 1}
    drawn = {box.view for finding in record.findings for box in finding.boxes}
    outlines: dict[View, BreastOutline] = {}
    spacing: dict[View, float] = {}
    for view in drawn & set(alone):
        found = cache.breasts["area"][alone[view]] > 0  # else the whole image is shown, whatever is on it
        if found and (outline := find_outline(find_breast_pixels(cache.image(alone[view])), view, "left")):
            outlines[view] = outline
        if known := find_spacing(cache, alone[view]):
            spacing[view] = float(np.mean(known))
    shown = tuple(_map_boxes(cache, finding, alone) for finding in record.findings)
    placed = place_findings(replace(record, findings=shown), outlines, spacing)
    back = zip(placed.findings, record.findings, strict=True)
    return replace(record, findings=tuple(replace(one, boxes=source.boxes) for one, source in back))


def _map_boxes(cache: Cache, finding: Finding, images: Mapping[View, int]) -> Finding:
    """The finding with the boxes of these images alone, in their pixels."""
    boxes = []
    for box in (box for box in finding.boxes if box.view in images):
        corners = np.array([[box.ymin, box.xmin, box.ymax, box.xmax]])
        top, left, bottom, right = map_boxes_from_source(cache.views["affine"][images[box.view]], corners)[0].tolist()
        boxes.append(Box(box.view, top, left, bottom, right))
    return replace(finding, boxes=tuple(boxes))
