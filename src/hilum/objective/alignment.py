"""Alignment of the views of one study, by a distance.

| paper symbol (MVMAE eq. 1; M 2.5) | name here |
|---|---|
| z_{u,t}: token t of view u after the final norm | tokens |
| z-bar_u: one vector for a view | vectors |
| P: ordered pairs (u, v), u != v, of views of a study | `StudyBatch.pairs()` |
| 1/(1-alpha) sum_{t visible} | mean over the 1 + visible tokens |

Eq. 1 sums over the class token and the visible ones and divides by 1 - alpha: that is (1 + visible) / (1 - alpha),
about the number of patches, times their mean. As in `reconstruction`, the mean is computed, so the value does not
depend on mask ratio or grid.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from hilum.batch import StudyBatch
from hilum.config import EncoderConfig
from hilum.config import PooledAlignment as PooledAlignmentConfig
from hilum.model.encoder import Features
from hilum.model.heads import Feature, Projector, pool_tokens
from hilum.model.masking import Mask

from .gather import Gather
from .reconstruction import NUM_SLOTS
from .term import Sum, Term, count_pairs, sum_items


def measure_token_distance(
    tokens: Float[Tensor, "view token dim"], pairs: Int64[Tensor, "2 pair"]
) -> Float[Tensor, " pair"]:
    """MSE(z_ut, z_vt), mean over dimensions and tokens: the summand of MVMAE eq. 1 for each pair of views.

    Token t of both views must be of the same patch: masks drawn with shared positions.
    """
    tokens = tokens.float()
    return (tokens[pairs[0]] - tokens[pairs[1]]).square().mean(dim=(1, 2))


def measure_distance(
    vectors: Float[Tensor, "view dim"], pairs: Int64[Tensor, "2 pair"], metric: Literal["mse", "cosine"]
) -> Float[Tensor, " pair"]:
    """Distance of the two vectors of each pair.

    mse: mean over dimensions of the squared difference.
    cosine: 1 - cos, computed as half the squared chord between unit vectors, so that equal vectors give exactly 0
        with gradient exactly 0.
    """
    if metric == "mse":
        return (vectors[pairs[0]] - vectors[pairs[1]]).square().mean(dim=1)
    unit = F.normalize(vectors, dim=1)
    return (unit[pairs[0]] - unit[pairs[1]]).square().sum(dim=1) / 2


def measure_slot_distance(vectors: Float[Tensor, "view dim"], pairs: Int64[Tensor, "2 pair"]) -> Float[Tensor, " pair"]:
    """The released code's share of each real pair: mean over dimensions of the squared chord, over all 9 slot pairs.

    Summed over pairs and divided by the number of studies this is (1/B) sum ||z_u - z_v||^2 / (9 D) (M 2.5).
    """
    return measure_distance(F.normalize(vectors, dim=1), pairs, "mse") / NUM_SLOTS**2


class TokenAlignment(Term):
    """MVMAE eq. 1: token by token at shared visible positions, mean over the pairs of a study, then over studies.

    The second mean is over the studies that have a pair; a study of one view changes nothing.
    """

    def count(self, batch: StudyBatch) -> float:
        return float((batch.views_per_study() > 1).sum())

    def forward(self, features: Features, mask: Mask, batch: StudyBatch, gather: Gather) -> dict[str, Sum]:
        pairs = batch.pairs()
        distance = measure_token_distance(features.tokens, pairs)
        views = batch.views_per_study()[batch.study[pairs[0]]]
        return {"loss": sum_items(distance / (views * (views - 1)), self.count(batch))}


class PooledAlignment(Term):
    """Distance between one projected vector for each view, mean over the ordered pairs that exist (M 7.3 A i)."""

    def __init__(self, config: PooledAlignmentConfig, encoder: EncoderConfig) -> None:
        super().__init__()
        self.projector = Projector(encoder.width, config.projector, encoder.init)
        self.feature: Feature = config.feature
        self.metric: Literal["mse", "cosine"] = config.metric
        self.average: Literal["pair", "slot"] = config.average

    def count(self, batch: StudyBatch) -> float:
        return count_pairs(batch) if self.average == "pair" else float(batch.num_studies)

    def read_vectors(self, features: Features) -> Float[Tensor, "view dim"]:
        """The vectors before they are compared."""
        return self.projector(pool_tokens(features, self.feature)).float()

    def read_compared(self, features: Features) -> Float[Tensor, "view dim"]:
        """The vectors as the distance sees them; unit vectors are scaled so that isotropic ones have deviation 1."""
        vectors = self.read_vectors(features)
        return F.normalize(vectors, dim=1) * math.sqrt(vectors.shape[1]) if self.metric == "cosine" else vectors

    def forward(self, features: Features, mask: Mask, batch: StudyBatch, gather: Gather) -> dict[str, Sum]:
        vectors, pairs = self.read_vectors(features), batch.pairs()
        if self.average == "slot":
            loss = sum_items(measure_slot_distance(vectors, pairs), batch.num_studies)
        else:
            loss = sum_items(measure_distance(vectors, pairs, self.metric))
        with torch.no_grad():
            chord = sum_items(2 * measure_distance(vectors, pairs, "cosine"))
        return {"loss": loss, "squared_chord": chord}
