"""What `suite.json` says of any suite: who took part, on what, what came out and where it lies."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hilum.evaluate.grouping import list_owners
from hilum.evaluate.result import write_json
from hilum.evaluate.suite import SuiteFailed

from .cells import Asked, Job, Question
from .entrants import Entrant, find_seen, group_methods
from .index import FORMAT, INDEX
from .methods import Methods

LEAST_RUNS = 3  # of a method, below which the suite says so


def finish_suite(
    out: Path,
    about: dict[str, Any],
    question: Question,
    entrants: Sequence[Entrant],
    jobs: Sequence[Job],
    found: Methods,
) -> Path:
    """Write the index, and say if evaluations failed.

    Args:
        about: what is special to the suite: its name under "suite", whether it shows published numbers under "paper",
            and what a reader must know of the whole under "notes".

    Raises:
        SuiteFailed: some did; the index and the others are written.
    """
    about = {**describe_question(question), **about}
    results = list_results(jobs, found, out)
    return write_index(out, about, describe_entrants(question, entrants), entrants, results, found.num_cells)


def write_index(
    out: Path,
    about: dict[str, Any],
    encoders: list[dict[str, Any]],
    entrants: Sequence[Entrant],
    results: dict[str, Any],
    num_cells: int,
) -> Path:
    """Write the index of a suite, of one task or of several, and say if evaluations failed.

    Raises:
        SuiteFailed: some did; the index is written.
    """
    notes = [*list_run_notes(entrants), *about["notes"]]
    write_json(out / INDEX, {"format": FORMAT, **about, "notes": notes, "encoders": encoders, **results})
    if failed := results["failed"]:
        name, message = next(iter(failed.items()))
        raise SuiteFailed(
            f"{out}: {len(failed)} of {num_cells} evaluations failed, the others are written and `hilum "
            f"report {out}` draws them. The first: {name}: {message}"
        )
    return out / INDEX


def describe_question(question: Question) -> dict[str, Any]:
    """The index's part on data and task."""
    return {
        "task": question.task.name,
        "labels": question.task.policy,
        "data_digest": question.cache.digest,
        "archives": list(question.archives),
        "studies": count_studies(question),
        "min_positives": question.min_positives,
        "head": question.head,
        "representation": question.representation,
        "label_counts": question.sizes.counts,
        "num_train": question.sizes.num_train,
    }


def count_studies(question: Question) -> dict[str, dict[str, int]]:
    """Archive -> studies (or breasts, or images) with a known target in each split, and patients and images of all of
    them (Table 4)."""
    found, owner = {}, list_owners(question.cache, question.task)
    for name, member in question.archives.items():
        rows = {split: (kept := question.task.rows(split))[member[kept]] for split in ("train", "val", "test")}
        every = np.concatenate(list(rows.values()))
        found[name] = {
            **{split: len(part) for split, part in rows.items()},
            "patients": len(np.unique(question.task.patient[every])),
            "images": int(np.isin(owner, every).sum()),
        }
    return found


def describe_entrants(question: Asked, entrants: Sequence[Entrant]) -> list[dict[str, Any]]:
    """The index's part on who took part."""
    return [
        {
            "name": entrant.name,
            "method": entrant.method,
            "is_random": entrant.is_random,
            "saw": find_seen(question.cache, entrant),
            "notes": list(question.notes[entrant.name]),
        }
        for entrant in entrants
    ]


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
