"""Which rows of a laboratory table are for training: whole patients, as everywhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import polars as pl

from hilum.errors import UserError
from hilum.splits import DEFAULT_FRACTIONS, DEFAULT_SALT, split_by_threshold
from hilum.wording import say_count

from .table import LaboratoryTable


def split_by_patient(
    table: LaboratoryTable, fractions: Mapping[str, float] | None = None, salt: str = DEFAULT_SALT
) -> LaboratoryTable:
    """The table with new splits by the salted hash of the patient.

    For tables without images; where there are studies, `adopt_splits` takes theirs.
    """
    split = split_by_threshold(table.patient, fractions or DEFAULT_FRACTIONS, salt)
    return replace(table, split=tuple(split[patient] for patient in table.patient))


def adopt_splits(table: LaboratoryTable, studies: pl.DataFrame) -> LaboratoryTable:
    """The rows of patients whom a study table has, in that table's splits.

    Nobody else's: under another name they might be its test patients.

    Raises:
        UserError: the study table has no splits, or not one of the patients.
    """
    known = studies.filter(pl.col("split").is_not_null()).select("patient", "split").unique("patient")
    split = dict(known.iter_rows())
    if not split:
        raise UserError("The study table has no splits yet: `hilum cache` draws them, take the table of a cache.")
    rows = [row for row, patient in enumerate(table.patient) if patient in split]
    if not rows:
        raise UserError(
            f"{table.dataset}: not one of its patients is in the study table. Were the ids of both hashed with the "
            "same salt and id space?"
        )
    chosen = table.take(np.array(rows, dtype=np.int64))
    left_out = len(table) - len(chosen)
    notes = (*table.notes, f"{say_count(left_out, 'row')} of patients whom the study table does not have: left out.")
    return replace(
        chosen,
        split=tuple(split[patient] for patient in chosen.patient),
        notes=notes if left_out else table.notes,
    )
