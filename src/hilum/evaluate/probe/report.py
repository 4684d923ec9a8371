"""Everything a probe is judged by, side by side: encoders, their controls, paired differences, label efficiency.

Each number is in a `result.json` of a cell of its own (`cells.py`); `probe.json` puts them in one place for the
report.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from hilum.cache import Cache
from hilum.config import CropConfig
from hilum.errors import UserError
from hilum.evaluate.asked import check_named_once
from hilum.evaluate.console import name_results, print_probe
from hilum.evaluate.controls import embed_pixels, embed_untrained
from hilum.evaluate.features import NO_CAP, Precision, embed_cache
from hilum.evaluate.heads.kept import describe_images
from hilum.evaluate.result import enclose_result, write_json
from hilum.evaluate.scoring.metrics import read_reliability
from hilum.evaluate.scoring.scores import read_scores
from hilum.evaluate.slices import list_slices
from hilum.evaluate.subject import Subject, check_cache, describe_licence, find_subject
from hilum.evaluate.suite import check_failures, run_suite
from hilum.evaluate.targets import check_folds, check_splits, warn_of_no_score
from hilum.evaluate.task import Task, read_task
from hilum.labels import BlankPolicy, UncertainPolicy

from .cells import ProbePlan, build_arm, list_curves, list_differences, list_means
from .crossval import NUM_FOLDS
from .label_subsets import choose_counts, pick_labelled
from .protocol import Arm, ProbeProtocol, check_counts, choose_reading

FORMAT = "hilum-probe/1"
UNTRAINED, PIXELS, SHUFFLED = "untrained", "pixels 32x32", "shuffled labels"


def run_probe_report(
    data: Path,
    runs: Sequence[Path | str],
    out: Path | None = None,
    *,
    task: str = "findings",
    uncertain: UncertainPolicy = "zeros",
    blank: BlankPolicy = "zeros",
    leave_out: Sequence[str] = (),
    batch_views: int = 256,
    precision: Precision = "auto",
    progress: bool = True,
    **choices: Any,
) -> Path:
    """Probe finished runs and their controls on a cache, and write `out/probe.json`.

    Args:
        data, runs: a cache folder, and encoders: run folders, weights files or names (`subject.py`); the first is the
            one the others are compared with, and lends its architecture to the untrained control, its crop and cap on
            views to both.
        out: by default a folder in that of the first run, named after task and protocol.
        task: findings, one finding, or a text column of the study table.
        uncertain, blank: what an uncertain state, and a finding nobody mentioned, counts as.
        leave_out: archives of the cache that take no part.
        choices: fields of `ProbeProtocol`.

    Raises:
        UserError: test patients or images were pretrained on (cross-validation notes it instead: it tests on all, and
            what pretraining saw of them was not the labels), nothing in the labels can be scored, or a cell failed;
            the others' results are kept.
    """
    check_counts(batch_views=batch_views)
    protocol = ProbeProtocol(**choices)
    check_named_once(runs)  # or it says which is missing
    subjects = [find_subject(run) for run in runs]
    cache = Cache.open(data)
    target = read_task(cache, task, uncertain=uncertain, blank=blank, leave_out=leave_out)
    out = subjects[0].name_folder(out, _name_folder(target, protocol))
    check_labels(target, protocol)
    named = dict(zip(name_subjects(subjects, runs), subjects, strict=True))
    notes: dict[str, tuple[str, ...]] = {}
    for name, subject in named.items():
        check = subject.describe_overlap if protocol.crossval else subject.check_pretraining
        notes[name] = check(cache, leave_out)
    embed: dict[str, Any] = {"batch_views": batch_views, "precision": precision, "progress": progress}
    # Of breasts and images every view counts, as in fine-tuning, whatever a run's settings show of a study.
    capped = any(subject.settings.max_views for subject in subjects)
    cap = NO_CAP if capped and target.unit != "study" else None
    arms = embed_arms(cache, named, runs, protocol, max_views=cap, **embed)
    notes |= {name: (*said, *describe_licence(arms[name].features.made_by)) for name, said in notes.items()}
    path = report_probes(cache, list(arms.values()), target, out, protocol, notes=notes, progress=progress)
    if progress:
        print_probe(path, data, subjects[0].path or out)
    return path


def _name_folder(task: Task, protocol: ProbeProtocol) -> str:
    """Within the run's folder: one for each task and choice, so that none replaces another."""
    choices = {
        "head": None if protocol.head == "linear" else protocol.head,
        "rare": None if protocol.rare == "as-is" else protocol.rare,
    }
    how: dict[str, Any] = {"representation": protocol.representation, "crossval": protocol.crossval}
    return name_results("probe", task, **how, choices=choices)


def check_labels(task: Task, protocol: ProbeProtocol) -> None:
    """Refuse a task that cannot be scored, or fewer labels than the curve asks for; say it if nothing has a mean."""
    if protocol.crossval:
        if task.chooses_on_test:
            raise UserError(f"--crossval tests on all rows, and task {task.name} is one of the test split's own.")
        check_folds(task, NUM_FOLDS)
    else:
        check_splits(task, "Add --crossval, which needs no split, or build the cache with larger --fractions of it.")
    warn_of_no_score(task, protocol.min_positives, crossval=protocol.crossval)
    if protocol.counts:
        pick_labelled(task, protocol.counts, 0)  # or it says that there are not so many


