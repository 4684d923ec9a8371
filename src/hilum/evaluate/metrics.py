"""Scores of one finding, and their mean over findings that can be scored.

Each function takes one finding: targets 0, 1 or NaN (NaN rows do not enter), and scores or probabilities of the same
rows. A metric that is undefined is NaN, never 0: an AUROC of a finding without positives counted as 0 moves a macro
mean of 0.70 to 0.47 (MVMAE's released evaluation; M 7.1 row 7, M 8-29).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

MIN_POSITIVES = 10
NUM_BINS = 15


@dataclass(frozen=True)
class Counts:
    """Rows of one finding whose target is known, and how many of them are positive."""

    num: int
    positives: int


@dataclass(frozen=True)
class Macro:
    """Unweighted mean over findings: its value (NaN without any), how many entered, and why the others did not."""

    value: float
    num: int
    left_out: dict[str, str]


def _known(target: np.ndarray, score: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    keep = ~np.isnan(target)
    return target[keep].astype(int), np.asarray(score, dtype=np.float64)[keep]


def _has_both(known: np.ndarray) -> bool:
    return bool(known.any() and not known.all())


def count_positives(target: Float[np.ndarray, " row"]) -> Counts:
    """Known rows and positives of one finding."""
    return Counts(num=int((~np.isnan(target)).sum()), positives=int(np.nansum(target)))


def explain_exclusion(target: Float[np.ndarray, " row"], min_positives: int = MIN_POSITIVES) -> str | None:
    """Why a finding does not enter the macro mean, or None if it does: it needs that many of each class."""
    counts = count_positives(target)
    negatives = counts.num - counts.positives
    if counts.num == 0:
        return "no study with a known state"
    if counts.positives < min_positives:
        return f"{counts.positives} positives of {counts.num}, {min_positives} needed"
    if negatives < min_positives:
        return f"{negatives} negatives of {counts.num}, {min_positives} needed"
    return None


def average_findings(
    values: dict[str, float],
    left_out: dict[str, str] | None = None,
    undefined: Literal["leave_out", "zero"] = "leave_out",
) -> Macro:
    """Macro mean over the findings of `values` that are not named in `left_out` (finding -> reason).

    `undefined` says what becomes of a NaN: `leave_out` (ours), or `zero` as the released MVMAE evaluation has it, kept
    to show the difference.

    Example: values 0.8, 0.6 and NaN give 0.70 over 2 findings; with `zero` 0.466667 over 3 (M 8-29).
    """
    left_out = dict(left_out or {})
    if undefined == "zero":
        values = {name: 0.0 if np.isnan(value) else value for name, value in values.items()}
    left_out |= {name: "undefined" for name, value in values.items() if np.isnan(value) and name not in left_out}
    kept = [value for name, value in values.items() if name not in left_out]
    return Macro(value=float(np.mean(kept)) if kept else float("nan"), num=len(kept), left_out=left_out)


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


def tune_f1_threshold(target: Float[np.ndarray, " row"], score: Float[np.ndarray, " row"]) -> float:
    """The score at or above which "present" gives the best F1 on these rows (validation, never the rows reported).

    The highest such score if several are equally good. NaN without a positive or without a negative.

    Example:
        >>> tune_f1_threshold(np.array([0.0, 1, 1, 0]), np.array([0.1, 0.3, 0.7, 0.5]))
        0.3
    """
    known, score = _known(target, score)
    if not _has_both(known):
        return float("nan")
    order = np.argsort(-score, kind="stable")
    last = np.append(np.diff(score[order]) != 0, True)  # of each run of equal scores
    found = np.cumsum(known[order])[last]
    called = np.arange(1, len(known) + 1)[last]
    f1 = 2 * found / (known.sum() + called)
    return float(score[order][last][np.argmax(f1)])


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


def measure_brier_error(target: Float[np.ndarray, " row"], probability: Float[np.ndarray, " row"]) -> float:
    r"""Mean squared difference of probability and outcome, known as the Brier score (lower is better).

    .. math:: \frac1n \sum_i (p_i - y_i)^2

    Example (M 8-29):
        >>> round(measure_brier_error(np.array([1.0, 0.0]), np.array([0.9, 0.2])), 6)
        0.025
    """
    known, probability = _known(target, probability)
    return float(np.mean((probability - known) ** 2)) if len(known) else float("nan")


def place_bins(
    probability: Float[np.ndarray, " row"], bins: Literal["adaptive", "fixed"], num_bins: int = NUM_BINS
) -> np.ndarray:
    """The bin of each row, 0..num_bins-1: `fixed` cuts [0, 1] evenly, `adaptive` at quantiles (equally full bins).

    Equal probabilities always share a bin, so the order of rows has no influence; bins can therefore be empty.
    """
    probability = np.asarray(probability, dtype=np.float64)
    inner = np.linspace(0, 1, num_bins + 1)[1:-1]
    edges = inner if bins == "fixed" else np.quantile(probability, inner)
    return np.searchsorted(edges, probability, side="right")


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


def read_reliability(
    target: Float[np.ndarray, " row"], probability: Float[np.ndarray, " row"], num_bins: int = 10
) -> dict[str, list[float]]:
    """Points of a reliability diagram: for each filled adaptive bin the mean probability, the frequency, the rows."""
    known, probability = _known(target, probability)
    place = place_bins(probability, "adaptive", num_bins) if len(known) else np.zeros(0, dtype=int)
    num = np.bincount(place, minlength=num_bins)
    filled = num > 0
    said = np.bincount(place, weights=probability, minlength=num_bins)[filled] / num[filled]
    seen = np.bincount(place, weights=known, minlength=num_bins)[filled] / num[filled]
    return {"probability": said.tolist(), "frequency": seen.tolist(), "num": num[filled].tolist()}
