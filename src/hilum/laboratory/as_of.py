"""Which of a patient's measurements belongs to a study: the earliest within a window around its time.

Symile takes the earliest from 24 hours before an admission to 24 hours after it, both ends included (P 4.1). Of several
at that earliest time the first in the table counts.

A day without an hour is a time as well. Of a measurement it means the day's end, of a study its start: no value is
given to a study that it may be later than, but for what the window after a study allows.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Literal

import polars as pl

from hilum.errors import UserError

TimeScale = Literal["dates", "hours", "none"]

_MICROSECOND = timedelta(microseconds=1)
_HOUR = timedelta(hours=1) // _MICROSECOND
_MOST_HOURS = 24 * 366 * 150  # a life from any origin; 21500131 is a date without dashes, 1.7e9 seconds since 1970
_FORMATS = ("%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M", "%Y-%m-%d")


def choose_earliest(
    events: pl.DataFrame, references: pl.DataFrame, items: Sequence[str], *, before: timedelta, after: timedelta
) -> pl.DataFrame:
    """One row for each reference, in their order, and one Float64 column for each item; null where none was measured.

    Args:
        events: Columns owner, item, time (Int64, microseconds, no null) and value (no null).
        references: Columns owner and time; the owner is what both share, mostly a patient. Without a time: no value.
        items: Columns of the result.
        before, after: The window around a reference's time, both ends included.
    """
    if before + after < timedelta(0):
        raise UserError(f"The window from {-before} to {after} around a study's time is empty: give before and after.")
    start = (
        references.select("owner", start=pl.col("time") - before // _MICROSECOND).with_row_index("row").sort("start")
    )
    columns = []
    for item in items:
        found = events.filter(pl.col("item") == item).sort("time", maintain_order=True)
        # The first one from the start of the window on, if it is no later than its end.
        joined = start.join_asof(
            found.select("owner", "time", "value"),
            left_on="start", right_on="time", by="owner", strategy="forward",
            tolerance=(before + after) // _MICROSECOND, check_sortedness=False,
        )  # fmt: skip
        columns.append(joined.sort("row")["value"].alias(item))
    return pl.DataFrame(columns)


def end_days(times: pl.Series, cells: pl.Series) -> tuple[pl.Series, int]:
    """Measurements' times where a day without an hour is its end, and how many are such.

    A table whose times are all at midnight has days: whoever exported them made hours of what was none.

    Args:
        times: What `read_times` made of the cells, of scale "dates".
        cells: As in the table.
    """
    is_day = cells.cast(pl.String).str.strip_chars().str.contains(r"^\d{4}-\d{2}-\d{2}$").fill_null(False)
    if (times.drop_nulls() % (24 * _HOUR) == 0).all():
        is_day = times.is_not_null()
    last = pl.when(is_day).then(pl.col("time") + (24 * _HOUR - 1)).otherwise("time")
    return pl.DataFrame({"time": times}).select(last)["time"], int(is_day.sum())


def count_ties(events: pl.DataFrame) -> int:
    """At how many times one owner has two different values of one item."""
    different = events.group_by("owner", "item", "time").agg(pl.col("value").n_unique())
    return int((different["value"] > 1).sum())


def read_times(cells: pl.Series, source: str, column: str) -> tuple[pl.Series, TimeScale]:
    """Times in microseconds, null where blank, and whether they count from a date or from any origin.

    Reads dates and times (`2150-01-31 08:15:00`, `2150-01-31`), and numbers, which are hours.

    Raises:
        UserError: a cell that is none of these, or as many hours as nobody lives; names its row, not its content.
    """
    text = cells.cast(pl.String).str.strip_chars().replace("", None)
    hours = text.cast(pl.Float64, strict=False)
    if hours.is_finite().sum() == text.is_not_null().sum():
        if (large := hours.abs() > _MOST_HOURS).any():
            raise UserError(
                f"{source}: column '{column}' has {int(large.sum()):,} numbers that are no hours of a life, first in "
                f"data row {large.arg_true()[0] + 1}: dates without dashes, or seconds? Expected 2150-01-31 08:15:00, "
                "2150-01-31, or hours."
            )
        return (hours * _HOUR).round().cast(pl.Int64), "hours"
    parsed = pl.DataFrame({"text": text}).select(
        pl.coalesce(pl.col("text").str.to_datetime(style, time_unit="us", strict=False) for style in _FORMATS)
    )["text"]
    wrong = text.is_not_null() & parsed.is_null()
    if wrong.any():
        raise UserError(
            f"{source}: column '{column}' has {int(wrong.sum()):,} cells that are no time, first in data row "
            f"{wrong.arg_true()[0] + 1}; expected 2150-01-31 08:15:00, 2150-01-31, or hours as numbers in all rows."
        )
    return parsed.to_physical(), "dates"
