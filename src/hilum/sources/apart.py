"""Official splits with one person on several sides, set right at ingest.

Sets that were put together from others list no patients, and pictures of one person, or copies of one picture, stand
in training and test (P 7.4). The later side keeps them: a test set stays as it is published, and what training has in
common with validation or test, and validation with test, is rejected with that reason.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import polars as pl
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from hilum.errors import UserError
from hilum.sources.archive import ADVICE, Reading
from hilum.vocabulary import SPLITS
from hilum.wording import say_count


def keep_apart(images: pl.DataFrame, reading: Reading, copies: Iterable[tuple[str, str]] = ()) -> pl.DataFrame:
    """The images without those of training and validation whose person, or a copy of whom, is in a later split.

    Args:
        images: patient, split (blank counts as training) and path, and whatever else.
        reading: gets the others as rejected, and a note with their number.
        copies: pairs of paths that show the same; their patients are one person.

    Returns:
        The images that stay, and their `group`: the smallest id of the patients that are one.
    """
    group = _join_patients(images, copies)
    side = pl.col("split").replace_strict({name: place for place, name in enumerate(SPLITS)}, default=0).fill_null(0)
    placed = images.with_columns(group=group).with_columns(_side=side.cast(pl.Int8))
    placed = placed.with_columns(_last=pl.col("_side").max().over("group"))
    leaving = placed.filter(pl.col("_side") < pl.col("_last"))
    for path, last in leaving.select("path", "_last").iter_rows():
        reading.rejected.append((path, f"its person, or a copy of it, is in the {SPLITS[last]} split too"))
    if len(leaving):
        reading.notes.append(
            f"{len(leaving):,} images of training or validation are of persons, or copies of images, that the "
            "archive's validation or test split holds too: they are left out, the later split stays as published."
        )
    return placed.filter(pl.col("_side") == pl.col("_last")).drop("_side", "_last")


def _join_patients(images: pl.DataFrame, copies: Iterable[tuple[str, str]]) -> pl.Series:
    """For each image the smallest patient id that copies connect its own to."""
    names = images["patient"].unique().sort()
    owner = dict(images.select("path", "patient").iter_rows())
    place = {name: number for number, name in enumerate(names)}
    ends = np.array([(place[owner[one]], place[owner[other]]) for one, other in copies], np.int64).reshape(-1, 2)
    graph = coo_array((np.ones(len(ends), np.int8), (ends[:, 0], ends[:, 1])), shape=(len(names), len(names)))
    component = connected_components(graph, directed=False)[1]
    joined = pl.DataFrame({"patient": names, "component": component}).select(
        "patient", group=pl.col("patient").min().over("component")
    )
    return images.select("patient").join(joined, on="patient", how="left", maintain_order="left")["group"]


def refuse_shared(images: pl.DataFrame, source: str) -> None:
    """Refuse official splits of an archive with patient ids that share a patient: it publishes none that do.

    Args:
        images: row, patient, split.
        source: the tables, for the message.
    """
    listed = images.filter(pl.col("split").is_not_null())
    shared = listed.filter(pl.col("split").n_unique().over("patient") > 1).sort("patient", "row")
    if len(shared):
        number = shared["patient"].n_unique()
        sides = shared.filter(pl.col("patient") == shared["patient"][0]).unique("split", maintain_order=True)
        found = " and ".join(f"{split} (row {row})" for split, row in sides.select("split", "row").iter_rows())
        raise UserError(f"{source}: {say_count(number, 'patient')} in several splits; the first in {found}. {ADVICE}")
