"""The evaluation of MV-MLM (L 3) on a user's own mammograms: tasks of breasts and of images, each a list of cells, and
what is asked without labels, of pairs of test breasts (`pairs.py`) and by prompts
(`prompted.py`), and of risk (`risks.py`).

Every task is a question of its own (`cells.Question`) that every encoder is asked; what comes out stands in one index,
its kinds named after their tasks. Nothing is chosen on test, a patient is in one split, few labels are whole patients,
nested and in proportion, and every encoder is compared with the first one patient by patient (L 3.2).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from rich.console import Console

from hilum.cache import Cache
from hilum.errors import UserError
from hilum.evaluate.breast_task import list_breast_tasks
from hilum.evaluate.features import Precision
from hilum.evaluate.paper.cells import Job, Load, Question, list_jobs, remember_features
from hilum.evaluate.paper.entrants import Entrant, check_entrants
from hilum.evaluate.paper.index import FINETUNE, PROBE, name_task
from hilum.evaluate.paper.index_writer import describe_entrants, describe_question, list_results, write_index
from hilum.evaluate.paper.methods import pair_with, run_methods
from hilum.evaluate.paper.opening import open_suite
from hilum.evaluate.paper.parts import list_archives
from hilum.evaluate.paper.published_yaml import read_published
from hilum.evaluate.paper.sizes import Sizes, count_labels
from hilum.evaluate.scoring.metrics import MIN_POSITIVES
from hilum.evaluate.slices import count_slices, list_slices, take_sites
from hilum.evaluate.targets import check_splits, warn_of_no_score
from hilum.evaluate.task import Task, read_task
from hilum.model.heads import Representation

from .folds import FOLD_SLICE, check_drawn, find_members, list_fold_jobs, note_folds
from .pairs import PairPart, PairQuestion, ask_pairs, list_pair_jobs, name_archives, remember_projections
from .prompted import Prompted, PromptPart, ask_prompts, list_prompt_jobs
from .risks import RiskPart, RiskQuestion, ask_risk, list_risk_jobs, pair_risks

TaskPart = Literal["probe", "finetune", "folds"]
Part = TaskPart | PairPart | PromptPart | RiskPart
ListJobs = Callable[[Question, Entrant, Load, Path], list[Job]]


def list_probe_jobs(question: Question, entrant: Entrant, load: Load, folder: Path) -> list[Job]:
    """Linear probes with all and few labels."""
    return list_jobs(replace(question, kinds=frozenset([PROBE])), entrant, load, folder)


def list_finetune_jobs(question: Question, entrant: Entrant, load: Load, folder: Path) -> list[Job]:
    """Fine-tunings with all and few labels."""
    return list_jobs(replace(question, kinds=frozenset([FINETUNE])), entrant, load, folder)


# What is asked of every task and encoder; a further part is a line here and its tables in `tables.py`.
TASK_PARTS: Mapping[TaskPart, ListJobs] = {
    "probe": list_probe_jobs,
    "finetune": list_finetune_jobs,
    "folds": list_fold_jobs,
}
PARTS: tuple[Part, ...] = (*TASK_PARTS, *get_args(PairPart), *get_args(PromptPart), *get_args(RiskPart))
TASKS = (
    *("breast:mass", "breast:calcification", "breast:malignancy", "breast:birads", "breast:birads5", "breast:density"),
    *("image:mass", "image:calcification"),
)
FRACTIONS = (0.01, 0.1, 0.5, 1.0)
SEEDS = 5
NUM_DRAWS = 2000
METRICS = (
    *("auroc", "average_precision", "sensitivity_at_specificity", "specificity_reached", "probabilistic_f1"),
    *("quadratic_kappa", "balanced_accuracy", "brier_error"),
)
COMPARED = ("auroc", "average_precision", "sensitivity_at_specificity", "quadratic_kappa", "balanced_accuracy")


def run_mvmlm(
    data: Path,
    runs: Sequence[str],
    out: Path,
    *,
    parts: Sequence[Part] = PARTS,
    tasks: Sequence[str] = (),
    texts: Path | None = None,
    language_model: Path | None = None,
    num_folds: int | None = None,
    fractions: Sequence[float] = FRACTIONS,
    num_seeds: int = SEEDS,
    leave_out: Sequence[str] = (),
    representation: Representation | None = None,
    epochs: int | None = None,
    views_per_step: int = 64,
    frozen_statistics: bool = False,
    min_positives: int = MIN_POSITIVES,
    num_resamples: int = NUM_DRAWS,
    precision: Precision = "auto",
    paper: bool = False,
    progress: bool = True,
) -> Path:
    """Run every cell that has no result yet and write `out/suite.json`, the index of all.

    Args:
        data, runs: a cache of mammograms, and `RUN` or `METHOD=RUN,RUN,...`; the others are compared with the first.
        parts: of the evaluation; folds are left out where the study table has none, retrieval without texts.
        tasks: such as "breast:mass"; by default those of `TASKS` that can be learned and scored.
        texts, language_model: what retrieval reads, see `ask_pairs`.
        num_folds: to be drawn by patient, where the study table names none.
        fractions: shares of the labelled training rows; whole patients, nested, positives in proportion, `num_seeds`
            draws of each. With all labels as many fine-tunings, and as many networks of random weights.
        representation: what probes read of an image; by validation where not given, for each encoder by itself.
        epochs, views_per_step, frozen_statistics: of fine-tuning; statistics of random weights are never frozen.
        paper: whether tables show the published numbers; kept in the index.

    Raises:
        UserError: nothing to run or to score, test patients in a pretraining, or some cells failed (the others, and the
            index, are kept).
    """
    cache, entrants = open_suite(data, runs, out, parts, PARTS, num_seeds)
    check_drawn(cache, num_folds)
    listings = [listing for part, listing in TASK_PARTS.items() if part in parts]
    asked, notes = find_tasks(cache, tasks, leave_out) if listings else ({}, [])
    known = check_entrants(cache, entrants, leave_out)
    first = entrants[0].method
    pairs, left_out = ask_pairs(
        cache, entrants, parts, texts=texts, language_model=language_model, leave_out=leave_out,
        num_resamples=num_resamples, precision=precision, progress=progress, notes=known,
    )  # fmt: skip
    prompted, unprompted = ask_prompts(pairs, entrants, parts, tasks, min_positives)
    notes += [*left_out, *unprompted]
    risk = None
    if "risk" in parts:
        risk, unknown = ask_risk(
            cache, leave_out=leave_out, representation=representation, num_resamples=num_resamples,
            precision=precision, progress=progress, notes=known,
        )  # fmt: skip
        notes += unknown
    about: dict[str, dict[str, Any]] = {}
    results: dict[str, Any] = {"cells": [], "methods": [], "differences": [], "failed": {}}
    num_cells, load = 0, None
    for name, task in asked.items():
        warn_of_no_score(task, min_positives)
        shares = count_labels(task, fractions)
        question = Question(
            cache=cache,
            task=task,
            kinds=frozenset(),
            tunes_few=True,
            metrics=METRICS,
            few_metrics=METRICS,
            metrics_of_differences=COMPARED,
            sizes=Sizes(len(task.rows("train")), sorted(shares)),
            archives=list_archives(cache, task),
            common=(),
            slices=take_parts(cache, task),
            folds=find_members(cache, task, num_folds) if "folds" in parts else {},
            representation=representation,
            head="linear",
            min_positives=min_positives,
            num_resamples=num_resamples,
            few_resamples=num_resamples,
            num_seeds=num_seeds,
            num_tunings=num_seeds,
            frozen_statistics=frozen_statistics,
            epochs=epochs,
            views_per_step=views_per_step,
            precision=precision,
            progress=progress,
            notes=known,
        )
        load = load or remember_features(question)  # of encoders, whatever is asked
        # Of breasts and images all views count, whatever a run's settings show of a study, as in fine-tuning.
        read = functools.partial(load, all_views=task.unit != "study")
        folder = out / "cells" / name.replace(":", "-").replace(" ", "-")
        jobs = [job for one in entrants for listing in listings for job in listing(question, one, read, folder)]
        if jobs and progress:
            Console(stderr=True).print(f"Task {name}", highlight=False, markup=False)
        found = run_methods(question, jobs, folder, pair_with(first))
        num_cells += found.num_cells
        about[name] = describe_task(question, shares)
        merge_results(results, name, list_results(jobs, found, out))
    num_cells += run_unlabelled(pairs, prompted, entrants, parts, results, out)
    num_cells += 0 if risk is None else run_risks(risk, entrants, results, out)
    if "folds" in parts and (said := note_folds(cache, entrants, num_folds)):
        notes.append(said)
    if not num_cells:
        raise UserError(f"There is nothing for --protocols {' '.join(parts)}: {' '.join(notes)}")
    if about:
        low, high = read_published("mvmlm")["unpaired_noise"]
        notes.append(
            f"Gaps of AUROC below {low:g} to {high:g} on one public test split, and on yours below what the table of "
            "tasks says, are not called differences without a paired test: see the tables of differences."
        )
    index = {
        "suite": "mvmlm",
        "paper": paper,
        "notes": notes,
        "protocols": list(parts),
        "first": first,
        "head": "linear",
        "min_positives": min_positives,
        "data_digest": cache.digest,
        "archives": list(dict.fromkeys(archive for one in about.values() for archive in one["archives"]))
        or name_archives(pairs),
        "tasks": about,
        "risk_table": None if risk is None else risk.table,
    }
    return write_index(out, index, describe_entrants(pairs, entrants), entrants, results, num_cells)


def run_unlabelled(
    question: PairQuestion,
    prompted: Prompted,
    entrants: Sequence[Entrant],
    parts: Sequence[Part],
    results: dict[str, Any],
    out: Path,
) -> int:
    """Run what reads no label, of pairs of breasts and by prompts, enter it into the results of all, and say how many
    cells that were."""
    project = remember_projections(question)
    jobs: list[Job] = []
    for entrant in entrants:
        jobs += list_pair_jobs(question, entrant, project, parts)
        jobs += list_prompt_jobs(question, prompted, entrant, project, parts)
    if jobs and question.progress:
        Console(stderr=True).print("Without labels", highlight=False, markup=False)
    found = run_methods(question, jobs, out / "cells" / "unlabelled", pair_with(entrants[0].method))
    merge_results(results, "", list_results(jobs, found, out))
    return found.num_cells


def run_risks(question: RiskQuestion, entrants: Sequence[Entrant], results: dict[str, Any], out: Path) -> int:
    """Run what is asked of risk, enter it into the results of all, and say how many cells that were."""
    jobs = list_risk_jobs(question, entrants)
    if question.progress:
        Console(stderr=True).print("Risk of cancer", highlight=False, markup=False)
    found = run_methods(question, jobs, out / "cells" / "risk", pair_risks(entrants[0].method, question.table))
    merge_results(results, "", list_results(jobs, found, out))
    return found.num_cells


def find_tasks(cache: Cache, names: Sequence[str], leave_out: Sequence[str]) -> tuple[dict[str, Task], list[str]]:
    """The tasks asked for, or those of `TASKS` that every split knows both classes of; and why the others are left out.

    Raises:
        UserError: one that was asked for is not there or cannot be scored, or there are none.
    """
    remedy = "Build the cache with larger --fractions of it."
    found: dict[str, Task] = {}
    if names:
        for name in names:
            found[name] = read_task(cache, name, leave_out=leave_out)
            check_splits(found[name], remedy)
        return found, []
    cache.find_archives(leave_out)  # or it says which there is not; below a task that fails is left out
    offered, notes = list_breast_tasks(cache), []
    if not offered:
        raise UserError(
            f"{cache.path}: it knows of no findings of breasts, which this suite is about: its study table has no "
            "column breasts, or nothing in it. `hilum sources` lists the archives of mammograms."
        )
    for name in TASKS:
        if name not in offered:
            notes.append(f"{name} is left out: the study table does not record it.")
            continue
        try:
            task = read_task(cache, name, leave_out=leave_out)
            check_splits(task, remedy)
        except UserError as error:  # without the cache's path: what a suite says is the same wherever it lies
            reason = str(error).removeprefix(f"{cache.path}: ").removesuffix(remedy).strip()
            notes.append(f"{name} is left out: {reason}")
        else:
            found[name] = task
    if not found:
        raise UserError(
            f"{cache.path}: none of the tasks {', '.join(TASKS)} has both classes in training, validation and test. "
            f"{remedy} Or name others with --tasks."
        )
    return found, notes


def take_parts(cache: Cache, task: Task) -> dict[str, np.ndarray]:
    """The slices of the test rows; folds have tables of their own."""
    return {name: member for name, member in list_slices(cache, task).items() if not name.startswith(FOLD_SLICE)}


def describe_task(question: Question, shares: Mapping[int, float]) -> dict[str, Any]:
    """The index's part on one task."""
    task = question.task
    positives = {
        split: {
            name: int(num)
            for name, num in zip(task.names, np.nansum(task.target[task.rows(split)], axis=0).tolist(), strict=True)
        }
        for split in ("train", "val", "test")
    }
    return {
        **describe_question(question),
        "unit": task.unit,
        "targets": list(task.names),
        "num_labels": len(task.names),
        "positives": positives,
        "sites": count_slices(task, take_sites(question.slices)),
        "shares": {str(count): share for count, share in shares.items()},
    }


def merge_results(results: dict[str, Any], task: str, found: Mapping[str, Any]) -> None:
    """Enter a task's results into those of all, under kinds that name the task; those of no task as they are."""
    start = name_task(task, "") if task else ""
    for part in ("cells", "methods", "differences"):
        results[part] += [{**one, "kind": f"{start}{one['kind']}"} for one in found[part]]
    results["failed"] |= {f"{start}{name}": message for name, message in found["failed"].items()}
