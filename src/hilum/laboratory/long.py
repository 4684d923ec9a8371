"""Long tables: one measurement a row, and a table of the studies that they are for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import polars as pl

from hilum.sources.table_file import read_table

from .as_of import TimeScale, end_days, read_times
from .columns import check_columns
from .events import DAY, References, Source, assemble_events
from .table import LaboratoryTable
from .values import Bounds
from .vocabulary import LaboratoryVocabulary


@dataclass(frozen=True)
class LongColumns:
    """Which column of a long table means what."""

    owner: str
    """Whose measurement it is: the patient, or the study."""
    item: str
    """Which laboratory value it is, by a name or itemid of the vocabulary."""
    value: str
    unit: str | None = None
    """None: all values are in the vocabulary's units."""
    time: str | None = None
    """None: an owner has one measurement of each laboratory value at most. A day without an hour is its end."""


def read_long(
    file: Path,
    vocabulary: LaboratoryVocabulary,
    columns: LongColumns,
    *,
    references: References | None = None,
    before: timedelta = DAY,
    after: timedelta = DAY,
    items: Mapping[str, str] | None = None,
    bounds: Bounds = "bound",
) -> LaboratoryTable:
    """A long CSV or Parquet table as a laboratory table.

    Args:
        references: The studies; where not given, every owner is a study and a patient of its own, of which the earliest
            measurement counts, whenever it was.
        before, after: The window around a study's time.
        items: What the table calls laboratory values -> name in the vocabulary, where that is not the same.
        bounds: What `>60` becomes, see values.py.

    Raises:
        UserError: a column or unit that means nothing, times that cannot be compared, or no value at all.
    """
    table, _, separator = read_table(file)
    named = [columns.owner, columns.item, columns.value, columns.unit, columns.time]
    check_columns(table.columns, [name for name in named if name], file.name)
    blank = pl.lit(None, dtype=pl.String)
    events = table.select(
        owner=columns.owner,
        item=pl.col(columns.item).str.strip_chars(),
        text=columns.value,
        unit=pl.col(columns.unit) if columns.unit else blank,
    )
    scale: TimeScale = "none"
    note_days = None
    if columns.time:
        times, scale, note_days = read_moments(table, columns.time, file.name)
        events = events.with_columns(time=times)
    else:
        events = events.with_columns(time=pl.lit(0, dtype=pl.Int64))
    source = Source(file.name, columns.item, columns.unit or "unit", separator == ";")
    found = assemble_events(
        events, scale, vocabulary, source,
        references=references, before=before, after=after, items=items or {}, bounds=bounds,
    )  # fmt: skip
    if note_days is None or references is None:
        return found
    return replace(found, notes=(*found.notes, note_days))


def read_moments(table: pl.DataFrame, column: str, source: str) -> tuple[pl.Series, TimeScale, str | None]:
    """When measurements were made, on which scale, and what is to be said of those of a day without an hour."""
    times, scale = read_times(table[column], source, column)
    if scale != "dates":
        return times, scale, None
    times, num_days = end_days(times, table[column])
    note = (
        f"{num_days:,} of {len(table):,} measurements have a day and no hour: they count as made at its end, so that "
        "none is given to a study that was made before it. A window that ends within the day (--labs.after) leaves "
        "them out."
    )
    return times, scale, note if num_days else None
