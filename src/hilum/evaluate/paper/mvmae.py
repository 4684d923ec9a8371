"""The evaluation of MVMAE (M 4.2, Tables 1-3 and 5-8) on a user's own cache: a list of cells, and their index.

Reported on test, selected on validation, intervals by patient; the paper selected and reported on validation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Literal

import numpy as np

from hilum.cache import Cache
from hilum.errors import UserError
from hilum.evaluate.bootstrap import NUM_RESAMPLES
from hilum.evaluate.efficiency import choose_counts
from hilum.evaluate.features import Precision
from hilum.evaluate.metrics import MIN_POSITIVES
from hilum.evaluate.result import write_json
from hilum.evaluate.slices import list_slices
from hilum.evaluate.suite import Cell, SuiteFailed, run_suite
from hilum.evaluate.targets import check_splits, warn_of_no_score
from hilum.evaluate.task import Task, read_task
from hilum.labels import BlankPolicy, UncertainPolicy
from hilum.model.heads import Representation

from .cells import Job, Question, build_difference, build_mean, list_jobs, remember_features
from .entrants import Entrant, check_entrants, find_entrants, find_seen, group_methods
from .index import FINETUNE, FORMAT, INDEX, ONE_VIEW, PROBE, SECOND_VIEW, TWO_VIEWS
from .parts import choose_commonest, list_archives

LABEL_COUNTS = (5_000, 10_000, 20_000, 50_000, 100_000)
CALIBRATION_COUNT, VIEW_COUNT = 20_000, 5_000
LEAST_RUNS = 3  # of a method, below which the suite says so

Protocol = Literal["probe", "finetune"]


def run_mvmae(
    data: Path,
    runs: Sequence[str],
    out: Path,
    *,
    protocols: Sequence[Protocol] = ("probe", "finetune"),
    counts: Sequence[int] | None = None,
    num_seeds: int = 3,
    calibration_count: int = CALIBRATION_COUNT,
    view_count: int = VIEW_COUNT,
    uncertain: UncertainPolicy = "zeros",
    blank: BlankPolicy = "zeros",
    leave_out: Sequence[str] = (),
    representation: Representation | None = None,
    epochs: int | None = None,
    views_per_step: int = 64,
    min_positives: int = MIN_POSITIVES,
    num_resamples: int = NUM_RESAMPLES,
    precision: Precision = "auto",
    paper: bool = False,
    progress: bool = True,
) -> Path:
    """Run every cell that has no result yet and write `out/suite.json`, the index of all.

    Args:
        data, runs: a cache folder, and `RUN` or `METHOD=RUN,RUN,...` (run folders or weights files).
        counts: labelled training studies of the label-efficiency curves; LABEL_COUNTS below what there is where not
            given, and round numbers where that leaves fewer than two.
        num_seeds: draws of the labelled patients for each of them, and networks behind every method of random weights.
        calibration_count, view_count: labelled studies of the probe whose Brier error is tabulated, and of the probes
            that see one view or two; all where there are fewer.
        representation: what probes read of an image; class token, mean or both by validation where not given.
        epochs, views_per_step: of fine-tuning; by default as many epochs as `hilum finetune` takes.
        paper: whether tables show the published numbers; kept in the index.

    Raises:
        UserError: nothing to run or to score, test patients in a pretraining, or some cells failed (the others, and the
            index, are kept).
    """
    entrants = find_entrants(runs, num_seeds)
    if not protocols:
        raise UserError("--protocols names none; expected probe, finetune or both.")
    cache = Cache.open(data)
    task = read_task(cache, "findings", uncertain=uncertain, blank=blank, leave_out=leave_out)
    check_splits(task, "Build the cache with larger --fractions of it.")
    warn_of_no_score(task, min_positives)
    num_train = len(task.rows("train"))
    counts = _cut_counts(counts, num_train)
    probed = sorted({*counts, *([calibration_count] if calibration_count < num_train else [])})
    notes = check_entrants(cache, entrants, leave_out)
    pairs = _count_pairs(cache, task)
    with_views = min(pairs.values()) > 0
    question = Question(
        cache=cache,
        task=task,
        archives=list_archives(cache, task),
        common=choose_commonest(task),
        slices=list_slices(cache, task),
        representation=representation,
        min_positives=min_positives,
        num_resamples=num_resamples,
        num_seeds=num_seeds,
        epochs=epochs,
        views_per_step=views_per_step,
        precision=precision,
        progress=progress,
        notes=notes,
    )
    load, folder = remember_features(question), out / "cells"
    jobs = [
        job
        for entrant in entrants
        for job in list_jobs(
            question,
            entrant,
            load,
            folder,
            protocols=protocols,
            counts=counts,
            probe_counts=probed,
            view_count=view_count if view_count < pairs["train"] else None,
            with_views=with_views,
        )
    ]
    outcome = run_suite([job.cell for job in jobs], folder, progress=progress)
    means = _list_means(question, jobs, outcome.done)
    judged = run_suite([cell for cell, _ in means.values() if cell is not None], folder, progress=progress)
    methods: dict[tuple[str, str, int | None], Path] = {}
    for key, (cell, single) in means.items():
        if cell is None:
            methods[key] = single
        elif cell.name in judged.done:
            methods[key] = judged.done[cell.name]
    compared = _list_differences(question, methods)
    differences = run_suite([cell for cell, *_ in compared], folder, progress=progress)
    failed = {**outcome.failed, **judged.failed, **differences.failed}

    def place(path: Path) -> str:
        return (path / "result.json").relative_to(out).as_posix()

    index = {
        "format": FORMAT,
        "suite": "mvmae",
        "paper": paper,
        "task": task.name,
        "labels": task.policy,
        "data_digest": cache.digest,
        "archives": list(question.archives),
        "studies": _count_studies(question),
        "commonest_findings": list(question.common),
        "min_positives": min_positives,
        "protocols": list(protocols),
        "label_counts": list(counts),
        "num_train": num_train,
        "calibration_count": calibration_count if calibration_count < num_train else None,
        "view_count": view_count if view_count < pairs["train"] else None,
        "two_view_studies": pairs,
        "notes": [*list_run_notes(entrants), *_list_pair_notes(pairs)],
        "encoders": [
            {
                "name": entrant.name,
                "method": entrant.method,
                "is_random": entrant.is_random,
                "saw": find_seen(cache, entrant),
                "notes": list(notes[entrant.name]),
            }
            for entrant in entrants
        ],
        "cells": [
            {
                "name": job.cell.name, "kind": job.kind, "encoder": job.entrant.name, "method": job.entrant.method,
                "count": job.count, "path": place(outcome.done[job.cell.name]),
            }
            for job in jobs if job.cell.name in outcome.done
        ],
        "methods": [
            {"kind": kind, "method": method, "count": count, "path": place(path)}
            for (kind, method, count), path in methods.items()
        ],
        "differences": [
            {"kind": kind, "first": first, "second": second, "path": place(differences.done[cell.name])}
            for cell, kind, first, second in compared if cell.name in differences.done
        ],
        "failed": failed,
    }  # fmt: skip
    write_json(out / INDEX, index)
    if failed:
        name, message = next(iter(failed.items()))
        total = len(jobs) + sum(cell is not None for cell, _ in means.values()) + len(compared)
        raise SuiteFailed(
            f"{out}: {len(failed)} of {total} evaluations failed, the others are written and `hilum report {out}` "
            f"draws them. The first: {name}: {message}"
        )
    return out / INDEX


def _cut_counts(counts: Sequence[int] | None, num_train: int) -> list[int]:
    """Label counts below what there is (the curve's last point is all of it).

    Raises:
        UserError: a count that was asked for is not there.
    """
    if counts is not None:
        if wrong := [count for count in counts if not 0 < count <= num_train]:
            raise UserError(f"--label-counts {wrong[0]}: expected 1 to {num_train:,}, the labelled training studies.")
        return sorted({count for count in counts if count < num_train})
    kept = [count for count in LABEL_COUNTS if count < num_train]
    return kept if len(kept) > 1 else choose_counts(num_train)[:-1]


def _count_pairs(cache: Cache, task: Task) -> dict[str, int]:
    """Studies with exactly two views and a known target, in each split."""
    has_two = cache.studies["num_views"] == 2
    return {split: int(has_two[task.study[task.rows(split)]].sum()) for split in ("train", "val", "test")}


def _count_studies(question: Question) -> dict[str, dict[str, int]]:
    """Archive -> studies with a known target in each split, and patients and images of all of them (Table 4)."""
    found = {}
    for name, member in question.archives.items():
        rows = {split: (kept := question.task.rows(split))[member[kept]] for split in ("train", "val", "test")}
        every = np.concatenate(list(rows.values()))
        found[name] = {
            **{split: len(part) for split, part in rows.items()},
            "patients": len(np.unique(question.task.patient[every])),
            "images": int(question.cache.studies["num_views"][every].sum()),
        }
    return found


def _list_means(
    question: Question, jobs: Sequence[Job], done: Mapping[str, Path]
) -> dict[tuple[str, str, int | None], tuple[Cell | None, Path]]:
    """(kind, method, count) -> the mean over runs and draws, or the one folder there is. A method of which an
    evaluation failed has no mean: one of the others' would be of another method."""
    grouped: dict[tuple[str, str, int | None], list[str]] = {}
    for job in jobs:
        grouped.setdefault((job.kind, job.entrant.method, job.count), []).append(job.cell.name)
    means = {}
    for key, names in grouped.items():
        folders = [done[name] for name in names if name in done]
        if len(folders) == len(names):
            kind, method, count = key
            cell = build_mean(question, kind, method, count, folders) if len(folders) > 1 else None
            means[key] = (cell, folders[0])
    return means


def _list_differences(
    question: Question, methods: Mapping[tuple[str, str, int | None], Path]
) -> list[tuple[Cell, str, str, str]]:
    """Cells of what is compared: methods in pairs, with all labels, one view and two; two views with one."""
    folders: dict[str, dict[str, Path]] = {kind: {} for kind in (PROBE, FINETUNE, ONE_VIEW, TWO_VIEWS)}
    for (kind, method, count), path in methods.items():
        if kind in (ONE_VIEW, TWO_VIEWS) or (kind in folders and count is None):
            folders[kind][method] = path
    compared = []
    for kind, found in folders.items():
        for first, second in combinations(found, 2):
            cell = build_difference(question, f"{kind}: {first} - {second}", found[first], found[second])
            compared.append((cell, kind, first, second))
    for method in [name for name in folders[TWO_VIEWS] if name in folders[ONE_VIEW]]:
        sides = folders[TWO_VIEWS][method], folders[ONE_VIEW][method]
        compared.append((build_difference(question, f"{method}: two views - one", *sides), SECOND_VIEW, method, method))
    return compared


def list_run_notes(entrants: Sequence[Entrant]) -> list[str]:
    """What a reader must know of methods with fewer than LEAST_RUNS runs, or networks of random weights."""
    runs = {method: len(found) for method, found in group_methods(entrants).items()}
    few = [f"{method} ({num})" for method, num in runs.items() if num < LEAST_RUNS]
    if not few:
        return []
    said = "With all labels their numbers are of those runs, not yet of a method: intervals are of test patients and "
    return [f"Fewer than {LEAST_RUNS} runs: {', '.join(few)}. {said}do not say how far another seed would lie."]


def _list_pair_notes(pairs: Mapping[str, int]) -> list[str]:
    if min(pairs.values()) > 0:
        return []
    counts = ", ".join(f"{split} {num}" for split, num in pairs.items())
    return [f"One view is not compared with two: studies with exactly two views and known findings are {counts}."]
