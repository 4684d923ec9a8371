"""From a convolutional network's map to tokens: the readings of "256 tokens" (L 1.3), and what may be better.

Each is a module `forward(feature_map) -> TokenMap`, and `locate(feature_map)` says how much of each place of the map
each of its tokens reads, so that what tokens are worth can be drawn over the image (`project_back`).

| reading | tokens | width | another image size |
|---|---|---|---|
| none | places | network's | any |
| A token_linear | 256, each a learned sum over all places | d | refused, or resampled |
| B channel_linear | channels, each a learned sum over all places | d | refused |
| C width_256 | places | 256 | any |
| adaptive_pool | means of 16 x 16 regions | d | any |
| conv_stride | places of a convolution with steps, at most 256 (160 of 48 x 29) | d | any |
| resampler | 256 learned queries | d | any |
| all | places | d | any |
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from functools import lru_cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from hilum.config import ConvEncoderConfig
from hilum.errors import UserError

from .attention import CrossBlock
from .init import build_grid_sincos


class Grid(NamedTuple):
    """Where tokens are: the map's shape, and that of the tokens where they are a grid themselves (else 0)."""

    rows: int
    columns: int
    token_rows: int = 0
    token_columns: int = 0


class TokenMap(NamedTuple):
    """What a tokenizer makes of V maps."""

    tokens: Float[Tensor, "view token dim"]
    mask: Bool[Tensor, "view token"]  # False at tokens that stand for nothing; no reading here has any
    grid: Grid


class FeatureTokens(nn.Module, ABC):
    """A map (view channel row column) to tokens; `width` is their length."""

    width: int

    def __init__(self, width: int, *, positions: bool) -> None:
        super().__init__()
        self.width, self.positions = width, positions

    @abstractmethod
    def forward(self, feature_map: Float[Tensor, "view channel row column"]) -> TokenMap:
        """Tokens of every map.

        Raises:
            UserError: a map of another shape than the reading is tied to.
        """

    @abstractmethod
    def locate(self, feature_map: Float[Tensor, "view channel row column"]) -> Float[Tensor, "#view token place"]:
        """How much of each place each token reads, at least 0 and summing to 1 over places."""

    def list_places(self, feature_map: Float[Tensor, "view channel row column"]) -> Float[Tensor, "view place channel"]:
        """The map row by row, with waves that tell where a place is where these are on."""
        places = feature_map.flatten(2).transpose(1, 2)
        if not self.positions:
            return places
        return places + _build_waves(*feature_map.shape[2:], places.shape[2]).to(places)


class AllPlaces(FeatureTokens):
    """Every place is a token: as it is (`none`), or through a linear layer (`all`, and C with 256 numbers)."""

    def __init__(self, channels: int, width: int | None, *, positions: bool) -> None:
        super().__init__(channels if width is None else width, positions=positions)
        self.project = nn.Identity() if width is None else nn.Linear(channels, width)

    def forward(self, feature_map: Float[Tensor, "view channel row column"]) -> TokenMap:
        return _build_map(self.project(self.list_places(feature_map)), feature_map, *feature_map.shape[2:])

    def locate(self, feature_map: Float[Tensor, "view channel row column"]) -> Float[Tensor, "#view token place"]:
        return torch.eye(feature_map.shape[2] * feature_map.shape[3], device=feature_map.device)[None]


class TokenLinear(FeatureTokens):
    """A (the default): one linear layer along the places, another along the channels."""

    def __init__(
        self, channels: int, width: int, num_tokens: int, shape: tuple[int, int], *, positions: bool, resamples: bool
    ) -> None:
        super().__init__(width, positions=positions)
        self.shape, self.resamples = shape, resamples
        self.mix = nn.Linear(shape[0] * shape[1], num_tokens)
        self.project = nn.Linear(channels, width)

    def forward(self, feature_map: Float[Tensor, "view channel row column"]) -> TokenMap:
        fitted = _fit(feature_map, self.shape, "token_linear") if not self.resamples else self._resample(feature_map)
        mixed = self.mix(self.list_places(fitted).transpose(1, 2)).transpose(1, 2)
        return _build_map(self.project(mixed), feature_map)

    def _resample(self, feature_map: Float[Tensor, "view channel row column"]) -> Tensor:
        if feature_map.shape[2:] == self.shape:
            return feature_map
        return F.interpolate(feature_map, self.shape, mode="bilinear", align_corners=False)

    def locate(self, feature_map: Float[Tensor, "view channel row column"]) -> Float[Tensor, "#view token place"]:
        shares = self.mix.weight.abs().unflatten(1, self.shape)[:, None]
        if feature_map.shape[2:] != self.shape:
            shares = F.interpolate(shares, feature_map.shape[2:], mode="bilinear", align_corners=False)
        return _share_out(shares.flatten(1))[None]


