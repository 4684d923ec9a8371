"""How well a predicted mask lies on the true one: overlap and distance of borders, image by image (P 3.5, P 7.1-9).

The rule of empty masks: two empty ones agree (overlap 1, distance 0); where only one is empty nothing overlaps (0),
and the distance is the diagonal of the image, the largest there is, so that to predict nothing is never rewarded.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int64
from numpy.typing import ArrayLike
from scipy.ndimage import binary_erosion, distance_transform_edt

Spacing = tuple[float, float]


class Areas(NamedTuple):
    """Pixels of masks, of which every overlap is made, of one image or of many together."""

    both: Int64[np.ndarray, "..."]
    predicted: Int64[np.ndarray, "..."]
    true: Int64[np.ndarray, "..."]


class BorderDistances(NamedTuple):
    """In the unit of the spacing."""

    average: float  # average symmetric surface distance
    hausdorff_95: float


def count_areas(
    predicted: Bool[np.ndarray, "*mask height width"], true: Bool[np.ndarray, "*mask height width"]
) -> Areas:
    """Pixels in both masks, in the predicted one, in the true one."""
    return Areas(*(np.asarray(part.sum(axis=(-2, -1), dtype=np.int64)) for part in (predicted & true, predicted, true)))


def score_iou(areas: Areas) -> Float[np.ndarray, "..."]:
    r"""Intersection over union, the Jaccard index.

    .. math:: \frac{|P \cap T|}{|P \cup T|}
    """
    return _divide(areas.both, areas.predicted + areas.true - areas.both)


def score_dice(areas: Areas) -> Float[np.ndarray, "..."]:
    r"""Dice coefficient, the F1 score of pixels.

    .. math:: \frac{2 |P \cap T|}{|P| + |T|}
    """
    return _divide(2 * areas.both, areas.predicted + areas.true)


def find_border(mask: Bool[np.ndarray, "height width"]) -> Bool[np.ndarray, "height width"]:
    """Pixels of a mask with one of their four neighbours outside it; outside the image is outside."""
    return mask & ~binary_erosion(mask)


def measure_border_distances(
    predicted: Bool[np.ndarray, "height width"],
    true: Bool[np.ndarray, "height width"],
    spacing: Spacing = (1.0, 1.0),
) -> BorderDistances:
    r"""Average symmetric surface distance, and the 95th percentile of the Hausdorff distance.

    .. math:: \mathrm{ASSD} = \frac{\sum_{a \in \partial P} d(a, \partial T) + \sum_{b \in \partial T} d(b, \partial P)}
        {|\partial P| + |\partial T|}, \qquad
        \mathrm{HD}_{95} = \max \{ q_{95} d(a, \partial T), \; q_{95} d(b, \partial P) \}

    Heimann et al. 2009 (SLIVER07) for the first, Huttenlocher et al. 1993 for the second.

    Args:
        spacing: height and width of a pixel, such as its millimetres; then distances are in them.
    """
    if not predicted.any() and not true.any():
        return BorderDistances(0.0, 0.0)
    if not predicted.any() or not true.any():
        diagonal = math.hypot(*(side * step for side, step in zip(true.shape, spacing, strict=True)))
        return BorderDistances(diagonal, diagonal)
    borders = find_border(predicted), find_border(true)
    to_predicted, to_true = (distance_transform_edt(~border, sampling=spacing) for border in borders)
    there, back = to_true[borders[0]], to_predicted[borders[1]]
    average = (there.sum() + back.sum()) / (len(there) + len(back))
    return BorderDistances(float(average), float(max(np.quantile(there, 0.95), np.quantile(back, 0.95))))


def _divide(above: ArrayLike, below: ArrayLike) -> np.ndarray:
    """Quotient; 1 where both masks are empty."""
    above, below = np.asarray(above, np.float64), np.asarray(below, np.float64)
    return np.divide(above, below, out=np.ones_like(below), where=below > 0)
