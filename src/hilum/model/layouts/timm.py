"""Vision transformers as timm saves them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from .assemble import Imported, assemble
from .keys import TIMM_NAMES, Renamed, rename
from .last_norm import stand_in_for_norm

_KNOWN = ("head.", "head_dist.", "fc_norm.")
_SCALES = {"ls1.gamma": "attn.proj", "ls2.gamma": "mlp.fc2"}


def read_timm(
    state: Mapping[str, Tensor],
    *,
    heads: int | None = None,
    image_size: int | None = None,
    normalization: tuple[Sequence[float], Sequence[float]] | None = None,
) -> Imported:
    """The encoder of a plain pre-norm ViT with a class token and LayerNorm of epsilon 1e-6.

    Its class token may have a position or none; qk-norm is kept, layer scale goes into the layer before it (exact).

    Raises:
        UserError: the state dict is not such a file's, or not all of it (register tokens, rotary positions, ...).
    """
    renamed = _fold_layer_scale(rename(state, TIMM_NAMES, _KNOWN))
    if any(name.startswith("fc_norm.") for name in state):
        renamed = stand_in_for_norm(renamed)
    return assemble(renamed, heads=heads, image_size=image_size, normalization=normalization)


def _fold_layer_scale(renamed: Renamed) -> Renamed:
    """gamma (W x + b) = (gamma W) x + gamma b."""
    tensors = dict(renamed.tensors)
    for name, scale in renamed.tensors.items():
        block = name.rsplit(".", 2)[0]
        layer = _SCALES.get(name.removeprefix(f"{block}."))
        if layer is None or not {f"{block}.{layer}.weight", f"{block}.{layer}.bias"} <= tensors.keys():
            continue
        tensors[f"{block}.{layer}.weight"] = tensors[f"{block}.{layer}.weight"] * scale[:, None]
        tensors[f"{block}.{layer}.bias"] = tensors[f"{block}.{layer}.bias"] * scale
        del tensors[name]
    if len(tensors) == len(renamed.tensors):
        return renamed
    return renamed._replace(tensors=tensors, notes=(*renamed.notes, "layer scale folded into the layers it follows"))
