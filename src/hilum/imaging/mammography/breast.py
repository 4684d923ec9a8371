"""Where the breast is in a mammogram: a mask, from which follow the crop and the side of the chest wall (L 4.6-3, -5).

At 512 pixels on the long side, after 1 % of each border is left out (frames of scanned films, collimator edges):
smooth; black is the darkest grey there; Otsu's threshold of the fourth root of what lies above it; the largest
connected part; its convex hull, which fills holes and cuts; wider by 1/64 of the long side, as the skin is dark.

The root is there because Otsu's threshold of the grey itself parts the pectoral muscle from the breast where fat is
dark: of four views of a real exam it kept a tenth of each MLO, and that of the square root a fifth once the picture was
darker (its grey squared). The fourth root finds the same breast in both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Float32
from PIL import Image, ImageDraw
from scipy import ndimage
from scipy.spatial import ConvexHull, QhullError

Side = Literal["left", "right"]

_LONG_SIDE = 512
_BORDER = 0.01
_SMOOTHING = 2.0  # pixels of the small image
_MARGIN = _LONG_SIDE // 64
LEAST_SHARE, MOST_SHARE = 0.04, 0.98  # of the frame; beyond, what was found is no breast


@dataclass(frozen=True)
class Breast:
    """The breast in an image of (height, width) pixels."""

    mask: Bool[np.ndarray, "height width"] | None  # None: not found, the whole frame stands for it
    box: tuple[int, int, int, int]  # top, left, bottom, right; the latter two are one behind the last pixel
    chest_wall: Side  # side of the image it lies on
    fault: str = ""  # why the whole frame is taken


def find_breast(pixels: Float32[np.ndarray, "height width"]) -> Breast:
    """The breast in a mammogram of any side; the whole frame, with the reason, where none is found."""
    height, width = pixels.shape
    small = _shrink(pixels)
    mask, fault = _find_mask(small)
    chest_wall = find_chest_wall(small * mask if not fault else small)
    if fault:
        return Breast(None, (0, 0, height, width), chest_wall, fault)
    whole = np.asarray(Image.fromarray(mask).resize((width, height), Image.Resampling.NEAREST))
    rows, columns = np.flatnonzero(whole.any(1)), np.flatnonzero(whole.any(0))
    return Breast(whole, (int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1), chest_wall)


def find_chest_wall(pixels: Float[np.ndarray, "height width"]) -> Side:
    """The side whose outer quarter holds more grey: the breast is widest at the chest wall, and ends before the other.

    Equal sides (a flat image) are left.
    """
    quarter = max(1, pixels.shape[1] // 4)
    return "right" if pixels[:, -quarter:].sum() > pixels[:, :quarter].sum() else "left"


def compute_otsu(values: Float[np.ndarray, "..."], num_bins: int = 256) -> float:
    """Otsu's threshold (1979): the grey that maximises the variance between what lies above it and what does not.

    Of n bins with weights p_i and centres c_i the cut behind bin k maximises w0 w1 (m0 - m1)^2; the threshold is the
    edge behind it, the middle of the edges where several cuts are equal. Of a flat image it is its value.
    """
    low, high = float(values.min()), float(values.max())
    if low == high:
        return low
    counts, edges = np.histogram(values, num_bins, (low, high))
    centers, total = (edges[:-1] + edges[1:]) / 2, counts.sum()
    below, moment = np.cumsum(counts)[:-1], np.cumsum(counts * centers)[:-1]
    above, whole = total - below, float((counts * centers).sum())
    between = below * above * (moment / below - (whole - moment) / above) ** 2  # the ends of the range are in a bin
    best = np.flatnonzero(between >= between.max() * (1 - 1e-12))
    return float(edges[1:-1][best].mean())


def _shrink(pixels: Float32[np.ndarray, "height width"]) -> Float32[np.ndarray, "small_height small_width"]:
    height, width = pixels.shape
    factor = min(1.0, _LONG_SIDE / max(height, width))
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BOX))


def _find_mask(small: Float32[np.ndarray, "height width"]) -> tuple[Bool[np.ndarray, "height width"], str]:
    """The mask at the small size, and why it is not to be used ("" where it is)."""
    border = [max(1, round(side * _BORDER)) for side in small.shape]
    inner = ndimage.gaussian_filter(small[border[0] : -border[0], border[1] : -border[1]], _SMOOTHING)
    contrast = np.sqrt(np.sqrt(inner - inner.min()))
    labels, count = ndimage.label(contrast > compute_otsu(contrast))
    if not count:
        return np.ones_like(small, dtype=bool), "no contrast in which a breast could be found"
    found = labels == np.argmax(np.bincount(labels.ravel())[1:]) + 1
    # A breast at the border goes on behind it.
    found = fill_hull(np.pad(found, [(side, side) for side in border], mode="edge"))
    share = float(found.mean())
    if not LEAST_SHARE <= share <= MOST_SHARE:
        return found, f"what could be the breast fills {share:.1%} of the frame"
    return ndimage.distance_transform_edt(~found) <= _MARGIN, ""


def fill_hull(mask: Bool[np.ndarray, "height width"]) -> Bool[np.ndarray, "height width"]:
    """The convex hull of a mask's pixels, themselves among it; of fewer than three, or of a line, the mask as it is."""
    places = np.argwhere(mask)
    try:
        corners = places[ConvexHull(places).vertices]
    except (QhullError, ValueError):
        return mask
    canvas = Image.new("1", mask.shape[::-1])
    ImageDraw.Draw(canvas).polygon([(int(column), int(row)) for row, column in corners], fill=1, outline=1)
    return np.asarray(canvas) | mask
