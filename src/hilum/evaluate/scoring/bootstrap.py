"""Metrics, and their intervals by patient: whole patients are drawn with replacement, all their rows with them.

Resampling rows (as scipy does) would treat two studies of one patient as independent and give intervals that are too
narrow. A resample is a vector of multiplicities, one for each row, so a metric is written once with weights and scores
a thousand resamples in one pass over the sorted rows. The same seed and patients give the same resamples, which is what
makes differences between two encoders paired.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, Int

from .metrics import NUM_BINS, place_bins

NUM_RESAMPLES = 1000
LEVEL = 0.95
_ENTRIES_AT_ONCE = 8_000_000  # weights held at a time: 32 MB

# A metric with multiplicities: (target row, score row, weight (row, resample)) -> value for each resample; of classes,
# target and score are (row, class).
WeightedMetric = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Interval:
    """Percentile interval of a resampled value."""

    low: float
    high: float


def draw_multiplicities(
    patient: Int[np.ndarray, " row"], num_resamples: int = NUM_RESAMPLES, seed: int = 0
) -> Iterator[Float[np.ndarray, "row resample"]]:
    """How often each row is in each resample of patients; yielded in parts of some resamples to bound memory."""
    _, unit = np.unique(patient, return_inverse=True)
    num_units = int(unit.max()) + 1
    generator = np.random.default_rng(seed)
    at_once = max(1, _ENTRIES_AT_ONCE // len(patient))
    for start in range(0, num_resamples, at_once):
        num = min(at_once, num_resamples - start)
        drawn = generator.integers(num_units, size=(num, num_units))
        cells = drawn * num + np.arange(num)[:, None]
        counts = np.bincount(cells.ravel(), minlength=num_units * num).reshape(num_units, num)
        yield counts.astype(np.float32)[unit]


def divide(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Quotient, NaN where nothing is below the line."""
    return np.divide(numerator, denominator, out=np.full(len(numerator), np.nan), where=denominator > 0)


def _tie_ends(ordered: np.ndarray) -> np.ndarray:
    """Last position of each run of equal values."""
    return np.append(np.flatnonzero(ordered[1:] != ordered[:-1]), len(ordered) - 1)


def resample_auroc(target: np.ndarray, score: np.ndarray, weight: np.ndarray) -> np.ndarray:
    r"""Area under the receiver operating characteristic: how often a positive scores above a negative.

    .. math:: \mathrm{AUROC} = \frac{1}{PN} \sum_{i: y_i=1} \sum_{j: y_j=0} [s_i > s_j] + \tfrac12 [s_i = s_j]

    Also called AUC, c-statistic, and the Mann-Whitney U divided by PN; every row counts as often as its weight says.
    One sort, then cumulative sums. NaN if a class is missing.
    """
    order = np.argsort(score, kind="stable")
    ordered, positive = score[order], target[order] == 1
    ends = _tie_ends(ordered)
    run = np.searchsorted(ends, np.arange(len(ordered)))
    # Negatives below the end of each run of equal scores; a positive beats those before its run and half of its own.
    negative = weight[order]
    positive_weight = negative[positive].astype(np.float64)
    negative[positive] = 0
    below = np.cumsum(negative, axis=0, out=negative)
    upto = below[ends[run[positive]]].astype(np.float64)
    before = np.where((run[positive] > 0)[:, None], below[ends[run[positive] - 1]], 0)
    won = np.einsum("pr,pr->r", positive_weight, (upto + before) / 2)
    return divide(won, positive_weight.sum(axis=0) * below[-1].astype(np.float64))


def resample_average_precision(target: np.ndarray, score: np.ndarray, weight: np.ndarray) -> np.ndarray:
    r"""Area under the precision-recall steps, without interpolation.

    .. math:: \mathrm{AP} = \sum_k (R_k - R_{k-1}) P_k

    over the distinct scores from the highest down, R_k recall and P_k precision of "score at least s_k". A random
    order scores the prevalence. NaN if a class is missing.
    """
    order = np.argsort(-score, kind="stable")
    ordered, positive = weight[order], np.flatnonzero(target[order] == 1)
    ends = _tie_ends(score[order])
    # Precision is of a whole run of equal scores: of each positive, at the end of its run, and at the last positive
    # of that. Only positives gain recall.
    end = ends[np.searchsorted(ends, positive)]
    gained = ordered[positive].astype(np.float64)
    upto = np.cumsum(ordered, axis=0, out=ordered)
    found = np.cumsum(gained, axis=0)[np.searchsorted(positive, end, side="right") - 1]
    precision = found / np.maximum(upto[end], 1)
    has_both = (gained.sum(axis=0) > 0) & (upto[-1] > gained.sum(axis=0))
    return divide((gained * precision).sum(axis=0), np.where(has_both, gained.sum(axis=0), 0))


def resample_f1(target: np.ndarray, decision: np.ndarray, weight: np.ndarray) -> np.ndarray:
    r"""Harmonic mean of precision and recall; `decision` is 1 where the score reached its threshold, else 0.

    .. math:: F_1 = \frac{2 TP}{2 TP + FP + FN}

    NaN if no row is positive. The paper's code decides at 0.5, which at the prevalence of most findings means "never
    present" (M 7.1 row 8); here the threshold is tuned on validation.
    """
    true_positive = (target * decision) @ weight
    return divide(2 * true_positive, np.where(target @ weight > 0, (target + decision) @ weight, 0))


