"""Intensity policies: stored values to grey in [0, 1], black = air. A cache records the id of its policy.

A policy is a pure function of a `StoredImage`. What it does never changes under one id: a better rule gets a new id.

`voi-1`, the default, shows the image as its maker meant it to be shown (DICOM PS3.3 C.11):
  1. modality transform: Modality LUT Sequence, else Rescale Slope and Intercept;
  2. the first that exists of
     a. the first VOI LUT Sequence item, over the full range its number of bits allows,
     b. the first usable window (LINEAR, LINEAR_EXACT or SIGMOID),
     c. the range the file's format declares ready for display: 0..255 of 8-bit files (DICOM of at most 8 bits too, so
        that an archive's PNG and DICOM of one image agree); 0..65535 of 16-bit rasters that use their 16th bit,
     d. the 0.5th to 99.5th percentile of the image: 9-15 bits left in a 16-bit raster, DICOM without any VOI, floats;
  3. inversion, once, for MONOCHROME1, Presentation LUT Shape INVERSE, or TIFF's white-is-zero;
  4. padding pixels, which enter no percentile, become black.

`range-1` replaces 2 by the minimum and maximum over pixels that are not padding, whatever the header asks for.

Policies of mammograms (`mammo-...`) also crop, turn and frame what comes out, see `mammography/`. Their grey:

`mammo-auto-1` as `voi-1`; `mammo-minmax-1` as `range-1`; `mammo-percentile-1` has 2d for every file, whatever the
header asks for; `mammo-none-1` replaces 2 by the range that the stored bits allow. `mammo-clip-1`, for comparison with
Mammo-CLIP alone, is `range-1` within a border of 5 pixels, which becomes black (`mammography/stretch.py` has its crop).

The work is done once for each grey level in float64, then looked up, so a 14-megapixel mammogram costs one gather.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Float32, Float64, Int, Int64, Shaped

from hilum.errors import UserError

WindowFunction = Literal["LINEAR", "LINEAR_EXACT", "SIGMOID"]

DEFAULT_POLICY = "voi-1"
_ROBUST_FRACTION = 0.005
_MAX_DENSE_LEVELS = 1 << 20


@dataclass(frozen=True)
class Lut:
    """A DICOM lookup table: input `first` maps to `values[0]`; inputs outside are clamped to the ends (C.11.1.1)."""

    first: int
    values: Int64[np.ndarray, " entry"]
    bits: int

    def apply(self, levels: Float64[np.ndarray, " level"]) -> Float64[np.ndarray, " level"]:
        index = np.clip(np.rint(levels).astype(np.int64) - self.first, 0, len(self.values) - 1)
        return self.values[index].astype(np.float64)


@dataclass(frozen=True)
class Rescale:
    slope: float = 1.0
    intercept: float = 0.0

    def apply(self, levels: Float64[np.ndarray, " level"]) -> Float64[np.ndarray, " level"]:
        return levels * self.slope + self.intercept


@dataclass(frozen=True)
class Window:
    """Window Center and Width in units of the modality transform's output, and the VOI LUT Function."""

    center: float
    width: float
    function: WindowFunction = "LINEAR"


@dataclass(frozen=True)
class StoredImage:
    """What a file holds, before any decision about grey: one plane of values and what its header says of them."""

    values: Shaped[np.ndarray, "height width"]  # integers of up to 32 bits, or floats
    inverted: bool = False  # the highest value means black
    modality: Rescale | Lut = Rescale()
    voi: Lut | Window | None = None
    display_range: tuple[float, float] | None = None  # stored values meant as black and white, without a VOI
    padding: tuple[int, int] | None = None  # stored values, both ends included, that stand for "no image here"
    full_range: tuple[float, float] | None = None  # what the stored bits allow, where their type does not say it


def apply_policy(policy: str, image: StoredImage) -> Float32[np.ndarray, "height width"]:
    """Grey in [0, 1] under the policy of that id; an image of one single value comes out constant."""
    if policy not in POLICIES:
        raise UserError(f"intensity policy {policy!r} is unknown; expected one of {', '.join(POLICIES)}")
    return POLICIES[policy](image)


