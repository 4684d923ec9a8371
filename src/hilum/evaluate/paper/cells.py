"""The cells of a suite: one evaluation of one encoder each, which leaves its result, resamples and scores
(`scored.py`).

What comes of an evaluation is completed here in one way: all metrics, on all archives, their mean and pooled, and for
the commonest findings.
"""

from __future__ import annotations

import functools
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Int64

from hilum.cache import Cache
from hilum.errors import UserError
from hilum.evaluate.features import Precision, Read, ViewFeatures
from hilum.evaluate.heads.fit import HEADS, Head
from hilum.evaluate.probe.efficiency import probe_label_counts, stack_repeats
from hilum.evaluate.probe.label_subsets import pick_labelled
from hilum.evaluate.probe.run import ProbeResult, Reading, list_readings, probe_encoder
from hilum.evaluate.probe.views import compare_views
from hilum.evaluate.record import record_finetuned, record_label_count, record_probe
from hilum.evaluate.result import Result, read_result
from hilum.evaluate.scored import COMPARED, DRAWS, copy_scored, write_scored
from hilum.evaluate.scoring.choice import measure_aurocs
from hilum.evaluate.scoring.estimates import estimate_scores
from hilum.evaluate.scoring.scores import Scores
from hilum.evaluate.slices import estimate_slices
from hilum.evaluate.suite import Cell
from hilum.evaluate.task import Task
from hilum.evaluate.tokens import note_regions
from hilum.model.heads import Representation

from .entrants import Entrant, embed_entrant, finetune_entrant
from .index import FINETUNE, FINETUNE_PER_FINDING, FOLDS, ONE_VIEW, PROBE, PROBE_PER_FINDING, TWO_VIEWS
from .parts import METRICS_OF_PARTS, POOLED, estimate_parts, score_repeats
from .sizes import Sizes

READ: tuple[Representation, ...] = ("class", "mean", "both", "max")  # as far as features offer it
FEW_METRICS = ("auroc", "brier_error", "calibration_error")
FEW_RESAMPLES = 200  # by default, behind intervals of label-efficiency curves
OTHER_SELECTION = "per-finding"  # folder in the cell of a fine-tuning
Load = Callable[..., ViewFeatures]  # of an entrant


@dataclass(frozen=True, kw_only=True)
class Asked(ABC):
    """What is asked of every encoder, with labels or without."""

    cache: Cache
    num_resamples: int
    precision: Precision
    progress: bool
    notes: Mapping[str, tuple[str, ...]]  # of entrants
    metrics_of_differences: tuple[str, ...] = COMPARED

    @property
    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """What every evaluation depends on beside the encoder."""


@dataclass(frozen=True, kw_only=True)
class Question(Asked):
    """What is asked of every encoder about a task."""

    task: Task
    kinds: frozenset[str]  # of evaluations
    tunes_few: bool = False  # whether there is a fine-tuning for each label count too
    metrics: tuple[str, ...] = METRICS_OF_PARTS  # of parts of the test split, with all labels
    few_metrics: tuple[str, ...] = FEW_METRICS
    sizes: Sizes
    archives: Mapping[str, Bool[np.ndarray, " row"]]
    common: tuple[str, ...]
    slices: Mapping[str, Bool[np.ndarray, " row"]]
    folds: Mapping[str, Bool[np.ndarray, " row"]] = field(default_factory=dict)  # of `folds.py`
    representation: Representation | None  # None: what of READ is best on validation, for each encoder by itself
    head: Head  # of probes
    min_positives: int
    few_resamples: int = FEW_RESAMPLES
    num_seeds: int
    num_tunings: int = 1  # with all labels, of each encoder that is not random: their seeds are 0, 1, ...
    frozen_statistics: bool = False  # of batch normalisations in fine-tuning, but from random weights
    epochs: int | None  # None: as many as `hilum finetune` takes by itself
    views_per_step: int

    @property
    def settings(self) -> dict[str, Any]:
        return {
            "data": self.task.data,
            "task": self.task.name,
            "labels": self.task.policy,
            "split": self.task.hash_split(),
            "common": self.common,
            "min_positives": self.min_positives,
            "num_resamples": self.num_resamples,
            "few_resamples": self.few_resamples,
            "precision": self.precision,
        }


@dataclass(frozen=True)
class Job:
    """A cell, and what the index says of it."""

    kind: str
    entrant: Entrant
    count: int | None  # labelled training studies; None: all
    cell: Cell

    @classmethod
    def build(
        cls, asked: Asked, entrant: Entrant, kind: str, settings: Mapping[str, Any], run: Callable[[Path], None]
    ) -> Job:
        """An evaluation of one kind with all labels, or none; `settings` are what it depends on beside the encoder and
        what is asked of all."""
        known = {**asked.settings, **entrant.settings, "kind": kind, **settings}
        return cls(kind, entrant, None, Cell(f"{entrant.name}: {kind}", known, run))


