"""From scores of test rows to estimates with intervals, and to paired differences."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from jaxtyping import Float

from .bootstrap import (
    NUM_RESAMPLES,
    WeightedMetric,
    average_resamples,
    read_interval,
    resample_auroc,
    resample_average_precision,
    resample_brier_error,
    resample_calibration_error,
    resample_f1,
    resample_findings,
    resample_sensitivity,
    resample_specificity,
    weigh_findings,
)
from .metrics import MIN_POSITIVES, average_findings, count_positives, explain_exclusion
from .result import Estimate, to_number
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
    )
}

# What every result has; those at a fixed specificity where they are asked for.
USUAL = tuple(name for name, metric in METRICS.items() if metric.reads != "decision_at_specificity")


def measure_findings(scores: Scores, metric: Metric) -> Float[np.ndarray, " finding"]:
    """The metric of every finding, averaged over repeats; NaN where undefined."""
    everybody = np.ones((len(scores.target), 1), np.float32)
    said = getattr(scores, metric.reads)
    parts = [weigh_findings(metric.resample, scores.target, table, everybody)[:, 0] for table in said]
    return np.mean(parts, axis=0)


def list_exclusions(scores: Scores, min_positives: int = MIN_POSITIVES) -> dict[str, str]:
    """Findings that do not enter the macro mean, with the reason."""
    reasons = {name: explain_exclusion(scores.target[:, i], min_positives) for i, name in enumerate(scores.names)}
    return {name: reason for name, reason in reasons.items() if reason}


def score_macro(scores: Scores, metric: str = "auroc", min_positives: int = MIN_POSITIVES) -> tuple[float, int]:
    """Macro mean without interval, and how many findings entered."""
    values = dict(zip(scores.names, measure_findings(scores, METRICS[metric]).tolist(), strict=True))
    macro = average_findings(values, list_exclusions(scores, min_positives))
    return macro.value, macro.num


def resample_scores(
    scores: Scores, metric: Metric, num_resamples: int, seed: int
) -> Float[np.ndarray, "finding resample"]:
    """The metric of every finding on the resamples, averaged over repeats.

    Resamples of a biased metric are moved by their bias (their mean minus the estimate), so that an interval of them is
    around the estimate; none goes below 0.
    """
    said = getattr(scores, metric.reads)
    parts = [
        resample_findings(metric.resample, scores.target, table, scores.patient, num_resamples, seed) for table in said
    ]
    resampled = np.mean(parts, axis=0)
    if not metric.biased:
        return resampled
    defined = ~np.isnan(resampled).all(axis=1)
    bias = np.zeros((len(resampled), 1))
    bias[defined, 0] = np.nanmean(resampled[defined], axis=1) - measure_findings(scores, metric)[defined]
    return np.maximum(resampled - bias, 0)


def resample_macro(
    scores: Scores,
    metric: str = "auroc",
    *,
    min_positives: int = MIN_POSITIVES,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> Float[np.ndarray, " resample"]:
    """The macro mean on each resample, averaged over repeats.

    Two methods on the same rows share their resamples, so that the differences of these arrays are paired: kept, they
    give the interval of any difference without the scores.
    """
    values = dict(zip(scores.names, measure_findings(scores, METRICS[metric]).tolist(), strict=True))
    left_out = average_findings(values, list_exclusions(scores, min_positives)).left_out
    kept = np.array([finding not in left_out for finding in scores.names])
    return average_resamples(resample_scores(scores, METRICS[metric], num_resamples, seed)[kept])


def estimate_scores(
    scores: Scores,
    names: tuple[str, ...] = USUAL,
    *,
    min_positives: int = MIN_POSITIVES,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
    slice: str = "all",
) -> list[Estimate]:
    """Every metric of every finding and their macro mean, with intervals by patient.

    A finding outside the macro mean keeps its own numbers where they are defined, and carries the reason.
    """
    estimates = []
    for name in names:
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
) -> list[Estimate]:
    """Metrics of `first` minus those of `second`, on the same rows and the same resamples of patients.

    Pairing removes what the two have in common, the patients: the interval of the difference is mostly far narrower
    than those of the two metrics, and it is the one that tells whether one encoder is better.
    """
    assert first.names == second.names
    assert np.array_equal(first.row, second.row), "differences are of the same rows"
    assert np.array_equal(first.target, second.target, equal_nan=True), "differences are of the same targets"
    estimates = []
    for name in names:
        metric = METRICS[name]
        values = measure_findings(first, metric) - measure_findings(second, metric)
        resampled = resample_scores(first, metric, num_resamples, seed)
        resampled = resampled - resample_scores(second, metric, num_resamples, seed)
        estimates += _build_estimates(replace(first, threshold=None), name, values, resampled, min_positives, slice)
    return estimates


def _build_estimates(
    scores: Scores, metric: str, values: np.ndarray, resampled: np.ndarray, min_positives: int, slice: str
) -> list[Estimate]:
    """The findings' estimates and the macro mean's from values and their resamples."""
    excluded = list_exclusions(scores, min_positives)
    estimates = []
    for i, finding in enumerate(scores.names):
        counts = count_positives(scores.target[:, i])
        undefined = bool(np.isnan(values[i]))
        interval = None if undefined else read_interval(resampled[i])
        tuned = metric == "f1" and scores.threshold is not None
        estimates.append(
            Estimate(
                metric=metric,
                of=finding,
                value=to_number(values[i]),
                low=interval.low if interval else None,
                high=interval.high if interval else None,
                num=counts.num,
                positives=counts.positives,
                reason=excluded.get(finding) or ("undefined" if undefined else None),
                slice=slice,
                threshold=to_number(scores.threshold[i]) if tuned else None,
            )
        )
    macro = average_findings(dict(zip(scores.names, values.tolist(), strict=True)), excluded)
    kept = np.array([finding not in macro.left_out for finding in scores.names])
    interval = read_interval(average_resamples(resampled[kept])) if macro.num else None
    estimates.append(
        Estimate(
            metric=metric,
            of="macro",
            value=to_number(macro.value),
            low=interval.low if interval else None,
            high=interval.high if interval else None,
            num=macro.num,
            reason=None if macro.num else "no finding can be scored",
            slice=slice,
        )
    )
    return estimates


def estimate_mean_over_parts(
    parts: dict[str, Scores],
    metric: str = "auroc",
    *,
    min_positives: int = MIN_POSITIVES,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
    slice: str = "mean over datasets",
) -> Estimate:
    """The mean of the parts' macro means: archives weigh the same, however large.

    Pooling the rows of several archives instead rewards knowing which archive an image is from, because prevalence
    differs (MVMAE's "Combined" is pooled; M 4.2). Parts are independent samples, so each is resampled by itself.
    """
    values, resampled = [], []
    for place, scores in enumerate(parts.values()):
        value, num = score_macro(scores, metric, min_positives)
        if num:
            values.append(value)
            resampled.append(
                resample_macro(
                    scores, metric, min_positives=min_positives, num_resamples=num_resamples, seed=seed + place
                )
            )
    if len(values) < 2:
        return Estimate(metric, "macro", None, reason="fewer than two parts can be scored", slice=slice)
    interval = read_interval(np.mean(resampled, axis=0))
    return Estimate(
        metric,
        "macro",
        float(np.mean(values)),
        interval.low if interval else None,
        interval.high if interval else None,
        num=len(values),
        slice=slice,
    )
