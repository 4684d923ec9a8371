"""Smaller images and fewer grey levels, with the way back to the source pixel."""

from __future__ import annotations

from typing import Literal

import numpy as np
from jaxtyping import Float32, UInt8, UInt16
from PIL import Image


def resize_short_side(
    pixels: Float32[np.ndarray, "height width"], short_side: int
) -> tuple[Float32[np.ndarray, "new_height new_width"], Float32[np.ndarray, "6"]]:
    """Shrink so that the short side is `short_side`, keeping the aspect ratio to the nearest pixel; never enlarge.

    An image whose short side is already at or below `short_side` comes back as it is: a 156-px image stays 156 px, and
    whoever needs more pixels has to decide about it in the open.

    Returns the image and (a, b, c, d, e, f) with source row = a row + b column + c and source column = d row + e column
    + f, where row and column are pixel centres (the first pixel's centre is 0) of the returned image.

    The filter is Pillow's Hamming: its support grows with the factor (no aliasing), it has no negative lobe (values
    stay within the source's), and is sharper than the triangle.
    """
    height, width = pixels.shape
    short = min(height, width)
    if short <= short_side:
        return pixels, np.array([1, 0, 0, 0, 1, 0], dtype=np.float32)
    new_height, new_width = (round(side * short_side / short) for side in (height, width))
    resized = Image.fromarray(pixels).resize((new_width, new_height), Image.Resampling.HAMMING)
    down, across = height / new_height, width / new_width
    affine = np.array([down, 0, (down - 1) / 2, 0, across, (across - 1) / 2], dtype=np.float32)
    return np.clip(np.asarray(resized), 0, 1), affine


def quantize(
    pixels: Float32[np.ndarray, "height width"], bits: Literal[8, 16]
) -> UInt8[np.ndarray, "height width"] | UInt16[np.ndarray, "height width"]:
    """[0, 1] to 0..255 or 0..65535, to the nearest, halves to even. Values of 8-bit files come back exactly."""
    assert np.all((pixels >= 0) & (pixels <= 1)), "pixels outside [0, 1] or not a number"
    return np.rint(pixels * np.float32(2**bits - 1)).astype(np.uint8 if bits == 8 else np.uint16)
