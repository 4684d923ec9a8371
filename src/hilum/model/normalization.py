"""The patch embedding under another normalisation of the pixels: the same function of the image, other numbers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor


def fold_normalization(
    weight: Float[Tensor, "dim channel height width"],
    bias: Float[Tensor, " dim"],
    source_mean: Sequence[float],
    source_std: Sequence[float],
    mean: float,
    std: float,
) -> tuple[Float[Tensor, "dim 1 height width"], Float[Tensor, " dim"]]:
    """A patch embedding for one channel x = (p - m) / s that gives what the given one does for grey pixels p (M 6.2).

    The given one reads channels (p - mu_c) / sigma_c that all hold the same p in [0, 1]. Exact, but for rounding:
    W' = sum_c W_c s / sigma_c and b' = b + sum_c (m - mu_c) / sigma_c sum W_c.

    Args:
        weight, bias: of the convolution.
        source_mean, source_std: mu and sigma of each of its channels.
        mean, std: m and s of the one channel.

    Returns:
        Weight and bias, in 32 bit.
    """
    channels = weight.shape[1]
    assert len(source_mean) == len(source_std) == channels, f"{channels} channels need as many means and deviations"
    scale = 1 / torch.tensor(source_std, dtype=torch.float64, device=weight.device)
    shift = (mean - torch.tensor(source_mean, dtype=torch.float64, device=weight.device)) * scale
    exact = weight.double()
    folded = std * torch.einsum("dchw,c->dhw", exact, scale)
    moved = bias.double() + torch.einsum("dchw,c->d", exact, shift)
    return folded[:, None].float(), moved.float()
