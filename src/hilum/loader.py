"""Packed batches from a cache: views that exist, their owners, their crops; nothing padded, nothing decoded.

In-process: a few threads copy crops out of the mapped shards ahead of time (copying gives up Python's lock), which is
so much cheaper than decoding that worker processes would only add their overhead.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from jaxtyping import Bool, Float64, Int64, Integer

from .batch import StudyBatch, make_no_descriptions, make_no_texts
from .breast_views import NONE, find_findings, list_breasts
from .cache import Cache
from .config import CropConfig
from .errors import UserError
from .keyed_random import draw_uniform, make_keys
from .sampler import FindingShare, StudySampler, choose_views, deal
from .teachers.vectors import TeacherVectors
from .text.descriptions import DescriptionTable
from .text.report_tokens import ReportTokens

T = TypeVar("T")


class Step(NamedTuple):
    """One optimiser step's data for this process."""

    epoch: int
    step: int  # within the epoch
    micro_batches: list[StudyBatch]


class StudyLoader:
    """Training batches: an endless, reproducible stream that starts at any (epoch, step).

    The global batch of a step is a function of (seed, epoch, step); it is dealt to `world_size * accumulate`
    micro-batches balanced in views. Crops are keyed by study and draw. So a resumed run, or one with another number of
    processes, sees the same pixels.

    Args:
        cache, rows: an opened cache, and the rows of the studies to draw from.
        views_per_step: views in a global batch (at most about; near-constant).
        max_views: at most this many views of a study, drawn anew each time; None: all.
        breasts: of a cache of mammograms, one CC and one MLO image of each breast, drawn anew each time; studies with
            neither are left out.
        one_per_patient: no step shows two breasts (of other caches, two studies) of one patient; a study's breasts are
            drawn one by one.
        looks: how often each of them is shown, every time in another crop; the further looks at a study come after
            the first at all of its images, and count as views.
        multi_view_floor: least share of studies with two or more views in each global batch, as far as
            `max_oversampling` allows: how many times as often as a single-view study one of them may be drawn.
        finding_share: least share of breasts with findings in each global batch (of whole exams, of those with one),
            to one, as far as `max_oversampling` allows; of a cache of mammograms, with `breasts`.
        crop: which part of an image is shown.
        texts: the reports that studies are shown with; None: batches hold none.
        teachers: the vectors that studies are shown with, by teacher.
        descriptions: the texts that images are compared with; None: batches hold none.
        rank, world_size, accumulate: this process, how many there are, and micro-batches each computes a step in.
        num_threads: threads that copy ahead.

    Attributes:
        steps_per_epoch: an epoch draws as many views as `rows` hold.
        seconds_waited: time the consumer waited for data since the loader was made.
    """

    def __init__(
        self,
        cache: Cache,
        rows: Int64[np.ndarray, " study"],
        *,
        views_per_step: int,
        seed: int,
        max_views: int | None = None,
        breasts: bool = False,
        one_per_patient: bool = False,
        looks: int = 1,
        multi_view_floor: float = 0.0,
        max_oversampling: float = math.inf,
        finding_share: float = 0.0,
        crop: CropConfig | None = None,
        texts: ReportTokens | None = None,
        teachers: Mapping[str, TeacherVectors] | None = None,
        descriptions: DescriptionTable | None = None,
        rank: int = 0,
        world_size: int = 1,
        accumulate: int = 1,
        num_threads: int = 2,
    ) -> None:
        assert 0 <= rank < world_size
        assert accumulate >= 1
        crop = crop or CropConfig()
        self._packer = _Packer(
            cache, rows, seed, max_views, crop, texts, teachers or {}, descriptions, breasts, looks, one_per_patient
        )
        with_finding, self._kinds = self._packer.find_findings() if finding_share else (None, {})
        self._sampler = StudySampler(
            self._packer.num_shown,
            self._packer.key.view(np.uint64),
            views_per_step,
            seed,
            multi_view_floor,
            max_oversampling,
            self._packer.patient[self._packer.study] if one_per_patient else None,
            with_finding,
            finding_share,
        )
        self._rank, self._world_size, self._accumulate = rank, world_size, accumulate
        self._num_threads = num_threads
        self.seconds_waited = 0.0
        if self._sampler.least_studies < world_size * accumulate:
            raise UserError(
                f"A step of {views_per_step} views holds as few as {self._sampler.least_studies} studies, which cannot "
                f"be dealt to {world_size} processes x {accumulate} parts. Raise data.views_per_step, or lower "
                "optim.accumulate or run.devices."
            )

    @property
    def steps_per_epoch(self) -> int:
        return self._sampler.steps_per_epoch

    @property
    def mean_views(self) -> float:
        """Views in a step, on average."""
        return float(self._packer.num_shown.sum()) / self.steps_per_epoch

    @property
    def multi_view_floor(self) -> float:
        """Least share of multi-view studies in a step, after the limit on oversampling."""
        return self._sampler.floor

    @property
    def findings(self) -> tuple[FindingShare, dict[str, int]] | None:
        """What became of the share of breasts with findings, and how many breasts have which; None: none wanted."""
        return None if self._sampler.findings is None else (self._sampler.findings, self._kinds)

    def iterate(self, epoch: int = 0, step: int = 0) -> Iterator[Step]:
        """Steps without end from this position; `step` counts within the epoch."""

        def walk() -> Iterator[Callable[[], Step]]:
            at = epoch * self.steps_per_epoch + step
            while True:
                yield self._plan_step(*divmod(at, self.steps_per_epoch))
                at += 1

        for ready, waited in _prefetch(walk(), self._num_threads):
            self.seconds_waited += waited
            yield ready

    def _plan_step(self, epoch: int, step: int) -> Callable[[], Step]:
        drawn = self._sampler.draw_step(epoch, step)
        parts = deal(self._packer.num_shown[drawn.study], self._world_size * self._accumulate)
        mine = parts[self._rank * self._accumulate : (self._rank + 1) * self._accumulate]
        return lambda: Step(epoch, step, [self._packer.pack(drawn.study[part], drawn.draw[part]) for part in mine])


