"""Collapse guard: views must differ, in every dimension, and dimensions must not repeat each other.

| VICReg symbol (Bardes et al. 2022) | name here |
|---|---|
| gamma, S(z, eps) = sqrt(Var + eps): eq. 1 and 2 | min_std, the deviation in `measure_variance` |
| C(Z): eq. 3; c(Z): eq. 4 | covariance in `measure_covariance` |
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from hilum.batch import StudyBatch
from hilum.config import VarianceCovariance as VarianceCovarianceConfig
from hilum.model.encoder import Features
from hilum.model.masking import Mask

from .gather import Gather
from .term import Sum, Term

VARIANCE_EPS = 1e-4


def measure_variance(vectors: Float[Tensor, "row dim"], min_std: float) -> Float[Tensor, ""]:
    """Mean over dimensions of max(0, min_std - sqrt(Var + eps)), Var over rows without bias (VICReg eq. 1)."""
    return F.relu(min_std - (vectors.var(dim=0) + VARIANCE_EPS).sqrt()).mean()


def measure_covariance(vectors: Float[Tensor, "row dim"]) -> Float[Tensor, ""]:
    """Sum over i != j of Cov(i, j)^2, over the number of dimensions (VICReg eq. 3 and 4)."""
    centred = vectors - vectors.mean(dim=0)
    covariance = centred.T @ centred / (len(vectors) - 1)
    return (covariance.square().sum() - covariance.diagonal().square().sum()) / vectors.shape[1]


class VarianceCovariance(Term):
    """The guard over the views of all processes together; every view counts, single ones too.

    The mean is not one of items, but the same for all: each process gives it times its number of views, so that sum
    over count is the guard itself, and its gradient is whole.
    """

    def __init__(
        self, config: VarianceCovarianceConfig, read_vectors: Callable[[Features], Float[Tensor, "view dim"]]
    ) -> None:
        super().__init__()
        self.read_vectors = read_vectors
        self.min_std = config.min_std
        self.covariance_weight = config.covariance_weight

    def count(self, batch: StudyBatch) -> float:
        return float(batch.num_views)

    def forward(self, features: Features, mask: Mask, batch: StudyBatch, gather: Gather) -> dict[str, Sum]:
        own = self.read_vectors(features).float()
        with torch.autocast(own.device.type, enabled=False):
            vectors = gather(own)
            if len(vectors) < 2:  # nothing to differ from
                variance = covariance = 0.0 * vectors.sum()
            else:
                variance, covariance = measure_variance(vectors, self.min_std), measure_covariance(vectors)
        count = torch.tensor(self.count(batch), device=own.device)
        loss = variance + self.covariance_weight * covariance
        return {
            "loss": Sum(loss * count, count),
            "variance": Sum(variance.detach() * count, count),
            "covariance": Sum(covariance.detach() * count, count),
        }
