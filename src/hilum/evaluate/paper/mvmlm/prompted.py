"""What MV-MLM's evaluation asks by prompts: whether a finding is there, without a label (zero-shot, L 3.3), and where,
without a box (heat maps, L 6). Each is what `hilum zeroshot` and `hilum heatmap` do of one run, for every method.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from tokenizers import Tokenizer

from hilum.cache import Cache
from hilum.checksums import hash_file
from hilum.errors import UserError
from hilum.evaluate.breast_task import list_breast_tasks
from hilum.evaluate.paper.cells import Job
from hilum.evaluate.paper.entrants import Entrant, find_run
from hilum.evaluate.paper.index import HEAT_MAPS, ZERO_SHOT, name_task
from hilum.evaluate.prompted.heat_report import run_heatmap
from hilum.evaluate.prompted.lesions import list_lesions
from hilum.evaluate.prompted.towers import check_told_apart, open_towers
from hilum.evaluate.prompted.zero_shot import record_zero_shot, score_test
from hilum.evaluate.result import TOO_FEW, Estimate
from hilum.evaluate.scored import write_scored
from hilum.evaluate.scoring.estimates import METRICS
from hilum.evaluate.scoring.intervals import estimate_weighted
from hilum.evaluate.scoring.metrics import count_positives, explain_exclusion
from hilum.evaluate.scoring.scores import Scores
from hilum.evaluate.suite import Cell
from hilum.evaluate.task import Task, read_task
from hilum.model.text_weights import ENCODER_FILE, TOKENIZER_FILE
from hilum.model.weights import read_metadata
from hilum.text.prompts import hash_prompts, read_prompts

from .pairs import PairQuestion, Project, choose_language_model, explain_no_text, note_left_out

PromptPart = Literal["zeroshot", "heatmap"]
METRICS_OF_PROMPTS = ("auroc", "average_precision")
TASKS_OF_PROMPTS = ("breast:mass", "breast:calcification")  # unless others are asked for
DRAWN = ("mass", "calcification")  # findings whose maps are scored
RANDOMISED_VIEWS = 30  # of the weight-randomisation test, which maps each of them anew at every step of its cascade


@dataclass(frozen=True)
class Prompted:
    """What can be asked by prompts on this cache."""

    tasks: Mapping[str, Task]  # of zero-shot
    drawn: tuple[str, ...]  # findings that are drawn in test views
    min_positives: int

    @property
    def targets(self) -> dict[str, tuple[str, ...]]:
        """Part -> all targets that it has prompts for."""
        found = {name for task in self.tasks.values() for name in task.names}
        return {"zeroshot": tuple(sorted(found)), "heatmap": self.drawn}


def ask_prompts(
    question: PairQuestion, entrants: Sequence[Entrant], parts: Sequence[str], names: Sequence[str], min_positives: int
) -> tuple[Prompted, list[str]]:
    """What is asked by prompts, and what a reader must know of who or what is left out.

    Args:
        parts: those of the evaluation that were asked for, of this module or not.
        names: tasks that were asked for, if any; those without prompts take no part in zero-shot.
    """
    tasks, drawn, said = {}, (), []
    if "zeroshot" in parts:
        tasks, lacking = _find_prompted(question, names)
        said += [f"Not zero-shot: {'; '.join(lacking)}."] * bool(lacking)
    if "heatmap" in parts:
        drawn, lacking = _find_drawn(question.cache, question.leave_out)
        said += [f"No heat maps: {lacking}"] * bool(lacking)
    prompted = Prompted(tasks, drawn, min_positives)
    for part, title in (("zeroshot", "zero-shot scores"), ("heatmap", "heat maps")):
        if part in parts and (targets := prompted.targets[part]):
            explain = functools.partial(explain_no_prompts, question.language_model, targets)
            said += note_left_out(title, entrants, explain)
    return prompted, said


def explain_no_prompts(language_model: Path | None, targets: Sequence[str], entrant: Entrant) -> str | None:
    """Why an encoder cannot be asked about these targets by Hilum's prompts; None where it can."""
    if (reason := explain_no_text(entrant)) is not None:
        return reason
    folder = find_run(entrant)
    assert folder is not None, "explain_no_text says so"
    about = read_metadata(folder / ENCODER_FILE).get("text_encoder", {})
    if not about.get("tuned", False) and language_model is None:
        return "reads texts by a frozen language model: say where it is with --language-model FOLDER"
    tokenizer = Tokenizer.from_file(str(folder / TOKENIZER_FILE))
    try:
        for name, one in read_prompts(targets).items():
            check_told_apart(name, one, tokenizer, int(about["length"]))
    except UserError as error:
        return str(error).rstrip(".")
    return None


