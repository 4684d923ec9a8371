"""Evaluations of a task, each a folder: its result, the numbers' resamples, and what was said of every row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from hilum.atomic import write_atomic
from hilum.checksums import hash_parts

from .probe.efficiency import stack_repeats
from .record import list_read
from .result import Result, read_result
from .scoring.auroc_error import compare_aurocs
from .scoring.resamples import FILE as RESAMPLES
from .scoring.resamples import write_difference, write_mean, write_resampled
from .scoring.scores import Scores, read_scores, write_scores

FILE = "scores.npz"
DRAWS = "macro_auroc_of_repeats"  # of draws of labelled patients and runs, by part of the test rows
COMPARED = ("auroc", "average_precision", "brier_error")  # the metrics of differences


def write_scored(folder: Path, result: Result, scores: Scores) -> None:
    """An evaluation of the rows of these scores; its estimates hold their resamples."""
    folder.mkdir(parents=True, exist_ok=True)
    write_scores(folder / FILE, scores)
    write_resampled(folder, result, hash_parts([scores.row, scores.patient, scores.target]))


def read_scored(folder: Path) -> tuple[Result, Scores]:
    """What an evaluation left."""
    return read_result(folder / "result.json"), read_scores(folder / FILE)


def copy_scored(source: Path, folder: Path) -> None:
    """The same evaluation in another folder, its result last."""
    for name in (FILE, RESAMPLES, "result.json"):
        write_atomic(folder / name, (source / name).read_bytes())


def holds_scores(folder: Path) -> bool:
    """Whether it is an evaluation of a task."""
    return (folder / FILE).is_file()


def write_scored_mean(folder: Path, method: str, runs: Sequence[Path]) -> None:
    """A method by the mean of its runs' numbers (pretraining seeds, draws), whose scores are repeats of its own.

    Intervals are of test patients; how far runs lie apart is in the protocol.
    """
    results, scores = zip(*(read_scored(run) for run in runs), strict=True)
    about: dict[str, Any] = {"representations": [name for result in results for name in list_read(result.protocol)]}
    draws = [result.protocol.get(DRAWS, {}) for result in results]
    about |= {DRAWS: {part: [value for one in draws for value in one[part]] for part in draws[0]}} if all(draws) else {}
    folder.mkdir(parents=True, exist_ok=True)
    write_scores(folder / FILE, stack_repeats(scores))
    write_mean(folder, method, runs, about)


def write_scored_difference(folder: Path, first: Path, second: Path, metrics: Sequence[str] = COMPARED) -> None:
    """The paired difference of two evaluations of the same rows, with DeLong's tests beside it.

    Pairing removes what the two have in common, the patients: the interval of the difference is mostly far narrower
    than those of the two, and it is the one that tells whether one encoder is better.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tests = apply_delong(read_scores(first / FILE), read_scores(second / FILE))
    write_difference(folder, first, second, metrics, {"delong": tests})


def apply_delong(first: Scores, second: Scores) -> dict[str, dict[str, float] | None]:
    """Finding -> DeLong's test of two AUROCs, by patient (`scoring/auroc_error.py`); None where it says nothing."""
    assert first.names == second.names, "differences are of the same findings"
    assert np.array_equal(first.row, second.row), "differences are of the same rows"
    found = {
        name: compare_aurocs(
            first.target[:, i].astype(np.float64), first.logit[..., i], second.logit[..., i], first.patient
        )
        for i, name in enumerate(first.names)
    }
    return {name: None if one is None else asdict(one) for name, one in found.items()}
