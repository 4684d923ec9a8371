"""Vectors that a teacher made of studies: stored once beside a cache, prepared for a run, dealt out by the loader.

A teacher is whatever gives one vector for a study: an ECG network, an encoder of laboratory values, of report text, an
outcome. It never runs in training. A study has a vector or has none, and a table may know any part of a cache.

A table is a Parquet file, of `hilum embed` (`table.py`) or the user's own, with the columns dataset, study (as in the
study table) and vector (a list of numbers).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float32, Int64

from hilum.batch import Vectors
from hilum.cache import Cache
from hilum.config import TeachersConfig, TeacherTable
from hilum.errors import UserError
from hilum.keyed_random import draw_uniform, make_keys
from hilum.shuffled_pairs import deal_to_others
from hilum.vocabulary import SPLITS

from .scaling import fit_scaling

if TYPE_CHECKING:
    import polars


@dataclass(frozen=True)
class TeacherVectors:
    """A teacher's vectors of the studies of a cache."""

    values: Float32[np.ndarray, "row dim"]
    of_study: Int64[np.ndarray, " study"]  # row of `values` for each study of the cache; -1: it has none

    @property
    def width(self) -> int:
        return self.values.shape[1]

    def find_known(self, rows: Int64[np.ndarray, " row"]) -> Int64[np.ndarray, " known"]:
        """Those of these studies of the cache that have a vector."""
        return rows[self.of_study[rows] >= 0]

    def pack(self, rows: Int64[np.ndarray, " study"]) -> Vectors:
        """The vectors of these studies, as a batch holds them."""
        vector = self.of_study[rows]
        owner = np.flatnonzero(vector >= 0)
        return Vectors(torch.from_numpy(self.values[vector[owner]]), torch.from_numpy(owner))

    def scale(self, cache: Cache, how: str, leave_out: Sequence[str] = ()) -> TeacherVectors:
        """The vectors standardised or whitened by statistics of the training studies that are learned from."""
        known = self.find_known(cache.rows("train", leave_out))
        scaling = fit_scaling(self.values[self.of_study[known]], how)
        return replace(self, values=scaling.apply(self.values))

    def shuffle(self, cache: Cache, seed: int, leave_out: Sequence[str] = ()) -> TeacherVectors:
        """Every study that has a vector gets that of another patient's study of its split (a control)."""
        source = deal_to_others(cache, self.of_study >= 0, "shuffled teacher", seed, leave_out)
        return replace(self, of_study=self.of_study[source])

    def randomize(self, cache: Cache, name: str, seed: int) -> TeacherVectors:
        """Every study that has a vector gets normal noise, the same throughout a run (a control)."""
        rows = np.flatnonzero(self.of_study >= 0)
        keys = make_keys(f"random teacher {name}", seed, cache.studies["key"][rows].view(np.int64))
        radius, angle = np.split(draw_uniform(keys, 2 * self.width), 2, axis=1)
        # Box and Muller 1958; 1 - u is never 0.
        noise = np.sqrt(-2 * np.log1p(-radius)) * np.cos(2 * np.pi * angle)
        of_study = np.full_like(self.of_study, -1)
        of_study[rows] = np.arange(len(rows))
        return TeacherVectors(noise.astype(np.float32), of_study)

    def hash_content(self, cache: Cache) -> str:
        """SHA-256 of which studies have a vector, and of the vectors."""
        rows = np.flatnonzero(self.of_study >= 0)
        digest = hashlib.sha256(np.ascontiguousarray(cache.studies["key"][rows]).tobytes())
        digest.update(np.ascontiguousarray(self.values[self.of_study[rows]]).tobytes())
        return digest.hexdigest()


def read_teacher_vectors(cache: Cache, path: Path) -> TeacherVectors:
    """The vectors of a table.

    Raises:
        UserError: the table is no Parquet file of vectors, knows no study of the cache, names a study twice, holds
            single numbers or some that are not finite, or its teacher learned from validation or test patients.
    """
    values, study = _read_table(cache, path)
    if values.shape[1] < 2:
        raise UserError(
            f"{path}: its vectors hold {values.shape[1]} number: without a second they have no direction to learn. "
            "Give an outcome as one number for each of its classes, or several outcomes side by side."
        )
    names, counts = np.unique(study, return_counts=True)
    if (counts > 1).any():
        raise UserError(
            f"{path}: study {_name(cache, int(names[counts > 1][0]))} has {counts.max()} vectors; expected one."
        )
    if len(bad := np.flatnonzero(~np.isfinite(values).all(axis=1))):
        raise UserError(
            f"{path}: the vector of study {_name(cache, int(study[bad[0]]))} holds numbers that are not finite "
            f"({len(bad):,} such in all). Leave these studies out of the table."
        )
    of_study = np.full(len(cache.studies), -1)
    of_study[study] = np.arange(len(study))
    return TeacherVectors(values, of_study)


