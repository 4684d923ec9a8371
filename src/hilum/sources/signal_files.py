"""What a user says of the ECGs and laboratory values beside a table of studies, as flags: nothing heavy is here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hilum.ranges import NotNegative


@dataclass(frozen=True)
class EcgFiles:
    """What .npy and .csv files of ECGs do not say themselves, one for all of them."""

    rate: float | None = None
    """Samples a second."""
    leads: str | None = None
    """Names of the leads of .npy files in their order, with blanks between."""
    unit: Literal["mV", "uV", "V"] = "mV"
    """Unit of their numbers."""


@dataclass(frozen=True)
class LabsFile:
    """A table of laboratory values beside the table of studies."""

    file: Path | None = None
    """CSV, TSV or Parquet: a row for each study (or for each time of a study or patient) and a column for each value;
    or one measurement a row."""
    columns: tuple[str, ...] = ()
    """What its columns mean where their names do not say it: study=, patient=, item=, value=, unit=, time=; or what it
    calls a laboratory value, such as creatinine=CREA."""
    vocabulary: str = "symile"
    """Which values are read: symile (50 of MIMIC's), or a CSV file with the columns name, unit and, perhaps, itemid."""
    before: NotNegative = 24.0
    """Hours before a study in which a patient's measurements count, the earliest first."""
    after: NotNegative = 24.0
    """Hours after a study in which they count."""
