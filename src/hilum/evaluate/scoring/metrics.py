"""What metrics need beside their sums (`bootstrap.py`): who can be scored, the macro mean, thresholds, bins.

Targets are 0, 1 or NaN (NaN rows do not enter). A metric that is undefined is NaN, never 0: an AUROC of a finding
without positives counted as 0 moves a macro mean of 0.70 to 0.47 (MVMAE's released evaluation; M 7.1 row 7, M 8-29).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

from hilum.wording import say_count

MIN_POSITIVES = 10
SPECIFICITY = 0.9  # at which sensitivity is read
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
        return f"{say_count(counts.positives, 'positive')} of {counts.num}, {min_positives} needed"
    if negatives < min_positives:
        return f"{say_count(negatives, 'negative')} of {counts.num}, {min_positives} needed"
    return None


def explain_class_exclusion(target: Float[np.ndarray, "row cls"], min_positives: int = MIN_POSITIVES) -> str | None:
    """Why the classes of one thing cannot be judged together, or None if they can: two need that many rows each."""
    num = np.nansum(target, axis=0).astype(int)
    if (num >= min_positives).sum() >= 2:
        return None
    return f"{' and '.join(str(one) for one in num)} rows of the classes, {min_positives} of two needed"


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
    ordered = score[order]
    last = np.append(ordered[1:] != ordered[:-1], True)  # of each run of equal scores
    found = np.cumsum(known[order])[last]
    called = np.arange(1, len(known) + 1)[last]
    f1 = 2 * found / (known.sum() + called)
    return float(ordered[last][np.argmax(f1)])


def tune_specificity_threshold(
    target: Float[np.ndarray, " row"], score: Float[np.ndarray, " row"], specificity: float = SPECIFICITY
) -> float:
    """The lowest of these scores at or above which "present" still leaves that share of the negatives below it: the
    most sensitive threshold of that specificity (on validation, never the rows reported; L 3.3).

    Infinite where no score does, since too many negatives share the highest; NaN without a negative.

    Example:
        >>> tune_specificity_threshold(np.array([0.0, 0, 1, 0, 1]), np.array([0.1, 0.2, 0.4, 0.6, 0.9]), 0.6)
        0.4
    """
    known, score = _known(target, score)
    negatives, offered = np.sort(score[known == 0]), np.unique(score)
    if not len(negatives):
        return float("nan")
    below = np.searchsorted(negatives, offered, side="left")
    reaching = offered[below >= np.ceil(specificity * len(negatives) - 1e-9)]
    return float(reaching[0]) if len(reaching) else float("inf")


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
