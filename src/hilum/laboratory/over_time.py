"""Tables over time: one row for each time of a patient or study, one column for each laboratory value.

As intensive care exports them: a row for every hour of a stay, most cells blank. The first value of each column within
a study's window counts, as of a long table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import polars as pl

from hilum.sources.table_file import read_table

from .columns import check_columns
from .events import DAY, References, Source, assemble_events
from .long import read_moments
from .table import LaboratoryTable
from .values import Bounds
from .vocabulary import LaboratoryVocabulary
from .wide import choose_columns, find_column_factor


def read_over_time(
    file: Path,
    vocabulary: LaboratoryVocabulary,
    *,
    owner: str,
    time: str,
    references: References | None = None,
    before: timedelta = DAY,
    after: timedelta = DAY,
    columns: Mapping[str, str] | None = None,
    bounds: Bounds = "bound",
) -> LaboratoryTable:
    """A CSV or Parquet table with a row for each time as a laboratory table.

    Args:
        owner: Column of whose measurements a row holds: the patient, or the study.
        time: Column of when they were made.
        references, before, after, bounds: As of `read_long`.
        columns: As of `read_wide`.

    Raises:
        UserError: a column that is not there or holds no numbers, a unit that nothing says how to convert, times that
            cannot be compared, or no value at all.
    """
    table, _, separator = read_table(file)
    check_columns(table.columns, [owner, time, *(columns or {}).values()], file.name)
    chosen = choose_columns(table.columns, vocabulary, columns or {}, {owner, time}, file.name)
    times, scale, note = read_moments(table, time, file.name)
    rows = table.select(owner=owner).with_columns(time=times)
    parts = []
    for place, (column, unit) in chosen.items():
        find_column_factor(vocabulary.variables[place], column, unit, file.name)
        said = rows.with_columns(
            item=pl.lit(vocabulary.names[place]), text=table[column], unit=pl.lit(unit or None, dtype=pl.String)
        )
        parts.append(said.filter(pl.col("text").str.strip_chars() != ""))
    found = assemble_events(
        pl.concat(parts), scale, vocabulary, Source(file.name, "columns", "unit", separator == ";"),
        references=references, before=before, after=after, items={}, bounds=bounds,
    )  # fmt: skip
    return found if note is None or references is None else replace(found, notes=(*found.notes, note))
