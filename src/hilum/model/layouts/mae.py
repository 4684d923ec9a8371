"""Masked autoencoders in the layout of facebookresearch/mae, which medical_mae has too (M 6.2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from .assemble import Imported, assemble
from .keys import TIMM_NAMES, rename
from .last_norm import stand_in_for_norm

KNOWN = ("mask_token", "decoder_", "head.", "fc_norm.")


def read_mae(
    state: Mapping[str, Tensor],
    *,
    heads: int | None = None,
    image_size: int | None = None,
    normalization: tuple[Sequence[float], Sequence[float]] | None = None,
) -> Imported:
    """The encoder: no qk-norm, no view table; the class token's position is added to it.

    Fine-tuned files that pool patches by their mean have a norm after it, `fc_norm`, in place of `norm`.

    Raises:
        UserError: the state dict is not such a file's, or not all of it.
    """
    renamed = rename(state, TIMM_NAMES, KNOWN)
    if any(name.startswith("fc_norm.") for name in state):
        renamed = stand_in_for_norm(renamed)
    return assemble(renamed, heads=heads, image_size=image_size, normalization=normalization)
