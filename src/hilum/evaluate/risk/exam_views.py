"""Exams with the features of their views, those of earlier exams of the same woman among them, and their table."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from hilum.cache import Cache
from hilum.evaluate.features import ViewFeatures
from hilum.model.heads import Representation
from hilum.vocabulary import LATERALITIES

from .follow_up import FollowUp, find_earlier_exams

_YEAR = 365.25
_RIGHT = LATERALITIES.index("right")


@dataclass(frozen=True)
class ExamViews:
    """Some exams: exam i owns the views where `owner` is i; owners ascend."""

    vectors: Float[Tensor, "view dim"]
    owner: Int64[Tensor, " view"]
    view_kind: Int64[Tensor, " view"]
    laterality: Int64[Tensor, " view"]
    years_before: Float[Tensor, " view"]  # the exam; 0 of its own views
    table: Float[Tensor, "exam value"]
    target: Float[Tensor, "exam year"]  # NaN: not known
    weight: Float[Tensor, "exam year"]  # of the target in the loss
    years: Float[Tensor, " exam"]  # to cancer if `event`, else to the last follow-up
    event: Bool[Tensor, " exam"]

    def __len__(self) -> int:
        return len(self.target)

    def take(self, exams: Int64[Tensor, " kept"]) -> ExamViews:
        """Some of the exams, in that order."""
        count = torch.bincount(self.owner, minlength=len(self))
        start, kept = count.cumsum(0) - count, count[exams]
        owner = torch.repeat_interleave(torch.arange(len(exams)), kept)
        view = start[exams][owner] + torch.arange(len(owner)) - (kept.cumsum(0) - kept)[owner]
        return ExamViews(
            self.vectors[view], owner, self.view_kind[view], self.laterality[view], self.years_before[view],
            *self._read_exams(exams),
        )  # fmt: skip

    def take_side(self, *, right: bool) -> tuple[ExamViews, Int64[Tensor, " kept"]]:
        """The right breasts, or those that are not right, and the exam of each; of exams that show one themselves."""
        of_side = (self.laterality == _RIGHT) == right
        exams = self.owner[of_side & (self.years_before == 0)].unique()
        view = of_side & torch.isin(self.owner, exams)
        owner = torch.searchsorted(exams, self.owner[view])
        of_view = (self.view_kind[view], self.laterality[view], self.years_before[view])
        return ExamViews(self.vectors[view], owner, *of_view, *self._read_exams(exams)), exams

    def _read_exams(self, exams: Int64[Tensor, " kept"]) -> tuple[Tensor, ...]:
        every = (self.table, self.target, self.weight, self.years, self.event)
        return tuple(of_exam[exams] for of_exam in every)


def take_exams(
    cache: Cache,
    follow_up: FollowUp,
    rows: Int64[np.ndarray, " row"],
    features: ViewFeatures | None,
    representation: Representation,
    *,
    with_table: bool,
    num_earlier: int = 0,
    mask_after_event: bool = False,
) -> ExamViews:
    """Exams of a cache by their rows.

    Args:
        features: of the cache's views; None: none are read.
        with_table: age and density too, NaN where not known.
        num_earlier: earlier exams of the same woman whose views are read too, at most.
        mask_after_event: targets of years after the event's count as not known.
    """
    table = follow_up.table[rows] if with_table else np.zeros((len(rows), 0), np.float32)
    target = torch.from_numpy(follow_up.find_targets(rows, mask_after_event=mask_after_event))
    weight = torch.from_numpy(follow_up.weigh_years(rows))
    outcome = torch.from_numpy(follow_up.years[rows].astype(np.float32)), torch.from_numpy(follow_up.event[rows])
    if features is None:
        none, no = torch.zeros(0, dtype=torch.int64), torch.zeros(0)
        return ExamViews(torch.zeros(0, 0), none, none, none, no, torch.from_numpy(table), target, weight, *outcome)
    first = np.searchsorted(features.study, np.arange(len(follow_up.years) + 1))  # studies ascend
    earlier = find_earlier_exams(follow_up, num_earlier)
    views, owner, before = [], [], []
    for place, row in enumerate(rows):
        for exam in (row, *earlier[row]):
            own = np.arange(first[exam], first[exam + 1])
            views.append(own)
            owner.append(np.full(len(own), place))
            before.append(np.full(len(own), 0 if exam == row else follow_up.day[row] - follow_up.day[exam]))
    view = np.concatenate(views)
    return ExamViews(
        vectors=torch.from_numpy(features.read(representation)[view]),
        owner=torch.from_numpy(np.concatenate(owner)),
        view_kind=torch.from_numpy(features.view_kind[view]),
        laterality=torch.from_numpy(cache.views["laterality"][features.view_row[view]].astype(np.int64)),
        years_before=torch.from_numpy((np.concatenate(before) / _YEAR).astype(np.float32)),
        table=torch.from_numpy(table),
        target=target,
        weight=weight,
        years=outcome[0],
        event=outcome[1],
    )


@dataclass(frozen=True)
class Scale:
    """Means and deviations of training, by which vectors and tables are brought to one size."""

    vectors: tuple[Tensor, Tensor]
    table: tuple[Tensor, Tensor]

    def apply(self, exams: ExamViews) -> ExamViews:
        """What is not known of a table becomes the mean, so that a gap says nothing."""
        vectors = (exams.vectors - self.vectors[0]) / self.vectors[1]
        table = ((exams.table - self.table[0]) / self.table[1]).nan_to_num(0.0)
        return replace(exams, vectors=vectors, table=table)


def fit_scale(exams: ExamViews) -> Scale:
    """Of the training exams."""
    return Scale(_measure(exams.vectors), _measure(exams.table))


def _measure(values: Float[Tensor, "row value"]) -> tuple[Tensor, Tensor]:
    mean = values.nanmean(0).nan_to_num(0.0)
    deviation = ((values - mean) ** 2).nanmean(0).sqrt().nan_to_num(0.0)
    return mean, torch.where(deviation > 1e-6, deviation, torch.ones_like(deviation))
