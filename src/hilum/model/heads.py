"""From a view's tokens to one vector, and from there to where two vectors are compared."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from .attention import BlockNorm
from .encoder import Features
from .init import initialize

Feature = Literal["class", "mean", "all"]
Representation = Literal["class", "mean", "max", "both", "2x2", "4x4"]
Pooling = Literal["class", "mean", "max", "both", "2x2", "4x4", "attentive"]  # a Representation, or `AttentivePool`
NUM_VECTORS: dict[Representation, int] = {"class": 1, "mean": 1, "max": 1, "both": 2, "2x2": 4, "4x4": 16}


def pool_tokens(features: Features, feature: Feature) -> Float[Tensor, "view dim"]:
    """class: the class token; mean: mean of the visible patch tokens; all: mean of both (the released code)."""
    if feature == "class":
        return features.tokens[:, 0]
    return features.tokens[:, 1:].mean(dim=1) if feature == "mean" else features.tokens.mean(dim=1)


def summarize_views(features: Features) -> Float[Tensor, "view dim"]:
    """One vector a view to watch: the encoder's own where it makes one, else the mean of the patch tokens."""
    return pool_tokens(features, "mean") if features.embedding is None else features.embedding


def pool_regions(
    patches: Float[Tensor, "view patch dim"], side: int, shape: tuple[int, int] | None = None
) -> Float[Tensor, "view cell dim"]:
    """Means of the patch tokens in side x side regions of the image, row by row.

    Where the grid of patches cannot be cut evenly, neighbouring regions share a row or column of patches. `shape`: rows
    and columns of patches; None: as many of either.
    """
    across = int(patches.shape[1] ** 0.5)
    grid = patches.transpose(1, 2).unflatten(2, shape or (across, across))
    return F.adaptive_avg_pool2d(grid, side).flatten(2).transpose(1, 2)


def merge_regions(regions: Float[Tensor, "view cell dim"]) -> Float[Tensor, "view quarter dim"]:
    """From 4 x 4 regions to 2 x 2: means of four neighbours each."""
    return pool_regions(regions, 2)


def read_tokens(
    tokens: Float[Tensor, "view token dim"],
    representation: Representation,
    has_class_token: bool = True,
    shape: tuple[int, int] | None = None,
) -> Float[Tensor, "view all"]:
    """What a linear head reads of a view seen whole: class token, mean of the patch tokens, both side by side, the
    maximum of the patch tokens in each dimension, or the means of 2 x 2 or 4 x 4 regions side by side, which keep where
    things are.

    Without a class token as the first, all tokens are patches. `shape`: as of `pool_regions`.
    """
    assert has_class_token or representation not in ("class", "both"), "there is no class token to read"
    patches = tokens[:, 1:] if has_class_token else tokens
    match representation:
        case "class":
            return tokens[:, 0]
        case "mean":
            return patches.mean(dim=1)
        case "max":
            return patches.amax(dim=1)
        case "both":
            return torch.cat([tokens[:, 0], patches.mean(dim=1)], dim=1)
        case "2x2":
            return merge_regions(pool_regions(patches, 4, shape)).flatten(1)
        case "4x4":
            return pool_regions(patches, 4, shape).flatten(1)


class AttentivePool(nn.Module):
    """Learned queries read the patch tokens of a view, each its own share of the channels: one vector of their width.

    Cross-attention without a projection of keys, as in efficient probing (Psomas et al. 2025, "Attention, please!
    Revisiting attentive probing for masked image modeling"), and with a learned preference for places beside it, since
    findings have places. It begins as the mean of the tokens: queries and preferences 0, the value map the identity.
    """

    def __init__(self, width: int, num_tokens: int, num_queries: int = 8) -> None:
        """`num_queries`: fewer where they cannot share `width` evenly."""
        super().__init__()
        num_queries = math.gcd(width, num_queries)
        self.query = nn.Parameter(torch.zeros(num_queries, width))
        self.place = nn.Parameter(torch.zeros(num_queries, num_tokens))
        self.value = nn.Linear(width, width, bias=False)
        nn.init.eye_(self.value.weight)

    def attend(self, tokens: Float[Tensor, "view token dim"]) -> Float[Tensor, "view query token"]:
        """How much of each token each query reads; sums to 1 over tokens."""
        return attend_tokens(self.query, self.place, tokens)

    def forward(self, tokens: Float[Tensor, "view token dim"]) -> Float[Tensor, "view dim"]:
        return pool_together([self], tokens)[0]


def attend_tokens(
    query: Float[Tensor, "query dim"], place: Float[Tensor, "query token"], tokens: Float[Tensor, "view token dim"]
) -> Float[Tensor, "view query token"]:
    """softmax over tokens of (query . token / sqrt(dim) + place)."""
    said = (tokens @ query.T / tokens.shape[2] ** 0.5).transpose(1, 2)
    return (said + place).softmax(dim=2)


def pool_together(
    pools: Sequence[AttentivePool], tokens: Float[Tensor, "view token dim"]
) -> Float[Tensor, "pool view dim"]:
    """What each of several pools of one shape reads of the same tokens; all their queries see these at once."""
    query, place = (torch.cat([getattr(pool, name) for pool in pools]) for name in ("query", "place"))
    read = (attend_tokens(query, place, tokens) @ tokens).unflatten(1, (len(pools), -1))
    share = torch.stack([pool.value.weight for pool in pools]).unflatten(1, (read.shape[2], -1))
    return torch.einsum("vpqd,pqcd->pvqc", read, share).flatten(2)


class DistillationHead(nn.Sequential):
    """Dropout, a linear layer, LayerNorm: every head between an encoder and its teachers (PaCX-MAE; P 2.2).

    Weights start as a normal of deviation 0.02, cut at 2 units, biases at 0.
    """

    def __init__(self, width: int, out: int, dropout: float) -> None:
        linear = nn.Linear(width, out)
        nn.init.trunc_normal_(linear.weight, std=0.02)
        nn.init.zeros_(linear.bias)
        super().__init__(nn.Dropout(dropout), linear, nn.LayerNorm(out))


class Projector(nn.Sequential):
    """Linear layers with LayerNorm and GELU between them; no widths: the vector itself.

    LayerNorm and not the usual BatchNorm, so that a view's vector does not depend on its batch or process.
    """

    def __init__(self, width: int, widths: tuple[int, ...], init: Literal["xavier", "released"]) -> None:
        layers: list[nn.Module] = []
        for before, after in zip((width, *widths), widths, strict=False):
            layers += [nn.Linear(before, after), BlockNorm(after), nn.GELU()]
        super().__init__(*layers[:-2])  # the last layer is linear
        initialize(self, init)
