"""The pointing game: does a map's maximum lie in the lesion (Zhang et al. 2018, "Top-down neural attention"; L 6)?

Everything is asked within the breast: the maximum, the random point that stands beside it, and the breast's middle.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

_EQUAL = 1e-9  # of the largest absolute value: the same but for rounding


def find_maxima(
    heat: Float[np.ndarray, "height width"], breast: Bool[np.ndarray, "height width"]
) -> Bool[np.ndarray, "height width"]:
    """Pixels of the breast where the map is largest; all of them of a map that is everywhere the same."""
    inside = heat[breast]
    return breast & (heat >= inside.max() - _EQUAL * np.abs(inside).max())


def score_hit(
    heat: Float[np.ndarray, "height width"],
    lesion: Bool[np.ndarray, "height width"],
    breast: Bool[np.ndarray, "height width"],
) -> float:
    """1 where the maximum lies in the lesion, 0 where it does not; of several maxima, the share that does."""
    return float(lesion[find_maxima(heat, breast)].mean())


def score_chance(lesion: Bool[np.ndarray, "height width"], breast: Bool[np.ndarray, "height width"]) -> float:
    """What a point drawn uniformly in the breast scores: the lesion's share of the breast's area."""
    return float(lesion[breast].mean())


def score_centre(lesion: Bool[np.ndarray, "height width"], breast: Bool[np.ndarray, "height width"]) -> float:
    """What the breast's centre of mass scores, a point that looks at nothing in the image."""
    row, column = np.rint(np.argwhere(breast).mean(axis=0)).astype(int).tolist()
    return float(lesion[row, column])


def widen(
    lesion: Bool[np.ndarray, "height width"], tolerance_mm: float, spacing_mm: tuple[float, float]
) -> Bool[np.ndarray, "height width"]:
    """The lesion and all pixels whose centre is at most so far from the centre of one of its own."""
    if not tolerance_mm or not lesion.any():
        return lesion
    return ndimage.distance_transform_edt(~lesion, sampling=spacing_mm) <= tolerance_mm
