"""MVMAE's Lightning file, and its classifier's (M 6.1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from torch import Tensor

from hilum.errors import UserError

from .assemble import Imported, assemble
from .keys import rename

_NAMES = {
    "cls_token": "cls_token",
    "pos_embedding": "pos_embed",
    "mod_embedding": "view_embed",
    "patchify.": "patch_embed.proj.",
    "transformer.": "blocks.",
    "layer_norm.": "norm.",
}
_PREFIXES = ("encoders.vision.", "oe_vis_encoder.")
_KNOWN = ("decoders.vision.", "text_decoder.", "latent_heads.vision.", "clf_head.")


def read_mvmae(
    state: Mapping[str, Tensor],
    *,
    heads: int | None = None,
    image_size: int | None = None,
    normalization: tuple[Sequence[float], Sequence[float]] | None = None,
) -> Imported:
    """The image encoder: qk-norm, one channel, no position for the class token, last LayerNorm of epsilon 1e-5.

    Rows of its view table are frontal, lateral, unknown, as here.

    Raises:
        UserError: the state dict is not such a file's, or not all of it.
    """
    prefix = next((start for start in _PREFIXES if any(name.startswith(start) for name in state)), None)
    if prefix is None:
        some = ", ".join(list(state)[:3])
        raise UserError(
            f"no tensor is named {' or '.join(f'{start}*' for start in _PREFIXES)} (the first are {some}). Is it of "
            "another --layout?"
        )
    renamed = rename(state, _NAMES, _KNOWN, prefix)
    positions = renamed.tensors.get("pos_embed")
    if positions is not None and positions.ndim == 3 and positions.shape[1] == 1:  # (token, 1, dim)
        renamed.tensors["pos_embed"] = positions.transpose(0, 1)
    if "view_embed" not in renamed.tensors:
        raise UserError(f"{prefix}mod_embedding, its table of view kinds, is missing.")
    found = assemble(renamed, heads=heads, image_size=image_size, normalization=normalization, final_norm_eps=1e-5)
    return found._replace(config=replace(found.config, init="released"))
