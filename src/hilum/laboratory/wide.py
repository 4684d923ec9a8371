"""Wide tables: one row for each study, one column for each laboratory value."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import polars as pl
from jaxtyping import Float64

from hilum.errors import UserError
from hilum.sources.table_file import read_table

from .columns import check_columns, check_studies
from .table import LaboratoryTable
from .units import find_factor, list_units, note_assumed
from .values import Bounds, describe_cells, parse_values
from .vocabulary import LaboratoryVariable, LaboratoryVocabulary

_UNIT = re.compile(r"^(?P<name>.*\S)\s*[\[(](?P<unit>[^\])]+)[\])]$")


def read_wide(
    file: Path,
    vocabulary: LaboratoryVocabulary,
    *,
    study: str,
    columns: Mapping[str, str] | None = None,
    units: Mapping[str, str] | None = None,
    bounds: Bounds = "bound",
) -> LaboratoryTable:
    """A wide CSV or Parquet table as a laboratory table.

    A column is found by a name or itemid of the vocabulary; "creatinine [umol/L]" says its unit too.

    Args:
        study: Column of the rows' names, each once.
        columns: Name in the vocabulary -> column, where the column is not called so.
        units: Name in the vocabulary -> unit of its column, where the column does not say it.
        bounds: What `>60` becomes, see values.py.

    Raises:
        UserError: a column that is not there or holds no numbers, a unit that nothing says how to convert.
    """
    table, _, separator = read_table(file)
    check_columns(table.columns, [study, *(columns or {}).values()], file.name)
    _check_known([*(columns or {}), *(units or {})], vocabulary)
    check_studies(table[study], file.name, study)
    chosen = choose_columns(table.columns, vocabulary, columns or {}, {study}, file.name)
    stated = {vocabulary.find(name): unit for name, unit in (units or {}).items()}
    chosen = {place: (column, stated.get(place, unit)) for place, (column, unit) in chosen.items()}
    values, notes = _read_columns(table, vocabulary, chosen, file.name, bounds, decimal_comma=separator == ";")
    absent = [variable.name for place, variable in enumerate(vocabulary.variables) if place not in chosen]
    if absent:
        notes.append(f"No column holds {', '.join(absent)}: missing in every row.")
    return LaboratoryTable(
        vocabulary=vocabulary,
        source=file.name,
        dataset=(file.stem,) * len(table),
        study=tuple(table[study]),
        patient=tuple(table[study]),  # whoever it is, the table of studies says
        values=values,
        notes=tuple(notes),
    )


def _read_columns(
    table: pl.DataFrame,
    vocabulary: LaboratoryVocabulary,
    chosen: Mapping[int, tuple[str, str]],
    source: str,
    bounds: Bounds,
    *,
    decimal_comma: bool,
) -> tuple[Float64[np.ndarray, "row lab"], list[str]]:
    """Values in the vocabulary's units, and what was decided; `chosen`: place -> column and its unit."""
    values = np.full((len(table), len(vocabulary)), np.nan)
    counts, assumed = [], []
    for place, (column, unit) in chosen.items():
        variable = vocabulary.variables[place]
        factor = find_column_factor(variable, column, unit, source)
        if variable.unit not in ("", "1") and not unit:
            assumed.append(f"{column} in {variable.unit}")
        numbers, counted = parse_values(
            table[column], f"{source}, column '{column}'", bounds=bounds, decimal_comma=decimal_comma
        )
        values[:, place] = (numbers * factor).fill_null(np.nan).to_numpy()
        counts.append((column, counted))
    return values, describe_cells(counts, bounds) + note_assumed(assumed)


def find_column_factor(variable: LaboratoryVariable, column: str, unit: str, source: str) -> float:
    """What a column's values are multiplied by to be in the vocabulary's unit; a UserError where nothing says it."""
    factor = find_factor(variable, unit)
    if factor is None:
        raise UserError(
            f"{source}: column '{column}' is in '{unit}', expected one of {', '.join(list_units(variable))}. "
            "Convert the column, or correct its unit."
        )
    return factor


def choose_columns(
    names: list[str], vocabulary: LaboratoryVocabulary, given: Mapping[str, str], others: set[str], source: str
) -> dict[int, tuple[str, str]]:
    """Place in the vocabulary -> column and the unit in its name ("" where it says none), in the vocabulary's order.

    Args:
        names: The table's columns.
        given: Name in the vocabulary -> column, where the column is not called so.
        others: Columns that mean something else.
        source: What to call the table.
    """
    _check_known(list(given), vocabulary)
    found: dict[int, tuple[str, str]] = {}
    for name, column in given.items():
        place = vocabulary.find(name)
        assert place is not None, "checked above"
        found[place] = (column, _part_name(column, vocabulary)[1])
    settled = set(found)
    for column in names:
        plain, unit = _part_name(column, vocabulary)
        place = vocabulary.find(plain)
        if place is None or place in settled or column in {*others, *given.values()}:
            continue
        if place in found:
            raise UserError(
                f"Columns '{found[place][0]}' and '{column}' are both '{vocabulary.names[place]}': say which is meant "
                "by `columns`, or rename one."
            )
        found[place] = (column, unit)
    if not found:
        raise UserError(
            f"{source}: no column is called like a laboratory value of the vocabulary "
            f"({', '.join(vocabulary.names[:5])}{', ...' if len(vocabulary) > 5 else ''}); name them by `columns`."
        )
    return dict(sorted(found.items()))


def _check_known(names: list[str], vocabulary: LaboratoryVocabulary) -> None:
    for name in names:
        if vocabulary.find(name) is None:
            raise UserError(f"There is no laboratory value '{name}' in the vocabulary: {', '.join(vocabulary.names)}.")


def _part_name(column: str, vocabulary: LaboratoryVocabulary) -> tuple[str, str]:
    """Name and unit of "creatinine [umol/L]"; brackets that belong to a name of the vocabulary stay there."""
    match = None if vocabulary.find(column) is not None else _UNIT.match(column)
    return (match["name"], match["unit"]) if match else (column, "")
