"""Images that hold nothing to learn from: too small, or blank."""

from __future__ import annotations

from typing import TypedDict

import numpy as np
from jaxtyping import Float32

MIN_SHORT_SIDE = 64


class Quality(TypedDict):
    is_blank: bool


def find_size_fault(height: int, width: int) -> str | None:
    """Why an image of this size is not used, or None."""
    if min(height, width) < MIN_SHORT_SIDE:
        return f"{width} x {height} pixels; expected at least {MIN_SHORT_SIDE} on the short side"
    return None


def describe_quality(pixels: Float32[np.ndarray, "height width"]) -> Quality:
    """`is_blank`: one single grey value throughout."""
    return {"is_blank": bool(pixels.min() == pixels.max())}
