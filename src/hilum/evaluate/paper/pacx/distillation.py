"""What PaCX-MAE's evaluation asks of every encoder, distilled or not."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Int64

from hilum.cache import Cache
from hilum.config import CropConfig
from hilum.evaluate.paper.cells import Question
from hilum.evaluate.segmentation.masks import Drawn, MaskTable, build_masks
from hilum.model.segmentation import Decoder
from hilum.teachers.vectors import TeacherVectors

LayMasks = Callable[[int, Any], MaskTable]  # side of the squares in pixels, and crop.mode


@dataclass(frozen=True)
class MaskSource:
    """Masks of a cache's views: their structures, what draws them, and what results depend on."""

    structures: tuple[str, ...]
    draw: Callable[[], Iterator[tuple[int, Drawn]]]
    digest: str


@dataclass(frozen=True, kw_only=True)
class DistillationQuestion(Question):
    """What is asked of every encoder, distilled or not."""

    teachers: Mapping[str, TeacherVectors]  # as they are, by name
    masks: MaskSource | None
    lay_masks: LayMasks
    decoders: Sequence[Decoder]
    decoder_epochs: int
    rolls_out: bool
    drifts: bool
    leave_out: Sequence[str]

    def find_rows(self, split: str) -> Int64[np.ndarray, " study"]:
        """Studies of the cache in a split, but for archives that take no part."""
        return self.cache.rows(split, self.leave_out)


def remember_masks(cache: Cache, source: MaskSource | None, leave_out: Sequence[str]) -> LayMasks:
    """The masks on the squares of encoders, but for archives that take no part; the last ones are kept in memory."""

    @functools.lru_cache(maxsize=1)
    def lay(size: int, mode: Literal["center", "squash"]) -> MaskTable:
        assert source is not None
        kept = np.zeros(len(cache.studies), bool)
        for split in ("train", "val", "test"):
            kept[cache.rows(split, leave_out)] = True
        owner = cache.views["study"]
        drawn = ((view, found) for view, found in source.draw() if kept[owner[view]])
        return build_masks(cache, drawn, source.structures, size=size, crop=CropConfig(mode=mode))

    return lay
