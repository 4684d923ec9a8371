"""CrossMAE's files: masked autoencoders with a cross-attention decoder (Fu et al. 2024; M 6.2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from .assemble import Imported, assemble
from .keys import TIMM_NAMES, rename
from .last_norm import stand_in_for_norm
from .mae import KNOWN


def read_crossmae(
    state: Mapping[str, Tensor],
    *,
    heads: int | None = None,
    image_size: int | None = None,
    normalization: tuple[Sequence[float], Sequence[float]] | None = None,
) -> Imported:
    """The encoder, as of a masked autoencoder. Where its decoder weights all layers (`wfm`), it has no last LayerNorm.

    Raises:
        UserError: the state dict is not such a file's, or not all of it.
    """
    renamed = rename(state, TIMM_NAMES, (*KNOWN, "wfm.", "dec_norms."))
    if any(name.startswith(("wfm.", "dec_norms.", "fc_norm.")) for name in state):
        renamed = stand_in_for_norm(renamed)
    return assemble(renamed, heads=heads, image_size=image_size, normalization=normalization)
