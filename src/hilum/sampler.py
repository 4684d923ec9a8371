"""Which studies make which step: a pure function of (seed, epoch, step), the same for any number of processes.

Studies are drawn from endless streams. Each pass of a stream is a new order of all its studies; the number of the pass
is the study's `draw`. An epoch draws as many views as the data holds. Batches hold a near-constant number of *views*:
in each pass, the studies of each size (number of views) are spread evenly, so that any window of a pass holds the
sizes in proportion (a stratified permutation; within a size the order is random).

With a floor for multi-view studies there are two streams, multi-view and single-view, and every step takes the same
number of each; without (or where the data offer more than the floor by itself) there is one, and an epoch draws every
study exactly once.
"""

from __future__ import annotations

import heapq
import math
import warnings
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from jaxtyping import Int64, Shaped, UInt64

from .errors import UserError
from .keyed_random import make_keys


class Draws(NamedTuple):
    """Studies to show, and which time each is drawn in the run."""

    study: Int64[np.ndarray, " draw"]  # position in the sampler's list of studies
    draw: Int64[np.ndarray, " draw"]


@dataclass
class _Stream:
    """Endless draws from some studies, `per_epoch` of them an epoch."""

    name: str
    study: Int64[np.ndarray, " member"]
    size: Int64[np.ndarray, " member"]
    key: UInt64[np.ndarray, " member"]
    per_epoch: int
    _order: tuple[int, np.ndarray] | None = None  # the pass in use: a training run walks through it step by step

    def take(self, seed: int, start: int, stop: int) -> Draws:
        passes = range(start // len(self.study), -(-stop // len(self.study)))
        parts = []
        for number in passes:
            begin = number * len(self.study)
            window = slice(max(start - begin, 0), stop - begin)
            parts.append((self.study[self._permute(seed, number)[window]], number))
        study = np.concatenate([np.empty(0, np.int64), *(part for part, _ in parts)])
        return Draws(study, np.repeat(np.array(passes, np.int64), [len(part) for part, _ in parts]))

    def _permute(self, seed: int, number: int) -> Int64[np.ndarray, " member"]:
        if self._order is not None and self._order[0] == number:
            return self._order[1]
        random = make_keys(f"order/{self.name}", seed, number, self.key.view(np.int64))
        by_size = np.lexsort((random, self.size))  # each size in random order, one size after the other
        sizes, first, count = np.unique(self.size[by_size], return_index=True, return_counts=True)
        # Rank within the size, shifted by one random phase a size and scaled to 0..1: evenly spread, then merged.
        phase = make_keys(f"phase/{self.name}", seed, number, sizes).astype(np.float64) / 2.0**64
        rank = np.arange(len(by_size)) - np.repeat(first, count)
        place = (rank + np.repeat(phase, count)) / np.repeat(count, count)
        self._order = (number, by_size[np.argsort(place, kind="stable")])
        return self._order[1]


@dataclass
class StudySampler:
    """The plan of a run.

    Args:
        num_views: views each study would show (after any cap).
        key: the studies' lasting 64-bit keys; their order in the list does not matter to anything but the indices.
        views_per_step: views in a global batch; batches hold at most about this many, and all about the same.
        multi_view_floor: least share of studies with two or more views in each batch, 0 to 1.
    """

    num_views: Int64[np.ndarray, " study"]
    key: UInt64[np.ndarray, " study"]
    views_per_step: int
    seed: int
    multi_view_floor: float = 0.0
    steps_per_epoch: int = field(init=False)
    _streams: list[_Stream] = field(init=False)

    def __post_init__(self) -> None:
        if not len(self.num_views):
            raise UserError("No study to draw from: the split is empty. Check the fractions of the splits.")
        assert self.num_views.min() >= 1, "a study without views is not in a cache"
        # Drawing order follows the keys, not the list: another order of the same studies is the same plan.
        order = np.argsort(self.key, kind="stable")
        total = int(self.num_views.sum())
        self.steps_per_epoch = math.ceil(total / self.views_per_step)
        multi = order[self.num_views[order] >= 2]
        single = order[self.num_views[order] < 2]
        if self.multi_view_floor > 0 and not len(multi):
            warnings.warn(
                f"No study has two views: the floor of {self.multi_view_floor:.0%} multi-view studies has no effect.",
                stacklevel=2,
            )
        if not len(multi) or len(multi) / len(order) >= self.multi_view_floor:
            self._streams = [self._make_stream("all", order, len(order))]
            return
        views = total / self.steps_per_epoch
        num_multi, num_single = split_step(views, float(self.num_views[multi].mean()), self.multi_view_floor)
        self._streams = [
            self._make_stream("multi", multi, num_multi * self.steps_per_epoch),
            self._make_stream("single", single, num_single * self.steps_per_epoch),
        ]

    def _make_stream(self, name: str, members: Int64[np.ndarray, " member"], per_epoch: int) -> _Stream:
        return _Stream(name, members, self.num_views[members], self.key[members], per_epoch)

    @property
    def least_studies(self) -> int:
        """Studies in the smallest step."""
        return sum(stream.per_epoch // self.steps_per_epoch for stream in self._streams)

    def draw_step(self, epoch: int, step: int) -> Draws:
        """The studies of one global batch, `step` counted within the epoch."""
        assert 0 <= step < self.steps_per_epoch
        assert epoch >= 0
        taken = []
        for stream in self._streams:
            bounds = [
                epoch * stream.per_epoch + stream.per_epoch * edge // self.steps_per_epoch for edge in (step, step + 1)
            ]
            taken.append(stream.take(self.seed, *bounds))
        return Draws(*(np.concatenate(part) for part in zip(*taken, strict=True)))


def split_step(views: float, mean_multi_views: float, floor: float) -> tuple[int, int]:
    """Multi-view and single-view studies of a step of `views` views, with at least `floor` of the studies multi-view.

    x studies of m views and y single ones: x m + y = views and x / (x + y) = floor give x; it is rounded up, and y
    fills the views that are left.
    """
    num_multi = max(1, math.ceil(floor * views / (floor * mean_multi_views + 1 - floor) - 1e-9))
    room = round(views - num_multi * mean_multi_views)
    most = math.floor(num_multi * (1 - floor) / floor + 1e-9)
    return num_multi, max(0, min(room, most))


def choose_views(
    num_views: int | np.integer, max_views: int | None, key: int | np.integer, seed: int, draw: int
) -> Int64[np.ndarray, " chosen"]:
    """Which views of a study are shown: all, or `max_views` drawn without replacement by key, in the study's order."""
    if max_views is None or num_views <= max_views:
        return np.arange(num_views)
    order = np.argsort(make_keys("views", seed, int(key), draw, np.arange(num_views)), kind="stable")
    return np.sort(order[:max_views])


def deal(num_views: Shaped[np.ndarray, " study"], num_parts: int) -> list[Int64[np.ndarray, " dealt"]]:
    """Deal studies to parts so that the parts' views are as equal as can be; each part keeps the studies' order.

    Largest study first, always to the part with fewest views (the longest-processing-time rule).
    """
    parts: list[list[int]] = [[] for _ in range(num_parts)]
    loads = [(0, part) for part in range(num_parts)]
    for study in np.argsort(-num_views, kind="stable"):
        load, part = heapq.heappop(loads)
        parts[part].append(int(study))
        heapq.heappush(loads, (load + int(num_views[study]), part))
    return [np.sort(np.array(part, dtype=np.int64)) for part in parts]