def map_voi(image: StoredImage) -> Float32[np.ndarray, "height width"]:
    """Policy `voi-1`: as the maker of the image meant it to be shown (see the module's docstring)."""

    def shade(levels, counts):
        if isinstance(image.voi, Lut):
            top = max(2**image.voi.bits - 1, int(image.voi.values.max()))  # some tables exceed the bits they declare
            return image.voi.apply(levels) / top
        if isinstance(image.voi, Window):
            return apply_window(levels, image.voi)
        if image.display_range is not None:
            return stretch(levels, *image.modality.apply(np.array(image.display_range, dtype=np.float64)))
        return stretch(levels, *find_robust_range(levels, counts))

    return _map_levels(image, shade)


def map_range(image: StoredImage) -> Float32[np.ndarray, "height width"]:
    """Policy `range-1`: minimum to maximum over pixels that are not padding; windows and tables are not looked at."""

    def shade(levels, counts):
        present = levels[counts > 0]
        return stretch(levels, present.min(), present.max()) if present.size else np.zeros_like(levels)

    return _map_levels(image, shade)


def map_percentiles(image: StoredImage) -> Float32[np.ndarray, "height width"]:
    """Policy `mammo-percentile-1`: the 0.5th to 99.5th percentile of the pixels that are not padding."""
    return _map_levels(image, lambda levels, counts: stretch(levels, *find_robust_range(levels, counts)))


def map_stored(image: StoredImage) -> Float32[np.ndarray, "height width"]:
    """Policy `mammo-none-1`: the range that the stored bits allow; values without one (floats) by minimum and maximum.

    A modality LUT's range is that of its own values.
    """
    full_range = image.full_range
    if full_range is None and np.issubdtype(image.values.dtype, np.integer) and image.values.dtype.itemsize <= 2:
        limits = np.iinfo(image.values.dtype)
        full_range = float(limits.min), float(limits.max)
    if isinstance(image.modality, Lut):
        ends = np.array([0, max(2**image.modality.bits - 1, int(image.modality.values.max()))], dtype=np.float64)
    elif full_range is not None:
        ends = np.sort(image.modality.apply(np.array(full_range, dtype=np.float64)))
    else:
        return map_range(image)
    return _map_levels(image, lambda levels, counts: stretch(levels, *ends))


def map_inner_range(image: StoredImage) -> Float32[np.ndarray, "height width"]:
    """Policy `mammo-clip-1`: minimum to maximum of what lies within a border of TRIMMED pixels, which becomes black."""
    if min(image.values.shape) <= 2 * TRIMMED:
        return map_range(image)
    inner = map_range(replace(image, values=image.values[TRIMMED:-TRIMMED, TRIMMED:-TRIMMED]))
    return np.pad(inner, TRIMMED)


TRIMMED = 5  # pixels at each side that Mammo-CLIP leaves out (L 4.6-2)
MAMMO_CLIP = "mammo-clip-1"
MAMMOGRAPHIC = "mammo-"  # begins the ids of policies that also frame the breast
POLICIES: dict[str, Callable[[StoredImage], np.ndarray]] = {
    "voi-1": map_voi,
    "range-1": map_range,
    f"{MAMMOGRAPHIC}auto-1": map_voi,
    f"{MAMMOGRAPHIC}minmax-1": map_range,
    f"{MAMMOGRAPHIC}percentile-1": map_percentiles,
    f"{MAMMOGRAPHIC}none-1": map_stored,
    MAMMO_CLIP: map_inner_range,
}


def is_mammographic(policy: str) -> bool:
    """Whether images under this policy are mammograms, cropped and framed."""
    return policy.startswith(MAMMOGRAPHIC)


