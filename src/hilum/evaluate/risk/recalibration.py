r"""Recalibration of absolute risks on validation, year by year (Platt 1999; Mirai has a calibrator a year too, L 3.4).

.. math:: \hat r_t = \sigma(a_t \, \mathrm{logit}(r_t) + b_t), \qquad a_t \ge 0

a and b minimise the cross-entropy over the exams whose outcome at t is known, each weighted for censoring
(`follow_up.weigh_years`), with Platt's targets (N+ + 1) / (N+ + 2) of the N+ cancers and 1 / (N- + 2) of the N- others,
which keep few cancers from saying 0 or 1. A horizon's order of risks stays (or is levelled, where a is 0), so that
discrimination is told of the risks as predicted.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32
from scipy.optimize import minimize
from scipy.special import expit, logit

_EDGE = 1e-6  # risks nearer to 0 and 1 have the logit of this
_FOR_SLOPE, _FOR_LEVEL = 10, 2  # cancers of a horizon from which its slope, and its intercept, are fitted


@dataclass(frozen=True)
class Recalibration:
    """a and b of each horizon; 1 and 0 where validation has too few cancers to tell."""

    slope: tuple[float, ...]
    intercept: tuple[float, ...]

    def apply(self, risk: Float[np.ndarray, "exam year"]) -> Float32[np.ndarray, "exam year"]:
        """The risks recalibrated, none below that of the year before, which the maps of two years could bring."""
        moved = expit(_find_logit(risk) * np.array(self.slope) + np.array(self.intercept))
        return np.maximum.accumulate(moved, axis=1).astype(np.float32)


def fit_recalibration(
    risk: Float[np.ndarray, "exam year"],
    target: Float[np.ndarray, "exam year"],
    weight: Float[np.ndarray, "exam year"],
) -> Recalibration:
    """Of validation exams.

    Args:
        risk: predicted.
        target: 1, 0, or NaN where not known.
        weight: of a known target.
    """
    found = [_fit_horizon(*columns) for columns in zip(_find_logit(risk).T, target.T, weight.T, strict=True)]
    return Recalibration(tuple(a for a, _ in found), tuple(b for _, b in found))


def _fit_horizon(
    score: Float[np.ndarray, " exam"], target: Float[np.ndarray, " exam"], weight: Float[np.ndarray, " exam"]
) -> tuple[float, float]:
    known = ~np.isnan(target)
    score, sick, weight = score[known], target[known] == 1, weight[known].astype(np.float64)
    cases = int(sick.sum())
    if cases < _FOR_LEVEL or cases == len(sick):
        return 1.0, 0.0
    goal = np.where(sick, (cases + 1) / (cases + 2), 1 / (len(sick) - cases + 2))

    def measure(values: np.ndarray) -> tuple[float, np.ndarray]:
        """The weighted cross-entropy and its slopes."""
        z = values[0] * score + values[1]
        off = weight * (expit(z) - goal)
        loss = weight @ (np.logaddexp(0, z) - goal * z)
        return loss / weight.sum(), np.array([off @ score, off.sum()]) / weight.sum()

    slopes = (0.0, None) if cases >= _FOR_SLOPE else (1.0, 1.0)
    found = minimize(
        measure, [1.0, 0.0], jac=True, method="L-BFGS-B", bounds=[slopes, (None, None)],
        options={"ftol": 1e-14, "gtol": 1e-9, "maxiter": 500},
    )  # fmt: skip
    return float(found.x[0]), float(found.x[1])


def _find_logit(risk: Float[np.ndarray, "exam year"]) -> Float[np.ndarray, "exam year"]:
    return logit(np.clip(risk.astype(np.float64), _EDGE, 1 - _EDGE))
