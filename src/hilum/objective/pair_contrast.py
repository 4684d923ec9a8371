"""Contrastive losses of paired rows, as pure functions: who should find whom, and what it costs not to (L 1.5).

| symbol (MV-MLM; CLIP, Radford et al. 2021; SigLIP, Zhai et al. 2023 eq. 1) | name here |
|---|---|
| a, b: unit vectors of the two sides | `first`, `second` |
| tau | 1 / `scale` |
| NCE(a, b) = 1/2 [CE(a b^T / tau, identity) + CE(b a^T / tau, identity)] | `measure_pair_contrast` |
| t, b of the sigmoid loss | `scale`, `bias` |

Rows are this process's pairs, columns those of all processes. All is computed in 32 bit.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor

MIN_SCALE, MAX_SCALE = 1.0, 100.0


class Target(NamedTuple):
    """What each row should find."""

    share: Float[Tensor, "row column"]  # sums to 1 over a row; 0 where not allowed
    allowed: Bool[Tensor, "row column"]  # columns that a row is compared with


def measure_similarity(
    facts: Bool[Tensor, "row fact"],
    key: Int64[Tensor, " row"],
    all_facts: Bool[Tensor, "column fact"],
    all_keys: Int64[Tensor, " column"],
) -> Float[Tensor, "row column"]:
    """Share of the facts of two descriptions that both state (Jaccard index); 1 for identical ones.

    Descriptions without any facts are identical where their texts are (`key`), and else have nothing in common.
    """
    one, other = facts.float(), all_facts.float()
    both = one @ other.T
    either = one.sum(dim=1)[:, None] + other.sum(dim=1) - both
    same_text = (key[:, None] == all_keys).float()
    return torch.where(either > 0, both / either.clamp(min=1), same_text)


def build_target(
    similarity: Float[Tensor, "row column"],
    own: Int64[Tensor, " row"],
    allowed: Bool[Tensor, "row column"],
    kind: Literal["onehot", "soft", "mask"],
    power: float = 1.0,
) -> Target:
    """onehot: its own; soft: similarity^power, normalised, so that identical descriptions share mass; mask: its own,
    and identical descriptions leave the denominator (L 1.5)."""
    itself = torch.zeros_like(allowed).scatter(1, own[:, None], True)
    if kind == "soft":
        mass = torch.where(itself, 1.0, similarity**power) * (allowed | itself)
        return Target(mass / mass.sum(dim=1, keepdim=True), allowed | itself)
    if kind == "mask":
        allowed = allowed & (similarity < 1)
    return Target(itself.float(), allowed | itself)


def measure_cross_entropy(scores: Float[Tensor, "row column"], target: Target) -> Float[Tensor, " row"]:
    """-sum_j share_j log softmax_j(scores) over the allowed columns."""
    log_shares = scores.float().masked_fill(~target.allowed, -torch.inf).log_softmax(dim=1)
    return -(target.share * log_shares.masked_fill(~target.allowed, 0.0)).sum(dim=1)


def measure_pair_contrast(
    first: Float[Tensor, "row dim"],
    second: Float[Tensor, "row dim"],
    all_first: Float[Tensor, "column dim"],
    all_second: Float[Tensor, "column dim"],
    target: Target,
    scale: Float[Tensor, ""] | float,
) -> Float[Tensor, " row"]:
    """NCE of each pair: half of first to second, half of second to first. Vectors need not have unit length."""
    first, second, all_first, all_second = map(_normalize, (first, second, all_first, all_second))
    forth = measure_cross_entropy(scale * (first @ all_second.T), target)
    back = measure_cross_entropy(scale * (second @ all_first.T), target)
    return (forth + back) / 2


def measure_pair_sigmoid(
    first: Float[Tensor, "row dim"],
    all_second: Float[Tensor, "column dim"],
    is_pair: Bool[Tensor, "row column"],
    allowed: Bool[Tensor, "row column"],
    scale: Float[Tensor, ""] | float,
    bias: Float[Tensor, ""] | float,
) -> Float[Tensor, " row"]:
    """-sum_j log sigmoid(z_ij (scale cos_ij + bias)), z = 1 for pairs and -1 for others, over the allowed columns.

    Rows of all processes together have every combination once, so there is no second direction.
    """
    scores = scale * (_normalize(first) @ _normalize(all_second).T) + bias
    items = F.softplus(torch.where(is_pair, -scores, scores))
    return items.masked_fill(~allowed, 0.0).sum(dim=1)


def find_hits(
    first: Float[Tensor, "row dim"],
    all_second: Float[Tensor, "column dim"],
    allowed: Bool[Tensor, "row column"],
    right: Bool[Tensor, "row column"],
) -> Float[Tensor, " row"]:
    """1 where the nearest of the allowed columns is a right one."""
    if not len(all_second):
        return first.new_zeros(len(first))
    scores = (_normalize(first) @ _normalize(all_second).T).masked_fill(~allowed, -torch.inf)
    return right.gather(1, scores.argmax(dim=1, keepdim=True))[:, 0].float()


def _normalize(vectors: Float[Tensor, "row dim"]) -> Float[Tensor, "row dim"]:
    return F.normalize(vectors.float(), dim=1)
