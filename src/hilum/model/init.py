"""The one place where weights get their first values."""

from __future__ import annotations

import math
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

# Parameters that stand for a token or a table of positions or view kinds; everything else belongs to a layer.
_TOKENS = ("cls_token", "mask_token", "view_embed", "other_view_token", "word_embed", "text_pos_embed")


def initialize(model: nn.Module, init: Literal["xavier", "released"]) -> None:
    """Set all weights of an encoder, a decoder or a head, drawing from torch's default generator.

    xavier: as masked autoencoders (He et al. 2022, appendix A.1): Xavier-uniform linear layers with zero biases, the
        patch convolution treated as the linear layer it is, tokens and view tables normal with deviation 0.02 (cut at
        2 units). Position tables start as two-dimensional sine-cosine waves and are learned from there.
    released: PyTorch's defaults for layers, and that normal for tokens, view tables and positions (M 2.1).
    """
    for name, parameter in model.named_parameters():
        leaf = name.rsplit(".", 1)[-1]
        if leaf in _TOKENS or (leaf == "pos_embed" and init == "released"):
            nn.init.trunc_normal_(parameter, std=0.02)
        elif leaf == "pos_embed":
            with torch.no_grad():
                parameter.copy_(build_sincos(parameter.shape[1], parameter.shape[2]))
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            if init == "released":
                module.reset_parameters()
            else:
                nn.init.xavier_uniform_(module.weight.flatten(1))
                if module.bias is not None:
                    nn.init.zeros_(module.bias)


def build_sincos(num_rows: int, width: int) -> Float[Tensor, "1 row dim"]:
    """Sine-cosine codes of a square grid of patches; with one row more than a square, row 0 (class token) is zero.

    Half of the `width` (a multiple of 4) codes the patch's row, half its column, each with frequencies from 1 to
    1/10000 (Vaswani et al. 2017, section 3.5, in two dimensions).
    """
    side = math.isqrt(num_rows)
    has_class_row = side * side != num_rows
    assert side * side + has_class_row == num_rows, f"{num_rows} positions are not a square grid"
    grid = build_grid_sincos(side, side, width)
    if has_class_row:
        grid = torch.cat([torch.zeros(1, width), grid])
    return grid[None]


def build_grid_sincos(rows: int, columns: int, width: int) -> Float[Tensor, "position dim"]:
    """The same codes of a grid of any shape, row by row."""
    assert width % 4 == 0, f"token width {width} is not a multiple of 4"
    frequency = 10000.0 ** (-torch.arange(width // 4, dtype=torch.float64) / (width // 4))
    angle = torch.arange(max(rows, columns), dtype=torch.float64)[:, None] * frequency
    wave = torch.cat([angle.sin(), angle.cos()], dim=1)
    return torch.cat([wave[:rows].repeat_interleave(columns, dim=0), wave[:columns].repeat(rows, 1)], dim=1).float()