def iterate_studies(
    cache: Cache,
    rows: Int64[np.ndarray, " study"],
    *,
    views_per_batch: int,
    crop: CropConfig | None = None,
    max_views: int | None = None,
    breasts: bool = False,
    texts: ReportTokens | None = None,
    teachers: Mapping[str, TeacherVectors] | None = None,
    descriptions: DescriptionTable | None = None,
    num_threads: int = 2,
) -> Iterator[StudyBatch]:
    """Batches for evaluation: every study of `rows` once, in their order, nothing random.

    Args:
        views_per_batch: a batch is closed before it would hold more views (a larger study has one to itself).
        crop: center (default) or squash.
        max_views: at most this many views of a study, always the same ones; None: all.
        breasts: of a cache of mammograms, one CC and one MLO image of each breast, always the same ones; studies with
            neither are left out.
        texts: the reports that studies are shown with; None: batches hold none.
        teachers: the vectors that studies are shown with, by teacher.
        descriptions: the texts that images are compared with; None: batches hold none.
    """
    crop = crop or CropConfig(mode="center")
    if crop.mode == "random":
        raise UserError("Evaluation shows each image the same way every time: crop.mode must be center or squash.")
    packer = _Packer(cache, rows, 0, max_views, crop, texts, teachers or {}, descriptions, breasts)
    rows = packer.rows

    def walk() -> Iterator[Callable[[], StudyBatch]]:
        first, views = 0, 0
        for study, count in enumerate(packer.num_shown.tolist()):
            if study > first and views + count > views_per_batch:
                yield partial(packer.pack, np.arange(first, study), np.zeros(study - first, np.int64))
                first, views = study, 0
            views += count
        if first < len(rows):
            yield partial(packer.pack, np.arange(first, len(rows)), np.zeros(len(rows) - first, np.int64))

    for batch, _ in _prefetch(walk(), num_threads):
        yield batch


