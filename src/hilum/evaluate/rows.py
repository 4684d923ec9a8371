"""Rows of a task with the features of their views: what probes are fitted to and score."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from hilum.batch import pool_by_owner
from hilum.vocabulary import VIEW_KINDS

from .features import Read, ViewFeatures
from .task import Task

TrainOn = Literal["study", "view"]


@dataclass(frozen=True)
class Rows:
    """Some rows of a task with their views: row i owns the views where `owner` is i."""

    row: Int64[np.ndarray, " row"]
    target: Float[Tensor, "row finding"]
    features: Float[Tensor, "view dim"] | Float[Tensor, "view token dim"]
    owner: Int64[Tensor, " view"]
    view_kind: Int64[Tensor, " view"]
    soft: Float[Tensor, "row finding"] | None = None  # as in the task
    mirrored: Float[Tensor, "view dim"] | None = None  # features of the views mirrored, where there are such of all
    exclusive: bool = False  # whether the targets are classes, one to a row

    @property
    def training_target(self) -> Float[Tensor, "row finding"]:
        """What a fit takes: `target`, or the soft value where there is one."""
        return self.target if self.soft is None else torch.where(self.soft.isnan(), self.target, self.soft)

    def __len__(self) -> int:
        return len(self.row)

    def take(self, keep: Bool[np.ndarray, " row"]) -> Rows:
        """Some of the rows, with their views."""
        new = torch.from_numpy(np.cumsum(keep) - 1)
        views = torch.from_numpy(keep)[self.owner]
        return Rows(
            self.row[keep],
            self.target[torch.from_numpy(keep)],
            self.features[views],
            new[self.owner[views]],
            self.view_kind[views],
            None if self.soft is None else self.soft[torch.from_numpy(keep)],
            None if self.mirrored is None else self.mirrored[views],
            self.exclusive,
        )


def take_rows(features: ViewFeatures, task: Task, row: Int64[np.ndarray, " row"], representation: Read) -> Rows:
    """The views and targets of some rows of a task."""
    if task.unit == "view":
        shown = task.find_views(row)
        place = np.full(1 + max(shown.max(initial=-1), features.view_row.max(initial=-1)), -1)
        place[features.view_row] = np.arange(len(features.view_row))
        row, view = row[place[shown] >= 0], place[shown]  # views beyond a cap have no features
        view, owner = view[view >= 0], np.arange(len(row))
    elif task.unit == "breast":
        assert task.owner is not None, "a task of breasts knows whose each view is"
        place = np.full(len(task.study) + 1, -1)  # the last: views of no breast
        place[row] = np.arange(len(row))
        owner = place[task.owner[features.view_row]]
        view = np.argsort(owner, kind="stable")  # those of a breast together, in their order
        view = view[owner[view] >= 0]
        owner = owner[view]
    else:
        place = np.full(len(task.study), -1)
        place[row] = np.arange(len(row))
        view = np.flatnonzero(place[features.study] >= 0)
        owner = place[features.study[view]]
    return Rows(
        row=row,
        target=torch.from_numpy(task.target[row]),
        features=torch.from_numpy(
            features.read_tokens()[view] if representation == "tokens" else features.read(representation)[view]
        ),
        owner=torch.from_numpy(owner),
        view_kind=torch.from_numpy(features.view_kind[view]),
        soft=None if task.soft is None else torch.from_numpy(task.soft[row]),
        mirrored=_take_mirrored(features, view, representation),
        exclusive=task.is_exclusive,
    )


def _take_mirrored(
    features: ViewFeatures, view: Int64[np.ndarray, " view"], representation: Read
) -> Float[Tensor, "view dim"] | None:
    """The same views mirrored; None where features of one of them are not there, as in validation and test."""
    mirrored = features.mirrored
    if mirrored is None or representation == "tokens" or not np.isin(features.view_row[view], mirrored.view_row).all():
        return None
    order = np.argsort(mirrored.view_row)
    place = order[np.searchsorted(mirrored.view_row, features.view_row[view], sorter=order)]
    return torch.from_numpy(mirrored.read(representation)[place])


def pool_rows(rows: Rows, train_on: TrainOn) -> tuple[Float[Tensor, "row dim"], Float[Tensor, "row finding"]]:
    """What is fitted: mean features of studies, or each view with the targets of its owner."""
    if train_on == "study":
        return pool_by_owner(rows.features.double(), rows.owner, len(rows)), rows.training_target
    return rows.features.double(), rows.training_target[rows.owner]


def shuffle_targets(rows: Rows, generator: torch.Generator) -> Rows:
    """The rows with their targets dealt out anew."""
    order = torch.randperm(len(rows), generator=generator)
    return replace(rows, target=rows.target[order], soft=None if rows.soft is None else rows.soft[order])


def count_parts(task: Task, parts: dict[str, Rows]) -> dict[str, int]:
    """Rows (studies, breasts or views), patients and views of each part, for the record."""
    counts = {}
    for name, rows in parts.items():
        counts[f"{name}_patients"] = len(np.unique(task.patient[rows.row]))
        counts[f"{name}_{'studies' if task.unit == 'study' else 'rows'}"] = len(rows)
        counts[f"{name}_views"] = len(rows.owner)
    return counts


def part_by_count(task: Task, rows: Rows) -> dict[str, tuple[Rows, Bool[Tensor, " view"] | None]]:
    """The studies that have two or more views, seen by their first, their first two and all of them (M 7.3 L).

    "First" is the order of the study table. The same studies in each part; two are named only where some have three.
    """
    counts = torch.bincount(rows.owner, minlength=len(rows))
    several = (counts > 1).numpy()
    if task.unit == "view" or not several.any():
        return {}
    part = rows.take(several)
    owner = part.owner
    place = torch.arange(len(owner)) - torch.searchsorted(owner, owner)  # within its study; owners ascend
    parts: dict[str, tuple[Rows, Tensor | None]] = {"1": (part, place < 1)}
    if bool((counts > 2).any()):
        parts["2"] = (part, place < 2)
    return {**parts, "all": (part, None)}


def part_by_kind(task: Task, rows: Rows) -> dict[str, tuple[Rows, Bool[Tensor, " view"] | None]]:
    """The studies that have both of the commonest kinds of view, seen by all their views and by each kind (M 7.3 L).

    The same studies in each part, so that the gain of a second view is not one of other patients.
    """
    if task.unit == "view":
        return {}
    has = torch.zeros(len(rows), len(VIEW_KINDS), dtype=torch.bool)
    has[rows.owner, rows.view_kind] = True
    common = has.sum(dim=0).argsort(descending=True, stable=True)[:2].tolist()
    both = has[:, common].all(dim=1).numpy()
    if not both.any():
        return {}
    part = rows.take(both)
    parts: dict[str, tuple[Rows, Tensor | None]] = {"all": (part, None)}
    for kind in sorted(common):
        parts[VIEW_KINDS[kind]] = (part, part.view_kind == kind)
    return parts
