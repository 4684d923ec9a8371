"""How many labelled training studies the suite uses where not all: curves, calibration, one view or two."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from hilum.cache import Cache
from hilum.errors import UserError
from hilum.evaluate.probe.label_subsets import choose_counts
from hilum.evaluate.task import Task

LABEL_COUNTS = (5_000, 10_000, 20_000, 50_000, 100_000)
CALIBRATION_COUNT, VIEW_COUNT = 20_000, 5_000


@dataclass(frozen=True)
class Sizes:
    """How many labelled training studies there are, and how many of them are used where not all are."""

    num_train: int
    counts: list[int]  # of the curves of label efficiency, below all
    calibration_count: int | None = None  # of the probe whose calibration is shown; None: all
    view_count: int | None = None  # of the probes that see one view or two; None: all
    # Studies with exactly two views in each split; none where one view is not to be compared with two.
    pairs: dict[str, int] = field(default_factory=lambda: dict.fromkeys(("train", "val", "test"), 0))

    @property
    def probe_counts(self) -> list[int]:
        """Label counts of which there is a probe."""
        calibration = [] if self.calibration_count is None else [self.calibration_count]
        return sorted({*self.counts, *calibration})

    @property
    def has_pairs(self) -> bool:
        """Whether one view can be compared with two."""
        return min(self.pairs.values()) > 0


def choose_sizes(
    cache: Cache, task: Task, counts: Sequence[int] | None, calibration_count: int, view_count: int
) -> Sizes:
    """What was asked for, as far as there are so many studies.

    Raises:
        UserError: a label count that was asked for is not there.
    """
    num_train, pairs = len(task.rows("train")), _count_pairs(cache, task)
    return Sizes(
        num_train=num_train,
        counts=_cut_counts(counts, num_train),
        calibration_count=calibration_count if calibration_count < num_train else None,
        view_count=view_count if view_count < pairs["train"] else None,
        pairs=pairs,
    )


def count_labels(task: Task, fractions: Sequence[float]) -> dict[int, float]:
    """Labelled training rows -> the share of all that was asked for, below all of them.

    Raises:
        UserError: a share that is none.
    """
    if wrong := [share for share in fractions if not 0 < share <= 1]:
        raise UserError(
            f"--fractions {wrong[0]:g}: expected shares of the labelled training rows, above 0 and up to 1."
        )
    num = len(task.rows("train"))
    counts = {int(np.ceil(share * num - 1e-9)): share for share in sorted(fractions, reverse=True)}
    return {count: share for count, share in counts.items() if count < num}


def _cut_counts(counts: Sequence[int] | None, num_train: int) -> list[int]:
    """Label counts below what there is (the curve's last point is all of it).

    Raises:
        UserError: a count that was asked for is not there.
    """
    if counts is not None:
        if wrong := [count for count in counts if not 0 < count <= num_train]:
            raise UserError(f"--label-counts {wrong[0]}: expected 1 to {num_train:,}, the labelled training studies.")
        return sorted({count for count in counts if count < num_train})
    kept = [count for count in LABEL_COUNTS if count < num_train]
    return kept if len(kept) > 1 else choose_counts(num_train)[:-1]


def _count_pairs(cache: Cache, task: Task) -> dict[str, int]:
    """Studies with exactly two views and a known target, in each split."""
    has_two = cache.studies["num_views"] == 2
    return {split: int(has_two[task.study[task.rows(split)]].sum()) for split in ("train", "val", "test")}
