"""One frame for all breasts: cropped, chest wall at the left, of one size, with the way back to the source pixel.

What lies outside the breast (letters, markers, the scanner's background) becomes black. The aspect is kept; a breast
that is smaller than the frame is not enlarged, and what is left of the frame is black: to the right, and above and
below alike.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Integer
from PIL import Image
from scipy import ndimage

from hilum.imaging.mammography.breast import Breast, Side, find_breast

FRAME = (1520, 912)  # height and width, Mammo-CLIP's and MV-MLM's (L 1.1)


@dataclass(frozen=True)
class FramedBreast:
    """A mammogram as the cache keeps it."""

    pixels: Float32[np.ndarray, "height width"]  # in [0, 1]
    affine: Float32[np.ndarray, "6"]  # source row = a row + b column + c, source column = d row + e column + f
    chest_wall: Side  # side of the source image it lies on
    area: int  # of the breast, in pixels of the source; 0: it was not found
    fault: str  # why the whole frame was taken then


def frame_breast(pixels: Float32[np.ndarray, "height width"], size: tuple[int, int] = FRAME) -> FramedBreast:
    """A mammogram of any side, in [0, 1], in a frame of `size` (height, width)."""
    breast = find_breast(pixels)
    top, left, bottom, right = breast.box
    cut = _cut(pixels, breast)
    factor = min(1.0, size[0] / cut.shape[0], size[1] / cut.shape[1])
    height, width = (max(1, round(side * factor)) for side in cut.shape)
    if factor < 1:
        # Hamming's filter, as for all images: no aliasing, and values stay within the source's (`resize.py`).
        cut = np.asarray(Image.fromarray(cut).resize((width, height), Image.Resampling.HAMMING))
    above = (size[0] - height) // 2
    frame = np.zeros(size, np.float32)
    frame[above : above + height, :width] = np.clip(cut, 0, 1)
    down, across = (bottom - top) / height, (right - left) / width
    first_row = top + (0.5 - above) * down - 0.5
    if breast.chest_wall == "right":
        affine = [down, 0, first_row, 0, -across, right - 0.5 - 0.5 * across]
    else:
        affine = [down, 0, first_row, 0, across, left + 0.5 * across - 0.5]
    area = 0 if breast.mask is None else int(np.count_nonzero(breast.mask))
    return FramedBreast(frame, np.array(affine, np.float32), breast.chest_wall, area, breast.fault)


def find_breast_pixels(image: Integer[np.ndarray, "height width"]) -> Bool[np.ndarray, "height width"]:
    """What a cached mammogram shows of the breast: what is not black, and what that encloses."""
    shown = ndimage.binary_fill_holes(image > 0)
    assert shown is not None
    return shown if shown.any() else np.ones(image.shape, bool)


def _cut(pixels: Float32[np.ndarray, "height width"], breast: Breast) -> Float32[np.ndarray, "new_height new_width"]:
    """The breast's box, black outside the breast, mirrored where the chest wall is at the right."""
    top, left, bottom, right = breast.box
    cut = pixels[top:bottom, left:right]
    if breast.mask is not None:
        cut = cut * breast.mask[top:bottom, left:right]
    return np.ascontiguousarray(cut[:, ::-1] if breast.chest_wall == "right" else cut)
