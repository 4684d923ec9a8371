"""Probe: what a head can read from frozen features; by default a straight line (`heads/` has the others).

What is read of an image (class token, mean of patch tokens, regions, ...) and the head's setting (the strength of a
linear head, neighbours, a rate) are those with the best macro AUROC on the validation studies, for all findings the
same.

How views become a study. A linear head is applied to every view and the study's logit is the mean of its views' (M
4.1). Since the head is linear that equals the head of the study's mean feature, so `train_on="study"` fits on the mean
features of studies and *is* training through mean-of-logits fusion. `train_on="view"` fits every view as a row of its
own with its study's targets (the paper's ensemble of single-view models), fused only at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from hilum.errors import UserError
from hilum.evaluate.features import Read, ViewFeatures
from hilum.evaluate.fusion import Fusion
from hilum.evaluate.heads.fit import HEADS, FittedHead, Head, could_go_further, fit_head
from hilum.evaluate.heads.linear import LinearProbe
from hilum.evaluate.rows import Rows, TrainOn, count_parts, part_by_count, part_by_kind, shuffle_targets, take_rows
from hilum.evaluate.scoring.choice import build_scores, measure_macro_auroc, tune_specificities, tune_thresholds
from hilum.evaluate.scoring.scores import Scores
from hilum.evaluate.task import SPLIT_WORDS, Task
from hilum.model.heads import Representation

from .fusions import score_fusions

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
    setting: float  # of the head: C, neighbours or a rate
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


def has_one_class(target: Float[Tensor, " row"]) -> bool:
    """Whether all known targets are 0, or all 1, or there are none: nothing to fit."""
    return bool(torch.nanmean(target).nan_to_num(0) in (0, 1))


def probe_encoder(
    features: ViewFeatures,
    task: Task,
    *,
    name: str,
    representation: Reading = "auto",
    head: Head = "linear",
    weighted: bool = False,
    train_on: TrainOn | None = None,
    fusion: Fusion = "mean_logit",
    settings: Sequence[float] | None = None,
    train_rows: Int64[np.ndarray, " row"] | None = None,
    label_count: int | None = None,
    seed: int = 0,
    shuffle_labels: bool = False,
    fuse_otherwise: bool = False,
) -> ProbeResult:
    """Fit on the training rows, choose representation and setting on validation, score the test rows.

    Args:
        features, task: of the same cache.
        name: what the encoder is called in tables.
        representation: what is read of a view: of several, or of all there are (auto), what is best on validation, the
            first of equals.
        head: what is fitted to it.
        weighted: positives of rare findings count more in training (`fusion.weigh_positives`).
        train_on: studies or views; where not given, as the head is meant to (`heads.HEADS`).
        settings: of the head, which validation chooses among (the first of equals, which of a linear head is the
            strongest penalty); those of `heads.HEADS` where not given.
        train_rows: training rows to use; the whole training split where not given (see `label_subsets.py`).
        label_count, seed: recorded; the seed shuffles labels and belongs to the choice of `train_rows`.
        shuffle_labels: permute the targets among training rows and among validation rows: what a probe of these
            features scores where there is nothing to learn.
        fuse_otherwise: also score the test studies with their views fused in other ways (`fusions.py`), for a linear
            head and a task of studies.

    Raises:
        UserError: no training, validation or test rows, targets of one class, or features without these regions.
    """
    assert features.made_by["cache"] == task.data, "features and task are of different caches"
    parts = list_parts(task, train_rows)
    settings, train_on = settings or HEADS[head].tried, train_on or HEADS[head].train_on
    fit = partial(fit_head, head, train_on=train_on, fusion=fusion, weighted=weighted, seed=seed)
    how = {"settings": settings, "fit": fit, "shuffle_seed": seed if shuffle_labels else None}
    readings = list_readings(features, representation, head)
    best, tried = _fit_best(readings, partial(_fit_reading, features, task, parts, **how))
    probe, train, val = best.probe, best.train, best.val
    test = take_rows(features, task, parts["test"], best.reading)
    chosen_by = val.target.numpy(), probe.score_rows(val).numpy()
    thresholds = tune_thresholds(*chosen_by), tune_specificities(*chosen_by)

    def score(rows: Rows, keep: Tensor | None = None) -> Scores:
        return build_scores(task, rows.row, rows.target.numpy(), probe.score_rows(rows, keep).numpy(), *thresholds)

    return ProbeResult(
        encoder=name,
        task=task,
        features_made_by=features.made_by,
        head=head,
        probe=probe,
        representation=best.reading,
        train_on=train_on,
        weighted=weighted,
        setting=best.setting,
        tried=tried,
        seed=seed,
        label_count=label_count,
        num_train=len(train),
        shuffled=shuffle_labels,
        counts=count_parts(task, {"train": train, "val": val, "test": test}),
        one_class=tuple(one for i, one in enumerate(task.names) if has_one_class(train.training_target[:, i])),
        val=score(val),
        test=score(test),
        by_kind={kind: score(*part) for kind, part in part_by_kind(task, test).items()},
        by_count={count: score(*part) for count, part in part_by_count(task, test).items()},
        by_fusion=_score_fusions(task, best, test, seed) if fuse_otherwise else {},
        notes=_list_notes(head, best, settings),
    )


def list_parts(task: Task, train_rows: Int64[np.ndarray, " row"] | None) -> dict[str, Int64[np.ndarray, " row"]]:
    """The rows of each split, or in training those that are given.

    Raises:
        UserError: a split has no row with a known target.
    """
    parts = {split: task.rows(split) for split in ("train", "val", "test")}
    for split, found in parts.items():
        if not len(found):
            raise UserError(
                f"There is no {SPLIT_WORDS[split]} {task.unit} with a known target of task {task.name}. A small "
                "archive can be probed by cross-validation, which needs no split."
            )
    return parts if train_rows is None else {**parts, "train": train_rows}


@dataclass(frozen=True)
class _Fitted:
    """The head that is best at reading one thing of the views, and the rows it was fitted to and chosen by."""

    reading: Read
    setting: float
    tried: dict[float, float]  # setting -> macro AUROC on validation
    probe: FittedHead
    train: Rows
    val: Rows

    @property
    def value(self) -> float:
        return self.tried[self.setting]


def _fit_best(
    readings: Sequence[Read], fit_reading: Callable[[Read], _Fitted]
) -> tuple[_Fitted, dict[Read, dict[float, float]]]:
    """The reading that is best on validation, the first of equals; and what each was worth with each setting."""
    tried: dict[Read, dict[float, float]] = {}
    best: _Fitted | None = None
    for reading in readings:
        fitted = fit_reading(reading)
        tried[reading] = fitted.tried
        if best is None or fitted.value > best.value:
            best = fitted  # the rows of the one before are let go
    assert best is not None, "features offer something to read"
    return best, tried


def _fit_reading(
    features: ViewFeatures,
    task: Task,
    parts: dict[str, Int64[np.ndarray, " row"]],
    reading: Read,
    *,
    settings: Sequence[float],
    fit: Callable[[Rows, Sequence[float]], Sequence[FittedHead]],
    shuffle_seed: int | None,
) -> _Fitted:
    """The head with the setting that is best on validation; targets of both parts are shuffled if there is a seed."""
    train, val = (take_rows(features, task, parts[part], reading) for part in ("train", "val"))
    if shuffle_seed is not None:
        generator = torch.Generator().manual_seed(shuffle_seed)  # anew: the same labels whatever is read
        train, val = shuffle_targets(train, generator), shuffle_targets(val, generator)
    probes = fit(train, settings)
    values = [measure_macro_auroc(val.target.numpy(), probe.score_rows(val).numpy()) for probe in probes]
    best = int(np.argmax(values))
    return _Fitted(reading, settings[best], dict(zip(settings, values, strict=True)), probes[best], train, val)


def _score_fusions(task: Task, fitted: _Fitted, test: Rows, seed: int) -> dict[str, Scores]:
    """Scores of the test studies, their views fused in other ways; none for a head or a task that knows none."""
    if not isinstance(fitted.probe, LinearProbe) or task.unit != "study":
        return {}
    logits = score_fusions(fitted.probe, fitted.train, fitted.val, test, seed=seed)
    nothing = np.full(len(task.names), np.nan)  # no threshold was tuned for them
    return {
        name: build_scores(task, test.row, test.target.numpy(), logit.numpy(), nothing)
        for name, logit in logits.items()
    }


def _list_notes(head: Head, fitted: _Fitted, settings: Sequence[float]) -> tuple[str, ...]:
    """What a reader must know of how the head was chosen and fitted."""
    notes = []
    at_edge = len(settings) > 1 and fitted.setting in (settings[0], settings[-1])
    if at_edge and could_go_further(head, fitted.setting, len(fitted.train)):
        notes.append(f"The chosen {HEADS[head].setting} {fitted.setting:g} is at the edge of those tried.")
    if isinstance(fitted.probe, LinearProbe) and not fitted.probe.converged:
        notes.append("The regression stopped before it had converged; its scores may be lower than they could be.")
    return tuple(notes)
