"""Vectors on one scale, by statistics of the rows they are fitted to.

A teacher's raw vectors have a mean that is most of them: where two ECGs' vectors have a cosine of 0.43 on average, a
constant prediction earns 0.66 and the gradient teaches little else (P 7.3). Taken off, what is left differs by study.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, Float32, Float64

_ROWS = 4096  # in 64 bit at a time


@dataclass(frozen=True)
class Scaling:
    """An affine map of vectors: (vector - mean) @ matrix."""

    mean: Float64[np.ndarray, " dim"]
    matrix: Float64[np.ndarray, "dim dim"]

    def apply(self, values: Float[np.ndarray, "row dim"]) -> Float32[np.ndarray, "row dim"]:
        out = np.empty(values.shape, np.float32)
        for first in range(0, len(values), _ROWS):
            part = slice(first, first + _ROWS)
            out[part] = (values[part].astype(np.float64) - self.mean) @ self.matrix
        return out


def fit_scaling(values: Float[np.ndarray, "row dim"], how: str | Literal["standardised", "whitened"]) -> Scaling:
    """The map that gives these rows mean 0 and deviation 1 in every number; whitened: uncorrelated numbers as well.

    Numbers that never differ become 0. Whitening is by the correlation matrix, shrunk towards the identity as Ledoit
    and Wolf (2004) find from the rows themselves: with fewer rows than numbers nothing is blown up. Of the maps that
    whiten it is the one that changes standardised numbers least (ZCA-cor; Kessy et al. 2018).
    """
    values = values.astype(np.float64)
    mean, std = values.mean(axis=0), values.std(axis=0)
    differs = std > 1e-6 * max(std.max(initial=0.0), np.finfo(np.float64).tiny)
    scale = np.where(differs, 1 / np.where(differs, std, 1.0), 0.0)
    if how == "standardised":
        return Scaling(mean, np.diag(scale))
    from sklearn.covariance import ledoit_wolf  # a second to import, for runs that whiten

    correlation, _ = ledoit_wolf((values - mean) * scale, assume_centered=True)
    size, axes = np.linalg.eigh(correlation)
    least = 1e-6 * size.max()  # of numbers that never differ, and of rows that are all alike
    root = np.where(size > least, 1 / np.sqrt(np.maximum(size, least)), 0.0)
    return Scaling(mean, scale[:, None] * ((axes * root) @ axes.T))
