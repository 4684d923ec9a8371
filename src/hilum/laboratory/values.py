"""What stands in a laboratory's cells: numbers, bounds, and what is no number; each kind is counted.

| cell | becomes |
|---|---|
| `4.1`, `1e3` | that number |
| `>60`, `<= 0.5`, `less than 5` | the bound itself, or missing where asked for (Symile drops what has no number) |
| `inf`, `-inf` | kept: above or below what the laboratory measures, so it ranks above or below every number |
| blank, `NA`, `nan`, ... | missing |
| `___` | missing; hidden by MIMIC's de-identification |
| any other text | missing; a column of which most is such text is an error |
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple

import polars as pl

from hilum.errors import UserError
from hilum.sources.cells import BLANKS

Bounds = Literal["bound", "missing"]
_BOUND = r"^(?:[<>]=?|≤|≥|less than|greater than|more than|under|over)\s*(-?[0-9.]+(?:e[+-]?\d+)?)$"


class CellCounts(NamedTuple):
    """How many cells were what."""

    numbers: int = 0
    blank: int = 0
    bounds: int = 0
    infinite: int = 0
    hidden: int = 0
    unreadable: int = 0


def parse_values(
    text: pl.Series, column: str, *, bounds: Bounds = "bound", decimal_comma: bool = False
) -> tuple[pl.Series, CellCounts]:
    """Float64 values, null where missing, and the counts of each kind of cell.

    Args:
        text: The cells, of one laboratory value.
        column: What to call them in a message.
        bounds: What `>60` becomes: 60, or missing.
        decimal_comma: 4,1 is a number.

    Raises:
        UserError: more than half of the cells that are not blank are text that is no number.
    """
    cells = text.cast(pl.String).str.strip_chars().str.to_lowercase()
    if decimal_comma:
        cells = cells.str.replace(r"^(\D*\d*),(\d+)", "${1}.${2}")
    cell, nothing = pl.col("cell"), pl.lit(False)
    number = cell.cast(pl.Float64, strict=False).fill_nan(None)
    bound = cell.str.extract(_BOUND).cast(pl.Float64, strict=False)
    frame = pl.DataFrame({"cell": cells}).select(
        value=pl.coalesce(number, bound) if bounds == "bound" else number,
        numbers=number.is_finite().fill_null(nothing),
        blank=cell.is_null() | cell.is_in(list(BLANKS)),
        bounds=number.is_null() & bound.is_not_null(),
        infinite=number.is_infinite().fill_null(nothing),
        hidden=cell.str.contains("^_+$").fill_null(nothing),
    )
    kinds = frame.drop("value")
    read = CellCounts(*(int(total) for total in kinds.sum().row(0)))
    unreadable = ~kinds.select(pl.any_horizontal(pl.all())).to_series()
    counts = read._replace(unreadable=int(unreadable.sum()))
    if 2 * counts.unreadable > len(cells) - counts.blank:
        shown = ", ".join(f"'{word[:30]}'" for word in cells.filter(unreadable).unique(maintain_order=True).head(3))
        raise UserError(
            f"{column}: {counts.unreadable:,} of {len(cells) - counts.blank:,} cells are no number ({shown}); expected "
            "4.1, >60, or blank where there is no value. Name another column, or leave this one out."
        )
    return frame["value"], counts


def describe_cells(counts: Iterable[tuple[str, CellCounts]], bounds: Bounds) -> list[str]:
    """Lines on every laboratory value whose cells were more than numbers and blanks."""
    became = "taken as the bound" if bounds == "bound" else "taken as missing"
    lines = []
    for name, count in counts:
        said = [
            (count.bounds, f"bounds such as '>60', {became}"),
            (count.infinite, "infinite, ranked beyond every number"),
            (count.hidden, "hidden ('___'), taken as missing"),
            (count.unreadable, "text that is no number, taken as missing"),
        ]
        parts = [f"{number:,} {what}" for number, what in said if number]
        if parts:
            lines.append(f"{name}: {'; '.join(parts)} (of {sum(count) - count.blank:,} cells).")
    return lines
