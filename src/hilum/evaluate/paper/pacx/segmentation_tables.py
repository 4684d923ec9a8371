"""Segmentation beyond the published numbers: each structure by itself, pixels pooled, and distances of borders."""

from __future__ import annotations

from hilum.evaluate.paper.index import Suite, name_segmentation
from hilum.evaluate.paper.table import NOT_EVALUATED, SuiteTable, find_estimate, format_estimate
from hilum.evaluate.segmentation.scores import EVERY, PRESENT

# Metric -> column, factor, digits.
_COLUMNS = {
    "iou": ("IoU", 100.0, 1),
    "dice": ("Dice", 100.0, 1),
    "iou_pooled": ("IoU, pooled", 100.0, 1),
    "dice_pooled": ("Dice, pooled", 100.0, 1),
    "surface_distance": ("border, mean", 1.0, 1),
    "hausdorff_95": ("border, 95 %", 1.0, 1),
}
_CAPTION = (
    "Overlaps in percent and distances between the drawn and the true border in pixels of the square that the encoder "
    "sees (mean, and 95th percentile), each the mean over test images, 95 % intervals by patient; pooled: the pixels "
    "of all images together, so that large masks weigh more. Two empty masks agree; where one is empty the overlap is "
    "0 and borders are as far apart as the image's diagonal. Structure present: the images that show it."
)


def tabulate_structures(suite: Suite) -> list[SuiteTable]:
    """A row for each arm, decoder and structure (and one for those images that show it, where not all do)."""
    rows = []
    for decoder in suite.index["decoders"]:
        for method in suite.names:
            result = suite.methods.get((name_segmentation(decoder), method, None))
            for structure in suite.index["structures"] if result is not None else ():
                assert result is not None
                every, present = (find_estimate(result, "dice", structure, part) for part in (EVERY, PRESENT))
                parts = {EVERY: ""} | ({PRESENT: f", {PRESENT}"} if present.num != every.num else {})
                for part, said in parts.items():
                    found = {metric: find_estimate(result, metric, structure, part) for metric in _COLUMNS}
                    if all(one.reason == NOT_EVALUATED for one in found.values()):
                        continue
                    cells = [format_estimate(one, *_COLUMNS[metric][1:]) for metric, one in found.items()]
                    rows.append([f"{method}, {decoder} decoder: {structure}{said}", *cells])
    columns = ["", *(title for title, _, _ in _COLUMNS.values())]
    return [SuiteTable("Segmentation by structure", columns, rows, _CAPTION)] if rows else []
