"""How much a term of an objective counts."""

from __future__ import annotations

from typing import Literal

from pydantic.dataclasses import dataclass

from hilum.ranges import NotNegative, Positive

from .strict import STRICT


@dataclass(frozen=True, config=STRICT)
class WeightConfig:
    """How much a term counts, as a function of progress through the run (0 to 1)."""

    value: NotNegative = 1.0
    """Weight at the end of the ramp; with a gradient ratio, the start value of the controller."""
    ramp: Literal["constant", "cosine", "released_sigmoid"] = "constant"
    """cosine: from 0 at the start to its target at the end; released_sigmoid: the released code's curve by epoch."""
    gradient_ratio: Positive | None = None
    """Set the weight so that this term's encoder gradient is this share of the reconstruction's."""
