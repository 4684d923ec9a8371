"""The crop of Mammo-CLIP (L 4.6-3): to reproduce its numbers, not to be good.

Of the image within a border of 5 pixels, in 8 bits, what is darker than 40 counts as black. Of the columns that do not
hold one value throughout the longest run is kept, and of the rows likewise; that part is stretched to the frame,
whatever its aspect: a mass that is round need not be round in it, and a millimetre has another length down than across.
Letters beside the breast stay where they are in the same rows and columns, and no image is mirrored.

L does not say whether rows are looked at in all columns or in those kept (here: in all), which of two runs of one
length is kept (the first), whether the dark pixels are black in what is kept (no) and how it is resampled (here as all
images are, `resize.py`).
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float32
from PIL import Image

from hilum.imaging.intensity import TRIMMED
from hilum.imaging.mammography.breast import find_chest_wall
from hilum.imaging.mammography.frame import FRAME, FramedBreast
from hilum.imaging.resize import quantize

THRESHOLD = 40  # of 0 to 255


def stretch_breast(pixels: Float32[np.ndarray, "height width"], size: tuple[int, int] = FRAME) -> FramedBreast:
    """A mammogram in [0, 1], the part that Mammo-CLIP keeps, in all of a frame of `size` (height, width)."""
    trimmed = TRIMMED if min(pixels.shape) > 2 * TRIMMED else 0
    inner = pixels[trimmed : pixels.shape[0] - trimmed, trimmed : pixels.shape[1] - trimmed]
    levels = quantize(inner, 8)
    shown = np.where(levels < THRESHOLD, 0, levels)
    (top, bottom), (left, right) = (find_longest_run(shown.min(axis) != shown.max(axis)) for axis in (1, 0))
    fault = "" if bottom > top and right > left else "no pixels of two values at 8 bits, those below 40 black"
    if fault:
        (top, left), (bottom, right) = (0, 0), inner.shape
    cut = np.ascontiguousarray(inner[top:bottom, left:right])
    frame = np.asarray(Image.fromarray(cut).resize(size[::-1], Image.Resampling.HAMMING))
    down, across = cut.shape[0] / size[0], cut.shape[1] / size[1]
    affine = [down, 0, trimmed + top + 0.5 * down - 0.5, 0, across, trimmed + left + 0.5 * across - 0.5]
    area = 0 if fault else int(np.count_nonzero(shown[top:bottom, left:right]))
    chest_wall = find_chest_wall(pixels)
    return FramedBreast(np.clip(frame, 0, 1), np.array(affine, np.float32), chest_wall, area, fault)


def find_longest_run(keep: Bool[np.ndarray, " place"]) -> tuple[int, int]:
    """First and one behind the last place of the longest run of true values, the first of equals; (0, 0) of none."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], keep, [False]]).astype(np.int8)))
    starts, ends = edges[::2], edges[1::2]
    if not len(starts):
        return 0, 0
    longest = int(np.argmax(ends - starts))
    return int(starts[longest]), int(ends[longest])