class ChannelLinear(FeatureTokens):
    """B: channels are tokens, a linear layer along the places gives each its numbers."""

    def __init__(self, width: int, shape: tuple[int, int], *, positions: bool) -> None:
        super().__init__(width, positions=positions)
        self.shape = shape
        self.project = nn.Linear(shape[0] * shape[1], width)

    def forward(self, feature_map: Float[Tensor, "view channel row column"]) -> TokenMap:
        places = self.list_places(_fit(feature_map, self.shape, "channel_linear"))
        return _build_map(self.project(places.transpose(1, 2)), feature_map)

    def locate(self, feature_map: Float[Tensor, "view channel row column"]) -> Float[Tensor, "#view token place"]:
        return _share_out(feature_map.flatten(2).abs())


class AdaptivePool(FeatureTokens):
    """Means of regions of the map, of as many as `num_tokens` allows: 16 x 16 of 256 (`choose_token_grid`)."""

    def __init__(self, channels: int, width: int, num_tokens: int, *, positions: bool) -> None:
        super().__init__(width, positions=positions)
        self.num_tokens = num_tokens
        self.project = nn.Linear(channels, width)

    def forward(self, feature_map: Float[Tensor, "view channel row column"]) -> TokenMap:
        rows, columns = feature_map.shape[2:]
        placed = self.list_places(feature_map).transpose(1, 2).unflatten(2, (rows, columns))
        shape = self._choose_shape(rows, columns)
        pooled = F.adaptive_avg_pool2d(placed, shape).flatten(2).transpose(1, 2)
        return _build_map(self.project(pooled), feature_map, *shape)

    def _choose_shape(self, rows: int, columns: int) -> tuple[int, int]:
        return choose_token_grid(rows, columns, self.num_tokens)

    def locate(self, feature_map: Float[Tensor, "view channel row column"]) -> Float[Tensor, "#view token place"]:
        rows, columns = feature_map.shape[2:]
        places = torch.eye(rows * columns, device=feature_map.device).unflatten(1, (rows, columns))
        return F.adaptive_avg_pool2d(places, self._choose_shape(rows, columns)).flatten(1).T[None]


