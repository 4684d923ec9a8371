"""The optimiser and its schedule."""

from __future__ import annotations

from typing import Literal

from pydantic.dataclasses import dataclass

from hilum.ranges import Count, Fraction, NotNegative, Positive

from .strict import STRICT


@dataclass(frozen=True, config=STRICT)
class OptimConfig:
    """AdamW or Muon, warm-up, cosine."""

    matrices: Literal["adamw", "muon"] = "adamw"
    """What updates the weight matrices of linear layers: adamw; or muon (Jordan 2024), whose steps last a little longer
    and bring more. All other parameters are AdamW's."""
    lr: Positive = 1.5e-4
    """Peak learning rate."""
    weight_decay: NotNegative = 0.05
    """Decoupled weight decay."""
    decay_everything: bool = False
    """Decay biases, norms and embeddings too, as the released code does."""
    decay_tokens: bool = False
    """Decay class and mask tokens and tables too, all that has more than one axis, as PaCX-MAE's first stage does."""
    betas: tuple[float, float] = (0.9, 0.95)
    """Adam's running-mean coefficients."""
    epochs: Positive = 800.0
    """Length of the run, in views drawn over views available."""
    steps: Count | None = None
    """Length of the run in optimiser steps instead; then epochs is not used."""
    warmup: Fraction = 0.05
    """Share of the run in which the learning rate rises."""
    warmup_start: Fraction = 0.0
    """Learning rate at the start of warm-up, as a share of the peak."""
    floor: Fraction = 0.0
    """Learning rate at the end, as a share of the peak."""
    per_epoch: bool = False
    """Change the learning rate once an epoch, as the released code does, instead of every step."""
    clip_norm: Positive | None = 1.0
    """Largest gradient norm; None: no clipping."""
    accumulate: Count = 1
    """Parts a step is computed in, for memory. Means over views, studies or pairs stay what they are; contrast and the
    collapse guard compare the views of a batch with each other, and then see one part at a time."""
