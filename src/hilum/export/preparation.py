"""From a grey image of any size to what a bundle's graph reads: the road through cache and loader, by Pillow.

Size, depth, crop and resampling are those that the head's features were made with: `tests/evaluate/test_bundle.py`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float32
from PIL import Image

from hilum.errors import UserError
from hilum.imaging.mammography.framing import frame_mammogram
from hilum.imaging.resize import quantize, resize_short_side

_FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
_EXPECTED = (
    "expected grey (rows, columns), black is air: uint8 of 0..255, uint16 of 0..65535, or floats from 0 to 1, as the "
    "bundle's intensity policy gives them"
)


def to_grey(given: Any, name: str) -> Float32[np.ndarray, "height width"]:
    """The image, an array or what numpy reads as one, in [0, 1], if it is sure that it is one on the right scale.

    Raises:
        UserError: another type, shape or range: the wrong scale gives answers too, only of nothing. `name` is whose.
    """
    if getattr(given, "mode", "") == "P":
        raise UserError(f"{name}: found a picture with a palette, whose numbers are no grey; {_EXPECTED}.")
    image = np.asarray(given)
    if image.dtype.kind not in "uif":
        raise UserError(f"{name}: found {image.dtype}; {_EXPECTED}.")
    image = image.astype(image.dtype.newbyteorder("="), copy=False)
    if image.ndim != 2 or not image.size:
        colour = " Of equal colour channels take one." if image.ndim == 3 and 3 in image.shape else ""
        raise UserError(f"{name}: found an array of shape {image.shape}; {_EXPECTED}.{colour}")
    low, high = image.min(), image.max()
    found = f"{name}: found {image.dtype} from {low:.4g} to {high:.4g}"
    if low == high:
        raise UserError(f"{found}: one grey value everywhere, there is nothing to see.")
    if image.dtype == np.uint8:
        if high == 1:
            raise UserError(f"{found}: all but black. Was it divided by 255 before? {_EXPECTED}.")
        return image.astype(np.float32) / np.float32(255)
    if image.dtype == np.uint16:
        if 0 < high < 4096:
            raise UserError(
                f"{found}: that is 12 bits or fewer in 16. Divide by the largest value its format allows (such as "
                "4095) and give floats; or let Bundle.read_file read the file."
            )
        return image.astype(np.float32) / np.float32(65535)
    if image.dtype not in (np.float32, np.float64, np.float16):
        raise UserError(f"{found}; {_EXPECTED}.")
    if not (low >= 0 and high <= 1):  # NaN is within no range
        raise UserError(f"{found}; {_EXPECTED}. The graph normalises by mean and deviation itself.")
    if 0 < high <= 1 / 255:
        raise UserError(f"{found}: divided twice? {_EXPECTED}.")
    return image.astype(np.float32)


def prepare_image(
    pixels: Float32[np.ndarray, "height width"], shown: dict[str, Any]
) -> Float32[np.ndarray, "new_height new_width"]:
    """An image in [0, 1] as the graph reads it; `shown` is `preprocessing` of bundle.json.

    Raises:
        UserError: it is smaller than what the encoder reads: that would be silent upsampling.
    """
    height, width = shown["height"], shown["width"]
    if shown["frame"] is not None:
        small = frame_mammogram(pixels, shown["intensity_policy"], tuple(shown["frame"])).pixels
    else:
        if min(pixels.shape) < min(height, width):
            raise UserError(
                f"An image of {pixels.shape[0]} x {pixels.shape[1]} px, and the encoder reads {height} x {width}: give "
                "it at its source's size."
            )
        small, _ = resize_short_side(pixels, shown["short_side"])
    scale = np.float32(2 ** shown["bits"] - 1)
    small = quantize(small, shown["bits"]).astype(np.float32) / scale
    if shown["crop"] == "center":
        side = min(small.shape)
        top, left = (small.shape[0] - side) // 2, (small.shape[1] - side) // 2
        small = np.ascontiguousarray(small[top : top + side, left : left + side])
    resized = Image.fromarray(small).resize((width, height), _FILTERS[shown["interpolation"]])
    return np.clip(np.asarray(resized, np.float32), 0, 1)