def list_jobs(question: Question, entrant: Entrant, load: Load, out: Path) -> list[Job]:
    """All evaluations of one encoder, cheap ones first; probes with few labels read it as the one of all labels did,
    whose cell is in `out`."""
    jobs: list[Job] = []

    def add(kind: str, count: int | None, suffix: str, settings: dict[str, Any], run: Callable[[Path], None]) -> Cell:
        known = {**question.settings, **entrant.settings, "kind": kind, "count": count, **settings}
        cell = Cell(f"{entrant.name}: {suffix}", known, run)
        jobs.append(Job(kind, entrant, count, cell))
        return cell

    sizes, title = question.sizes, HEADS[question.head].title
    reading = {"representation": question.representation or READ, "head": question.head}
    if PROBE in question.kinds:
        run = functools.partial(_probe, question, entrant, load)
        probe = add(PROBE, None, title, reading, run)
        chosen = functools.partial(_read_representation, out / probe.folder)
        if PROBE_PER_FINDING in question.kinds:
            run = functools.partial(_probe_per_finding, question, entrant, load)
            add(PROBE_PER_FINDING, None, f"{title}, selected per finding", reading, run)
        for count in sizes.probe_counts:
            few = {"seeds": question.num_seeds, "head": question.head, "probed": probe.folder}
            run = functools.partial(_probe_few, question, entrant, load, chosen, count)
            add(PROBE, count, f"{title}, {count} labels", few, run)
        if ONE_VIEW in question.kinds and sizes.has_pairs:
            compare = functools.cache(functools.partial(_compare, question, entrant, load, chosen, sizes.view_count))
            for kind in (ONE_VIEW, TWO_VIEWS):
                few = {"seeds": question.num_seeds, "head": question.head, "probed": probe.folder}
                add(kind, sizes.view_count, kind, few, functools.partial(_keep_views, question, entrant, compare, kind))
    if FINETUNE in question.kinds:
        how = {"epochs": question.epochs, "views_per_step": question.views_per_step}
        how["frozen_statistics"] = question.frozen_statistics
        run = functools.partial(_finetune, question, entrant, None, entrant.seed)
        tuned = add(FINETUNE, None, "fine-tuned", {**how, "seed": entrant.seed}, run)
        if FINETUNE_PER_FINDING in question.kinds:
            run = functools.partial(_take_per_finding, out / tuned.folder)
            took = {**how, "seed": entrant.seed, "tuned": tuned.folder}
            add(FINETUNE_PER_FINDING, None, "fine-tuned, selected per finding", took, run)
        for seed in () if entrant.is_random else range(1, question.num_tunings):
            run = functools.partial(_finetune, question, entrant, None, seed)
            add(FINETUNE, None, f"fine-tuned, seed {seed}", {**how, "seed": seed}, run)
        # With few labels the seed of a draw is also that of random weights: every draw has its own network anyway.
        draws = product(sizes.counts, range(question.num_seeds))
        for count, seed in draws if question.tunes_few and not entrant.seed else ():
            run = functools.partial(_finetune, question, entrant, count, seed)
            add(FINETUNE, count, f"fine-tuned, {count} labels, draw {seed}", {**how, "seed": seed}, run)
    return jobs


def limit_labels(task: Task, rows: Int64[np.ndarray, " row"]) -> Task:
    """The task with the labels of these training rows only; validation and test keep theirs."""
    gone = np.setdiff1d(task.rows("train"), rows)
    limited = {}
    for name in ("target", "soft"):
        if (values := getattr(task, name)) is not None:
            limited[name] = values.copy()
            limited[name][gone] = np.nan
    return replace(task, **limited)


def select_per_finding(probes: Sequence[ProbeResult]) -> tuple[Scores, dict[str, int]]:
    """Of each finding the test scores of the probe that is best on validation in that finding, and which that is.

    A finding that validation cannot judge follows the best macro AUROC.
    """
    areas = [measure_aurocs(one.val.target, one.val.logit[0]) for one in probes]
    overall = int(np.argmax([np.nanmean(area) for area in areas]))
    best = [overall if np.isnan(area).all() else int(np.nanargmax(area)) for area in np.transpose(areas)]
    test, place = probes[overall].test, range(len(best))
    assert all(np.array_equal(one.test.row, test.row) for one in probes), "probes of one task"
    thresholds = [one.test.threshold for one in probes]
    merged = replace(
        test,
        logit=np.stack([probes[best[i]].test.logit[..., i] for i in place], axis=-1),
        decision=np.stack([probes[best[i]].test.decision[..., i] for i in place], axis=-1),
        screened=np.stack([probes[best[i]].test.decision_at_specificity[..., i] for i in place], axis=-1),
        threshold=np.array([np.nan if (t := thresholds[best[i]]) is None else t[i] for i in place]),
    )
    return merged, dict(zip(test.names, best, strict=True))


