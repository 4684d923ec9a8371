"""The linear head: one L2 logistic regression per finding on standardised features.

All findings and all strengths are fitted together (`logistic.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from hilum.evaluate.fusion import Fusion, fuse_views, weigh_positives
from hilum.evaluate.rows import Rows, TrainOn, pool_rows

from .logistic import Standardizer, fit_logistic, fit_standardizer

STRENGTHS = tuple(10.0**power for power in range(-5, 1))


@dataclass(frozen=True)
class LinearProbe:
    """The fitted head: standardise, multiply, fuse."""

    standardize: Standardizer
    weight: Float[Tensor, "dim finding"]
    intercept: Float[Tensor, " finding"]
    fusion: Fusion
    converged: bool

    def score_views(self, features: Float[Tensor, "view dim"]) -> Float[Tensor, "view finding"]:
        """Logits of views from their frozen features."""
        return self.standardize(features) @ self.weight + self.intercept

    def fold(self) -> nn.Linear:
        """The same head as one linear layer on raw features: the standardisation is folded into it."""
        head = nn.Linear(self.weight.shape[0], self.weight.shape[1], dtype=torch.float64)
        weight = self.weight / self.standardize.std[:, None]
        with torch.no_grad():
            head.weight.copy_(weight.T)
            head.bias.copy_(self.intercept - self.standardize.mean @ weight)
        return head

    def score_rows(self, rows: Rows, keep: Bool[Tensor, " view"] | None = None) -> Float[Tensor, "row finding"]:
        """Logits of studies (or of views, for a task of views), from all their views or those in `keep`."""
        logit, owner = self.score_views(rows.features), rows.owner
        if keep is not None:
            logit, owner = logit[keep], owner[keep]
        return fuse_views(logit, owner, len(rows), self.fusion)


def fit_probes(
    rows: Rows,
    strengths: Sequence[float],
    train_on: TrainOn = "study",
    fusion: Fusion = "mean_logit",
    *,
    weighted: bool = False,
) -> list[LinearProbe]:
    """One probe for each strength, fitted together.

    weighted: positives of rare findings count more (`weigh_positives`); probabilities stay those of the true
    prevalence.
    """
    x, y = pool_rows(rows, train_on)
    weight = weigh_positives(y.double()) if weighted else None
    standardize = fit_standardizer(x)
    num = y.shape[1]
    columns = torch.tensor(strengths, dtype=torch.float64).repeat_interleave(num)
    repeated = None if weight is None else weight.repeat(len(strengths))
    fit = fit_logistic(standardize(x), y.repeat(1, len(strengths)), columns, positive_weight=repeated)
    shift = 0.0 if weight is None else weight.log()  # back to the odds of the true prevalence
    return [
        LinearProbe(standardize, fit.weight[:, i : i + num], fit.intercept[i : i + num] - shift, fusion, fit.converged)
        for i in range(0, num * len(strengths), num)
    ]
