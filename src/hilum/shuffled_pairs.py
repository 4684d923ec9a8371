"""The control for what a study is paired with, a report or a teacher's vector: that of another patient's study."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Int64

from .cache import Cache
from .keyed_random import make_keys


def deal_to_others(
    cache: Cache, has: Bool[np.ndarray, " study"], purpose: str, seed: int, leave_out: Sequence[str] = ()
) -> Int64[np.ndarray, " study"]:
    """For every study of a cache the one whose companion it gets, as far as patients allow; itself where it has none.

    Studies of archives that are left out neither give nor take. In each split the others that have a companion stand in
    a random order of their patients, and each takes that of the one that stands as far ahead as the largest patient has
    studies. A function of purpose, seed and studies.
    """
    source = np.arange(len(has))
    takes_part = np.zeros(len(has), bool)
    rows = cache.rows(None, leave_out)
    takes_part[rows] = has[rows]
    for split in np.unique(cache.studies["split"]):
        rows = np.flatnonzero(takes_part & (cache.studies["split"] == split))
        patient = cache.studies["patient"][rows]
        by_study = make_keys(purpose, seed, cache.studies["key"][rows].view(np.int64))
        # A patient's place is that of the least of its studies: patients are numbered anew in every cache.
        number = np.unique(patient, return_inverse=True)[1]
        place = np.full(number.max(initial=-1) + 1, np.iinfo(np.uint64).max, np.uint64)
        np.minimum.at(place, number, by_study)
        order = rows[np.lexsort((by_study, place[number]))]
        source[order] = np.roll(order, -np.bincount(number).max(initial=0))
    return source
