"""Whom an encoder, or a probe's own training, has seen of those it is tested on: patients, images, copies of images.

Overlap 0 is a condition of every evaluation (P 7.4, P 12 item 12). Three things count: a patient by id, an image by
its pixels, and an image by what it shows (`overlap/perceptual_hash.py`), as another archive may hold it under another
id, windowed,
resized and compressed anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl
from jaxtyping import Int64

from hilum.cache import SPLITS, Cache
from hilum.errors import UserError
from hilum.model.places import name_run
from hilum.overlap.perceptual_hash import NEAR, find_near_splits, find_nearest, hash_views
from hilum.splits import find_shared, fingerprint_studies, select_people
from hilum.study import name_studies
from hilum.training.run_folder import Seen, read_seen


@dataclass(frozen=True)
class Overlap:
    """Patients (groups) and images of an evaluation that the encoder saw in pretraining (without their labels)."""

    num_patients: int
    of_patients: int
    num_images: int
    of_images: int
    knows_all: bool = True  # False: the run's record does not name all patients, so that more may be shared
    imported: tuple[str, ...] = ()  # published weights that the run is or starts from: whom those saw nobody can tell
    num_near: int = 0  # images that show the same as one of pretraining, in other pixels

    def __str__(self) -> str:
        images = f"{self.num_images} of {self.of_images} images"
        images += f" and copies of {self.num_near} more" if self.num_near else ""
        if self.imported and self.knows_all:
            return f"at least {self.num_patients} of {self.of_patients} patients and {images}"
        if self.knows_all:
            return f"{self.num_patients} of {self.of_patients} patients and {images}"
        return (
            f"at least {self.num_patients} of {self.of_patients} patients (its record is from before patient ids were "
            f"kept) and {images}"
        )


def measure_overlap(
    cache: Cache, run: Path, split: str | None = "test", leave_out: Sequence[str] = (), *, near: bool = False
) -> Overlap:
    """How much of a split of the cache (None: of all of it) is in the pretraining of a run, of this archive or another.

    `run` is a run folder or a weights file. Archives to `leave_out` are not looked at. `near` looks for copies too,
    each image of the split among all of pretraining.

    A patient group counts as seen if the run's record holds its id or that of any of its patients.

    Raises:
        UserError: the run has no `pretraining.json`, the list of its patients and images as hashes.
    """
    record = read_seen(run)
    studies = _select_studies(cache, split, leave_out)
    people, pixels = find_shared(record.listed, studies)
    return Overlap(
        num_patients=select_people(studies, people)["group"].n_unique(),
        of_patients=studies["group"].n_unique(),
        num_images=len(pixels),
        of_images=len(fingerprint_studies(studies).pixels),
        knows_all=record.lists_all_people,
        imported=tuple(f"{origin['file']} (sha256 {origin['sha256'][:16]})" for origin in record.imported_weights),
        num_near=len(_find_near(cache, record, split, leave_out)) if near else 0,
    )


def _select_studies(cache: Cache, split: str | None, leave_out: Sequence[str]) -> pl.DataFrame:
    return cache.table()[cache.rows(split)].filter(~pl.col("dataset").is_in(list(leave_out)))


def _find_near(cache: Cache, record: Seen, split: str | None, leave_out: Sequence[str]) -> Int64[np.ndarray, " view"]:
    """Views of the split that show the same as an image of pretraining and are not of the same pixels."""
    if record.perceptual is None or not len(record.perceptual):
        return np.zeros(0, np.int64)
    gone = cache.find_archives([name for name in leave_out if name in cache.datasets])
    rows = cache.rows(split)
    views = np.flatnonzero(np.isin(cache.views["study"], rows[~gone[rows]]))
    views = views[[bytes(pixels).hex() not in record.listed.pixels for pixels in cache.views["content_hash"][views]]]
    return views[find_nearest(hash_views(cache)[views], record.perceptual)[0] <= NEAR]


def check_splits_apart(cache: Cache, leave_out: Sequence[str] = (), split: str = "test") -> None:
    """Refuse to test on an image of which a copy is in an earlier split of the same cache.

    Patients and identical pixels never are: a cache is not built so. Copies in other pixels are found here.

    Raises:
        UserError: with their number and the first of them.
    """
    pairs = find_near_splits(cache)
    study = cache.views["study"][pairs]
    gone = cache.find_archives([name for name in leave_out if name in cache.datasets])
    here = (cache.studies["split"][study[:, 0]] == SPLITS.index(split)) & ~gone[study].any(axis=1)
    if not here.any():
        return
    table = cache.table()
    one, other = (table.select("dataset", "study", "split").row(int(row)) for row in study[here][0])
    raise UserError(
        f"Leak: {int(here.sum())} images of the {split} split of {cache.path} are copies of images in an earlier "
        f"split, windowed, resized or compressed otherwise: {'/'.join(one[:2])} is one of {'/'.join(other[:2])} "
        f"({other[2]}). "
        f"Their patients are one person: give them one `group` in the table that `hilum ingest` reads, or leave "
        f"{name_studies(table[np.unique(study[here, 0])])} out, and build the cache anew."
    )


def check_pretraining(
    cache: Cache, run: Path, leave_out: Sequence[str] = (), split: Literal["val", "test"] = "test"
) -> tuple[str, ...]:
    """Refuse to test an encoder on patients or images it was pretrained on: those of a split of the cache.

    Returns:
        What a reader of the results must know: where the run's record names no patients, images alone are compared,
        where it does not say what they show, copies are not looked for, and of imported weights nothing is.

    Raises:
        UserError: with the number of patients, images and copies on both sides.
    """
    overlap = measure_overlap(cache, run, split, leave_out, near=True)
    if overlap.num_patients or overlap.num_images or overlap.num_near:
        raise UserError(
            f"Leak: {overlap} of the {split} split of {cache.path} were in the pretraining of {run}. "
            + _advise_on_leak(cache, run, overlap, leave_out, split)
        )
    notes = note_imported(overlap)
    if read_seen(run).perceptual is None:
        notes += (
            f"The record of {name_run(run)} (pretraining.json) does not say what its images show: copies of test "
            "images in other pixels were not looked for. Only pretraining anew does.",
        )
    if overlap.knows_all:
        return notes
    return (
        *notes,
        f"The record of {name_run(run)} (pretraining.json) is from before patient ids were kept: the {split} split "
        "was compared by images alone. Only pretraining anew compares the patients too.",
    )


def note_imported(overlap: Overlap) -> tuple[str, ...]:
    """What a reader of results must know of published weights; nothing where none are involved."""
    if not overlap.imported:
        return ()
    return (
        f"The encoder is or starts from imported weights, {', '.join(overlap.imported)}, which list no patients and no "
        "images: nobody can check whether they were pretrained on those it is tested on.",
    )


def _advise_on_leak(cache: Cache, run: Path, overlap: Overlap, leave_out: Sequence[str], split: str) -> str:
    """How to get a split that the encoder has not seen."""
    if overlap.num_patients:
        why = "Build both caches with the same --split-rule, --fractions and `split` column, which keeps a patient"
    else:
        why = (
            "The images are the same and the patient ids are not: ids are hashed for each archive. Ingest both with "
            "one --id-space and one --salt, and build both caches with the same --split-rule, which keeps a patient"
        )
    record = read_seen(run)
    studies = _select_studies(cache, split, leave_out)
    people, pixels = find_shared(record.listed, studies)
    copied = cache.table()[np.unique(cache.views["study"][_find_near(cache, record, split, leave_out)])]
    has_pixels = pl.col("views").list.eval(pl.element().struct.field("content_hash").is_in(list(pixels))).list.any()
    shared = pl.concat([select_people(studies, people), studies.filter(has_pixels), copied])
    return (
        f"{why} on one side of both; then pretrain again. Or leave {name_studies(shared)} out of the {split} split: "
        "drop them from the table that `hilum ingest` reads, or say `train` in its `split` column, and build the cache "
        "anew."
    )