def embed_arms(
    cache: Cache,
    named: Mapping[str, Subject],
    runs: Sequence[Path | str],
    protocol: ProbeProtocol,
    *,
    max_views: int | None = None,
    **how: Any,
) -> dict[str, Arm]:
    """Features of the encoders, and of the first one's controls, by their names; `max_views` and `how` as of
    `embed_cache`."""
    for name, subject in named.items():  # the last of them too, before hours with the first
        try:
            check_cache(cache, subject.load(0))
        except UserError as error:
            raise UserError(f"{name}: {error}") from None
    kept: dict[str, Any] = {"keep_tokens": protocol.head == "attentive"}
    if protocol.representation in ("2x2", "4x4"):
        kept["grid"] = int(protocol.representation[0])  # asked for, however large
    arms = [
        Arm(name, "encoder", embed_cache(cache, run, max_views=max_views, **how, **kept, title=name))
        for name, run in zip(named, runs, strict=True)
    ]
    made_by, build = arms[0].features.made_by, next(iter(named.values())).build_untrained
    shown: dict[str, Any] = {"crop": CropConfig(mode=made_by["crop"]), "max_views": made_by["max_views"]}
    arms.append(Arm(UNTRAINED, "untrained", embed_untrained(cache, build, **shown, **how, **kept)))
    arms.append(Arm(PIXELS, "pixels", embed_pixels(cache, **shown, progress=how["progress"])))
    return {arm.name: arm for arm in arms}


def report_probes(
    cache: Cache,
    arms: Sequence[Arm],
    task: Task,
    out: Path,
    protocol: ProbeProtocol,
    *,
    notes: Mapping[str, Sequence[str]] | None = None,
    progress: bool = True,
) -> Path:
    """The cells of a probe report and their summary; the first arm is the subject. Returns the path of `probe.json`.

    Paired differences are of all encoders with each other and with the controls; a method stands for its arms. `notes`
    are what a reader must know of an arm, by its name.

    Raises:
        UserError: a cell failed; the others' results and the summary are kept.
    """
    reading, general = choose_reading(arms, protocol)
    notes_of = {name: tuple(said) for name, said in (notes or {}).items()}
    images = describe_images(cache, task.policy)
    plan = ProbePlan(task, protocol, reading, list_slices(cache, task), general, notes_of, images)
    arms = [*arms, Arm(SHUFFLED, "shuffled", arms[0].features)]
    counts = () if protocol.crossval else protocol.counts or choose_counts(len(task.rows("train")))

    run = partial(run_suite, out=out / "cells", progress=progress)
    probed = run([build_arm(plan, arm) for arm in arms])
    judged = run(list_means(arms, probed.done))
    done = probed.done | judged.done
    differences = run(list_differences(arms, done))
    curves = run(list_curves(plan, arms, probed.done, counts))

    outcomes = (probed, judged, differences, curves)
    summary = {
        "format": FORMAT,
        "task": task.name,
        "targets": list(task.names),
        "labels": task.policy,
        "protocol": "crossval" if protocol.crossval else "probe",
        "representation": reading if protocol.head == "attentive" else protocol.representation,
        "head": protocol.head,
        "arms": [
            {
                "name": arm.name,
                "role": arm.role,
                **enclose_result(folder, out),
                "reliability": _read_reliability(folder),
            }
            for arm in arms
            if (folder := probed.done.get(arm.name)) is not None
        ],
        "methods": [enclose_result(folder, out) for folder in judged.done.values()],
        "differences": [enclose_result(folder, out) for folder in differences.done.values()],
        "label_efficiency": [enclose_result(folder, out) for folder in curves.done.values()],
        "failed": {name: message for outcome in outcomes for name, message in outcome.failed.items()},
    }
    write_json(out / "probe.json", summary)
    check_failures(out, outcomes)
    return out / "probe.json"


def _read_reliability(folder: Path) -> dict[str, dict[str, list[float]]]:
    """Points of reliability diagrams: of each finding, and of all (study, finding) pairs together."""
    scores = read_scores(folder / "scores.npz")
    probability = scores.probability.mean(axis=0)
    points = {
        name: read_reliability(scores.target[:, i].astype(np.float64), probability[:, i])
        for i, name in enumerate(scores.names)
    }
    return {"all": read_reliability(scores.target.astype(np.float64).ravel(), probability.ravel(), 15), **points}


def name_subjects(subjects: Sequence[Subject], runs: Sequence[Path | str]) -> list[str]:
    """What encoders, asked for by `runs`, are called in tables: each otherwise, and none like a control."""
    names = [subject.name for subject in subjects]
    if len(set(names)) < len(names):
        # Of public encoders the last part of where their weights are, never the place.
        names = [
            str(subject.path or f"{subject.name} ({Path(run).name})")
            for subject, run in zip(subjects, runs, strict=True)
        ]
    if len(set(names)) < len(names):  # files of one name in two folders
        names = [f"{name}, {place}" for place, name in enumerate(names, 1)]
    return [f"{name} (run)" if name in (UNTRAINED, PIXELS, SHUFFLED) else name for name in names]
