"""From scores of test rows to estimates with intervals, and to paired differences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from jaxtyping import Float

from hilum.evaluate.result import to_number

from .bootstrap import (
    NUM_RESAMPLES,
    WeightedMetric,
    average_resamples,
    read_interval,
    resample_auroc,
    resample_average_precision,
    resample_brier_error,
    resample_calibration_error,
    resample_classes,
    resample_f1,
    resample_findings,
    resample_probabilistic_f1,
    resample_sensitivity,
    resample_specificity,
    weigh_classes,
    weigh_findings,
)
from .class_metrics import resample_balanced_accuracy, resample_quadratic_kappa
from .intervals import Resampled
from .metrics import (
    MIN_POSITIVES,
    Macro,
    average_findings,
    count_positives,
    explain_class_exclusion,
    explain_exclusion,
)
from .scores import Scores


@dataclass(frozen=True)
class Metric:
    """A metric of `bootstrap.py`, which gives a thousand resamples, or one estimate, at once."""

    name: str
    resample: WeightedMetric
    reads: str  # which of a Scores' arrays
    biased: bool = (
        False  # a mean of absolute values: resampling adds noise to each, so resamples lie above the estimate
    )
    of_classes: bool = False  # one number of all targets together, where these are the classes of one thing


METRICS = {
    metric.name: metric
    for metric in (
        Metric("auroc", resample_auroc, "logit"),
        Metric("average_precision", resample_average_precision, "logit"),
        Metric("f1", resample_f1, "decision"),
        Metric("f1_at_half", resample_f1, "decision_at_half"),
        Metric("sensitivity_at_specificity", resample_sensitivity, "decision_at_specificity"),
        Metric("specificity_reached", resample_specificity, "decision_at_specificity"),
        Metric("brier_error", resample_brier_error, "probability"),
        Metric("calibration_error", resample_calibration_error, "probability", biased=True),
        Metric(
            "calibration_error_fixed", partial(resample_calibration_error, bins="fixed"), "probability", biased=True
        ),
        Metric("probabilistic_f1", resample_probabilistic_f1, "probability"),
        Metric("quadratic_kappa", resample_quadratic_kappa, "logit", of_classes=True),
        Metric("balanced_accuracy", resample_balanced_accuracy, "logit", of_classes=True),
    )
}

OF_CLASSES = tuple(name for name, metric in METRICS.items() if metric.of_classes)
# What results of mammograms have beside what every result has, as far as it applies (L 3.3).
OF_MAMMOGRAMS = ("sensitivity_at_specificity", "specificity_reached", "probabilistic_f1", *OF_CLASSES)
USUAL = tuple(name for name in METRICS if name not in OF_MAMMOGRAMS)


def list_applicable(scores: Scores, names: Sequence[str]) -> tuple[str, ...]:
    """Those of the metrics that there can be of these scores: ones of classes only where the targets are classes."""
    return tuple(name for name in names if scores.classes or name not in OF_CLASSES)


def measure_findings(scores: Scores, metric: Metric) -> Float[np.ndarray, " finding"]:
    """The metric of every finding (of classes, one number), averaged over repeats; NaN where undefined."""
    everybody = np.ones((len(scores.target), 1), np.float32)
    said = getattr(scores, metric.reads)
    weigh = weigh_classes if metric.of_classes else weigh_findings
    parts = [weigh(metric.resample, scores.target, table, everybody)[:, 0] for table in said]
    return np.mean(parts, axis=0)


def list_exclusions(scores: Scores, min_positives: int = MIN_POSITIVES) -> dict[str, str]:
    """Findings that do not enter the macro mean, with the reason."""
    reasons = {name: explain_exclusion(scores.target[:, i], min_positives) for i, name in enumerate(scores.names)}
    return {name: reason for name, reason in reasons.items() if reason}


def score_macro(scores: Scores, metric: str = "auroc", min_positives: int = MIN_POSITIVES) -> tuple[float, int]:
    """Macro mean without interval, and how many findings entered; of classes their one number, and 1 or 0."""
    macro = _average(scores, METRICS[metric], measure_findings(scores, METRICS[metric]), min_positives)
    return macro.value, macro.num


def _average(scores: Scores, metric: Metric, values: np.ndarray, min_positives: int) -> Macro:
    """The mean of the values that can be judged by."""
    if not metric.of_classes:
        values_of = dict(zip(scores.names, values.tolist(), strict=True))
        return average_findings(values_of, list_exclusions(scores, min_positives))
    assert scores.classes is not None, "the targets are not the classes of one thing"
    reason = explain_class_exclusion(scores.target, min_positives)
    return average_findings({scores.classes: float(values[0])}, {scores.classes: reason} if reason else {})


def _list_values(scores: Scores, metric: Metric) -> tuple[str, ...]:
    """What the values of a metric are of."""
    return (str(scores.classes),) if metric.of_classes else scores.names


def resample_scores(
    scores: Scores, metric: Metric, num_resamples: int, seed: int
) -> Float[np.ndarray, "finding resample"]:
    """The metric of every finding on the resamples, averaged over repeats.

    Resamples of a biased metric are moved by their bias (their mean minus the estimate), so that an interval of them is
    around the estimate; none goes below 0.
    """
    said = getattr(scores, metric.reads)
    draw = resample_classes if metric.of_classes else resample_findings
    parts = [draw(metric.resample, scores.target, table, scores.patient, num_resamples, seed) for table in said]
    resampled = np.mean(parts, axis=0)
    if not metric.biased:
        return resampled
    defined = ~np.isnan(resampled).all(axis=1)
    bias = np.zeros((len(resampled), 1))
    bias[defined, 0] = np.nanmean(resampled[defined], axis=1) - measure_findings(scores, metric)[defined]
    return np.maximum(resampled - bias, 0)


def estimate_scores(
    scores: Scores,
    names: tuple[str, ...] = USUAL,
    *,
    min_positives: int = MIN_POSITIVES,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
    slice: str = "all",
) -> list[Resampled]:
    """Every metric of every finding and their macro mean, with intervals by patient; metrics of classes where the
    targets are such.

    A finding outside the macro mean keeps its own numbers where they are defined, and carries the reason.
    """
    estimates = []
    for name in list_applicable(scores, names):
        values = measure_findings(scores, METRICS[name])
        resampled = resample_scores(scores, METRICS[name], num_resamples, seed)
        estimates += _build_estimates(scores, name, values, resampled, min_positives, slice)
    return estimates


def estimate_difference(
    first: Scores,
    second: Scores,
    names: tuple[str, ...] = ("auroc", "average_precision", "brier_error"),
    *,
    min_positives: int = MIN_POSITIVES,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
    slice: str = "all",
) -> list[Resampled]:
    """Metrics of `first` minus those of `second`, on the same rows and the same resamples of patients.

    Pairing removes what the two have in common, the patients: the interval of the difference is mostly far narrower
    than those of the two metrics, and it is the one that tells whether one encoder is better.
    """
    assert first.names == second.names
    assert np.array_equal(first.row, second.row), "differences are of the same rows"
    assert np.array_equal(first.target, second.target, equal_nan=True), "differences are of the same targets"
    estimates = []
    for name in list_applicable(first, names):
        metric = METRICS[name]
        values = measure_findings(first, metric) - measure_findings(second, metric)
        resampled = resample_scores(first, metric, num_resamples, seed)
        resampled = resampled - resample_scores(second, metric, num_resamples, seed)
        estimates += _build_estimates(replace(first, threshold=None), name, values, resampled, min_positives, slice)
    return estimates


def _build_estimates(
    scores: Scores, metric: str, values: np.ndarray, resampled: np.ndarray, min_positives: int, slice: str
) -> list[Resampled]:
    """The findings' estimates and the macro mean's from values and their resamples; of classes the one there is."""
    macro = _average(scores, METRICS[metric], values, min_positives)
    if METRICS[metric].of_classes:
        of, num = str(scores.classes), int((~np.isnan(scores.target).any(axis=1)).sum())
        return [build_estimate(metric, of, values[0], resampled[0], num, None, slice, macro.left_out.get(of))]
    estimates = []
    for i, finding in enumerate(scores.names):
        counts, reason = count_positives(scores.target[:, i]), macro.left_out.get(finding)
        numbers = (values[i], resampled[i], counts.num, counts.positives)
        one = build_estimate(metric, finding, *numbers, slice, reason)
        if metric == "f1" and scores.threshold is not None:
            one = replace(one, threshold=to_number(scores.threshold[i]))
        estimates.append(one)
    kept = np.array([finding not in macro.left_out for finding in scores.names])
    reason = None if macro.num else "no finding can be scored"
    mean = average_resamples(resampled[kept])
    return [*estimates, build_estimate(metric, "macro", macro.value, mean, macro.num, None, slice, reason)]


def build_estimate(
    metric: str,
    of: str,
    value: float,
    resampled: Float[np.ndarray, " resample"],
    num: int,
    positives: int | None,
    slice: str,
    reason: str | None = None,
) -> Resampled:
    """A number with its resamples and their interval, and why it is none or does not enter the mean."""
    interval = None if np.isnan(value) else read_interval(resampled)
    return Resampled(
        metric=metric,
        of=of,
        value=to_number(value),
        low=interval.low if interval else None,
        high=interval.high if interval else None,
        num=num,
        positives=positives,
        reason=reason,
        slice=slice,
        resamples=resampled,
    )


def average_parts(macros: Sequence[Resampled], slice: str = "mean over datasets") -> Resampled:
    """The mean of several parts' macro means: archives weigh the same, however large.

    Pooling the rows of several archives instead rewards knowing which archive an image is from, because prevalence
    differs (MVMAE's "Combined" is pooled; M 4.2). Parts are independent samples: each was resampled with a seed of its
    own.
    """
    metric, of = macros[0].metric, macros[0].of
    known = [(one.value, one.resamples) for one in macros if one.value is not None and not one.reason]
    if len(known) < 2:
        return Resampled(metric, of, None, reason="fewer than two parts can be scored", slice=slice)
    values, resampled = zip(*known, strict=True)
    return build_estimate(metric, of, float(np.mean(values)), np.mean(resampled, axis=0), len(known), None, slice)
