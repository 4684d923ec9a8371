"""The evaluation of MVMAE (M 4.2, Tables 1-3 and 5-8) on a user's own cache: a list of cells, and their index.

Reported on test, selected on validation, intervals by patient; the paper selected and reported on validation.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hilum.cache import Cache
from hilum.errors import UserError
from hilum.evaluate.bootstrap import NUM_RESAMPLES
from hilum.evaluate.features import Precision
from hilum.evaluate.heads import Head
from hilum.evaluate.metrics import MIN_POSITIVES
from hilum.evaluate.result import write_json
from hilum.evaluate.slices import list_slices
from hilum.evaluate.suite import SuiteFailed
from hilum.evaluate.targets import check_splits, warn_of_no_score
from hilum.evaluate.task import read_task
from hilum.labels import BlankPolicy, UncertainPolicy
from hilum.model.heads import Representation
from hilum.outputs import check_result_folder

from .cells import Job, Protocol, Question, list_jobs, remember_features
from .entrants import Entrant, check_entrants, find_entrants, find_seen, group_methods
from .index import FORMAT, INDEX
from .methods import Methods, run_methods
from .parts import choose_commonest, list_archives
from .sizes import CALIBRATION_COUNT, VIEW_COUNT, Sizes, choose_sizes

LEAST_RUNS = 3  # of a method, below which the suite says so


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
    head: Head = "linear",
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
        counts: labelled training studies of the label-efficiency curves; those of `sizes.py` below what there is where
            not given, and round numbers where that leaves fewer than two.
        num_seeds: draws of the labelled patients for each of them, and networks behind every method of random weights.
        calibration_count, view_count: labelled studies of the probe whose Brier error is tabulated, and of the probes
            that see one view or two; all where there are fewer.
        representation: what probes read of an image; class token, mean or both by validation where not given.
        head: of probes, see `heads.py`; attentive reads the patch tokens. The paper's are linear.
        epochs, views_per_step: of fine-tuning; by default as many epochs as `hilum finetune` takes.
        paper: whether tables show the published numbers; kept in the index.

    Raises:
        UserError: nothing to run or to score, test patients in a pretraining, or some cells failed (the others, and the
            index, are kept).
    """
    check_result_folder(out)
    entrants = find_entrants(runs, num_seeds)
    if not protocols:
        raise UserError("--protocols names none; expected probe, finetune or both.")
    if head != "linear" and "probe" not in protocols:
        raise UserError(f"--head {head} has no effect without probes: add probe to --protocols, or leave it out.")
    if head == "attentive" and representation is not None:
        raise UserError(f"The attentive head reads patch tokens, not '{representation}'.")
    cache = Cache.open(data)
    task = read_task(cache, "findings", uncertain=uncertain, blank=blank, leave_out=leave_out)
    check_splits(task, "Build the cache with larger --fractions of it.")
    warn_of_no_score(task, min_positives)
    question = Question(
        cache=cache,
        task=task,
        protocols=protocols,
        sizes=choose_sizes(cache, task, counts, calibration_count, view_count),
        archives=list_archives(cache, task),
        common=choose_commonest(task),
        slices=list_slices(cache, task),
        representation=representation,
        head=head,
        min_positives=min_positives,
        num_resamples=num_resamples,
        num_seeds=num_seeds,
        epochs=epochs,
        views_per_step=views_per_step,
        precision=precision,
        progress=progress,
        notes=check_entrants(cache, entrants, leave_out),
    )
    folder, load = out / "cells", remember_features(question)
    jobs = [job for entrant in entrants for job in list_jobs(question, entrant, load, folder)]
    found = run_methods(question, jobs, folder)
    index = {"format": FORMAT, "suite": "mvmae", "paper": paper, **describe_question(question)}
    index |= describe_entrants(question, entrants) | list_results(jobs, found, out)
    write_json(out / INDEX, index)
    if found.failed:
        name, message = next(iter(found.failed.items()))
        raise SuiteFailed(
            f"{out}: {len(found.failed)} of {found.num_cells} evaluations failed, the others are written and `hilum "
            f"report {out}` draws them. The first: {name}: {message}"
        )
    return out / INDEX


def describe_question(question: Question) -> dict[str, Any]:
    """The index's part on data and task."""
    sizes = question.sizes
    return {
        "task": question.task.name,
        "labels": question.task.policy,
        "data_digest": question.cache.digest,
        "archives": list(question.archives),
        "studies": _count_studies(question),
        "commonest_findings": list(question.common),
        "min_positives": question.min_positives,
        "protocols": list(question.protocols),
        "head": question.head,
        "label_counts": sizes.counts,
        "num_train": sizes.num_train,
        "calibration_count": sizes.calibration_count,
        "view_count": sizes.view_count,
        "two_view_studies": sizes.pairs,
    }


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


def describe_entrants(question: Question, entrants: Sequence[Entrant]) -> dict[str, Any]:
    """The index's part on who took part, and what a reader must know."""
    encoders = [
        {
            "name": entrant.name,
            "method": entrant.method,
            "is_random": entrant.is_random,
            "saw": find_seen(question.cache, entrant),
            "notes": list(question.notes[entrant.name]),
        }
        for entrant in entrants
    ]
    return {"notes": [*list_run_notes(entrants), *_list_pair_notes(question.sizes)], "encoders": encoders}


def list_results(jobs: Sequence[Job], found: Methods, out: Path) -> dict[str, Any]:
    """The index's part on what came out, and where it lies."""

    def place(folder: Path) -> str:
        return (folder / "result.json").relative_to(out).as_posix()

    cells = [
        {
            "name": job.cell.name, "kind": job.kind, "encoder": job.entrant.name, "method": job.entrant.method,
            "count": job.count, "path": place(found.cells[job.cell.name]),
        }
        for job in jobs if job.cell.name in found.cells
    ]  # fmt: skip
    methods = [{**key._asdict(), "path": place(folder)} for key, folder in found.methods.items()]
    differences = [{**pair._asdict(), "path": place(folder)} for pair, folder in found.differences.items()]
    return {"cells": cells, "methods": methods, "differences": differences, "failed": dict(found.failed)}


def list_run_notes(entrants: Sequence[Entrant]) -> list[str]:
    """What a reader must know of methods with fewer than LEAST_RUNS runs, or networks of random weights."""
    runs = {method: len(found) for method, found in group_methods(entrants).items()}
    few = [f"{method} ({num})" for method, num in runs.items() if num < LEAST_RUNS]
    if not few:
        return []
    said = "With all labels their numbers are of those runs, not yet of a method: intervals are of test patients and "
    return [f"Fewer than {LEAST_RUNS} runs: {', '.join(few)}. {said}do not say how far another seed would lie."]


def _list_pair_notes(sizes: Sizes) -> list[str]:
    if sizes.has_pairs:
        return []
    counts = ", ".join(f"{split} {num}" for split, num in sizes.pairs.items())
    return [f"One view is not compared with two: studies with exactly two views and known findings are {counts}."]
