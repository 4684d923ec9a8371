"""What two collections share: patients by id, images by their pixels, and copies of images by what they show.

For study tables and caches of any archives. Ids of two archives are comparable where both were ingested with one salt
and id space, or with ids kept; the archives of one hospital have one id space by default. Pixels are known of a cache,
of a table only where a cache filled them in; copies are looked for between two caches.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from hilum.cache import Cache
from hilum.splits import find_shared, fingerprint_studies, select_people
from hilum.study import name_studies, read_studies
from hilum.wording import say_count

from .perceptual_hash import NEAR, find_nearest, hash_views


@dataclass(frozen=True)
class Shared:
    """What stands on both sides, counted in the second collection; its studies that have any of it."""

    num_patients: int
    num_images: int  # of the same pixels
    num_copies: int | None  # of other pixels that show the same; None where a side is no cache
    studies: pl.DataFrame

    @property
    def is_empty(self) -> bool:
        """Nothing is shared, as far as could be looked."""
        return not len(self.studies)

    def __str__(self) -> str:
        copies = (
            "copies in other pixels not looked for"
            if self.num_copies is None
            else f"{say_count(self.num_copies, 'copy', 'copies')}"
        )
        named = "" if self.is_empty else f": {name_studies(self.studies)}"
        patients, images = say_count(self.num_patients, "patient"), say_count(self.num_images, "image")
        return f"{patients}, {images} of the same pixels, {copies}{named}"


def find_overlap(one: Path, other: Path) -> Shared:
    """What a study table or cache shares with another.

    Raises:
        UserError: either is neither.
    """
    frames = [_read(path) for path in (one, other)]
    people, pixels = find_shared(fingerprint_studies(frames[0]), frames[1])
    same = pl.col("views").list.eval(pl.element().struct.field("content_hash").is_in(list(pixels))).list.any()
    rows = frames[1].with_row_index("_row")
    found = set(select_people(rows, people)["_row"]) | set(rows.filter(same)["_row"])
    num_copies = None
    if one.is_dir() and other.is_dir():
        caches = Cache.open(one), Cache.open(other)
        near = find_nearest(hash_views(caches[1]), hash_views(caches[0]))[0] <= NEAR
        near &= ~np.array([bytes(content).hex() in pixels for content in caches[1].views["content_hash"]], bool)
        num_copies = int(near.sum())
        found |= set(np.unique(caches[1].views["study"][near]).tolist())
    return Shared(
        num_patients=select_people(frames[1], people)["group"].n_unique(),
        num_images=len(pixels),
        num_copies=num_copies,
        studies=rows.filter(pl.col("_row").is_in(sorted(found))).drop("_row"),
    )


def _read(path: Path) -> pl.DataFrame:
    if path.is_dir():
        return Cache.open(path).table()
    return read_studies(path)