def name_teachers(config: TeachersConfig, cache: Cache, tables: Mapping[str, Path]) -> TeachersConfig:
    """The settings with what is to be known of each table: width and hash of content."""
    found = {}
    for name, path in sorted(tables.items()):
        vectors = read_teacher_vectors(cache, path)
        found[name] = TeacherTable(file=path.name, sha256=vectors.hash_content(cache), width=vectors.width)
    return replace(config, tables=found)


def open_teachers(
    cache: Cache, config: TeachersConfig, tables: Mapping[str, Path], *, seed: int, leave_out: Sequence[str] = ()
) -> dict[str, TeacherVectors]:
    """The vectors that a run learns from, scaled and dealt out as the settings say.

    Raises:
        UserError: a table is not what it was when the run began, knows no training study, or says the same of all.
    """
    teachers = {}
    for name in config.tables:
        vectors = read_teacher_vectors(cache, tables[name])
        known = vectors.find_known(cache.rows("train", leave_out))
        if not len(known):
            raise UserError(
                f"{tables[name]}: no training study of {cache.path} has a vector of teacher {name}. Give another "
                "table, or learn without this teacher."
            )
        if len(known) > 1 and not np.ptp(vectors.values[vectors.of_study[known]], axis=0).any():
            raise UserError(
                f"{tables[name]}: all {len(known):,} training studies have the same vector of teacher {name}, which "
                "tells none from another. Make the table anew, or learn without this teacher."
            )
        if config.scaling != "raw":
            if len(known) < 2:
                raise UserError(
                    f"{tables[name]}: one training study has a vector of teacher {name}: too few for teachers.scaling="
                    f"{config.scaling}. Set teachers.scaling=raw."
                )
            vectors = vectors.scale(cache, config.scaling, leave_out)
        if config.pairs == "shuffled":
            vectors = vectors.shuffle(cache, seed, leave_out)
        elif config.pairs == "random":
            vectors = vectors.randomize(cache, name, seed)
        teachers[name] = vectors
    return teachers


def _read_table(cache: Cache, path: Path) -> tuple[np.ndarray, np.ndarray]:
    import polars as pl  # only where there are teachers

    expected = (
        "expected a Parquet file, of `hilum embed` or your own, with the columns dataset, study and vector (a list of "
        "numbers), one row per study"
    )
    try:
        table = pl.read_parquet(path, columns=["dataset", "study", "vector"], glob=False)
        vectors = table["vector"].cast(pl.List(pl.Float32))
        width = vectors.list.len().unique()
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such file; {expected}.") from None
    except (OSError, pl.exceptions.PolarsError) as error:
        raise UserError(f"{path}: {str(error).splitlines()[0]}; {expected}.") from error
    if len(width) != 1 or width[0] is None:
        raise UserError(
            f"{path}: vectors of {', '.join(map(str, sorted(width.drop_nulls())[:3]))} numbers; {expected}."
        )
    studies = cache.table()
    _check_untaught(cache, path, studies)
    rows = studies.select("dataset", "study").with_row_index("row")
    found = table.with_columns(vector=vectors).join(rows, on=["dataset", "study"], how="inner", maintain_order="left")
    if not len(found):
        raise UserError(f"{path}: none of its {len(table):,} studies is in {cache.path}; {expected}.")
    values = found["vector"].cast(pl.Array(pl.Float32, int(width[0]))).to_numpy()
    return values, found["row"].to_numpy().astype(np.int64)


def _check_untaught(cache: Cache, path: Path, studies: polars.DataFrame) -> None:
    """Refuse a teacher that has learned from patients whom this cache keeps for validation or test."""
    from .table import find_taught

    kept = studies.filter(studies["split"].is_in([split for split in SPLITS if split != "train"]))
    if shared := find_taught(path, kept):
        raise UserError(
            f"{path}: its teacher has learned from {len(shared):,} patients whom {cache.path} keeps for validation or "
            "test, so that nothing could be told from scores on them. Train the teacher anew with --data "
            f"{cache.path}: it learns from the training split alone."
        )


def _name(cache: Cache, row: int) -> str:
    return "/".join(cache.table().select("dataset", "study").row(row))
