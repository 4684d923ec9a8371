"""How sure an AUROC and the difference of two are, by formulas: DeLong's test, and Hanley and McNeil's standard error.

They stand beside the bootstrap by patient (`bootstrap.py`), which is what intervals are of. DeLong et al. (1988) count
every row as independent of all others; breasts and images of one patient are not, and Obuchowski (1997) sums their
parts by patient first. Where every patient has one row the two are the same.

paper symbol -> name here (Obuchowski 1997, section 2): V10, V01 -> placements of positives and negatives; m, n -> rows
of either class; I, I10, I01 -> patients, those with a positive, those with a negative.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.stats import norm, rankdata


@dataclass(frozen=True)
class PairedTest:
    """A difference of two AUROCs on the same rows, its standard error, and the two-sided p of no difference."""

    difference: float
    standard_error: float
    z: float
    p: float


def place_scores(
    target: Float[np.ndarray, " row"], score: Float[np.ndarray, " row"]
) -> tuple[Float[np.ndarray, " positive"], Float[np.ndarray, " negative"]]:
    r"""Of each positive the share of negatives below it, of each negative the share of positives above it, ties half
    (DeLong et al. 1988, eq. 4 and 5); the mean of either is the AUROC.

    .. math:: V_{10}(x_i) = \frac1n \sum_j \psi(x_i, y_j), \quad V_{01}(y_j) = \frac1m \sum_i \psi(x_i, y_j)

    By midranks (Sun and Xu 2014): a positive's rank among all minus its rank among positives counts the negatives
    below it. Targets are 0 and 1, both there.
    """
    positive = target == 1
    rank = rankdata(score)
    above = (rank[positive] - rankdata(score[positive])) / (~positive).sum()
    below = (rank[~positive] - rankdata(score[~positive])) / positive.sum()
    return above, 1 - below


def estimate_covariance(
    target: Float[np.ndarray, " row"],
    scores: Sequence[Float[np.ndarray, "_ row"]],
    patient: Int[np.ndarray, " row"],
) -> tuple[Float[np.ndarray, " classifier"], Float[np.ndarray, "classifier classifier"]]:
    r"""AUROCs, each the mean over a classifier's repeats, and their covariance (Obuchowski 1997, eq. 3 and 4).

    .. math:: \hat{\Sigma} = \frac{S_{10}}{m} + \frac{S_{01}}{n} + \frac{S_{11} + S_{11}^T}{mn}

    with S of patients' sums of placements minus AUROC. NaN where fewer than two patients have a positive, or a
    negative.
    """
    placed = [[place_scores(target, one) for one in repeats] for repeats in scores]
    positives, negatives = (np.array([np.mean([one[i] for one in each], axis=0) for each in placed]) for i in (0, 1))
    auroc = positives.mean(axis=1)
    _, owner = np.unique(patient, return_inverse=True)
    num, is_positive = int(owner.max()) + 1, target == 1

    def add_up(placement: np.ndarray, of: np.ndarray) -> tuple[np.ndarray, int]:
        centred = placement - auroc[:, None]
        return np.stack([np.bincount(of, weights=one, minlength=num) for one in centred]), len(np.unique(of))

    (x, with_positive), (y, with_negative) = (
        add_up(placement, owner[which]) for placement, which in ((positives, is_positive), (negatives, ~is_positive))
    )
    if min(with_positive, with_negative) < 2:
        return auroc, np.full((len(auroc),) * 2, np.nan)
    m, n = positives.shape[1], negatives.shape[1]
    crossed = num / (num - 1) * (x @ y.T)
    variance = with_positive / (with_positive - 1) * (x @ x.T) / m**2
    variance += with_negative / (with_negative - 1) * (y @ y.T) / n**2
    return auroc, variance + (crossed + crossed.T) / (m * n)


def compare_aurocs(
    target: Float[np.ndarray, " row"],
    first: Float[np.ndarray, "repeat row"],
    second: Float[np.ndarray, "other_repeat row"],
    patient: Int[np.ndarray, " row"],
) -> PairedTest | None:
    """DeLong's test of the first AUROC against the second, each a mean over its repeats; rows with a NaN target do not
    enter. None where a class is missing or has a single patient, or where the two differ without any error.

    Two that score alike differ by 0 with p = 1.
    """
    known = ~np.isnan(target)
    target, patient = target[known], patient[known]
    if len(np.unique(target)) < 2:
        return None
    auroc, covariance = estimate_covariance(target, [first[:, known], second[:, known]], patient)
    difference = float(auroc[0] - auroc[1])
    error = float(np.sqrt(max(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1], 0.0)))
    if np.isnan(covariance).any():
        return None
    if error < 1e-12:
        return PairedTest(0.0, 0.0, 0.0, 1.0) if abs(difference) < 1e-12 else None
    z = difference / error
    return PairedTest(difference, error, z, float(2 * norm.sf(abs(z))))


def hanley_mcneil_error(auroc: float, positives: int, negatives: int) -> float:
    r"""Standard error of an AUROC by its value and the numbers of rows alone (Hanley and McNeil 1982, eq. 1).

    .. math:: \sqrt{\frac{A(1-A) + (P-1)(Q_1-A^2) + (N-1)(Q_2-A^2)}{PN}},
        \quad Q_1 = \frac{A}{2-A}, \quad Q_2 = \frac{2A^2}{1+A}

    VinDr's test images with and without a mass (219 of 4,000) at 0.76: 0.019 (L 3.1).
    """
    one, other = auroc / (2 - auroc), 2 * auroc**2 / (1 + auroc)
    total = auroc * (1 - auroc) + (positives - 1) * (one - auroc**2) + (negatives - 1) * (other - auroc**2)
    return float(np.sqrt(max(total, 0.0) / (positives * negatives)))