@dataclass
class _Packer:
    """Copies the crops of given draws of studies, or of single breasts, into one batch."""

    cache: Cache
    rows: Int64[np.ndarray, " study"]
    seed: int
    max_views: int | None
    crop: CropConfig
    texts: ReportTokens | None
    teachers: Mapping[str, TeacherVectors]
    descriptions: DescriptionTable | None
    breasts: bool = False
    looks: int = 1
    one_per_patient: bool = False

    def __post_init__(self) -> None:
        self.breast_views = (
            list_breasts(self.cache, self.rows) if self.breasts and self.cache.is_of_mammograms else None
        )
        if self.breast_views is not None:
            kept = self.rows[np.isin(self.rows, self.breast_views.study)]
            if len(self.rows) and not len(kept):
                raise UserError(
                    f"{self.cache.path}: none of {len(self.rows):,} studies has a CC or MLO view of a left or right "
                    "breast: there is nothing to show. Say side and view in the study table, or set data.breasts=false."
                )
            self.rows = kept
        # Columns, next to each other in memory: the loader reads a few of each for every batch.
        studies, views = self.cache.studies, self.cache.views
        self.num_views, self.first_view, self.patient, self.dataset = (
            np.ascontiguousarray(studies[name][self.rows]) for name in ("num_views", "first_view", "patient", "dataset")
        )
        # What is drawn: studies, or breasts, each with the study it is of and a lasting key.
        self.study, self.key = np.arange(len(self.rows)), studies["key"][self.rows].view(np.int64)
        single = self.breast_views if self.one_per_patient else None
        self.side = None if single is None else single.laterality  # of breasts that are drawn one by one
        if single is not None:
            order = np.argsort(self.rows)
            self.study = order[np.searchsorted(self.rows, single.study, sorter=order)]
            self.key = make_keys("breast", single.key, single.laterality).view(np.int64)
            most = (single.count > 0).sum(axis=1)
        elif self.breast_views is None:
            most = self.num_views if self.max_views is None else np.minimum(self.num_views, self.max_views)
        else:
            owner = np.repeat(self.breast_views.study, (self.breast_views.count > 0).sum(axis=1))
            most = np.searchsorted(owner, self.rows, "right") - np.searchsorted(owner, self.rows)
        self.num_shown = self.looks * most
        self.height, self.width, self.view_kind, self.laterality = (
            np.ascontiguousarray(views[name]) for name in ("height", "width", "view_kind", "laterality")
        )

    def find_findings(self) -> tuple[Bool[np.ndarray, " drawn"], dict[str, int]]:
        """Which of what is drawn (breasts, or studies by any of their breasts) have findings; how many breasts which.

        Raises:
            UserError: breasts are not what is shown, or of none a finding is told.
        """
        if self.breast_views is None:
            asked = "is not of mammograms" if self.breasts else "is shown without data.breasts"
            raise UserError(
                f"{self.cache.path}: data.finding_share is of breasts, and this cache {asked}. Set it to 0, or take a "
                "cache of --policy mammo-... with data.breasts=true."
            )
        has, kinds = find_findings(self.cache, self.breast_views)
        return (np.isin(self.rows, self.breast_views.study[has]) if self.side is None else has), kinds

    def choose(self, drawn: int, draw: int) -> Int64[np.ndarray, " shown"]:
        """Rows of the views that a draw of a study, or of a breast, shows, in their order in the cache."""
        if self.breast_views is None:
            key = self.key[drawn]
            return self.first_view[drawn] + choose_views(self.num_views[drawn], self.max_views, key, self.seed, draw)
        breasts = np.array([drawn])
        if self.side is None:
            breasts = np.arange(*np.searchsorted(self.breast_views.study, [self.rows[drawn], self.rows[drawn] + 1]))
        views = self.breast_views.choose(breasts, np.full(len(breasts), draw), self.seed)
        return np.sort(views[views != NONE])

    def pack(self, drawn: Int64[np.ndarray, " draw"], draw: Int64[np.ndarray, " draw"]) -> StudyBatch:
        """The draws as a batch; a study of which one breast is drawn is there with this breast alone."""
        study, key = self.study[drawn], self.key[drawn]
        shown = [
            np.tile(self.choose(one, again), self.looks)
            for one, again in zip(drawn.tolist(), draw.tolist(), strict=True)
        ]
        counts = np.array([len(views) for views in shown])
        view_row = np.concatenate(shown)
        owner = np.repeat(np.arange(len(study)), counts)
        view_index = np.arange(len(view_row)) - np.repeat(np.cumsum(counts) - counts, counts)
        keys = make_keys("crop", self.seed, key[owner], draw[owner], view_index)
        crop = place_crops(self.crop, self.height[view_row], self.width[view_row], keys)
        canvas, crop = copy_crops(self.cache, view_row, crop)
        pixels = torch.from_numpy(canvas)
        return StudyBatch(
            patient=torch.from_numpy(self.patient[study]),
            dataset=torch.from_numpy(self.dataset[study]),
            row=torch.from_numpy(self.rows[study]),
            key=torch.from_numpy(key),
            draw=torch.from_numpy(draw),
            pixels=pixels.pin_memory() if torch.cuda.is_available() else pixels,
            crop=torch.from_numpy(crop.astype(np.float32)),
            view_kind=torch.from_numpy(self.view_kind[view_row]),
            laterality=torch.from_numpy(self.laterality[view_row]),
            study=torch.from_numpy(owner),
            view_row=torch.from_numpy(view_row),
            texts=make_no_texts() if self.texts is None else self.texts.pack(self.rows[study]),
            vectors={name: teacher.pack(self.rows[study]) for name, teacher in self.teachers.items()},
            descriptions=(
                make_no_descriptions()
                if self.descriptions is None
                else self.descriptions.pack(
                    self.rows[study], key, draw, None if self.side is None else self.side[drawn]
                )
            ),
        )


