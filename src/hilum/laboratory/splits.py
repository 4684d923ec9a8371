"""Which rows of a laboratory table are for training: whole patients, as everywhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from hilum.splits import DEFAULT_FRACTIONS, DEFAULT_SALT, split_by_threshold

from .table import LaboratoryTable


def split_by_patient(
    table: LaboratoryTable, fractions: Mapping[str, float] | None = None, salt: str = DEFAULT_SALT
) -> LaboratoryTable:
    """The table with new splits by the salted hash of the patient.

    For tables without images; studies have splits of their own.
    """
    split = split_by_threshold(table.patient, fractions or DEFAULT_FRACTIONS, salt)
    return replace(table, split=tuple(split[patient] for patient in table.patient))
