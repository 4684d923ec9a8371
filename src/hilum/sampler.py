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

With a share wanted of studies (or breasts) with findings, these are drawn more often and all others less, within the
same limit: an epoch's draws, of each kind as many in every epoch, are dealt to the steps so that every step has the
same number with findings, to one. Each kind goes on with its passes from epoch to epoch. No step then holds a study
twice, and with patients given no two of one patient. A floor for multi-view studies holds beside it.

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
from jaxtyping import Bool, Int64, Shaped, UInt64

from .errors import UserError
from .keyed_random import make_keys
from .spreading import spread_patients
from .step_shares import count_draws, limit_draws, limit_share, split_step, weigh_kinds

_ROUNDED = 0.01  # of a share: draws are whole


class Draws(NamedTuple):
    """Studies to show, and which time each is drawn in the run."""

    study: Int64[np.ndarray, " draw"]  # position in the sampler's list of studies
    draw: Int64[np.ndarray, " draw"]


class FindingShare(NamedTuple):
    """What became of a wanted share of studies, or breasts, with findings."""

    num: int  # with a finding
    of: int  # in all
    share: float  # of those with a finding in an epoch's draws
    times: float  # as often as one without is one with a finding drawn


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
        with_finding: which have a finding, where a share of them is wanted.
        finding_share: least share of studies with findings in a step, on average over an epoch; each step has the same
            number of them, to one. `max_oversampling` holds for them too, and where the two come together for both.

    Attributes:
        floor: the floor that the limit on oversampling leaves.
        findings: what became of the share of those with findings; None where none is wanted.
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
    with_finding: Bool[np.ndarray, " study"] | None = None
    finding_share: float = 0.0
    findings: FindingShare | None = field(init=False, default=None)
    floor: float = field(init=False)
    steps_per_epoch: int = field(init=False)
    least_studies: int = field(init=False)
    _streams: list[tuple[_Stream, int | None]] = field(init=False)  # and the studies a step takes; None: a cut pass
    _kinds: list[tuple[_Stream, int]] = field(init=False, default_factory=list)  # and the studies an epoch takes
    _dealt: tuple[int, Draws, np.ndarray] | None = field(init=False, default=None)  # the latest epoch that was spread

    def __post_init__(self) -> None:
        if not len(self.num_views):
            raise UserError("No study to draw from: the split is empty. Check the fractions of the splits.")
        assert self.num_views.min() >= 1, "a study without views is not in a cache"
        total, largest = int(self.num_views.sum()), int(self.num_views.max())
        self.steps_per_epoch = math.ceil(total / self.views_per_step)
        self._streams = []
        if self.patient is not None or self.with_finding is not None:
            assert self.patient is None or not self.multi_view_floor, "the one or the other decides what a step holds"
            self.floor, times = 0.0, np.ones(len(self.num_views), np.int64)
            if self.with_finding is not None:
                times = self._balance_findings()
            most = int(np.bincount(np.unique(self._owner, return_inverse=True)[1], weights=times).max())
            if most > self.steps_per_epoch:  # then each step holds one of that patient at least
                self.steps_per_epoch = most
            else:
                self._check_room(total, largest)
            self.least_studies = int(np.diff(self._deal_epoch(0)[1]).min())
            return
        self._check_room(total, largest)
        views = total / self.steps_per_epoch
        is_multi = self._find_multi()
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

    def _find_multi(self) -> Bool[np.ndarray, " study"]:
        is_multi = self.num_views >= 2
        if self.multi_view_floor > 0 and not is_multi.any():
            warnings.warn(
                f"No study has two views: the floor of {self.multi_view_floor:.0%} multi-view studies has no effect.",
                stacklevel=4,
            )
        return is_multi

    def _check_room(self, total: int, largest: int) -> None:
        views = total / self.steps_per_epoch
        if views < largest:
            raise UserError(
                f"{self.views_per_step} views a step (steps of {views:.0f}, to share {total} evenly) are too few for "
                f"studies of up to {largest} views: raise them (data.views_per_step), or set data.max_views."
            )

    @property
    def _owner(self) -> Int64[np.ndarray, " study"]:
        """Of whom no step holds two."""
        return np.arange(len(self.num_views)) if self.patient is None else self.patient

    def _balance_findings(self) -> Int64[np.ndarray, " study"]:
        """How many of each kind an epoch draws; returns how often it draws each study at most."""
        assert self.with_finding is not None
        is_multi = self._find_multi() & (self.multi_view_floor > 0)
        kind = 2 * self.with_finding + is_multi
        num, views = (np.bincount(kind, one, 4).astype(np.int64) for one in (None, self.num_views))
        multi, found = np.array([False, True] * 2), np.array([False] * 2 + [True] * 2)
        wanted = [(multi, self.multi_view_floor), (found, self.finding_share)]
        draws = count_draws(num, views, weigh_kinds(num, wanted, self.max_oversampling))
        times = np.zeros(len(kind), np.int64)
        for one, name in enumerate(("rest", "multi rest", "finding", "multi finding")):
            if draws[one]:
                self._kinds.append((self._make_stream(name, np.flatnonzero(kind == one)), int(draws[one])))
                times[kind == one] = limit_draws(int(draws[one]), int(num[one]))
        reached = float(draws[multi].sum() / draws.sum())
        self.floor = self.multi_view_floor if reached > self.multi_view_floor - _ROUNDED else reached
        rate = draws[found].sum() / max(num[found].sum(), 1), draws[~found].sum() / max(num[~found].sum(), 1)
        self.findings = FindingShare(
            int(num[found].sum()), len(kind), float(draws[found].sum() / draws.sum()),
            rate[0] / rate[1] if rate[1] else math.inf,
        )  # fmt: skip
        return times

    def _deal_epoch(self, number: int) -> tuple[Draws, Int64[np.ndarray, " edge"]]:
        """The draws of an epoch, step after step, and where each step begins (and the last one ends)."""
        if self._dealt is None or self._dealt[0] != number:
            even = []
            if self.with_finding is None:
                study = np.arange(len(self.num_views))
                draw = np.full(len(study), number)
                random = make_keys("apart", self.seed, number, self.key.view(np.int64))
            else:
                taken = [stream.take(self.seed, number * each, (number + 1) * each) for stream, each in self._kinds]
                study, draw = (np.concatenate(part) for part in zip(*taken, strict=True))
                random = make_keys("balanced", self.seed, number, self.key.view(np.int64)[study], draw)
                even = [self.with_finding[study]]
                if self.multi_view_floor:
                    even.append(self.num_views[study] >= 2)
            step = spread_patients(self.num_views[study], self._owner[study], random, self.steps_per_epoch, even)
            order = np.lexsort((random, step))
            edges = np.searchsorted(step[order], np.arange(self.steps_per_epoch + 1))
            self._dealt = (number, Draws(study[order], draw[order]), edges)
        return self._dealt[1:]

    def _make_stream(self, name: str, members: Int64[np.ndarray, " member"]) -> _Stream:
        size = self.num_views[members]
        return _Stream(name, members, size, self.key[members], int(size.sum()))

    def draw_step(self, epoch: int, step: int) -> Draws:
        """The studies of one global batch, `step` counted within the epoch."""
        assert 0 <= step < self.steps_per_epoch
        assert epoch >= 0
        if self.patient is not None or self.with_finding is not None:
            drawn, edges = self._deal_epoch(epoch)
            return Draws(*(part[edges[step] : edges[step + 1]] for part in drawn))
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