def list_prompt_jobs(
    question: PairQuestion, prompted: Prompted, entrant: Entrant, project: Project, parts: Sequence[str]
) -> list[Job]:
    """Zero-shot scores of every task and heat maps of one encoder, as far as it reads prompts."""
    jobs: list[Job] = []

    def add(kind: str, settings: dict[str, Any], run: Callable[[Path], None]) -> None:
        folder = find_run(entrant)
        assert folder is not None, "explain_no_text says so"
        read = {name: hash_file(folder / name) for name in (ENCODER_FILE, TOKENIZER_FILE)}
        known = {**question.settings, **entrant.settings, "kind": kind, **read, **settings}
        jobs.append(Job(kind, entrant, None, Cell(f"{entrant.name}: {kind}", known, run)))

    def can_ask(part: PromptPart) -> bool:
        targets = prompted.targets[part]
        asked = part in parts and len(targets) > 0
        return asked and explain_no_prompts(question.language_model, targets, entrant) is None

    for name, task in prompted.tasks.items() if can_ask("zeroshot") else ():
        run = functools.partial(_score, question, prompted, entrant, project, task)
        settings = {"split": task.hash_split(), "labels": task.policy, "min_positives": prompted.min_positives}
        settings |= {"task": name, "prompts": hash_prompts(read_prompts(task.names))}
        add(name_task(name, ZERO_SHOT), settings, run)
    if can_ask("heatmap"):
        settings = {"findings": list(prompted.drawn), "prompts": hash_prompts(read_prompts(prompted.drawn))}
        run = functools.partial(_map, question, prompted, entrant)
        add(HEAT_MAPS, {**settings, "randomised_views": RANDOMISED_VIEWS}, run)
    return jobs


def estimate_prompted(scores: Scores, min_positives: int, num_resamples: int) -> list[Estimate]:
    """AUROC and average precision of every target, with their resamples by patient; of too few rows of a class none."""
    estimates: list[Estimate] = []
    for place, name in enumerate(scores.names):
        known = ~np.isnan(scores.target[:, place])
        target, logit = (one[known].astype(np.float64) for one in (scores.target[:, place], scores.logit[0, :, place]))
        counts, excluded = count_positives(target), explain_exclusion(target, min_positives)
        for metric in METRICS_OF_PROMPTS:
            about: dict[str, Any] = {"metric": metric, "of": name, "positives": counts.positives, "num": counts.num}
            if excluded:
                estimates.append(Estimate(value=None, reason=f"{TOO_FEW}: {excluded}", **about))
                continue
            number = functools.partial(METRICS[metric].resample, target, logit)
            estimates.append(estimate_weighted(number, scores.patient[known], num_resamples=num_resamples, **about))
    return estimates


def _find_prompted(question: PairQuestion, names: Sequence[str]) -> tuple[dict[str, Task], list[str]]:
    """The tasks of zero-shot, and of the others why they are none.

    Raises:
        UserError: one that was asked for is not there.
    """
    cache, found, lacking = question.cache, {}, []
    offered = names or [name for name in TASKS_OF_PROMPTS if name in list_breast_tasks(cache)]
    for name in offered:
        try:
            task = read_task(cache, name, leave_out=question.leave_out)
        except UserError as error:
            if names:
                raise
            lacking.append(f"{name} ({str(error).rstrip('.')})")
            continue
        if (reason := _explain_not_prompted(task)) is None:
            found[name] = task
        else:
            lacking.append(f"{name} ({reason})")
    if not offered:
        lacking.append(f"the cache knows neither {' nor '.join(TASKS_OF_PROMPTS)}")
    return found, lacking


def _explain_not_prompted(task: Task) -> str | None:
    """Why a task is none of zero-shot; None where it is one."""
    try:
        read_prompts(task.names)
    except UserError:
        return "there are no prompts for it"
    return None if len(task.rows("test")) else "of no test row is it known"


def _find_drawn(cache: Cache, leave_out: Sequence[str]) -> tuple[tuple[str, ...], str]:
    """Findings that somebody drew in test views; or why there are none."""
    try:
        there = {one.kind for one in list_lesions(cache, DRAWN, leave_out=leave_out)}
    except UserError as error:
        return (), str(error)
    return tuple(kind for kind in DRAWN if kind in there), ""


def _score(
    question: PairQuestion, prompted: Prompted, entrant: Entrant, project: Project, task: Task, folder: Path
) -> None:
    said, run = read_prompts(task.names), find_run(entrant)
    assert run is not None, "no job without"
    towers = open_towers(
        question.cache, run, said, leave_out=question.leave_out,
        language_model=choose_language_model(run, question.language_model), precision=question.precision,
    )  # fmt: skip
    found = score_test(towers, task, projected=project(entrant))
    scores, rules = found.scores["mean"], (prompted.min_positives, question.num_resamples)
    result = record_zero_shot(towers, task, said, found, estimate_prompted(scores, *rules), *rules)
    write_scored(folder, replace(result, encoder=entrant.name), scores)


def _map(question: PairQuestion, prompted: Prompted, entrant: Entrant, folder: Path) -> None:
    run = find_run(entrant)
    assert run is not None, "no job without"
    run_heatmap(
        question.cache.path, run, folder, findings=prompted.drawn, leave_out=question.leave_out,
        language_model=choose_language_model(run, question.language_model), randomised_views=RANDOMISED_VIEWS,
        examples=0, precision=question.precision, num_resamples=question.num_resamples, progress=question.progress,
    )  # fmt: skip