def copy_crops(
    cache: Cache, view_row: Int64[np.ndarray, " view"], crop: Float64[np.ndarray, "view 4"]
) -> tuple[Integer[np.ndarray, "view 1 height width"], Float64[np.ndarray, "view 4"]]:
    """The pixels that rectangles of images touch, on a common canvas, and the rectangles within it."""
    start = np.floor(crop[:, :2]).astype(np.int64)
    stop = np.ceil(crop[:, :2] + crop[:, 2:] - 1e-6).astype(np.int64)
    canvas = np.zeros((len(view_row), 1, *(stop - start).max(0)), cache.pixel_dtype)
    for place, (row, (top, left), (bottom, right)) in enumerate(
        zip(view_row.tolist(), start.tolist(), stop.tolist(), strict=True)
    ):
        canvas[place, 0, : bottom - top, : right - left] = cache.image(row)[top:bottom, left:right]
    return canvas, np.concatenate([crop[:, :2] - start, crop[:, 2:]], axis=1)


def place_crops(
    crop: CropConfig, height: np.ndarray, width: np.ndarray, keys: np.ndarray
) -> Float64[np.ndarray, "view 4"]:
    """Top, left, height and width of what each image shows, in its pixels.

    random: a square whose area is a uniform share (min_scale..max_scale) of the largest square's, anywhere in the
    image; on a square image this is torchvision's random resized crop of ratio 1, not rounded to whole pixels. Where
    other aspects are allowed, it is a rectangle of that area, the logarithm of its aspect uniform, cut at the image's
    sides.
    center: the largest square, in the middle. squash: the whole image.
    """
    height, width = height.astype(np.float64), width.astype(np.float64)
    if crop.mode == "squash":
        return np.stack([np.zeros_like(height), np.zeros_like(width), height, width], axis=1)
    side = np.minimum(height, width)
    if crop.mode == "center":
        return np.stack([(height - side) // 2, (width - side) // 2, side, side], axis=1)
    random = draw_uniform(keys, 4).astype(np.float64)
    side = side * np.sqrt(crop.min_scale + random[:, 0] * (crop.max_scale - crop.min_scale))
    tall = wide = side
    if (crop.min_aspect, crop.max_aspect) != (1.0, 1.0):
        low, high = math.log(crop.min_aspect), math.log(crop.max_aspect)
        aspect = np.exp(low + random[:, 3] * (high - low))
        tall, wide = np.minimum(side / np.sqrt(aspect), height), np.minimum(side * np.sqrt(aspect), width)
    return np.stack([random[:, 1] * (height - tall), random[:, 2] * (width - wide), tall, wide], axis=1)


def _prefetch(tasks: Iterable[Callable[[], T]], num_threads: int) -> Iterator[tuple[T, float]]:
    """Results in order, computed a few ahead, each with the seconds its consumer waited for it."""
    with ThreadPoolExecutor(num_threads, thread_name_prefix="loader") as pool:
        waiting: deque[Future[T]] = deque()
        try:
            for task in tasks:
                waiting.append(pool.submit(task))
                if len(waiting) > num_threads:
                    yield _take(waiting)
            while waiting:
                yield _take(waiting)
        finally:
            for future in waiting:
                future.cancel()


def _take(waiting: deque[Future[T]]) -> tuple[T, float]:
    begin = time.perf_counter()
    return waiting.popleft().result(), time.perf_counter() - begin
