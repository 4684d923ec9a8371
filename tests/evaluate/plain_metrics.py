"""Metrics by their definitions and by scikit-learn, one finding and no weights: what `bootstrap.py` is held to.

Each function takes one finding: targets 0, 1 or NaN (NaN rows do not enter), and scores or probabilities of the same
rows. A metric that is undefined is NaN.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from jaxtyping import Float
from sklearn.metrics import average_precision_score, f1_score, recall_score, roc_auc_score

from hilum.evaluate.scoring.metrics import NUM_BINS, place_bins


def _known(target: np.ndarray, score: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    keep = ~np.isnan(target)
    return target[keep].astype(int), np.asarray(score, dtype=np.float64)[keep]


def _has_both(known: np.ndarray) -> bool:
    return bool(known.any() and not known.all())


def score_auroc(target: Float[np.ndarray, " row"], score: Float[np.ndarray, " row"]) -> float:
    r"""Area under the receiver operating characteristic: how often a positive scores above a negative.

    .. math:: \mathrm{AUROC} = \frac{1}{PN} \sum_{i: y_i=1} \sum_{j: y_j=0} [s_i > s_j] + \tfrac12 [s_i = s_j]

    Also called AUC, c-statistic, and the Mann-Whitney U divided by PN. NaN if a class is missing.

    Example:
        >>> score_auroc(np.array([0.0, 0, 1, 1]), np.array([0.1, 0.4, 0.35, 0.8]))
        0.75
    """
    known, score = _known(target, score)
    if not _has_both(known):
        return float("nan")
    return float(roc_auc_score(known, score))


def score_average_precision(target: Float[np.ndarray, " row"], score: Float[np.ndarray, " row"]) -> float:
    r"""Area under the precision-recall steps, without interpolation.

    .. math:: \mathrm{AP} = \sum_k (R_k - R_{k-1}) P_k

    over the distinct scores from the highest down, R_k recall and P_k precision of "score at least s_k". A random
    order scores the prevalence. NaN if a class is missing.

    Example:
        >>> round(score_average_precision(np.array([0.0, 0, 1, 1]), np.array([0.1, 0.4, 0.35, 0.8])), 4)
        0.8333
    """
    known, score = _known(target, score)
    if not _has_both(known):
        return float("nan")
    return float(average_precision_score(known, score))


def score_f1(target: Float[np.ndarray, " row"], score: Float[np.ndarray, " row"], threshold: float) -> float:
    r"""Harmonic mean of precision and recall of "score at least `threshold`".

    .. math:: F_1 = \frac{2 TP}{2 TP + FP + FN}

    NaN if the threshold is (its validation rows had one class) or if no row is positive. The paper's code uses 0.5,
    which at the prevalence of most findings means "never present" (M 7.1 row 8).

    Example:
        >>> round(score_f1(np.array([0.0, 1, 1, 0]), np.array([0.1, 0.3, 0.7, 0.5]), 0.3), 4)
        0.8
    """
    known, score = _known(target, score)
    if np.isnan(threshold) or not known.any():
        return float("nan")
    return float(f1_score(known, score >= threshold, zero_division=0.0))


def score_probabilistic_f1(target: Float[np.ndarray, " row"], probability: Float[np.ndarray, " row"]) -> float:
    """Harmonic mean of probabilistic precision and recall, row by row (Yacouby and Axman 2020, section 3).

    Example:
        >>> round(score_probabilistic_f1(np.array([1.0, 0, 0]), np.array([0.8, 0.4, 0.1])), 4)
        0.6957
    """
    known, probability = _known(target, probability)
    if not known.any():
        return float("nan")
    true_positive = false_positive = 0.0
    for y, p in zip(known, probability, strict=True):
        true_positive, false_positive = true_positive + p * y, false_positive + p * (1 - y)
    if not true_positive:
        return 0.0
    precision, recall = true_positive / (true_positive + false_positive), true_positive / known.sum()
    return float(2 * precision * recall / (precision + recall))


def score_recall(target: Float[np.ndarray, " row"], decision: Float[np.ndarray, " row"], of: int) -> float:
    """Share of the rows whose target is `of` that are called so: sensitivity of 1, specificity of 0. NaN without any.

    Example:
        >>> score_recall(np.array([0.0, 1, 1, 1, 1]), np.array([0.0, 1, 0, 1, 1]), of=1)
        0.75
    """
    known, decision = _known(target, decision)
    return float(recall_score(known, decision, pos_label=of)) if (known == of).any() else float("nan")


def measure_brier_error(target: Float[np.ndarray, " row"], probability: Float[np.ndarray, " row"]) -> float:
    r"""Mean squared difference of probability and outcome, known as the Brier score (lower is better).

    .. math:: \frac1n \sum_i (p_i - y_i)^2

    Example (M 8-29):
        >>> round(measure_brier_error(np.array([1.0, 0.0]), np.array([0.9, 0.2])), 6)
        0.025
    """
    known, probability = _known(target, probability)
    return float(np.mean((probability - known) ** 2)) if len(known) else float("nan")


def measure_calibration_error(
    target: Float[np.ndarray, " row"],
    probability: Float[np.ndarray, " row"],
    bins: Literal["adaptive", "fixed"] = "adaptive",
    num_bins: int = NUM_BINS,
) -> float:
    r"""Expected calibration error: mean gap between probability said and frequency seen, weighted by bin.

    .. math:: \sum_b \frac{n_b}{n} \left| \frac{1}{n_b} \sum_{i \in b} p_i - \frac{1}{n_b} \sum_{i \in b} y_i \right|

    `fixed` bins are ECE as of Guo et al. 2017; `adaptive` bins hold equally many rows (ACE, Nixon et al. 2019), which
    does not hide a rare finding's rows in one bin near zero. Both are biased upwards for few rows.

    Example: probabilities 0.1, 0.1, 0.9, 0.9 and outcomes 0, 0, 1, 0 with two fixed bins: (2/4) 0.1 + (2/4) 0.4 = 0.25.
    """
    known, probability = _known(target, probability)
    if not len(known):
        return float("nan")
    gap = np.bincount(place_bins(probability, bins, num_bins), weights=probability - known, minlength=num_bins)
    return float(np.abs(gap).sum() / len(known))
