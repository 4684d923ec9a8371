"""The laboratory values of a study table as a laboratory table, and values as a study table lists them."""

from __future__ import annotations

import numpy as np
import polars as pl

from hilum.errors import UserError

from .table import LaboratoryTable
from .units import find_factor, list_units, normalize_unit
from .vocabulary import LaboratoryVariable, LaboratoryVocabulary


def collect_labs(studies: pl.DataFrame, vocabulary: LaboratoryVocabulary, source: str) -> LaboratoryTable:
    """The studies that have a value of the vocabulary, in their order, with their splits; a patient is a group.

    Args:
        studies: A study table, or a part of one.
        source: What to call it in messages.

    Raises:
        UserError: no study has a value of the vocabulary, or a unit that nothing says how to convert.
    """
    entries = studies.with_row_index("row").select("row", "dataset", "study", "labs")
    entries = entries.filter(pl.col("labs").list.len() > 0).explode("labs").unnest("labs")
    entries = entries.filter(pl.col("value").is_not_null() & pl.col("value").is_not_nan())
    places = {name: vocabulary.find(name) for name in entries["name"].drop_nulls().unique(maintain_order=True)}
    known = entries.with_columns(place=pl.col("name").replace_strict(places, default=None, return_dtype=pl.Int64))
    notes = _note_unknown(known)
    known = _convert(known.drop_nulls("place"), vocabulary, source)
    if known.is_empty():
        raise UserError(
            f"{source}: none of its {len(studies):,} studies has a laboratory value of the vocabulary "
            f"({', '.join(vocabulary.names[:4])}{', ...' if len(vocabulary) > 4 else ''}). A table of yours is read "
            "with the studies: hilum ingest table ... --labs.file FILE; --labs.vocabulary FILE names other "
            "values."
        )
    first = known.unique(["row", "place"], keep="first", maintain_order=True)
    if repeated := len(known) - len(first):
        notes.append(f"{repeated:,} values repeat one of the same study: the first counts.")
    rows = first["row"].unique().sort().to_numpy()
    values = np.full((len(rows), len(vocabulary)), np.nan)
    values[np.searchsorted(rows, first["row"].to_numpy()), first["place"].to_numpy()] = first["value"].to_numpy()
    chosen = studies[rows]
    return LaboratoryTable(
        vocabulary=vocabulary,
        source=source,
        dataset=tuple(chosen["dataset"]),
        study=tuple(chosen["study"]),
        patient=tuple(chosen["group"]),
        values=values,
        split=None if chosen["split"].null_count() == len(chosen) else tuple(chosen["split"].fill_null("")),
        notes=tuple(notes),
    )


def list_labs(table: LaboratoryTable) -> pl.DataFrame:
    """Columns study and labs (of the study table): the values that are there, by item number or name, with units."""
    row, place = np.nonzero(table.observed)
    names, units = zip(*((_name(one), one.unit or None) for one in table.vocabulary.variables), strict=True)
    entries = pl.DataFrame(
        {
            "study": pl.Series([table.study[one] for one in row], dtype=pl.String),
            "name": pl.Series([names[one] for one in place], dtype=pl.String),
            "value": pl.Series(table.values[row, place], dtype=pl.Float64),
            "unit": pl.Series([units[one] for one in place], dtype=pl.String),
        }
    )
    return entries.group_by("study", maintain_order=True).agg(labs=pl.struct("name", "value", "unit"))


def _name(variable: LaboratoryVariable) -> str:
    return variable.name if variable.itemid is None else str(variable.itemid)


def _note_unknown(entries: pl.DataFrame) -> list[str]:
    strange = entries.filter(pl.col("place").is_null())
    if strange.is_empty():
        return []
    names = strange["name"].drop_nulls().unique(maintain_order=True).to_list()
    named = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
    return [
        f"{len(strange):,} values of {len(names):,} names that the vocabulary does not have are left out: {named} "
        "(`hilum pretrain labs --vocabulary FILE` learns from other values)."
    ]


def _convert(entries: pl.DataFrame, vocabulary: LaboratoryVocabulary, source: str) -> pl.DataFrame:
    """Values in the vocabulary's units."""
    units = entries.select("place", unit=pl.col("unit").fill_null("")).unique(maintain_order=True)
    factors, seen = [], dict[int, str]()
    for place, unit in units.iter_rows():
        variable = vocabulary.variables[place]
        factor = find_factor(variable, unit)
        other = seen.setdefault(place, unit) if not variable.unit and unit else unit
        if factor is None or normalize_unit(other) != normalize_unit(unit):
            study = entries.filter((pl.col("place") == place) & (pl.col("unit").fill_null("") == unit))
            name = "/".join(study.select("dataset", "study").row(0))
            expected = f"one of {', '.join(list_units(variable))}" if factor is None else f"'{other}' as elsewhere"
            raise UserError(
                f"{source}, study {name}: '{variable.name}' is in '{unit}', expected {expected}. Convert it, or "
                "correct its unit, in the table that is read."
            )
        factors.append(factor)
    units = units.with_columns(pl.Series("factor", factors, dtype=pl.Float64))
    joined = entries.with_columns(unit=pl.col("unit").fill_null("")).join(
        units, on=["place", "unit"], maintain_order="left"
    )
    return joined.with_columns(value=pl.col("value") * pl.col("factor"))
