"""Where the places of a network's map lie on its image: measured, for networks differ by nearly a whole place.

A convolution of odd size that is padded alike at both ends puts the first place of stride 32 over pixel 0, one whose
kernel is as large as its step over pixel 15.5, and TensorFlow's padding ("same", tf_efficientnet) over pixel 28. Drawn
as if places tiled the image (15.5), a map of the first and last kind would be half a place off.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from hilum.config import ConvEncoderConfig
from hilum.model.conv_encoder import build_backbone, list_batch_norms

_LONGEST = 512  # pixels a side; padding depends on what is left over a stride, which is kept
_NUM_IMAGES = 4


def find_place_centres(
    config: ConvEncoderConfig, grid: tuple[int, int]
) -> tuple[Float[np.ndarray, " row"], Float[np.ndarray, " column"]]:
    """Pixels of the encoder's image, in centres (the first pixel is 0), over which rows and columns of the map lie.

    It depends on the network's shape alone, not on its weights.
    """
    height, width = (_shorten(side, config.stride) for side in config.image_size)
    first = _measure_first(replace(config, image_height=height, image_width=width))
    rows, columns = (start + config.stride * np.arange(num) for start, num in zip(first, grid, strict=True))
    return rows, columns


def _shorten(side: int, stride: int) -> int:
    """At most about `_LONGEST` pixels, with the same rest over the stride."""
    return side if side <= _LONGEST else _LONGEST // stride * stride - stride + side % stride


@lru_cache(maxsize=8)
def _measure_first(config: ConvEncoderConfig) -> tuple[float, float]:
    """Centre of the first place: that of what the middle place reads of noise, by squared gradients, less its steps."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network, _ = build_backbone(config.backbone, config.stride)
        pixels = torch.randn(_NUM_IMAGES, 1, *config.image_size)
    for norm in list_batch_norms(network):
        nn.init.ones_(norm.weight)  # zero at the end of residual branches would hide what these read
    gradient, (row, column) = _differentiate_middle(network.eval(), pixels)
    share = gradient / gradient.sum()
    down = float(share.sum(1) @ torch.arange(len(share), dtype=share.dtype))
    across = float(share.sum(0) @ torch.arange(share.shape[1], dtype=share.dtype))
    return down - config.stride * row, across - config.stride * column


@torch.enable_grad()
def _differentiate_middle(
    network: nn.Module, pixels: Float[Tensor, "image 1 height width"]
) -> tuple[Float[Tensor, "height width"], tuple[int, int]]:
    pixels = pixels.requires_grad_()
    found = network(pixels)
    found = found if isinstance(found, Tensor) else found[0]
    row, column = found.shape[2] // 2, found.shape[3] // 2
    middle = found[:, :, row, column]
    signs = torch.ones(middle.shape[1]).index_fill(0, torch.arange(0, middle.shape[1], 2), -1.0)
    (gradient,) = torch.autograd.grad((middle * signs).sum(), pixels)
    return gradient.double().square().sum(dim=(0, 1)), (row, column)
