"""Vision transformers as timm saves them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from .assemble import Imported, assemble
from .keys import TIMM_NAMES, rename
from .last_norm import stand_in_for_norm

_KNOWN = ("head.", "head_dist.", "fc_norm.")


def read_timm(
    state: Mapping[str, Tensor],
    *,
    heads: int | None = None,
    image_size: int | None = None,
    normalization: tuple[Sequence[float], Sequence[float]] | None = None,
) -> Imported:
    """The encoder of a plain pre-norm ViT with a class token and LayerNorm of epsilon 1e-6.

    Its class token may have a position or none; qk-norm is kept.

    Raises:
        UserError: the state dict is not such a file's, not all of it, or more (register tokens, layer scale, ...).
    """
    renamed = rename(state, TIMM_NAMES, _KNOWN)
    if any(name.startswith("fc_norm.") for name in state):
        renamed = stand_in_for_norm(renamed)
    return assemble(renamed, heads=heads, image_size=image_size, normalization=normalization)
