"""How large a synthetic checkpoint is, and random weights for its names and shapes."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

Shapes = dict[str, tuple[int, ...]]
State = dict[str, Tensor]


class Sizes(NamedTuple):
    """Sizes of one synthetic model; the defaults of the fields that MVMAE and MAE share are those of their papers."""

    width: int
    depth: int
    head_width: int
    patch: int = 16
    grid: int = 14  # patches on a side
    mlp_ratio: int = 4
    decoder_width: int = 768
    decoder_depth: int = 4
    vocabulary: int = 30_522
    findings: int = 14

    @property
    def num_patches(self) -> int:
        return self.grid**2

    @property
    def image(self) -> int:
        return self.grid * self.patch


# Heads of 16 can be read off q_norm's shape; without qk-norm nothing in a file tells them, so those files have the
# published 64.
TINY = Sizes(48, 2, 16, patch=8, grid=4, decoder_width=48, decoder_depth=2, vocabulary=31)
TINY_MAE = Sizes(128, 2, 64, patch=8, grid=4, decoder_width=64, decoder_depth=2)
BASE = Sizes(768, 12, 64)
BASE_MAE = Sizes(768, 12, 64, decoder_width=512, decoder_depth=8)


def list_block_shapes(prefix: str, width: int, mlp_ratio: int = 4, qk_head: int | None = None) -> Shapes:
    """Names and shapes of timm's pre-norm block (M 6.1, M 6.2); `qk_head` is the width of a head that has qk-norm."""
    shapes: Shapes = {}
    for name, size in (("norm1", width), ("norm2", width)):
        shapes |= list_norm_shapes(f"{prefix}.{name}", size)
    shapes |= list_linear_shapes(f"{prefix}.attn.qkv", width, 3 * width)
    if qk_head:
        shapes |= list_norm_shapes(f"{prefix}.attn.q_norm", qk_head) | list_norm_shapes(
            f"{prefix}.attn.k_norm", qk_head
        )
    shapes |= list_linear_shapes(f"{prefix}.attn.proj", width, width)
    shapes |= list_linear_shapes(f"{prefix}.mlp.fc1", width, mlp_ratio * width)
    return shapes | list_linear_shapes(f"{prefix}.mlp.fc2", mlp_ratio * width, width)


def list_norm_shapes(name: str, width: int) -> Shapes:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def list_linear_shapes(name: str, inputs: int, outputs: int) -> Shapes:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def draw_weights(shapes: Shapes, seed: int) -> State:
    """Random weights in 32 bit: none is zero, one or its neighbour, so that no mix-up of two of them goes unseen."""
    random = torch.Generator().manual_seed(seed)
    state = {}
    for name, shape in shapes.items():
        noise = torch.randn(shape, generator=random)
        if len(shape) == 1:
            is_gain = name.endswith("weight")
            state[name] = (1.0 + 0.2 * noise) if is_gain else 0.2 * noise
        elif "token" in name or "embed" in name.rsplit(".", 1)[-1]:
            state[name] = 0.7 * noise
        else:
            state[name] = noise / math.sqrt(math.prod(shape[1:]))
    return state


def count_values(shapes: Shapes) -> int:
    return sum(math.prod(shape) for shape in shapes.values())
