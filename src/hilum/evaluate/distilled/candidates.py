"""The candidates among which an archive has its queries look: of Symile-MIMIC ten, the query's own first (P 4.1)."""

from __future__ import annotations

import re

import numpy as np
import polars as pl
from jaxtyping import Bool, Int64

from hilum.cache import Cache
from hilum.imaging.array_row import split_row
from hilum.study import EXTRA_PREFIX

COLUMN = f"{EXTRA_PREFIX}candidates"  # rows of the array that holds the query's own image, ";" between
_LIST = re.compile(r"\d+(;\d+)+")


def find_candidates(cache: Cache, rows: Int64[np.ndarray, " row"]) -> Bool[np.ndarray, "row row"] | None:
    """Which of these studies are candidates of which, by the study table; None where it lists none.

    A study without a list has no candidate and asks nothing. Candidates that are not among the studies (without an
    ECG, say) are missing from the lists they are in. A column of this name that holds something else lists none. Of
    studies with the same image each is its own candidate, and one of them is other queries'.
    """
    table = cache.table()
    if COLUMN not in table.columns:
        return None
    first = pl.col("views").list.first().struct.field("path")
    shown = table[rows].select("dataset", COLUMN, path=first)
    images = [(dataset, *split_row(path)) for dataset, path in shown.select("dataset", "path").iter_rows()]
    place = {image: at for at, image in enumerate(images) if image[2] is not None}
    found = np.zeros((len(rows), len(rows)), bool)
    for at, (listed, (dataset, file, own)) in enumerate(zip(shown[COLUMN], images, strict=True)):
        if own is None or listed is None or not _LIST.fullmatch(listed):
            continue
        first, *others = (int(row) for row in listed.split(";"))
        if first == own:
            images_seen = [(dataset, file, row) for row in others if row != own]
            found[at, [at, *(place[image] for image in images_seen if image in place)]] = True
    return found if found.any() else None
