"""An encoder for whoever has timm and no Hilum: its tensors as plain timm loads them, strictly, and how to build it."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import save
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from hilum.atomic import write_atomic
from hilum.errors import UserError
from hilum.model.encoder import Encoder
from hilum.model.image_encoder import ImageEncoder
from hilum.model.towers.tower import Tower
from hilum.vocabulary import VIEW_KINDS

TIMM, POSITIONS = "timm.safetensors", "timm_positions.safetensors"
_TOLERANCE = 1e-4


def write_timm(encoder: ImageEncoder, kinds: tuple[str, ...], folder: Path) -> dict[str, Any]:
    """Write `timm.safetensors` where plain timm computes the same, and say how, or why not.

    Of an encoder that tells kinds of view apart, timm reads the kind as part of the positions: the file holds those of
    the first kind, `timm_positions.safetensors` those of each.

    Raises:
        UserError: timm's model says something else of an image than the encoder.
    """
    if isinstance(encoder, Tower) and encoder.config.name.startswith("timm:"):
        _write(folder / TIMM, encoder.model.state_dict())
        name = encoder.config.name.removeprefix("timm:")
        return {"file": TIMM, "create_model": {"model_name": name, "num_classes": 0}, "timm": timm.__version__}
    if not isinstance(encoder, Encoder):
        return {"file": None, "reason": f"a {type(encoder).__name__} is no plain model of timm's"}
    config = encoder.config
    if config.block_norm_eps != config.final_norm_eps:
        return {"file": None, "reason": "LayerNorms within and after its blocks have different epsilons"}
    state = encoder.state_dict()
    table = state.pop("view_embed", None)
    positions = _add_kinds(state["pos_embed"], table, config.num_patches)
    state["pos_embed"] = positions[0]
    arguments: dict[str, Any] = {
        "img_size": config.image_size, "patch_size": config.patch_size, "in_chans": config.channels, "num_classes": 0,
        "embed_dim": config.width, "depth": config.depth, "num_heads": config.heads, "mlp_ratio": config.mlp_ratio,
        "qk_norm": config.qk_norm, "no_embed_class": config.positions == "learned", "global_pool": "",
    }  # fmt: skip
    _compare(encoder, state, positions, arguments)
    _write(folder / TIMM, state)
    if kinds:
        _write(folder / POSITIONS, dict(zip(kinds, positions, strict=True)))
    said = {"file": TIMM, "vision_transformer": arguments, "norm_eps": config.block_norm_eps, "timm": timm.__version__}
    return said | ({"kind": kinds[0], "positions": POSITIONS} if kinds else {})


def _add_kinds(positions: Tensor, table: Tensor | None, num_patches: int) -> list[Tensor]:
    """Positions with the vector of each kind of view added to the patches' (the class token has none)."""
    if table is None:
        return [positions]
    found = []
    for vector in table:
        added = positions.clone()
        added[:, -num_patches:] += vector
        found.append(added)
    return found


@torch.no_grad()
def _compare(encoder: Encoder, state: dict[str, Tensor], positions: list[Tensor], arguments: dict[str, Any]) -> None:
    """Load it into timm's model as a user would, and see that it says the same of every kind of view."""
    eps = encoder.config.block_norm_eps
    vit = VisionTransformer(**arguments, norm_layer=partial(nn.LayerNorm, eps=eps)).eval()
    size = encoder.config.image_size
    pixels = torch.randn(2, 1, size, size, generator=torch.Generator().manual_seed(0))
    for kind, added in enumerate(positions):
        vit.load_state_dict({**state, "pos_embed": added})
        expected = encoder.encode(pixels, torch.full((2,), kind)).tokens
        off = float((vit.forward_features(pixels.expand(-1, encoder.config.channels, -1, -1)) - expected).abs().max())
        if off >= _TOLERANCE:
            raise UserError(
                f"timm's model differs by {off:.2g} for views of kind {VIEW_KINDS[kind]}. Nothing was written."
            )


def _write(path: Path, state: dict[str, Tensor]) -> None:
    write_atomic(path, save({name: value.detach().cpu().contiguous() for name, value in sorted(state.items())}))
