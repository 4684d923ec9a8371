"""Whether a table has the columns that somebody named, and its rows names of their own."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from hilum.errors import UserError


def check_columns(present: Sequence[str], named: Sequence[str], source: str) -> None:
    """Raise a UserError for the first column named that is not there."""
    missing = [name for name in named if name not in present]
    if missing:
        raise UserError(f"{source} has no column '{missing[0]}'; its columns are {', '.join(present[:20])}.")


def check_studies(cells: pl.Series, source: str, column: str) -> None:
    """Raise a UserError where a table of one row for each study has a blank or repeated one."""
    named = cells.filter(cells.str.strip_chars().fill_null("") != "")
    blank, repeated = len(cells) - len(named), len(named) - named.n_unique()
    if blank or repeated:
        what = f"{blank:,} blank" if blank else f"{repeated:,} repeated"
        raise UserError(
            f"{source}: column '{column}' has {what} cells; expected one row for each study. Is it another column, or "
            "a long table?"
        )
