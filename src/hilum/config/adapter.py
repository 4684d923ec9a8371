"""What of a frozen encoder is trained."""

from __future__ import annotations

from typing import Literal

from pydantic.dataclasses import dataclass

from hilum.ranges import Count, Fraction, Positive

from .strict import STRICT


@dataclass(frozen=True, config=STRICT)
class LowRankAdapter:
    """The encoder is frozen but for updates of low rank to its linear layers (LoRA, Hu et al. 2022; P 2.1)."""

    rank: Count = 8
    """Rank of an update."""
    alpha: Positive = 16.0
    """The update is multiplied by alpha / rank."""
    dropout: Fraction = 0.1
    """Share of the numbers that is dropped before an update, in training."""
    targets: tuple[Literal["qkv", "proj", "fc1", "fc2"], ...] = ("qkv", "fc1", "fc2")
    """Linear layers of every block that are updated: attention's input and output, the two of the hidden layer."""
    train_norms: Literal["final", "all", "none"] = "final"
    """LayerNorms that are trained as they are."""
    any_norm_eps: bool = False
    """Start from weights whose LayerNorms have another epsilon, too, as the released PaCX-MAE code does."""
