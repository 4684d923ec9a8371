"""Which studies make which step: a pure function of (seed, epoch, step), the same for any number of processes.

Studies are drawn from endless streams. Each pass of a stream is a new order of all its studies; the number of the pass
is the study's `draw`. An epoch draws as many views as the data holds, in batches of near-constant *views*.

Without a floor for multi-view studies (or where the data offer more by themselves) there is one stream, whose passes
are the epochs: each draws every study once. A pass, laid out view after view, is cut into equal lengths; a study goes
where its first view lies. With a floor there are two streams, multi-view and single-view, and every step takes the same
number of studies from each, so the floor holds in every batch. Where few studies have two views, a floor would show
those few over and over in place of all others; so there is a limit to how much more often than others they are drawn,
and the floor gives way to it (46 of 1,416 real studies at half of every step taught an encoder nothing: LOG.md).

With patients given, no step holds two studies (or breasts) of one patient: each pass is dealt to the steps anew, so
that all are drawn once and steps differ by the views of one of them at most. What is contrasted within a step is then
of different patients, and none is lost by being masked (L 1.5).

In a pass of the other kind the studies of each size (number of views) are spread evenly, in random order within the
size, so that any stretch of it holds the sizes in proportion (a stratified permutation): batches differ little in
studies as well.
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
    """Endless draws from some studies, pass after pass."""

    name: str
    study: Int64[np.ndarray, " member"]
    size: Int64[np.ndarray, " member"]
    key: UInt64[np.ndarray, " member"]
    total: int  # views of all members
    _latest: tuple[int, np.ndarray, np.ndarray] | None = None  # a training run walks through a pass step by step

    def order_pass(self, seed: int, number: int) -> tuple[Int64[np.ndarray, " member"], Int64[np.ndarray, " member"]]:
        """The members in this pass's order, and how many views come before each."""
        if self._latest is not None and self._latest[0] == number:
            return self._latest[1:]
        random = make_keys(f"order/{self.name}", seed, number, self.key.view(np.int64))
        by_size = np.lexsort((random, self.size))  # each size in random order, one size after the other
        sizes, first, count = np.unique(self.size[by_size], return_index=True, return_counts=True)
        # Rank within the size, shifted by one random phase a size and scaled to 0..1: evenly spread, then merged.
        phase = make_keys(f"phase/{self.name}", seed, number, sizes).astype(np.float64) / 2.0**64
        rank = np.arange(len(by_size)) - np.repeat(first, count)
        order = by_size[np.argsort((rank + np.repeat(phase, count)) / np.repeat(count, count), kind="stable")]
        self._latest = (number, order, np.cumsum(self.size[order]) - self.size[order])
        return self._latest[1:]

    def cut_pass(self, seed: int, number: int, num_parts: int, edge: np.ndarray) -> Int64[np.ndarray, " edge"]:
        """Where the `edge`-th of `num_parts` stretches of a pass begin, equal in views but for straddling studies."""
        return np.searchsorted(self.order_pass(seed, number)[1], self.total * edge // num_parts)

    def take(self, seed: int, start: int, stop: int) -> Draws:
        """The studies from position `start` to `stop`, counted from the first pass on."""
        studies, draws = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        for number in range(start // len(self.study), -(-stop // len(self.study))):
            begin = number * len(self.study)
            studies.append(self.study[self.order_pass(seed, number)[0][max(start - begin, 0) : stop - begin]])
            draws.append(np.full(len(studies[-1]), number))
        return Draws(np.concatenate(studies), np.concatenate(draws))


@dataclass
class StudySampler:
    """The plan of a run.

    Args:
        num_views: views each study would show (after any cap).
        key: the studies' lasting 64-bit keys; their order in the list does not matter to anything but the indices.
        views_per_step: views in a global batch; batches hold at most about this many, and all about the same.
        multi_view_floor: least share of studies with two or more views in each batch, 0 to 1.
        max_oversampling: a multi-view study is drawn at most about this many times as often as a single-view one.
        patient: whose each is, where no step may hold two of one patient; not together with a floor. Steps are then at
            least as many as the studies of any patient, and smaller for it where the data are few.

    Attributes:
        floor: the floor that the limit on oversampling leaves.
        steps_per_epoch: batches in an epoch.
        least_studies: studies in the smallest batch (of the first epoch; others are alike).
    """

    num_views: Int64[np.ndarray, " study"]
    key: UInt64[np.ndarray, " study"]
    views_per_step: int
    seed: int
    multi_view_floor: float = 0.0
    max_oversampling: float = math.inf
    patient: Int64[np.ndarray, " study"] | None = None
    floor: float = field(init=False)
    steps_per_epoch: int = field(init=False)
    least_studies: int = field(init=False)
    _streams: list[tuple[_Stream, int | None]] = field(init=False)  # and the studies a step takes; None: a cut pass
    _dealt: tuple[int, np.ndarray, np.ndarray] | None = field(init=False, default=None)  # the latest pass by patients

    def __post_init__(self) -> None:
        if not len(self.num_views):
            raise UserError("No study to draw from: the split is empty. Check the fractions of the splits.")
        assert self.num_views.min() >= 1, "a study without views is not in a cache"
        total, largest = int(self.num_views.sum()), int(self.num_views.max())
        self.steps_per_epoch = math.ceil(total / self.views_per_step)
        self._streams = []
        if self.patient is not None:
            assert not self.multi_view_floor, "the one or the other decides what a step holds"
            most = int(np.unique(self.patient, return_counts=True)[1].max())
            if most > self.steps_per_epoch:  # then each step holds one of that patient at least
                self.steps_per_epoch = most
            else:
                self._check_room(total, largest)
            self.floor = 0.0
            self.least_studies = int(np.diff(self._deal_pass(0)[1]).min())
            return
        self._check_room(total, largest)
        views = total / self.steps_per_epoch
        is_multi = self.num_views >= 2
        if self.multi_view_floor > 0 and not is_multi.any():
            warnings.warn(
                f"No study has two views: the floor of {self.multi_view_floor:.0%} multi-view studies has no effect.",
                stacklevel=2,
            )
        self.floor = min(self.multi_view_floor, limit_share(float(is_multi.mean()), self.max_oversampling))
        if is_multi.any() and is_multi.mean() < self.floor:
            multi, single = (
                self._make_stream(name, np.flatnonzero(chosen))
                for name, chosen in (("multi", is_multi), ("single", ~is_multi))
            )
            num_multi, num_single = split_step(views, float(multi.size.mean()), self.floor)
            self._streams = [(multi, num_multi), (single, num_single)]
            self.least_studies = num_multi + num_single
        else:
            stream = self._make_stream("all", np.arange(len(self.num_views)))
            self._streams = [(stream, None)]
            edges = stream.cut_pass(self.seed, 0, self.steps_per_epoch, np.arange(self.steps_per_epoch + 1))
            self.least_studies = int(np.diff(edges).min())

    def _check_room(self, total: int, largest: int) -> None:
        views = total / self.steps_per_epoch
        if views < largest:
            raise UserError(
                f"{self.views_per_step} views a step (steps of {views:.0f}, to share {total} evenly) are too few for "
                f"studies of up to {largest} views: raise them (data.views_per_step), or set data.max_views."
            )

    def _deal_pass(self, number: int) -> tuple[Int64[np.ndarray, " study"], Int64[np.ndarray, " edge"]]:
        """The studies of a pass, step after step, and where each step begins (and the last one ends)."""
        assert self.patient is not None
        if self._dealt is None or self._dealt[0] != number:
            random = make_keys("apart", self.seed, number, self.key.view(np.int64))
            step = spread_patients(self.num_views, self.patient, random, self.steps_per_epoch)
            order = np.lexsort((random, step))
            self._dealt = (number, order, np.searchsorted(step[order], np.arange(self.steps_per_epoch + 1)))
        return self._dealt[1:]

    def _make_stream(self, name: str, members: Int64[np.ndarray, " member"]) -> _Stream:
        size = self.num_views[members]
        return _Stream(name, members, size, self.key[members], int(size.sum()))

    def draw_step(self, epoch: int, step: int) -> Draws:
        """The studies of one global batch, `step` counted within the epoch."""
        assert 0 <= step < self.steps_per_epoch
        assert epoch >= 0
        if self.patient is not None:
            order, edges = self._deal_pass(epoch)
            study = order[edges[step] : edges[step + 1]]
            return Draws(study, np.full(len(study), epoch))
        taken = []
        for stream, per_step in self._streams:
            if per_step is None:
                edges = stream.cut_pass(self.seed, epoch, self.steps_per_epoch, np.array([step, step + 1]))
                start, stop = (epoch * len(stream.study) + edges).tolist()
            else:
                start = (epoch * self.steps_per_epoch + step) * per_step
                stop = start + per_step
            taken.append(stream.take(self.seed, start, stop))
        return Draws(*(np.concatenate(part) for part in zip(*taken, strict=True)))


def spread_patients(
    num_views: Int64[np.ndarray, " study"],
    patient: Int64[np.ndarray, " study"],
    random: UInt64[np.ndarray, " study"],
    num_steps: int,
) -> Int64[np.ndarray, " study"]:
    """The step of each study, so that no step has two of one patient and steps have nearly the same number of views.

    Patients with most studies first, of these the ones with most views, otherwise in random order. A patient's go to as
    many different steps, the ones with fewest views so far (at random among equals), the largest to the emptiest. Steps
    then never differ by more views than the largest study has: the emptiest gain no less than the fuller ones.
    """
    _, owner, count = np.unique(patient, return_inverse=True, return_counts=True)
    assert count.max() <= num_steps, "a patient has more studies than there are steps"
    turn = np.full(len(count), np.iinfo(np.uint64).max, np.uint64)
    np.minimum.at(turn, owner, random)
    views = np.bincount(owner, weights=num_views)
    order = np.lexsort((random, -num_views, turn[owner], -views[owner], -count[owner]))
    places, sizes, ties = np.empty(len(order), np.int64), num_views[order].tolist(), random[order].tolist()
    steps = [(0, step, step) for step in range(num_steps)]  # views, tie, step
    first = 0
    while first < len(order):
        last = first + int(count[owner[order[first]]])
        emptiest = [heapq.heappop(steps) for _ in range(first, last)]
        for place, (held, _, step) in zip(range(first, last), emptiest, strict=True):
            heapq.heappush(steps, (held + sizes[place], ties[place], step))
            places[order[place]] = step
        first = last
    return places


def limit_share(share: float, max_oversampling: float) -> float:
    """Share of draws of a part of the studies, each drawn `max_oversampling` times as often as a study of the rest."""
    return 1 / (1 + (1 - share) / (share * max_oversampling)) if share else 0.0


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