class ConvStride(FeatureTokens):
    """A convolution whose kernel is as large as its step: the step is the least that leaves at most `num_tokens`
    regions of the map it was made for; an edge that does not fill a step is padded with zeros."""

    def __init__(self, channels: int, width: int, num_tokens: int, shape: tuple[int, int], *, positions: bool) -> None:
        super().__init__(width, positions=positions)
        self.step = next(
            step for step in range(1, max(shape) + 1) if math.prod(-(-side // step) for side in shape) <= num_tokens
        )
        self.convolve = nn.Conv2d(channels, width, self.step, self.step)

    def forward(self, feature_map: Float[Tensor, "view channel row column"]) -> TokenMap:
        placed = self.list_places(feature_map).transpose(1, 2).unflatten(2, feature_map.shape[2:])
        coarse = self.convolve(self._pad(placed))
        return _build_map(coarse.flatten(2).transpose(1, 2), feature_map, *coarse.shape[2:])

    def _pad(self, feature_map: Tensor) -> Tensor:
        rows, columns = feature_map.shape[2:]
        return F.pad(feature_map, (0, -columns % self.step, 0, -rows % self.step))

    def locate(self, feature_map: Float[Tensor, "view channel row column"]) -> Float[Tensor, "#view token place"]:
        rows, columns = feature_map.shape[2:]
        places = torch.eye(rows * columns, device=feature_map.device).unflatten(1, (rows, columns))[:, None]
        return _share_out(F.avg_pool2d(self._pad(places), self.step).flatten(1).T)[None]


class Resampler(FeatureTokens):
    """Learned queries that read the places by attention, whatever the map's shape (Jaegle et al. 2021)."""

    def __init__(
        self, channels: int, width: int, num_tokens: int, heads: int, mlp_ratio: float, *, positions: bool
    ) -> None:
        super().__init__(width, positions=positions)
        self.query = nn.Parameter(torch.randn(1, num_tokens, width) * 0.02)
        self.block = CrossBlock(width, heads, mlp_ratio, channels)

    def forward(self, feature_map: Float[Tensor, "view channel row column"]) -> TokenMap:
        places = self.list_places(feature_map)
        return _build_map(self.block(self.query.expand(places.shape[0], -1, -1), places), feature_map)

    def locate(self, feature_map: Float[Tensor, "view channel row column"]) -> Float[Tensor, "#view token place"]:
        places = self.list_places(feature_map)
        return self.block.weigh(self.query.expand(places.shape[0], -1, -1), places).mean(dim=1)


def project_back(
    worth: Float[Tensor, "view token"], shares: Float[Tensor, "#view token place"], grid: Grid
) -> Float[Tensor, "view row column"]:
    """What tokens are worth, over the map: at each place the mean over tokens, weighted by how much each reads it."""
    shares = shares.expand(len(worth), -1, -1)
    total = torch.einsum("vt,vtp->vp", worth, shares) / shares.sum(dim=1).clamp(min=torch.finfo(shares.dtype).tiny)
    return total.unflatten(1, (grid.rows, grid.columns))


def choose_token_grid(rows: int, columns: int, num_tokens: int) -> tuple[int, int]:
    """Rows and columns of the most regions, at most `num_tokens`, that are no finer than the map.

    Of equal numbers the nearest to a square, and then as the map lies; never longer than twice the other side, or than
    the map is. 16 x 16 of 256 (L 1.3), 16 x 8 of 128 for 48 x 29, 35 x 29 of 1,024, for its map has 29 columns.
    """
    longest = max(2.0, rows / columns, columns / rows)

    def judge(shape: tuple[int, int]) -> tuple[int, float, bool]:
        return math.prod(shape), -max(shape) / min(shape), (shape[0] > shape[1]) == (rows > columns)

    shapes = [(min(rows, num_tokens // wide), wide) for wide in range(1, min(columns, num_tokens) + 1)]
    return max((shape for shape in shapes if max(shape) <= longest * min(shape)), key=judge)


def build_tokens(config: ConvEncoderConfig, channels: int, shape: tuple[int, int]) -> FeatureTokens:
    """The reading that the settings name, for maps of so many channels and of this shape (rows, columns)."""
    width, num_tokens, positions = config.width, config.num_tokens, config.positions
    match config.tokenizer:
        case "none":
            return AllPlaces(channels, None, positions=positions)
        case "all":
            return AllPlaces(channels, width, positions=positions)
        case "width_256":
            return AllPlaces(channels, 256, positions=positions)
        case "token_linear":
            resamples = config.other_sizes == "resample"
            return TokenLinear(channels, width, num_tokens, shape, positions=positions, resamples=resamples)
        case "channel_linear":
            return ChannelLinear(width, shape, positions=positions)
        case "adaptive_pool":
            return AdaptivePool(channels, width, num_tokens, positions=positions)
        case "conv_stride":
            return ConvStride(channels, width, num_tokens, shape, positions=positions)
        case "resampler":
            return Resampler(channels, width, num_tokens, config.heads, config.mlp_ratio, positions=positions)


def _fit(feature_map: Tensor, shape: tuple[int, int], reading: str) -> Tensor:
    if tuple(feature_map.shape[2:]) != shape:
        found = " x ".join(map(str, feature_map.shape[2:]))
        also = " or --encoder.other-sizes resample" if reading == "token_linear" else ""
        raise UserError(
            f"A map of {found} places where the tokenizer {reading} has weights for {shape[0]} x {shape[1]}: show "
            f"images of the size it was made for, or take a tokenizer for all sizes (--encoder.tokenizer resampler"
            f"{also})."
        )
    return feature_map


def _build_map(tokens: Tensor, feature_map: Tensor, token_rows: int = 0, token_columns: int = 0) -> TokenMap:
    mask = torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
    return TokenMap(tokens, mask, Grid(*feature_map.shape[2:], token_rows, token_columns))


def _share_out(shares: Float[Tensor, "*view token place"]) -> Float[Tensor, "*view token place"]:
    return shares / shares.sum(dim=-1, keepdim=True).clamp(min=torch.finfo(shares.dtype).tiny)


@lru_cache(maxsize=8)
def _build_waves(rows: int, columns: int, width: int) -> Float[Tensor, "place dim"]:
    """Sine-cosine codes of the places; they are as wide as a map has channels, which need not divide into four."""
    with torch.device("cpu"):  # kept, so also for who builds a model of shapes alone
        return build_grid_sincos(rows, columns, -(-width // 4) * 4)[:, :width]