def apply_window(levels: Float64[np.ndarray, " level"], window: Window) -> Float64[np.ndarray, " level"]:
    """DICOM PS3.3 C.11.2.1.2 (LINEAR), C.11.2.1.3.1 (SIGMOID) and C.11.2.1.3.2 (LINEAR_EXACT), onto [0, 1]."""
    center, width = window.center, window.width
    if window.function == "SIGMOID":
        return 1 / (1 + np.exp(np.clip(-4 * (levels - center) / width, -700, 700)))
    if window.function == "LINEAR_EXACT":
        return np.clip((levels - center) / width + 0.5, 0, 1)
    if width == 1:  # the standard's limit: a threshold
        return (levels > center - 0.5).astype(np.float64)
    return np.clip((levels - (center - 0.5)) / (width - 1) + 0.5, 0, 1)


def stretch(levels: Float64[np.ndarray, " level"], low: float, high: float) -> Float64[np.ndarray, " level"]:
    """low..high onto 0..1, clipped; all zero where low equals high (an image of one value)."""
    return np.clip((levels - low) / (high - low), 0, 1) if low != high else np.zeros_like(levels)


def find_robust_range(
    levels: Float64[np.ndarray, " level"], counts: Int64[np.ndarray, " level"]
) -> tuple[float, float]:
    """Levels that at least 0.5 % of the pixels do not exceed, and do not fall below; min and max where these coincide.

    The two are mirror images, so an inverted image gets the mirrored range exactly.
    """
    order = np.argsort(levels, kind="stable")  # a modality LUT or a negative slope may have reversed them
    levels, counts = levels[order], counts[order]
    levels, counts = levels[counts > 0], counts[counts > 0]
    if not levels.size:
        return 0.0, 0.0
    needed = _ROBUST_FRACTION * counts.sum()
    low = levels[np.argmax(np.cumsum(counts) >= needed)]
    high = levels[::-1][np.argmax(np.cumsum(counts[::-1]) >= needed)]
    return (float(low), float(high)) if low < high else (float(levels[0]), float(levels[-1]))


def find_raster_range(values: Shaped[np.ndarray, "height width"]) -> tuple[float, float] | None:
    """The stored values a PNG, JPEG or TIFF means as black and white, or None where the file cannot say.

    8 bits are ready for display by convention. 16-bit files come in two kinds: stretched by their author, which then
    use the 16th bit, and 9-15 bits of a detector left as they were, for which 65535 is no white at all.
    """
    if values.dtype == np.uint8:
        return 0.0, 255.0
    if np.issubdtype(values.dtype, np.integer) and values.min() >= 0 and 2**15 <= values.max() < 2**16:
        return 0.0, 65535.0
    return None


def _map_levels(image: StoredImage, shade: Callable) -> Float32[np.ndarray, "height width"]:
    """Run `shade(levels after the modality transform, pixel counts without padding)` once for each grey level."""
    stored, index, counts = _count_levels(image.values)
    is_padding = ~np.isfinite(stored)
    if image.padding is not None:
        is_padding |= (stored >= image.padding[0]) & (stored <= image.padding[1])
    stored = np.where(np.isfinite(stored), stored, 0.0)
    grey = shade(image.modality.apply(stored), np.where(is_padding, 0, counts))
    if image.inverted:
        grey = 1 - grey
    grey[is_padding] = 0
    return grey.astype(np.float32)[index]


def _count_levels(
    values: Shaped[np.ndarray, "height width"],
) -> tuple[Float64[np.ndarray, " level"], Int[np.ndarray, "height width"], Int64[np.ndarray, " level"]]:
    """Grey levels, the level index of each pixel, and the number of pixels at each level."""
    if np.issubdtype(values.dtype, np.integer):
        low, high = int(values.min()), int(values.max())
        if high - low < _MAX_DENSE_LEVELS:
            index = values.astype(np.int64) - low
            counts = np.bincount(index.ravel(), minlength=high - low + 1)
            return low + np.arange(high - low + 1, dtype=np.float64), index, counts
    levels, index, counts = np.unique(values, return_inverse=True, return_counts=True)
    return levels.astype(np.float64), index.reshape(values.shape), counts
