"""Ridge regression of many outputs at once, for every penalty from one decomposition."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float

from .logistic import Standardizer, fit_standardizer


@dataclass(frozen=True)
class RidgeFit:
    """Predicts `standardize(features) @ weight + intercept`."""

    standardize: Standardizer
    weight: Float[np.ndarray, "dim out"]
    intercept: Float[np.ndarray, " out"]
    alpha: float

    def predict(self, features: Float[np.ndarray, "row dim"]) -> Float[np.ndarray, "row out"]:
        """Outputs of rows, in double precision."""
        return self.standardize(torch.from_numpy(features)).numpy() @ self.weight + self.intercept


def fit_ridge(
    features: Float[np.ndarray, "row dim"], target: Float[np.ndarray, "row out"], alphas: Sequence[float]
) -> list[RidgeFit]:
    r"""Linear maps of standardised features, one for each penalty (Hoerl and Kennard 1970).

    .. math:: \min_{W, b} \sum_i \| y_i - W^\top x_i - b \|^2 + \alpha \|W\|^2

    which is scikit-learn's `Ridge(alpha)` after its `StandardScaler`: b is not penalised. With the singular value
    decomposition X = U S V' of the standardised features, W = V diag(s / (s^2 + alpha)) U' (Y - mean).

    Raises:
        ValueError: a penalty that is not positive.
    """
    if not all(alpha > 0 for alpha in alphas):
        raise ValueError(f"penalties must be positive: {list(alphas)}")
    standardize = fit_standardizer(torch.from_numpy(features))
    x = standardize(torch.from_numpy(features)).numpy()
    intercept = target.astype(np.float64).mean(axis=0)
    u, s, vt = np.linalg.svd(x, full_matrices=False)
    along = u.T @ (target - intercept)
    return [
        RidgeFit(standardize, vt.T @ ((s / (s**2 + alpha))[:, None] * along), intercept, float(alpha))
        for alpha in alphas
    ]
