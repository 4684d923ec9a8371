"""What validation decides: which setting, reading or epoch is best, by macro AUROC, and from which logit a finding is
called present, by F1."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int64

from hilum.errors import UserError
from hilum.evaluate.task import Task

from .bootstrap import resample_auroc, weigh_findings
from .metrics import MIN_POSITIVES, explain_exclusion, tune_f1_threshold, tune_specificity_threshold
from .scores import Scores


def measure_aurocs(
    target: Float[np.ndarray, "row finding"], logit: Float[np.ndarray, "row finding"]
) -> Float[np.ndarray, " finding"]:
    """AUROC of each finding on the rows whose target is known; NaN where these have one class."""
    return weigh_findings(resample_auroc, target, logit, np.ones((len(target), 1), np.float32))[:, 0]


def measure_macro_auroc(target: Float[np.ndarray, "row finding"], logit: Float[np.ndarray, "row finding"]) -> float:
    """Their mean, by which is chosen: over findings with `MIN_POSITIVES` of each class, for rarer ones would add noise
    only; they enter if there are no others.

    Raises:
        UserError: no finding has both classes.
    """
    for least in (MIN_POSITIVES, 1):
        kept = [i for i in range(target.shape[1]) if explain_exclusion(target[:, i], least) is None]
        if kept:
            return float(np.mean(measure_aurocs(target[:, kept], logit[:, kept])))
    raise UserError(
        f"No target has both classes among the {len(target):,} rows that choose settings (validation, or what "
        "cross-validation trains on). More labelled patients are needed."
    )


def tune_thresholds(
    target: Float[np.ndarray, "row finding"], logit: Float[np.ndarray, "row finding"]
) -> Float[np.ndarray, " finding"]:
    """The logit of each finding from which it is called present: best F1 on these rows; NaN where it has one class."""
    return np.array([tune_f1_threshold(target[:, i], logit[:, i]) for i in range(target.shape[1])])


def tune_specificities(
    target: Float[np.ndarray, "row finding"], logit: Float[np.ndarray, "row finding"]
) -> Float[np.ndarray, " finding"]:
    """The logit of each finding below which `SPECIFICITY` of these rows' negatives are; NaN where there is none."""
    return np.array([tune_specificity_threshold(target[:, i], logit[:, i]) for i in range(target.shape[1])])


def decide(
    logit: Float[np.ndarray, "row finding"], threshold: Float[np.ndarray, " finding"]
) -> Float[np.ndarray, "row finding"]:
    """1 where the logit reaches the threshold, else 0; NaN for a finding without a threshold."""
    return np.where(np.isnan(threshold), np.nan, logit >= threshold)


def build_scores(
    task: Task,
    row: Int64[np.ndarray, " row"],
    target: Float[np.ndarray, "row finding"],
    logit: Float[np.ndarray, "row finding"],
    threshold: Float[np.ndarray, " finding"],
    specific: Float[np.ndarray, " finding"] | None = None,
) -> Scores:
    """One repeat of scores of some rows of a task, with decisions by a threshold on the logit, and by the one of a
    fixed specificity where it was tuned."""
    return Scores(
        names=task.names,
        target=target,
        logit=logit[None],
        decision=decide(logit, threshold)[None],
        patient=task.patient[row],
        row=row,
        threshold=1 / (1 + np.exp(-threshold)),
        screened=None if specific is None else decide(logit, specific)[None],
        classes=task.classes,
    )
