"""A teacher's table: a Parquet file with one row for each study that it has a vector of.

Columns: dataset, study, group, split, whatever else is known of the row, and `vector`. The metadata (hilum_features)
say what made the vectors and, hashed, whom that has learned from: nobody is to be tested on a teacher's own patients.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Float32

from hilum.atomic import open_atomic
from hilum.cache import Cache
from hilum.cache.records import hash_table
from hilum.errors import UserError
from hilum.outputs import FEATURES
from hilum.splits import Fingerprint, find_shared, fingerprint_studies

People = Mapping[str, Collection[str]]  # salt -> ids of patients and groups hashed with it


def write_teacher_table(
    out: Path,
    rows: pl.DataFrame,
    vectors: Float32[np.ndarray, "row dim"],
    *,
    made_by: Mapping[str, Any],
    people: People,
) -> None:
    """Write the file; it appears whole or not at all.

    Args:
        rows: dataset, study, group, split, and what else is known of each row.
        made_by: what the vectors depend on: what JSON can hold.
        people: whom the teacher has learned from, see `read_people`.
    """
    assert not rows.select("dataset", "study").is_duplicated().any(), "a study has one vector"
    column = pl.Series("vector", vectors, dtype=pl.Array(pl.Float32, vectors.shape[1]))
    about = {**made_by, "people": {salt: sorted(hashes) for salt, hashes in people.items()}}
    out.parent.mkdir(parents=True, exist_ok=True)
    with open_atomic(out) as file:
        rows.with_columns(column).write_parquet(file, metadata={FEATURES: json.dumps(about)})


def list_people(studies: pl.DataFrame, data: Path) -> dict[str, list[str]]:
    """The patients of these studies of `data` as pretraining.json names those that a run learned from: hashed, salted
    with the digest of the cache or of these studies (see `run_folder.describe_training_data`)."""
    salt = Cache.open(data).digest if data.is_dir() else hash_table(studies)
    people = fingerprint_studies(studies, salt).people
    return {salt: sorted(hashes) for salt, hashes in people.items()}


def read_people(weights: Path) -> People:
    """Whom a teacher has learned from: `people` of the pretraining.json beside its weights.

    Raises:
        UserError: there is no record.
    """
    path = weights.parent / "pretraining.json"
    try:
        return json.loads(path.read_bytes())["people"]
    except (FileNotFoundError, KeyError):
        raise UserError(
            f"{path} is missing or names no patients: without it nobody can tell whether test patients taught the "
            "teacher. Copy it from the run folder that the weights are from."
        ) from None


def read_taught(path: Path) -> dict[str, frozenset[str]]:
    """Whom a table's teacher has learned from, as far as it says."""
    about = json.loads(pl.read_parquet_metadata(path).get(FEATURES, "{}"))
    return {salt: frozenset(hashes) for salt, hashes in about.get("people", {}).items()}


def find_taught(path: Path, studies: pl.DataFrame) -> frozenset[str]:
    """Patients and groups of these studies that the teacher of a table has learned from, as far as it says."""
    return find_shared(Fingerprint(read_taught(path), frozenset()), studies)[0]