def resample_probabilistic_f1(target: np.ndarray, probability: np.ndarray, weight: np.ndarray) -> np.ndarray:
    r"""F1 of probabilities in place of decisions: a row counts as called by the probability that is said of it.

    .. math:: F_1 = \frac{2 \sum_{i: y_i=1} p_i}{\sum_i y_i + \sum_i p_i}

    the harmonic mean of probabilistic precision and recall (Yacouby and Axman 2020, "Probabilistic extension of
    precision, recall, and F1 score", Eval4NLP; the metric of RSNA's competition of 2022-23, L 3.3). It asks for the
    right probabilities as well as the right order, and of 0 and 1 is the F1. NaN if no row is positive.

    Example: a positive said 0.8 and negatives said 0.4 and 0.1: 1.6 / (1 + 1.3) = 0.6957.
    """
    num = target @ weight
    return divide(2 * ((target * probability) @ weight), np.where(num > 0, num + probability @ weight, 0))


def resample_sensitivity(target: np.ndarray, decision: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Share of the positives that are called present; NaN without any."""
    return divide((target * decision) @ weight, target @ weight)


def resample_specificity(target: np.ndarray, decision: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Share of the negatives that are called absent; NaN without any."""
    return divide(((1 - target) * (1 - decision)) @ weight, (1 - target) @ weight)


def resample_brier_error(target: np.ndarray, probability: np.ndarray, weight: np.ndarray) -> np.ndarray:
    r"""Mean squared difference of probability and outcome, the Brier score (lower is better).

    .. math:: \frac1n \sum_i (p_i - y_i)^2

    Probabilities 0.9 and 0.2 of a present and an absent finding: 0.025 (M 8-29).
    """
    return divide((probability - target) ** 2 @ weight, weight.sum(axis=0))


def resample_calibration_error(
    target: np.ndarray, probability: np.ndarray, weight: np.ndarray, bins: Literal["adaptive", "fixed"] = "adaptive"
) -> np.ndarray:
    r"""Expected calibration error: mean gap between probability said and frequency seen, weighted by bin.

    .. math:: \sum_b \frac{n_b}{n} \left| \frac{1}{n_b} \sum_{i \in b} p_i - \frac{1}{n_b} \sum_{i \in b} y_i \right|

    `fixed` bins are ECE as of Guo et al. 2017; `adaptive` bins hold equally many rows (ACE, Nixon et al. 2019), which
    does not hide a rare finding's rows in one bin near zero. Both are biased upwards for few rows. The bins are those
    of all rows, in every resample.
    """
    place = place_bins(probability, bins)
    member = (place == np.arange(NUM_BINS)[:, None]) * (probability - target)
    return divide(np.abs(member @ weight).sum(axis=0), weight.sum(axis=0))


def resample_findings(
    metric: WeightedMetric,
    target: Float[np.ndarray, "row finding"],
    score: Float[np.ndarray, "row finding"],
    patient: Int[np.ndarray, " row"],
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> Float[np.ndarray, "finding resample"]:
    """`metric` of every finding on every resample of patients; rows with NaN targets do not enter their finding.

    All findings, and any other call with the same patients and seed, see the same resamples. NaN where a resample
    leaves a metric undefined.
    """
    parts = [
        weigh_findings(metric, target, score, weight) for weight in draw_multiplicities(patient, num_resamples, seed)
    ]
    return np.concatenate(parts, axis=1)


def weigh_findings(
    metric: WeightedMetric,
    target: Float[np.ndarray, "row finding"],
    score: Float[np.ndarray, "row finding"],
    weight: Float[np.ndarray, "row resample"],
) -> Float[np.ndarray, "finding resample"]:
    """`metric` of every finding under given multiplicities; all of them 1 is the metric itself."""
    values = np.full((target.shape[1], weight.shape[1]), np.nan)
    for finding, known in enumerate(~np.isnan(target.T)):
        if known.any():
            y, s = target[known, finding].astype(np.float64), score[known, finding].astype(np.float64)
            values[finding] = metric(y, s, weight if known.all() else weight[known])
    return values


def resample_classes(
    metric: WeightedMetric,
    target: Float[np.ndarray, "row cls"],
    score: Float[np.ndarray, "row cls"],
    patient: Int[np.ndarray, " row"],
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> Float[np.ndarray, "1 resample"]:
    """`metric` of targets that are the classes of one thing (`class_metrics.py`) on every resample of patients."""
    parts = [
        weigh_classes(metric, target, score, weight) for weight in draw_multiplicities(patient, num_resamples, seed)
    ]
    return np.concatenate(parts, axis=1)


def weigh_classes(
    metric: WeightedMetric,
    target: Float[np.ndarray, "row cls"],
    score: Float[np.ndarray, "row cls"],
    weight: Float[np.ndarray, "row resample"],
) -> Float[np.ndarray, "1 resample"]:
    """`metric` of the rows whose class is known under given multiplicities."""
    known = ~np.isnan(target).any(axis=1)
    if not known.any():
        return np.full((1, weight.shape[1]), np.nan)
    return metric(target[known].astype(np.float64), score[known].astype(np.float64), weight[known])[None]


def average_resamples(values: Float[np.ndarray, "finding resample"]) -> Float[np.ndarray, " resample"]:
    """Macro mean in each resample over the findings defined in it (all, but for the rarest)."""
    defined = ~np.isnan(values)
    return divide(np.where(defined, values, 0).sum(axis=0), defined.sum(axis=0))


def read_interval(values: Float[np.ndarray, " resample"], *, level: float = LEVEL) -> Interval | None:
    """Percentile interval of the defined resamples; None if fewer than 90 % of them are defined."""
    defined = values[~np.isnan(values)]
    if not len(values) or len(defined) < 0.9 * len(values):
        return None
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high))
