"""Probes by folds, which a study table names or which are drawn: every fold once the test split, the next one what
chooses (L 3.2).

RSNA's mammograms have no official split; what is published of them is of four folds by patient, often of one of them
alone, which then also chose. Here every number is of patients that chose nothing; pooled over folds and fold by fold.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Bool, Int64

from hilum.cache import SPLITS, Cache
from hilum.errors import UserError
from hilum.evaluate.leaks import measure_overlap
from hilum.evaluate.paper.cells import READ, Job, Load, Question, write_cell
from hilum.evaluate.paper.entrants import Entrant
from hilum.evaluate.paper.index import FOLDS
from hilum.evaluate.probe.run import ProbeResult, probe_encoder
from hilum.evaluate.record import record_probe
from hilum.evaluate.scoring.scores import Scores
from hilum.evaluate.task import Task
from hilum.identifiers import hash_to_unit
from hilum.study import EXTRA_PREFIX
from hilum.wording import say_count

COLUMN = f"{EXTRA_PREFIX}fold"
SALT = "hilum folds"  # of the order of patients; another than that of splits, of which folds know nothing
FOLD_SLICE = "fold="  # begins the name of a fold as a slice
LEAST_FOLDS = 3  # one to test on, one that chooses, one to learn from


def list_fold_jobs(question: Question, entrant: Entrant, load: Load, _folder: Path) -> list[Job]:
    """One job, where the table has folds and the encoder has seen nobody of them."""
    if not question.folds or has_seen(question.cache, entrant):
        return []
    reading = {"representation": question.representation or READ, "folds": list(question.folds)}
    run = functools.partial(_probe_folds, question, entrant, load)
    return [Job.build(question, entrant, FOLDS, reading, run)]


def note_folds(cache: Cache, entrants: Sequence[Entrant], num_drawn: int | None = None) -> str:
    """Why there are no folds, or whom they leave out; nothing where all take part."""
    if not num_drawn and not list_folds(cache):
        return (
            f"Not by folds: the study table has no column {COLUMN} with {LEAST_FOLDS} values or more. --folds 4 draws "
            "them by patient."
        )
    seen = sorted({entrant.method for entrant in entrants if has_seen(cache, entrant)})
    return f"Not by folds, since pretraining saw patients or images of them: {', '.join(seen)}." if seen else ""


def list_folds(cache: Cache) -> list[str]:
    """The folds of the study table; none where it has too few."""
    table = cache.table()
    if COLUMN not in table.columns:
        return []
    folds = table[COLUMN].replace("", None).drop_nulls().unique().sort().to_list()
    return folds if len(folds) >= LEAST_FOLDS else []


@functools.lru_cache(maxsize=64)
def _measure(cache_path: Path, run: Path) -> bool:
    overlap = measure_overlap(Cache.open(cache_path), run, None)
    return bool(overlap.num_patients or overlap.num_images)


def has_seen(cache: Cache, entrant: Entrant) -> bool:
    """Whether pretraining saw anybody of the cache: by folds all of it is tested on."""
    return not entrant.is_random and entrant.subject.path is not None and _measure(cache.path, entrant.subject.path)


def deal_folds(cache: Cache, task: Task, folds: Sequence[str]) -> Int64[np.ndarray, " row"]:
    """Place of each row's fold in `folds`, -1 where it has none.

    Raises:
        UserError: a patient is in two folds.
    """
    names = cache.table()[COLUMN].gather(task.study)
    fold = names.replace_strict(folds, range(len(folds)), default=-1, return_dtype=pl.Int64).to_numpy()
    known = fold >= 0
    pairs = np.unique(np.stack([task.patient[known], fold[known]], axis=1), axis=0)
    if len(pairs) > len(np.unique(pairs[:, 0])):
        raise UserError(f"{cache.path}: {COLUMN} deals some patient to several folds. Folds are of whole patients.")
    return fold


def draw_folds(task: Task, num: int) -> Int64[np.ndarray, " row"]:
    """Place of each row's fold among so many: by the hash of its patient group alone, so that it is the same whatever
    else is in the table, and in which order. Folds are equal in expectation.

    Raises:
        UserError: a fold has nobody.
    """
    place = {group: int(num * unit) for group, unit in hash_to_unit(task.group.unique(), SALT).items()}
    fold = task.group.replace_strict(place, return_dtype=pl.Int64).to_numpy()
    there = len(np.unique(fold[task.rows()]))
    if there < num:
        raise UserError(
            f"--folds {num}: with {say_count(task.group.n_unique(), 'patient')} {there} of the folds have anybody of "
            f"task {task.name}. Draw fewer, {LEAST_FOLDS} at least."
        )
    return fold


def check_drawn(cache: Cache, num: int | None) -> None:
    """Refuse a number of folds to be drawn that is too small, or where the table has folds of its own.

    Raises:
        UserError: one of these.
    """
    if num is None:
        return
    if num < LEAST_FOLDS:
        raise UserError(f"--folds {num}: expected {LEAST_FOLDS} at least, to test on, to choose on and to learn from.")
    if list_folds(cache):
        raise UserError(
            f"{cache.path}: its study table has folds of its own (column {COLUMN}), which are taken: leave --folds out."
        )


def find_members(cache: Cache, task: Task, num_drawn: int | None = None) -> dict[str, Bool[np.ndarray, " row"]]:
    """Name of each fold, as of a slice -> which rows of the task it holds: of folds drawn, or of those that the table
    has; nothing where there are neither."""
    if num_drawn:
        fold = draw_folds(task, num_drawn)
        return {f"{FOLD_SLICE}{place + 1} of {num_drawn}": fold == place for place in range(num_drawn)}
    if not (folds := list_folds(cache)):
        return {}
    fold = deal_folds(cache, task, folds)
    return {f"{FOLD_SLICE}{name}": fold == place for place, name in enumerate(folds)}


def split_by_fold(task: Task, fold: Int64[np.ndarray, " row"], place: int, num: int) -> Task:
    """The task with this fold as test, the next one as validation, the others as training, nobody else."""
    role = np.full(len(fold), SPLITS.index("train"))
    role[fold == place] = SPLITS.index("test")
    role[fold == (place + 1) % num] = SPLITS.index("val")
    return replace(task, split=np.where(fold < 0, -1, role))


def pool_folds(probes: Sequence[ProbeResult]) -> Scores:
    """Out-of-fold scores of all rows, in their order; every decision by its own fold's threshold."""
    parts = [probe.test for probe in probes]
    row = np.concatenate([part.row for part in parts])
    order = np.argsort(row)

    def join(name: str, axis: int) -> np.ndarray:
        return np.concatenate([getattr(part, name) for part in parts], axis=axis).take(order, axis=axis)

    return replace(
        parts[0],
        **{name: join(name, 0) for name in ("target", "patient", "row")},
        **{name: join(name, 1) for name in ("logit", "decision", "screened")},
        threshold=None,
    )


def _probe_folds(question: Question, entrant: Entrant, load: Load, folder: Path) -> None:
    features, num = load(entrant), len(question.folds)
    members = list(question.folds.values())
    fold = np.select(members, range(num), -1)
    reading = question.representation or tuple(name for name in READ if name in features.representations)
    probes = [
        probe_encoder(
            features, split_by_fold(question.task, fold, place, num), name=entrant.name, representation=reading
        )
        for place in range(num)
    ]
    pooled = pool_folds(probes)
    rules: dict[str, Any] = {"min_positives": question.min_positives, "num_resamples": question.num_resamples}
    first = replace(probes[0], test=pooled, by_kind={}, by_count={}, by_fusion={})
    result = record_probe(first, **rules, notes=question.notes[entrant.name])
    protocol = {
        **result.protocol,
        "kind": "linear probe by folds",
        "folds": list(question.folds),
        "chosen_by_fold": [{"representation": one.representation, "strength": one.setting} for one in probes],
    }
    counts = {"test_rows": len(pooled.row), "test_patients": len(np.unique(pooled.patient))}
    result = replace(result, protocol=protocol, counts=counts)
    write_cell(folder, question, result, pooled, FOLDS)
