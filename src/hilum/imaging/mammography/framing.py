"""Which frame a policy of mammograms has: one rule for the cache and for bundles."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32

from hilum.imaging.intensity import MAMMO_CLIP

from .frame import FramedBreast, frame_breast
from .stretch import stretch_breast


def frame_mammogram(pixels: Float32[np.ndarray, "height width"], policy: str, size: tuple[int, int]) -> FramedBreast:
    """A mammogram, grey by the intensity policy of that id, in its frame of `size` (height, width)."""
    return stretch_breast(pixels, size) if policy == MAMMO_CLIP else frame_breast(pixels, size)
