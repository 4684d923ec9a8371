"""What fills dropped laboratory values in: the auto-encoder, and what it has to beat. All see and say percentiles."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.experimental import enable_iterative_imputer  # noqa: F401 - makes the next line possible
from sklearn.impute import IterativeImputer
from sklearn.linear_model import BayesianRidge, Ridge

from hilum.laboratory.rows import LabRows
from hilum.model.lab_autoencoder import LabAutoencoder
from hilum.objective.lab_reconstruction import draw_dropped

# What is seen of rows (row, lab), and where, to the shares of all their entries.
Imputer = Callable[[np.ndarray, np.ndarray], np.ndarray]

STRENGTHS = (0.1, 1.0, 10.0, 100.0, 1000.0)
NUM_TRAINING_DRAWS, VALIDATION_DRAW = 4, 1000  # of drops


@dataclass(frozen=True)
class RidgeImputer:
    """Of each laboratory value a ridge regression on the others' shares (their means where missing) and flags."""

    mean: np.ndarray  # (lab,)
    coefficients: np.ndarray  # (2 lab, lab); a value does not read its own
    intercept: np.ndarray  # (lab,)

    def __call__(self, share: np.ndarray, seen: np.ndarray) -> np.ndarray:
        return np.clip(read_inputs(share, seen, self.mean) @ self.coefficients + self.intercept, 0, 1)


def use_autoencoder(autoencoder: LabAutoencoder) -> Imputer:
    """The network in evaluation mode."""

    @torch.inference_mode()
    def impute(share: np.ndarray, seen: np.ndarray) -> np.ndarray:
        return autoencoder(torch.from_numpy(share), torch.from_numpy(seen))[0].numpy()

    return impute


def fit_mean(train: LabRows) -> Imputer:
    """The mean share of the training rows, whatever is seen."""
    mean = average_observed(train)
    return lambda share, seen: np.broadcast_to(mean, share.shape)


def fit_ridge(train: LabRows, val: LabRows, drop: float, seed: int) -> tuple[RidgeImputer, float]:
    """Fitted on training rows with entries dropped at random, as it will meet them; of the strength (for all laboratory
    values one) that is best on validation rows. The imputer and its strength."""
    mean = average_observed(train)
    draws = [draw_dropped(train.observed, train.key, drop, seed, draw) for draw in range(NUM_TRAINING_DRAWS)]
    inputs = np.concatenate([read_inputs(train.share, train.observed & ~dropped, mean) for dropped in draws])
    targets, known = (np.concatenate([part] * NUM_TRAINING_DRAWS) for part in (train.share, train.observed))
    hidden = draw_dropped(val.observed, val.key, drop, seed, VALIDATION_DRAW)
    best: tuple[float, RidgeImputer, float] | None = None
    for strength in STRENGTHS:
        imputer = _solve_ridge(inputs, targets, known, mean, strength)
        error = float(np.square(imputer(val.share, val.observed & ~hidden) - val.share)[hidden].mean())
        if best is None or error < best[0]:
            best = error, imputer, strength
    assert best is not None
    return best[1], best[2]


def fit_iterative(train: LabRows) -> Imputer:
    """Chained equations of Bayesian ridge regressions, which choose their strength themselves (scikit-learn)."""
    model = IterativeImputer(BayesianRidge(), max_iter=10, keep_empty_features=True, random_state=0)

    def blank(share: np.ndarray, seen: np.ndarray) -> np.ndarray:
        return np.where(seen, share, np.nan).astype(np.float64)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # ten rounds, or as many as it takes if fewer
        model.fit(blank(train.share, train.observed))

    def impute(share: np.ndarray, seen: np.ndarray) -> np.ndarray:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            return np.clip(model.transform(blank(share, seen)), 0, 1)

    return impute


def average_observed(rows: LabRows) -> np.ndarray:
    """Mean share of each laboratory value where it was observed; 0.5 where it never was."""
    count = rows.observed.sum(axis=0)
    return np.divide(rows.share.sum(axis=0), count, out=np.full(len(count), 0.5), where=count > 0)


def read_inputs(share: np.ndarray, seen: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """What a regression reads: shares, or means where nothing is seen, and flags."""
    return np.concatenate([np.where(seen, share, mean), seen], axis=1).astype(np.float64)


def _solve_ridge(
    inputs: np.ndarray, targets: np.ndarray, known: np.ndarray, mean: np.ndarray, strength: float
) -> RidgeImputer:
    num_labs = len(mean)
    coefficients, intercept = np.zeros((2 * num_labs, num_labs)), mean.astype(np.float64).copy()
    for lab in range(num_labs):
        rows = np.flatnonzero(known[:, lab])
        others = np.delete(np.arange(2 * num_labs), [lab, num_labs + lab])
        if len(rows):
            model = Ridge(alpha=strength).fit(inputs[np.ix_(rows, others)], targets[rows, lab])
            coefficients[others, lab], intercept[lab] = model.coef_, model.intercept_
    return RidgeImputer(mean, coefficients, intercept)
