"""timm's own vision transformers with random weights (M 6, `--layout timm`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from timm.models.vision_transformer import VisionTransformer

from .sizes import Sizes, State, draw_weights

HALF = ((0.5,) * 3, (0.5,) * 3)  # mean and standard deviation that many of its checkpoints were given
# Settings of timm that Hilum's encoder can hold.
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "grey": {"in_chans": 1},
    "classifier": {"num_classes": 14},
    "no_class_position": {"no_embed_class": True},
    "qk_norm": {"qk_norm": True, "in_chans": 1},
    "narrow_mlp": {"mlp_ratio": 2.0},
}
# Settings it cannot hold: weights that must be refused, each by the name of a tensor.
UNHELD: dict[str, tuple[dict[str, Any], str]] = {
    "registers": ({"reg_tokens": 4}, "reg_token"),
    "layer_scale": ({"init_values": 0.1}, "ls1.gamma"),
    "no_class_token": ({"class_token": False, "global_pool": "avg"}, "cls_token"),
    "norm_before_blocks": ({"pre_norm": True}, "norm_pre"),
}


def build_model(sizes: Sizes, variant: str = "plain", seed: int = 0, **settings: Any) -> VisionTransformer:
    """A model whose every tensor is random, in evaluation mode."""
    model = VisionTransformer(
        img_size=sizes.image,
        patch_size=sizes.patch,
        embed_dim=sizes.width,
        depth=sizes.depth,
        num_heads=sizes.width // sizes.head_width,
        **{"num_classes": 0, **VARIANTS[variant], **settings},
    )
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    model.load_state_dict(draw_weights(shapes, seed))
    return model.eval()


def write_timm(path: Path, state: State) -> None:
    """As timm and the hub keep weights: safetensors, or the bare state dict in a torch file."""
    if path.suffix == ".safetensors":
        save_file({name: value.contiguous() for name, value in state.items()}, path)
    else:
        torch.save(state, path)
