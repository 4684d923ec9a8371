"""Files whose encoder has no last LayerNorm."""

from __future__ import annotations

import torch

from .keys import Renamed


def stand_in_for_norm(renamed: Renamed) -> Renamed:
    """A last LayerNorm of weight 1 and bias 0 where the file has neither: that of an encoder about to be fine-tuned.

    Hilum's encoder always has one, and the blocks' sums are of no fixed scale without.
    """
    if any(name.startswith("norm.") for name in renamed.tensors) or "cls_token" not in renamed.tensors:
        return renamed
    width = renamed.tensors["cls_token"].shape[-1]
    tensors = {**renamed.tensors, "norm.weight": torch.ones(width), "norm.bias": torch.zeros(width)}
    note = "the file has no last LayerNorm: one of weight 1 and bias 0 was added after its blocks"
    added = ("norm.weight", "norm.bias")
    return renamed._replace(tensors=tensors, added=added, notes=(*renamed.notes, note))
