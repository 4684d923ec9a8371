"""Nearest neighbours: a study is what the training studies most like it are, with nothing learned.

Features of views are standardised, averaged over a study, and compared by their cosine. Of the k most similar training
studies each votes with weight exp(cosine / 0.07) (Wu et al. 2018, "Unsupervised feature learning via non-parametric
instance discrimination", section 3.4); k is chosen on validation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from hilum.batch import pool_by_owner
from hilum.evaluate.fusion import Fusion
from hilum.evaluate.rows import Rows

from .logistic import Standardizer, fit_standardizer

NEIGHBOURS = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
TEMPERATURE = 0.07
_ENTRIES_AT_ONCE = 2**24  # similarities held at a time: 64 MiB


@dataclass(frozen=True)
class NeighbourVote:
    """The training studies, and how many of them vote."""

    standardize: Standardizer
    examples: Float[Tensor, "example dim"]  # unit vectors of training studies
    target: Float[Tensor, "example finding"]
    num_neighbours: int
    fusion: Fusion = "mean_logit"  # views meet before the vote, in their mean

    def score_rows(self, rows: Rows, keep: Bool[Tensor, " view"] | None = None) -> Float[Tensor, "row finding"]:
        """Log odds of the votes, from all views of a study or those in `keep`."""
        features, owner = rows.features, rows.owner
        if keep is not None:
            features, owner = features[keep], owner[keep]
        return vote(
            point_at_studies(self.standardize, features, owner, len(rows)),
            self.examples,
            self.target,
            self.num_neighbours,
        )


def fit_neighbours(rows: Rows, counts: Sequence[float]) -> list[NeighbourVote]:
    """One head for each number of neighbours; they share the examples."""
    standardize = fit_standardizer(rows.features)
    examples = point_at_studies(standardize, rows.features, rows.owner, len(rows))
    return [NeighbourVote(standardize, examples, rows.training_target, int(count)) for count in counts]


def point_at_studies(
    standardize: Standardizer, features: Float[Tensor, "view dim"], owner: Tensor, num_studies: int
) -> Float[Tensor, "study dim"]:
    """The direction (unit vector, 32 bit) of each study's mean standardised feature."""
    return F.normalize(pool_by_owner(standardize(features), owner, num_studies).float(), dim=1)


def vote(
    query: Float[Tensor, "row dim"],
    examples: Float[Tensor, "example dim"],
    target: Float[Tensor, "example finding"],
    num_neighbours: int,
) -> Float[Tensor, "row finding"]:
    """Log odds that the neighbours' weighted votes give each finding.

    A finding's neighbours are the nearest examples whose target of it is known. The examples' own prevalence (counted
    with one half more of each class) votes with the weight of one neighbour in k + 1: so odds stay finite, and the
    order of rows is that of the votes.

    Args:
        query, examples: unit vectors.
        target: 0 to 1; NaN does not vote.
    """
    known = ~torch.isnan(target)
    sums, counts = torch.where(known, target, 0.0).sum(dim=0).double(), known.sum(dim=0).double()
    prevalence = (sums + 0.5) / (counts + 1)
    said = prevalence.logit().expand(len(query), -1).clone()
    # Findings of one archive are mostly known for the same studies: one search for each such set of examples.
    patterns, pattern = torch.unique(known, dim=1, return_inverse=True)
    for index in range(patterns.shape[1]):
        member, columns = patterns[:, index], (pattern == index).nonzero().squeeze(1)
        num = min(num_neighbours, int(member.sum()))
        if not num:
            continue
        among, votes = examples[member], target[member][:, columns].double()
        share = num / (num + 1)
        at_once = max(1, _ENTRIES_AT_ONCE // max(len(among), num * len(columns)))
        for start in range(0, len(query), at_once):
            part = slice(start, start + at_once)
            cosine, nearest = (query[part] @ among.T).topk(num, dim=1)
            weight = (cosine.double() / TEMPERATURE).softmax(dim=1)
            voted = torch.einsum("rk,rkf->rf", weight, votes[nearest])
            said[part, columns] = (share * voted + (1 - share) * prevalence[columns]).logit()
    return said
