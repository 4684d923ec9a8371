"""Probe: what a head can read from frozen features; by default a straight line (`heads.py` has the others).

What is read of an image (class token, mean of patch tokens, regions, ...) and the head's setting (the strength of a
linear head, neighbours, a rate) are those with the best macro AUROC on the validation studies, for all findings the
same.

How views become a study. A linear head is applied to every view and the study's logit is the mean of its views' (M
4.1). Since the head is linear that equals the head of the study's mean feature, so `train_on="study"` fits on the mean
features of studies and *is* training through mean-of-logits fusion. `train_on="view"` fits every view as a row of its
own with its study's targets (the paper's ensemble of single-view models), fused only at the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from hilum.errors import UserError
from hilum.model.heads import Representation

from .bootstrap import resample_auroc
from .features import Read, ViewFeatures
from .fusion import Fusion
from .fusions import score_fusions
from .heads import HEADS, FittedHead, Head, could_go_further, fit_head
from .linear import LinearProbe
from .metrics import MIN_POSITIVES, explain_exclusion, tune_f1_threshold
from .rows import Rows, TrainOn, count_parts, part_by_count, part_by_kind, shuffle_targets, take_rows
from .scores import Scores
from .task import Task

Reading = Read | tuple[Representation, ...] | Literal["auto"]  # one, the best of some, or of all there are


@dataclass(frozen=True)
class ProbeResult:
    """A probe, what it said of validation and test rows, and how it came about."""

    encoder: str  # name shown in tables
    task: Task
    features_made_by: dict
    head: Head
    probe: FittedHead
    representation: Read
    train_on: TrainOn
    weighted: bool  # positives of rare findings counted more in training
    strength: float  # the head's setting: C, neighbours or a rate
    tried: dict[Read, dict[float, float]]  # setting -> macro AUROC on validation
    seed: int
    label_count: int | None  # asked for; None: all
    num_train: int  # rows fitted on
    counts: dict[str, int]  # rows, patients and views of each part
    shuffled: bool
    one_class: tuple[str, ...]  # findings of which training knows one class only: everybody scores alike, AUROC 0.5
    val: Scores
    test: Scores
    by_kind: dict[str, Scores] = field(default_factory=dict)  # test studies with two kinds of view, seen by one or all
    by_count: dict[str, Scores] = field(default_factory=dict)  # test studies with several views, seen by 1, 2 or all
    by_fusion: dict[str, Scores] = field(default_factory=dict)  # test studies, their views fused in other ways
    notes: tuple[str, ...] = ()


def list_readings(features: ViewFeatures, reading: Reading, head: Head = "linear") -> tuple[Read, ...]:
    """What is tried of features: all they have, or what was asked for; of pixels always the pixels.

    Raises:
        UserError: vectors for a head that attends to tokens, or tokens for one that does not.
    """
    if (head == "attentive") != (reading == "tokens") and reading != "auto":
        raise UserError(
            f"The {head} head does not read '{reading}': "
            + ("leave --representation away." if head == "attentive" else "tokens are for the attentive head.")
        )
    if head == "attentive":
        return ("tokens",)
    offered = features.representations
    if reading == "auto" or len(offered) == 1:
        return offered
    return reading if isinstance(reading, tuple) else (reading,)


def choose_strength(
    target: Float[np.ndarray, "row finding"], logits: Sequence[Float[np.ndarray, "row finding"]]
) -> tuple[int, list[float]]:
    """Index of the strength with the best macro AUROC on validation rows (the strongest penalty of equals), and all.

    Findings with too few positives would add noise only; they enter if there are no others.
    """
    kept = [i for i in range(target.shape[1]) if explain_exclusion(target[:, i], MIN_POSITIVES) is None]
    kept = kept or [i for i in range(target.shape[1]) if explain_exclusion(target[:, i], 1) is None]
    if not kept:
        raise UserError(
            f"No target has both classes among the {len(target):,} rows that choose the probe's strength (validation, "
            "or what cross-validation trains on). More labelled patients are needed."
        )
    values = []
    for logit in logits:
        areas = []
        for i in kept:
            known = ~np.isnan(target[:, i])
            areas.append(resample_auroc(target[known, i], logit[known, i], np.ones((known.sum(), 1), np.float32))[0])
        values.append(float(np.mean(areas)))
    return int(np.argmax(values)), values


def has_one_class(target: Float[Tensor, " row"]) -> bool:
    """Whether all known targets are 0, or all 1, or there are none: nothing to fit."""
    return bool(torch.nanmean(target).nan_to_num(0) in (0, 1))


def tune_thresholds(target: Float[np.ndarray, "row finding"], logit: Float[np.ndarray, "row finding"]) -> np.ndarray:
    """The logit of each finding from which it is called present: best F1 on these rows; NaN where it has one class."""
    return np.array([tune_f1_threshold(target[:, i], logit[:, i]) for i in range(target.shape[1])])


def decide(logit: Float[np.ndarray, "row finding"], threshold: Float[np.ndarray, " finding"]) -> np.ndarray:
    """1 where the logit reaches the threshold, else 0; NaN for a finding without a threshold."""
    return np.where(np.isnan(threshold), np.nan, logit >= threshold)


def probe_encoder(
    features: ViewFeatures,
    task: Task,
    *,
    name: str,
    representation: Reading = "auto",
    head: Head = "linear",
    weighted: bool = False,
    train_on: TrainOn = "study",
    fusion: Fusion = "mean_logit",
    strengths: Sequence[float] | None = None,
    train_rows: Int64[np.ndarray, " row"] | None = None,
    label_count: int | None = None,
    seed: int = 0,
    shuffle_labels: bool = False,
    fuse_otherwise: bool = False,
) -> ProbeResult:
    """Fit on the training rows, choose representation and strength on validation, score the test rows.

    Args:
        features, task: of the same cache.
        name: what the encoder is called in tables.
        representation: what is read of a view: of several, or of all there are (auto), what is best on validation, the
            first of equals.
        head: what is fitted to it.
        weighted: positives of rare findings count more in training (`fusion.weigh_positives`).
        strengths: settings of the head that validation chooses among; those of `heads.HEADS` where not given.
        train_rows: training rows to use; the whole training split where not given (`efficiency.pick_labelled` picks).
        label_count, seed: recorded; the seed shuffles labels and belongs to the choice of `train_rows`.
        shuffle_labels: permute the targets among training rows and among validation rows: what a probe of these
            features scores where there is nothing to learn.
        fuse_otherwise: also score the test studies with their views fused in other ways (`fusions.py`), for a linear
            head and a task of studies.

    Raises:
        UserError: no training, validation or test rows, targets of one class, or features without these regions.
    """
    assert features.made_by["cache"] == task.data, "features and task are of different caches"
    parts = {split: task.rows(split) for split in ("train", "val", "test")}
    for split, found in parts.items():
        if not len(found):
            raise UserError(
                f"There is no {split} {task.unit} with a known target of task {task.name}. A small archive can "
                "be probed by cross-validation, which needs no split."
            )
    if train_rows is not None:
        parts["train"] = train_rows
    tried: dict[Read, dict[float, float]] = {}
    chosen: tuple[float, Read, int, FittedHead] | None = None
    strengths = strengths or HEADS[head].tried
    for reading in list_readings(features, representation, head):
        train, val = (take_rows(features, task, parts[part], reading) for part in ("train", "val"))
        if shuffle_labels:
            generator = torch.Generator().manual_seed(seed)  # anew: the same labels whatever is read
            train, val = shuffle_targets(train, generator), shuffle_targets(val, generator)
        probes = fit_head(head, train, strengths, train_on, fusion, weighted=weighted, seed=seed)
        place, values = choose_strength(val.target.numpy(), [probe.score_rows(val).numpy() for probe in probes])
        tried[reading] = dict(zip(strengths, values, strict=True))
        if chosen is None or values[place] > chosen[0]:
            chosen, kept = (values[place], reading, place, probes[place]), (train, val)
    assert chosen is not None, "features offer something to read"
    _, reading, best, probe = chosen
    train, val = kept
    test = take_rows(features, task, parts["test"], reading)
    threshold = tune_thresholds(val.target.numpy(), probe.score_rows(val).numpy())
    notes = []
    at_edge = best in (0, len(strengths) - 1) and len(strengths) > 1
    if at_edge and could_go_further(head, strengths[best], len(train)):
        notes.append(f"The chosen {HEADS[head].setting} {strengths[best]:g} is at the edge of those tried.")
    if isinstance(probe, LinearProbe) and not probe.converged:
        notes.append("The regression stopped before it had converged; its scores may be lower than they could be.")

    def score(rows: Rows, keep: Tensor | None = None) -> Scores:
        return build_scores(task, rows, probe.score_rows(rows, keep).numpy(), threshold)

    by_kind = {kind: score(*part) for kind, part in part_by_kind(task, test).items()}
    by_count = {count: score(*part) for count, part in part_by_count(task, test).items()}
    by_fusion = {}
    if fuse_otherwise and isinstance(probe, LinearProbe) and task.unit == "study":
        for other, logit in score_fusions(probe, train, val, test, seed=seed).items():
            by_fusion[other] = build_scores(task, test, logit.numpy(), np.full(len(task.names), np.nan))
    one_class = tuple(finding for i, finding in enumerate(task.names) if has_one_class(train.training_target[:, i]))
    return ProbeResult(
        encoder=name,
        task=task,
        features_made_by=features.made_by,
        head=head,
        probe=probe,
        representation=reading,
        train_on=train_on,
        weighted=weighted,
        strength=strengths[best],
        tried=tried,
        seed=seed,
        label_count=label_count,
        num_train=len(train),
        shuffled=shuffle_labels,
        counts=count_parts(task, {"train": train, "val": val, "test": test}),
        one_class=one_class,
        val=score(val),
        test=score(test),
        by_kind=by_kind,
        by_count=by_count,
        by_fusion=by_fusion,
        notes=tuple(notes),
    )


def build_scores(
    task: Task, rows: Rows, logit: Float[np.ndarray, "row finding"], threshold: Float[np.ndarray, " finding"]
) -> Scores:
    """One repeat of scores, with decisions by a threshold on the logit."""
    return Scores(
        names=task.names,
        target=rows.target.numpy(),
        logit=logit[None],
        decision=decide(logit, threshold)[None],
        patient=task.patient[rows.row],
        row=rows.row,
        threshold=1 / (1 + np.exp(-threshold)),
    )
