"""From what a decoder drew of test images to estimates: per image and pooled, with intervals by patient."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int64

from hilum.checksums import hash_parts
from hilum.evaluate.result import Estimate
from hilum.evaluate.scoring.bootstrap import NUM_RESAMPLES
from hilum.evaluate.scoring.intervals import Weighted, estimate_weighted, resample_mean

from .metrics import Areas, Spacing, count_areas, measure_border_distances, score_dice, score_iou

# Of each image, then averaged over images; pooled: pixels of all images together.
PER_IMAGE = ("dice", "iou", "surface_distance", "hausdorff_95")
POOLED = {"dice_pooled": score_dice, "iou_pooled": score_iou}
EVERY, PRESENT = "all", "structure present"


@dataclass(frozen=True)
class MaskScores:
    """Areas and distances of every test image: enough for any estimate, and the same however images were batched."""

    structures: tuple[str, ...]
    areas: Areas  # (view, structure)
    surface_distance: Float[np.ndarray, "view structure"]  # in pixels of the square, or in the unit of the spacing
    hausdorff_95: Float[np.ndarray, "view structure"]
    known: Bool[np.ndarray, "view structure"]
    patient: Int64[np.ndarray, " view"]
    view_row: Int64[np.ndarray, " view"]

    @property
    def rows(self) -> str:
        """Digest of the test images and their masks: numbers of two encoders are paired on the same ones."""
        return hash_parts([self.view_row, self.known, self.areas.true])

    def read(self, metric: str) -> Float[np.ndarray, "view structure"]:
        """A metric of every image."""
        if metric in ("dice", "iou"):
            return (score_dice if metric == "dice" else score_iou)(self.areas)
        return getattr(self, metric)


def score_masks(
    predicted: Bool[np.ndarray, "view structure height width"],
    true: Bool[np.ndarray, "view structure height width"],
    known: Bool[np.ndarray, "view structure"],
    *,
    structures: tuple[str, ...],
    patient: Int64[np.ndarray, " view"],
    view_row: Int64[np.ndarray, " view"],
    spacing: Spacing = (1.0, 1.0),
) -> MaskScores:
    """Compare masks image by image."""
    distances = np.zeros((2, *known.shape))
    for view, structure in np.argwhere(known):
        distances[:, view, structure] = measure_border_distances(
            predicted[view, structure], true[view, structure], spacing
        )
    return MaskScores(structures, count_areas(predicted, true), *distances, known, patient, view_row)


def estimate_masks(scores: MaskScores, *, num_resamples: int = NUM_RESAMPLES, seed: int = 0) -> list[Estimate]:
    """Every metric of every structure and their mean, with intervals by patient.

    Two slices: all images, and those that have the structure (where most images have none, agreeing that there is
    nothing is most of the score). Pooled metrics count every pixel alike, so that large masks weigh more.
    """
    estimates = []
    for slice, kept in ((EVERY, scores.known), (PRESENT, scores.known & (scores.areas.true > 0))):
        for metric in (*PER_IMAGE, *POOLED):
            rules: dict[str, Any] = {
                "metric": metric, "slice": slice, "num_resamples": num_resamples, "seed": seed,
                "undefined": "no image with a known mask of it",
            }  # fmt: skip
            numbers = [_weigh(scores, metric, kept[:, place], place) for place in range(len(scores.structures))]
            for place, of in enumerate(scores.structures):
                positives = int((scores.known[:, place] & (scores.areas.true[:, place] > 0)).sum())
                num = int(kept[:, place].sum())
                estimates.append(
                    estimate_weighted(numbers[place], scores.patient, of=of, num=num, positives=positives, **rules)
                )
            shown = [one for place, one in enumerate(numbers) if kept[:, place].any()]
            mean = partial(_average, shown)
            estimates.append(estimate_weighted(mean, scores.patient, of="macro", num=len(shown), **rules))
    return estimates


def average_dice(scores: MaskScores) -> float:
    """Mean over structures of the mean Dice of images: what validation chooses by."""
    values = scores.read("dice")
    means = [values[known, place].mean() for place, known in enumerate(scores.known.T) if known.any()]
    return float(np.mean(means)) if means else float("nan")


def _weigh(scores: MaskScores, metric: str, keep: np.ndarray, structure: int) -> Weighted:
    """The metric of one structure over the images kept, as a function of multiplicities of all images."""
    if metric in POOLED:
        areas = [part[:, structure] * keep for part in scores.areas]
        return lambda weight: _pool(areas, keep, weight, POOLED[metric])
    values = scores.read(metric)[:, structure]

    def average(weight: np.ndarray) -> np.ndarray:
        counted = weight * keep[:, None]
        has_any = counted.sum(axis=0) > 0
        found = np.full(weight.shape[1], np.nan)
        found[has_any] = resample_mean(values, counted[:, has_any])
        return found

    return average


def _pool(
    areas: list[np.ndarray], keep: np.ndarray, weight: np.ndarray, score: Callable[[Areas], np.ndarray]
) -> np.ndarray:
    total = Areas(*(np.rint(part @ weight.astype(np.float64)).astype(np.int64) for part in areas))
    return np.where(keep @ weight > 0, score(total), np.nan)


def _average(numbers: list[Weighted], weight: np.ndarray) -> np.ndarray:
    """Mean over structures, of those defined in a resample."""
    values = np.stack([number(weight) for number in numbers]) if numbers else np.full((1, weight.shape[1]), np.nan)
    defined = ~np.isnan(values)
    total = np.where(defined, values, 0).sum(axis=0)
    return np.divide(total, defined.sum(axis=0), out=np.full(len(total), np.nan), where=defined.any(axis=0))