def remember_features(question: Question) -> Load:
    """Features of an entrant, those of the last one asked for kept in memory: its cells follow each other. As a rule of
    images as its settings show them; `as_released`, of whole images squashed, and of training images mirrored too."""

    @functools.lru_cache(maxsize=1)
    def load(entrant: Entrant, all_views: bool = False, as_released: bool = False) -> ViewFeatures:
        options: dict[str, Any] = {"precision": question.precision, "progress": question.progress}
        options["keep_tokens"] = question.head == "attentive"
        return embed_entrant(question.cache, entrant, all_views=all_views, as_released=as_released, **options)

    return load


def _probe(question: Question, entrant: Entrant, load: Load, folder: Path) -> None:
    features = load(entrant, as_released=question.head == "released")
    how: dict[str, Any] = {"representation": _choose_reading(question, features), "head": question.head}
    found = probe_encoder(features, question.task, name=entrant.name, **how)
    found = replace(found, notes=(*found.notes, *_list_notes(question, entrant, features)))
    result = record_probe(found, **_record(question, entrant, PROBE))
    write_cell(folder, question, result, found.test, PROBE)


def _probe_per_finding(question: Question, entrant: Entrant, load: Load, folder: Path) -> None:
    features, head, kind = load(entrant), question.head, HEADS[question.head]
    tried = list(product(list_readings(features, _choose_reading(question, features), head), kind.tried))
    probes = [
        probe_encoder(features, question.task, name=entrant.name, representation=reading, head=head, settings=[setting])
        for reading, setting in tried
    ]
    scores, best = select_per_finding(probes)
    result = record_probe(
        replace(probes[0], test=scores, by_kind={}, by_count={}, by_fusion={}, notes=()),
        **_record(question, entrant, PROBE_PER_FINDING),
    )
    dropped = ("representation", kind.setting, "validation_macro_auroc_tried", "one_class_in_training")
    protocol = {name: value for name, value in result.protocol.items() if name not in dropped}
    chosen = {finding: {"representation": tried[i][0], kind.setting: tried[i][1]} for finding, i in best.items()}
    protocol |= {"kind": f"{kind.title}, selected per finding", "chosen_by_finding": chosen}
    write_cell(folder, question, replace(result, protocol=protocol), scores, PROBE_PER_FINDING)


def _probe_few(
    question: Question,
    entrant: Entrant,
    load: Load,
    chosen: Callable[[], Read],
    count: int,
    folder: Path,
) -> None:
    probes = probe_label_counts(
        load(entrant, as_released=question.head == "released"),
        question.task,
        name=entrant.name,
        counts=[count],
        num_seeds=question.num_seeds,
        representation=chosen(),
        head=question.head,
    )[count]
    _write_draws(folder, question, entrant, probes, PROBE, count)


def _compare(
    question: Question,
    entrant: Entrant,
    load: Load,
    chosen: Callable[[], Read],
    count: int | None,
) -> dict[str, list[ProbeResult]]:
    return compare_views(
        load(entrant, all_views=True) if entrant.hides_views else load(entrant),
        question.task,
        name=entrant.name,
        label_count=count,
        num_seeds=question.num_seeds,
        representation=chosen(),
        head=question.head,
    )


def _keep_views(
    question: Question,
    entrant: Entrant,
    compare: Callable[[], dict[str, list[ProbeResult]]],
    kind: str,
    folder: Path,
) -> None:
    _write_draws(folder, question, entrant, compare()[kind], kind, None)


def _write_draws(
    folder: Path, question: Question, entrant: Entrant, probes: Sequence[ProbeResult], kind: str, count: int | None
) -> None:
    """One result for several draws of the labelled patients."""
    num = count_resamples(question, kind, count)
    rules: dict[str, Any] = {"min_positives": question.min_positives, "num_resamples": num}
    if kind != PROBE:
        rules["kind"] = f"studies with two views, seen: {kind}"
    result = record_label_count(probes, **rules)
    result = replace(result, notes=(*result.notes, *question.notes[entrant.name]))
    write_cell(folder, question, result, stack_repeats([probe.test for probe in probes]), kind, count)


