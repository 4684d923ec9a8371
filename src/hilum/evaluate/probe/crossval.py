"""Repeated cross-validation by patient, for archives too small for a test split of their own.

Every row is scored by a probe that saw neither it nor any study of its patient. What is read of an image, the head's
setting and the thresholds are chosen inside the training part of each fold, from out-of-fold scores of its own, so that
no choice sees a test row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import polars as pl
import torch
from jaxtyping import Float, Int64

from hilum.errors import UserError
from hilum.evaluate.features import Read, ViewFeatures
from hilum.evaluate.fusion import Fusion
from hilum.evaluate.heads.fit import HEADS, FittedHead, Head, fit_head
from hilum.evaluate.rows import Rows, TrainOn, count_parts, shuffle_targets, take_rows
from hilum.evaluate.scoring.choice import decide, measure_macro_auroc, tune_thresholds
from hilum.evaluate.scoring.scores import Scores
from hilum.evaluate.task import Task
from hilum.identifiers import hash_to_unit

from .run import Reading, list_readings

NUM_FOLDS = 5


@dataclass(frozen=True)
class CrossValidation:
    """Out-of-fold scores of all rows, one repeat for each round of folds."""

    encoder: str
    task: Task
    features_made_by: dict
    head: Head
    weighted: bool
    representation: Reading
    num_folds: int
    num_repeats: int
    seed: int
    shuffled: bool
    representations: tuple[Read, ...]  # chosen, one for each fold of each repeat
    settings: tuple[float, ...]  # of the head, the same
    counts: dict[str, int]
    scores: Scores


def assign_folds(group: pl.Series, num_folds: int, salt: str) -> Int64[np.ndarray, " row"]:
    """The fold of each row: patient groups in hashed order are dealt out in turn."""
    place = hash_to_unit(group.unique().to_list(), salt)
    names = sorted(place, key=lambda name: (place[name], name))
    if len(names) < num_folds:
        raise UserError(f"{len(names)} patients cannot be dealt into {num_folds} folds: choose fewer folds.")
    fold = {name: place % num_folds for place, name in enumerate(names)}
    return np.array([fold[name] for name in group.to_list()])


def crossvalidate_probe(
    features: ViewFeatures,
    task: Task,
    *,
    name: str,
    representation: Reading = "auto",
    head: Head = "linear",
    weighted: bool = False,
    train_on: TrainOn = "study",
    fusion: Fusion = "mean_logit",
    settings: Sequence[float] | None = None,
    num_folds: int = NUM_FOLDS,
    num_repeats: int = 3,
    seed: int = 0,
    shuffle_labels: bool = False,
) -> CrossValidation:
    """Score every row of the task, whatever split it is in, by probes fitted on other patients.

    Metrics are taken of all folds' scores together, once for each repeat, and averaged over repeats; the intervals
    draw patients, and so do not shrink with the number of repeats.
    """
    assert features.made_by["cache"] == task.data, "features and task are of different caches"
    readings, settings = list_readings(features, representation, head), settings or HEADS[head].tried

    def fit(part: Rows, tried: Sequence[float]) -> Sequence[FittedHead]:
        return fit_head(head, part, tried, train_on, fusion, weighted=weighted, seed=seed)

    parts = [take_rows(features, task, task.rows(), reading) for reading in readings]
    rows = parts[0]  # rows and targets are the same in all
    group = task.group.gather(rows.row)
    logit = np.full((num_repeats, len(rows), len(task.names)), np.nan)
    decision = logit.copy()
    chosen: list[tuple[Read, float]] = []
    for repeat in range(num_repeats):
        fold = assign_folds(group, num_folds, f"folds/{seed}/{repeat}")
        shown = parts
        if shuffle_labels:
            shown = [shuffle_targets(part, torch.Generator().manual_seed(seed * 1000 + repeat)) for part in parts]
        inner = [score_inner_folds(part, fold, settings, fit) for part in shown]
        for test in range(num_folds):
            train, held = fold != test, fold == test
            target = shown[0].target.numpy()[train]
            said = [logits for part in inner for logits in part[test][:, train]]  # by representation, then setting
            best = int(np.argmax([measure_macro_auroc(target, logits) for logits in said]))
            place, setting = best // len(settings), settings[best % len(settings)]
            chosen.append((readings[place], setting))
            probe = fit(shown[place].take(train), [setting])[0]
            logit[repeat, held] = probe.score_rows(parts[place].take(held)).numpy()
            decision[repeat, held] = decide(logit[repeat, held], tune_thresholds(target, said[best]))
    return CrossValidation(
        encoder=name,
        task=task,
        features_made_by=features.made_by,
        head=head,
        weighted=weighted,
        representation=representation,
        num_folds=num_folds,
        num_repeats=num_repeats,
        seed=seed,
        shuffled=shuffle_labels,
        representations=tuple(reading for reading, _ in chosen),
        settings=tuple(setting for _, setting in chosen),
        counts=count_parts(task, {"test": rows}),
        scores=Scores(
            task.names, rows.target.numpy(), logit, decision, task.patient[rows.row], rows.row, classes=task.classes
        ),
    )


def score_inner_folds(
    rows: Rows,
    fold: Int64[np.ndarray, " row"],
    settings: Sequence[float],
    fit: Callable[[Rows, Sequence[float]], Sequence[FittedHead]],
) -> Float[np.ndarray, "fold setting row finding"]:
    """For each test fold, the logits of all other rows by probes that saw neither their own fold nor the test fold.

    A probe without folds i and j scores j for the test fold i, and i for the test fold j.
    """
    num_folds = int(fold.max()) + 1
    said = np.full((num_folds, len(settings), *rows.target.shape), np.nan)
    for one, other in combinations(range(num_folds), 2):
        probes = fit(rows.take((fold != one) & (fold != other)), settings)
        for test, held in ((one, other), (other, one)):
            part = rows.take(fold == held)
            for place, probe in enumerate(probes):
                said[test, place, fold == held] = probe.score_rows(part).numpy()
    return said
