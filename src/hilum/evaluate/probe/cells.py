"""The cells of a probe report: each arm, means over a method's arms, paired differences, label counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations, product
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool

from hilum.evaluate.heads.fit import HEADS
from hilum.evaluate.heads.kept import HeadRecord, fold_probe, list_findings, write_head
from hilum.evaluate.record import THRESHOLD, record_crossval, record_label_count, record_probe
from hilum.evaluate.result import read_result, write_result
from hilum.evaluate.scored import write_scored, write_scored_difference, write_scored_mean
from hilum.evaluate.suite import Cell
from hilum.evaluate.task import Task

from .crossval import crossvalidate_probe
from .efficiency import probe_label_counts
from .protocol import Arm, ProbeProtocol
from .run import ProbeResult, Reading, probe_encoder

_RESAMPLES_OF_CURVE = 200  # behind intervals of label-efficiency curves


@dataclass(frozen=True)
class ProbePlan:
    """What is asked of every arm."""

    task: Task
    protocol: ProbeProtocol
    reading: Reading
    slices: dict[str, Bool[np.ndarray, " row"]]
    notes: tuple[str, ...]  # what a reader must know of all arms
    notes_of: Mapping[str, tuple[str, ...]]  # and of one, by its name
    images: Mapping[str, Any]  # `heads.kept.describe_images`

    @property
    def settings(self) -> dict[str, Any]:
        """What every evaluation depends on."""
        return {
            "task": self.task.name,
            "labels": self.task.policy,
            "split": self.task.hash_split(),
            "representation": self.reading,
            "head": self.protocol.head,
            "rare": self.protocol.rare,
            "min_positives": self.protocol.min_positives,
        }


def build_arm(plan: ProbePlan, arm: Arm) -> Cell:
    """An arm by itself: its metrics on the test rows, or on all rows by cross-validation."""
    kind = f"crossval {plan.protocol.num_repeats}" if plan.protocol.crossval else "probe"
    settings = {**plan.settings, "kind": kind, "arm": arm.name, "features": arm.features.made_by}
    run = _crossvalidate if plan.protocol.crossval else _probe
    return Cell(arm.name, settings, partial(run, plan, arm))


def _probe(plan: ProbePlan, arm: Arm, folder: Path) -> None:
    found = probe_encoder(
        arm.features,
        plan.task,
        name=arm.name,
        representation=plan.reading,
        **plan.protocol.fit,
        shuffle_labels=arm.role == "shuffled",
        fuse_otherwise=arm.role == "encoder",
    )
    if arm.role == "encoder":
        _keep_head(plan, found, folder)
    write_scored(folder, record_probe(found, **_record(plan, arm)), found.test)


def _keep_head(plan: ProbePlan, found: ProbeResult, folder: Path) -> None:
    """Leave the head beside its result, where it is one that `hilum export` can put on the encoder again: neighbours
    are vectors of patients, and regions that stand for tokens are nothing an encoder gives."""
    state, made_by = fold_probe(found.probe), found.features_made_by
    reads_tokens = found.representation == "tokens"
    if state is None or (reads_tokens and "num_tokens" not in made_by):
        return
    record = HeadRecord(
        kind=HEADS[found.head].title,
        encoder=found.encoder,
        weights=made_by["weights"],
        task=found.task.name,
        unit=found.task.unit,
        findings=list_findings(found.task.names, found.test.threshold, found.one_class),
        threshold_chosen_by=THRESHOLD,
        representation="attentive" if reads_tokens else found.representation,
        fusion=found.probe.fusion,
        crop=made_by["crop"],
        max_views=made_by["max_views"],
        precision=made_by["precision"],
        counts=found.counts,
        seed=found.seed,
        **plan.images,
    )
    write_head(folder, state, record)


def _crossvalidate(plan: ProbePlan, arm: Arm, folder: Path) -> None:
    found = crossvalidate_probe(
        arm.features,
        plan.task,
        name=arm.name,
        representation=plan.reading,
        **plan.protocol.fit,
        num_repeats=plan.protocol.num_repeats,
        shuffle_labels=arm.role == "shuffled",
    )
    write_scored(folder, record_crossval(found, **_record(plan, arm)), found.scores)


def _record(plan: ProbePlan, arm: Arm) -> dict[str, Any]:
    notes = (*plan.notes, *plan.notes_of.get(arm.name, ()))
    return {"slices": plan.slices, "min_positives": plan.protocol.min_positives, "notes": notes}


def list_means(arms: Sequence[Arm], done: Mapping[str, Path]) -> list[Cell]:
    """The methods of which every arm has its result, each by the mean of its arms."""
    methods: dict[str, list[str]] = {}
    for arm in arms:
        if arm.method:
            methods.setdefault(arm.method, []).append(arm.name)
    return [
        build_mean(method, [done[name] for name in names])
        for method, names in methods.items()
        if set(names) <= done.keys()
    ]


def build_mean(method: str, seeds: Sequence[Path]) -> Cell:
    """A method by the mean of its arms' metrics."""

    def run(folder: Path) -> None:
        write_scored_mean(folder, method, seeds)

    return Cell(method, {"seeds": [seed.name for seed in seeds]}, run)


def list_differences(arms: Sequence[Arm], done: Mapping[str, Path]) -> list[Cell]:
    """All encoders with each other and with the controls, as far as they have results; a method stands for its arms."""
    encoders = list(dict.fromkeys(arm.method or arm.name for arm in arms if arm.role == "encoder"))
    controls = [arm.name for arm in arms if arm.role in ("untrained", "pixels")]
    return [
        build_difference(f"{first} - {second}", done[first], done[second])
        for first, second in [*combinations(encoders, 2), *product(encoders, controls)]
        if first in done and second in done
    ]


def build_difference(name: str, first: Path, second: Path) -> Cell:
    """The paired difference of two evaluations."""

    def run(folder: Path) -> None:
        write_scored_difference(folder, first, second)

    # The folders' names hold the hashes of what was compared.
    return Cell(name, {"first": first.name, "second": second.name}, run)


def list_curves(plan: ProbePlan, arms: Sequence[Arm], done: Mapping[str, Path], counts: Sequence[int]) -> list[Cell]:
    """Each arm that learns something with each number of labels."""
    learning = [arm for arm in arms if arm.role != "shuffled" and arm.name in done]
    return [build_label_count(plan, arm, done[arm.name], count) for arm, count in product(learning, counts)]


def build_label_count(plan: ProbePlan, arm: Arm, probed: Path, count: int) -> Cell:
    """An arm with few labels, read as with all of them (`probed`): few could not choose."""

    def run(folder: Path) -> None:
        probes = probe_label_counts(
            arm.features,
            plan.task,
            name=arm.name,
            counts=[count],
            num_seeds=plan.protocol.num_seeds,
            representation=read_result(probed / "result.json").protocol["representation"],
            **plan.protocol.fit,
        )[count]
        rules: dict[str, Any] = {
            "min_positives": plan.protocol.min_positives,
            "num_resamples": _RESAMPLES_OF_CURVE,
            "notes": plan.notes_of.get(arm.name, ()),
        }
        write_result(folder / "result.json", record_label_count(probes, **rules))

    seeds = {"seeds": plan.protocol.num_seeds, "probed": probed.name}
    settings = {**plan.settings, "kind": "label efficiency", "count": count, **seeds, "features": arm.features.made_by}
    return Cell(f"{arm.name} {count} labels", settings, run)
