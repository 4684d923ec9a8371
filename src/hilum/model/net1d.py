"""Net1D, the network of ECGFounder (P 1.3): a one-dimensional convolutional network in the manner of RegNet.

A stem halves the length; seven stages of bottleneck blocks halve it again in their first block; the mean over time of
what is left (20 places of ten seconds at 500 Hz) is the feature. A block is

    x + squeeze(conv3(swish(conv2(swish(conv1(swish(x))))))),

conv1 and conv3 of kernel 1, conv2 of kernel 16 in groups of 16 channels. Where the length halves or the width grows,
the x that is added is max-pooled by two and gets zero channels on both sides. The first block of all leaves out its
first swish: the stem has just done it. The published network has batch norms and dropout before each swish and
switches them off; they are not here, and `ecg_weights.py` knows their names.

Modules are named as in the published weights. Their convolutions lie one level deeper, hence `SameConv1d`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


@dataclass(frozen=True)
class Net1DConfig:
    """The shape of the network; by default ECGFounder's with twelve leads (P 1.3)."""

    num_leads: int = 12
    stem_width: int = 64
    widths: tuple[int, ...] = (64, 160, 160, 400, 400, 1024, 1024)  # channels of each stage
    depths: tuple[int, ...] = (2, 2, 2, 3, 3, 4, 4)  # blocks of each stage
    kernel_size: int = 16
    group_width: int = 16  # channels
    squeeze: int = 2  # the squeeze layer's width is a stage's, divided by this


def pad_same(x: Float[Tensor, "record channel time"], kernel_size: int, stride: int) -> Tensor:
    """Zeros on both ends, the odd one at the right, so that a convolution leaves ceil(time / stride) places.

    Example: 5 samples, kernel 4, stride 2: 3 places need 2 * 2 + 4 = 8 samples, so 1 zero on the left and 2 on the
    right.
    """
    time = x.shape[-1]
    lacking = max(0, (-(-time // stride) - 1) * stride + kernel_size - time)
    return F.pad(x, (lacking // 2, lacking - lacking // 2))


def halve(x: Float[Tensor, "record channel time"]) -> Float[Tensor, "record channel half_time"]:
    """The larger of each two neighbours; the last of an odd number is compared with 0."""
    return F.max_pool1d(F.pad(x, (0, x.shape[-1] % 2)), 2)


def widen(x: Float[Tensor, "record channel time"], width: int) -> Float[Tensor, "record width time"]:
    """Zero channels before and after those there are, the odd one after, `width` in all."""
    lacking = width - x.shape[1]
    return F.pad(x, (0, 0, lacking // 2, lacking - lacking // 2))


class SameConv1d(nn.Module):
    """A convolution that leaves ceil(time / stride) places, padded by `pad_same`."""

    def __init__(self, num_in: int, num_out: int, kernel_size: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv1d(num_in, num_out, kernel_size, stride, groups=groups)

    def forward(self, x: Float[Tensor, "record channel time"]) -> Float[Tensor, "record width new_time"]:
        return self.conv(pad_same(x, self.conv.kernel_size[0], self.conv.stride[0]))


class Block(nn.Module):
    """See the module's docstring."""

    def __init__(self, num_in: int, width: int, config: Net1DConfig, *, stride: int, is_first: bool) -> None:
        super().__init__()
        self.width, self.stride, self.is_first = width, stride, is_first
        self.conv1 = SameConv1d(num_in, width, 1)
        self.conv2 = SameConv1d(width, width, config.kernel_size, stride, groups=width // config.group_width)
        self.conv3 = SameConv1d(width, width, 1)
        self.se_fc1 = nn.Linear(width, width // config.squeeze)
        self.se_fc2 = nn.Linear(width // config.squeeze, width)

    def forward(self, x: Float[Tensor, "record channel time"]) -> Float[Tensor, "record width new_time"]:
        y = self.conv1(x if self.is_first else F.silu(x))
        y = self.conv3(F.silu(self.conv2(F.silu(y))))
        share = torch.sigmoid(self.se_fc2(F.silu(self.se_fc1(y.mean(dim=-1)))))
        kept = halve(x) if self.stride == 2 else x
        return y * share[:, :, None] + widen(kept, self.width)


class Stage(nn.Module):
    """Blocks of one width; the first halves the length."""

    def __init__(self, num_in: int, width: int, depth: int, config: Net1DConfig, *, is_first: bool) -> None:
        super().__init__()
        self.block_list = nn.ModuleList(
            Block(width if place else num_in, width, config, stride=1 if place else 2, is_first=is_first and not place)
            for place in range(depth)
        )

    def forward(self, x: Float[Tensor, "record channel time"]) -> Float[Tensor, "record width half_time"]:
        for block in self.block_list:
            x = block(x)
        return x


class Net1D(nn.Module):
    """The network without its head of 150 diagnoses: 30,598,896 parameters as published."""

    def __init__(self, config: Net1DConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or Net1DConfig()
        self.first_conv = SameConv1d(config.num_leads, config.stem_width, config.kernel_size, 2)
        before: Sequence[int] = (config.stem_width, *config.widths)
        self.stage_list = nn.ModuleList(
            Stage(num_in, width, depth, config, is_first=place == 0)
            for place, (num_in, width, depth) in enumerate(zip(before[:-1], config.widths, config.depths, strict=True))
        )

    @property
    def width(self) -> int:
        """Length of a feature: 1,024 as published."""
        return self.config.widths[-1]

    def forward(self, leads: Float[Tensor, "record lead time"]) -> Float[Tensor, "record dim"]:
        """One vector for each record, prepared by `hilum.signals.prepare`."""
        x = F.silu(self.first_conv(leads))
        for stage in self.stage_list:
            x = stage(x)
        return x.mean(dim=-1)