def _finetune(question: Question, entrant: Entrant, count: int | None, seed: int, folder: Path) -> None:
    task = question.task
    if count is not None:
        task = limit_labels(task, pick_labelled(task, [count], seed)[count])
    found = finetune_entrant(
        question.cache,
        entrant,
        task,
        name=entrant.name if seed == entrant.seed and count is None else f"{entrant.name}, draw {seed}",
        checkpoints=folder / "checkpoints",
        epochs=question.epochs,
        views_per_step=question.views_per_step,
        select="per-finding" if count is None and FINETUNE_PER_FINDING in question.kinds else "macro",
        seed=seed,
        frozen_statistics=question.frozen_statistics and not entrant.is_random,
        precision=question.precision,
        progress=question.progress,
    )
    rules = _record(question, entrant, FINETUNE, count)
    if found.test_per_finding is not None:
        other = record_finetuned(found, select="per-finding", **rules)
        other = replace(other, protocol={**other.protocol, "kind": "fine-tuning, selected per finding"})
        write_cell(folder / OTHER_SELECTION, question, other, found.test_per_finding, FINETUNE_PER_FINDING)
    result = record_finetuned(found, **rules)
    result = replace(result, protocol={**result.protocol, "label_count": count})
    write_cell(folder, question, result, found.test, FINETUNE, count)
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)


def _take_per_finding(tuned: Path, folder: Path) -> None:
    """The other selection of the fine-tuning with all labels, whose cell kept it beside its own."""
    if not (tuned / "result.json").is_file():
        raise UserError("the fine-tuning with all labels failed, of which this is another selection.")
    copy_scored(tuned / OTHER_SELECTION, folder)


def _record(question: Question, entrant: Entrant, kind: str, count: int | None = None) -> dict[str, Any]:
    return {
        "min_positives": question.min_positives,
        "num_resamples": count_resamples(question, kind, count),
        "notes": question.notes[entrant.name],
    }


def write_cell(
    folder: Path, question: Question, result: Result, scores: Scores, kind: str, count: int | None = None
) -> None:
    """Complete the result with the metrics and parts that are wanted of its kind, and leave it with its scores."""
    is_main = kind in (PROBE, FINETUNE) and count is None
    wanted = question.metrics if is_main else question.few_metrics if kind in (PROBE, FINETUNE) else ("auroc",)
    num = count_resamples(question, kind, count)
    rules: dict[str, Any] = {"min_positives": question.min_positives, "num_resamples": num}
    had = {estimate.metric for estimate in result.estimates if estimate.slice == POOLED}
    missing = tuple(name for name in wanted if name not in had)
    estimates = [*result.estimates, *estimate_scores(scores, missing, **rules, seed=0)]
    common = question.common if is_main else None
    estimates += estimate_parts(scores, question.archives, common, **rules, metrics=wanted)
    counts, members = dict(result.counts), {f"dataset={name}": kept for name, kept in question.archives.items()}
    if is_main:
        slices = {name: member for name, member in question.slices.items() if name not in members}
        estimates += estimate_slices(scores, slices, **rules, seed=0)
        members |= slices
    if kind == FOLDS:
        estimates += estimate_slices(scores, question.folds, **rules, seed=0)
    for name, member in members.items():
        kept = member[scores.row]
        counts[f"test_studies of {name}"] = int(kept.sum())
        counts[f"test_patients of {name}"] = len(np.unique(scores.patient[kept]))
    draws = score_repeats(scores, question.archives, question.min_positives)
    result = replace(result, estimates=estimates, counts=counts, protocol={**result.protocol, DRAWS: draws})
    write_scored(folder, result, scores)


def _list_notes(question: Question, entrant: Entrant, features: ViewFeatures) -> tuple[str, ...]:
    """What a reader must know of what the head read of this entrant."""
    stored = question.head != "attentive" or features.tokens is not None
    return () if stored else (note_regions([entrant.name]),)


def _choose_reading(question: Question, features: ViewFeatures) -> Reading:
    if question.head == "attentive":
        return "tokens"
    if question.representation is not None:
        return question.representation
    return tuple(name for name in READ if name in features.representations)


def _read_representation(probed: Path) -> Read:
    """What the probe with all labels chose to read: few labels could not choose."""
    if not (probed / "result.json").is_file():
        raise UserError("the probe with all labels failed, which chooses what is read of an image.")
    return read_result(probed / "result.json").protocol["representation"]


def count_resamples(question: Question, kind: str, count: int | None) -> int:
    """Resamples behind intervals: fewer on the curves of label efficiency."""
    is_curve = kind in (PROBE, FINETUNE) and count is not None
    return min(question.few_resamples, question.num_resamples) if is_curve else question.num_resamples
