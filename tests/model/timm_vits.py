"""Small vision transformers made by timm, with random weights in every tensor."""

from __future__ import annotations

from typing import Any

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor


def build_vit(seed: int = 0, **settings: Any) -> VisionTransformer:
    """Two blocks of 2 heads of 64, patches of 8 px; biases, norms and layer scales are random too."""
    model = VisionTransformer(
        **{
            "img_size": 32,
            "patch_size": 8,
            "embed_dim": 128,
            "depth": 2,
            "num_heads": 2,
            "num_classes": 0,
            **settings,
        }
    )
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(noise * 0.3 if parameter.ndim == 1 else noise * 0.1)
            if "norm" in name and name.endswith("weight"):
                parameter.add_(1.0)
    return model.eval()


def show_grey(pixels: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """Grey pixels in [0, 1] as a model of `len(mean)` channels reads them."""
    shape = (1, len(mean), 1, 1)
    return (pixels - torch.tensor(mean).view(shape)) / torch.tensor(std).view(shape)
