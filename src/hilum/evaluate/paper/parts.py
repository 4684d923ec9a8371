"""The parts of a test split that the paper's tables have columns for: archives, their mean, all pooled.

"Combined" has two meanings that are both given and named. `mean over datasets` weighs archives alike; `all` pools their
studies, as the paper did, and rewards knowing which archive an image is from, since prevalence differs (M 4.2).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Bool

from hilum.cache import Cache
from hilum.evaluate.result import Estimate, to_number
from hilum.evaluate.scoring.estimates import (
    METRICS,
    average_parts,
    estimate_scores,
    list_applicable,
    score_macro,
)
from hilum.evaluate.scoring.intervals import Resampled
from hilum.evaluate.scoring.scores import Scores
from hilum.evaluate.task import Task

POOLED, MEAN = "all", "mean over datasets"
COMMON = "commonest findings"
NUM_COMMON = 5
METRICS_OF_PARTS = ("auroc", "f1", "brier_error", "calibration_error")
COMMON_METRICS = ("auroc", "f1")


def list_archives(cache: Cache, task: Task) -> dict[str, Bool[np.ndarray, " row"]]:
    """Name -> which rows of the task it holds, for archives with a known target in the test split."""
    archive = cache.studies["dataset"][task.study]
    tested = archive[task.rows("test")]
    return {name: archive == i for i, name in enumerate(cache.datasets) if (tested == i).any()}


def choose_commonest(task: Task, num: int = NUM_COMMON) -> tuple[str, ...]:
    """The findings with most test positives, of all archives together, so that they are the same for every encoder
    and archive; the paper's "top-5" is not defined (M 4.2). In the task's order."""
    positives = np.nansum(task.target[task.rows("test")], axis=0)
    chosen = np.argsort(-positives, kind="stable")[:num]
    return tuple(task.names[i] for i in sorted(chosen) if positives[i])


def take_findings(scores: Scores, names: Sequence[str]) -> Scores:
    """The scores of some findings."""
    place = [scores.names.index(name) for name in names]
    return replace(
        scores,
        names=tuple(names),
        target=scores.target[:, place],
        logit=scores.logit[..., place],
        decision=scores.decision[..., place],
        threshold=None if scores.threshold is None else scores.threshold[place],
        screened=None if scores.screened is None else scores.screened[..., place],
        classes=None,  # some of the classes are not the thing they are classes of
    )


def take_archives(scores: Scores, archives: Mapping[str, np.ndarray]) -> dict[str, Scores]:
    """The scores of each archive that has any."""
    found = {name: scores.take(member[scores.row]) for name, member in archives.items()}
    return {name: part for name, part in found.items() if len(part.row)}


def name_part(archive: str | None, *, common: bool = False) -> str:
    """Slice of an estimate: of an archive (or POOLED, MEAN), of all findings or the commonest."""
    part = archive if archive in (POOLED, MEAN) else f"dataset={archive}"
    return f"{part}, {COMMON}" if common else str(part)


def estimate_parts(
    scores: Scores,
    archives: Mapping[str, np.ndarray],
    common: Sequence[str] | None,
    *,
    min_positives: int,
    num_resamples: int,
    metrics: Sequence[str] = METRICS_OF_PARTS,
) -> list[Estimate]:
    """Metrics of every archive and their mean, and of the commonest findings where these are named; those of POOLED
    with all findings are what a result holds anyway."""
    rules: dict[str, Any] = {"min_positives": min_positives, "num_resamples": num_resamples}
    estimates = []
    asked = [(scores, tuple(metrics))] + ([(take_findings(scores, common), COMMON_METRICS)] if common else [])
    for findings, names in asked:
        names, is_common = list_applicable(findings, names), findings is not scores
        if is_common:
            estimates += estimate_scores(findings, names, **rules, slice=name_part(POOLED, common=True))
        parts = take_archives(findings, archives)
        of_parts: list[Resampled] = []
        for seed, (name, part) in enumerate(parts.items()):
            of_parts += estimate_scores(part, names, **rules, seed=seed, slice=name_part(name, common=is_common))
        estimates += of_parts
        for metric in names:
            of = str(scores.classes) if METRICS[metric].of_classes else "macro"
            macros = [one for one in of_parts if (one.metric, one.of) == (metric, of)]
            estimates.append(average_parts(macros, name_part(MEAN, common=is_common)))
    return estimates


def score_repeats(
    scores: Scores, archives: Mapping[str, np.ndarray], min_positives: int
) -> dict[str, list[float | None]]:
    """Macro AUROC of every repeat (draw of labelled patients, run) on POOLED, every archive and MEAN: their spread is
    what the intervals, which are of test patients, do not tell."""
    found: dict[str, list[float | None]] = {}
    for place in range(len(scores.logit)):
        one = scores.take_repeats([place])
        values = {POOLED: score_macro(one, min_positives=min_positives)[0]}
        parts = {
            name_part(name): score_macro(part, min_positives=min_positives)[0]
            for name, part in take_archives(one, archives).items()
        }
        defined = [value for value in parts.values() if not np.isnan(value)]
        values |= {**parts, MEAN: float(np.mean(defined)) if len(defined) > 1 else float("nan")}
        for name, value in values.items():
            found.setdefault(name, []).append(to_number(value))
    return found
