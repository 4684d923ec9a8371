"""Measurements, one a row (owner, item, text, unit, time), to one row for each study."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import polars as pl

from hilum.errors import UserError

from .as_of import TimeScale, choose_earliest, count_ties
from .table import LaboratoryTable
from .units import find_factor, list_units, normalize_unit, note_assumed
from .values import Bounds, describe_cells, parse_values
from .vocabulary import LaboratoryVocabulary

DAY = timedelta(hours=24)


@dataclass(frozen=True)
class References:
    """The studies that are to get laboratory values, and when they were made."""

    study: tuple[str, ...]
    patient: tuple[str, ...]
    owner: tuple[str, ...]  # by whose name the measurements go: the patient's, or the study's own
    time: pl.Series  # Int64, microseconds
    scale: TimeScale


@dataclass(frozen=True)
class Source:
    """What to call a long table and its columns in messages, and how its numbers are written."""

    name: str
    item: str
    unit: str
    decimal_comma: bool = False


def assemble_events(
    events: pl.DataFrame,
    scale: TimeScale,
    vocabulary: LaboratoryVocabulary,
    source: Source,
    *,
    references: References | None,
    before: timedelta,
    after: timedelta,
    items: Mapping[str, str],
    bounds: Bounds,
) -> LaboratoryTable:
    """Columns owner, item, text, unit and time of measurements, to one row for each study."""
    notes: list[str] = []
    events = _name_items(events, vocabulary, items, source, notes)
    timeless = events.filter(pl.col("time").is_null() | pl.col("owner").is_null())
    if len(timeless):
        notes.append(f"{len(timeless):,} measurements without an owner or a time are left out.")
        events = events.filter(pl.col("time").is_not_null() & pl.col("owner").is_not_null())
    events = _read_numbers(events, vocabulary, source, bounds, notes)
    if references is None:
        references, before, after = _make_owners_studies(events, scale, source)
    elif scale != references.scale:
        raise UserError(
            f"{source.name}: its times are {scale} and those of the studies {references.scale}: they cannot be "
            "compared. Give both as dates, or both as hours."
        )
    if events.filter(pl.col("owner").is_in(list(set(references.owner)))).is_empty():
        raise UserError(
            f"{source.name}: not one of its measurements belongs to one of the {len(references.study):,} studies. Are "
            "the ids of both tables of one kind, and written alike (12345 or 12345.0)?"
        )
    if ties := count_ties(events):
        notes.append(f"{ties:,} times with two different values of one kind: the first in the table counts.")
    missing = references.time.null_count()
    if missing:
        notes.append(f"{missing:,} studies have no time: they get no laboratory value.")
    found = choose_earliest(
        events,
        pl.DataFrame({"owner": references.owner, "time": references.time}, schema_overrides={"owner": pl.String}),
        vocabulary.names,
        before=before,
        after=after,
    )
    return LaboratoryTable(
        vocabulary=vocabulary,
        source=source.name,
        dataset=(source.name,) * len(references.study),
        study=references.study,
        patient=references.patient,
        values=found.fill_null(np.nan).to_numpy().reshape(len(references.study), len(vocabulary)).astype(np.float64),
        notes=tuple(notes),
    )


def _make_owners_studies(
    events: pl.DataFrame, scale: TimeScale, source: Source
) -> tuple[References, timedelta, timedelta]:
    """Every owner as a study, and a window that holds all measurements."""
    repeated = int((events.group_by("owner", "item").len()["len"] > 1).sum())
    if scale == "none" and repeated:
        raise UserError(
            f"{source.name}: {repeated:,} pairs of an owner and a laboratory value have several measurements, and no "
            "column says when they were made. Name one, so that the earliest can be taken."
        )
    owners, times = tuple(events["owner"].unique(maintain_order=True)), events["time"].to_numpy()
    references = References(owners, owners, owners, pl.Series([0] * len(owners)), scale)
    return references, timedelta(microseconds=-int(times.min())), timedelta(microseconds=int(times.max()))


def _name_items(
    events: pl.DataFrame, vocabulary: LaboratoryVocabulary, items: Mapping[str, str], source: Source, notes: list[str]
) -> pl.DataFrame:
    """The measurements of the vocabulary, their items by its names."""
    unknown = [name for name in items.values() if vocabulary.find(name) is None]
    if unknown:
        raise UserError(
            f"There is no laboratory value '{unknown[0]}' in the vocabulary: {', '.join(vocabulary.names)}."
        )
    places = {word: vocabulary.find(items.get(word, word)) for word in events["item"].drop_nulls().unique()}
    names = {word: vocabulary.names[place] for word, place in places.items() if place is not None}
    if not names:
        raise UserError(
            f"{source.name}: no cell of column '{source.item}' names a laboratory value of the vocabulary "
            f"({', '.join(vocabulary.names[:5])}{', ...' if len(vocabulary) > 5 else ''}). Is it another column, or "
            "are they called otherwise? Then say how, by `items`."
        )
    known = events.with_columns(item=pl.col("item").replace_strict(names, default=None, return_dtype=pl.String)).filter(
        pl.col("item").is_not_null()
    )
    if len(known) < len(events):
        notes.append(
            f"{len(events) - len(known):,} measurements of {len(places) - len(names):,} items that the vocabulary does "
            "not have are left out."
        )
    return known


def _read_numbers(
    events: pl.DataFrame, vocabulary: LaboratoryVocabulary, source: Source, bounds: Bounds, notes: list[str]
) -> pl.DataFrame:
    """Columns owner, item, time and value (no null), in the vocabulary's units."""
    parts, counts, assumed = [], [], []
    for place, own in _split_by_item(events, vocabulary):
        variable = vocabulary.variables[place]
        values, counted = parse_values(
            own["text"], f"{source.name}: the values of '{variable.name}'", bounds=bounds,
            decimal_comma=source.decimal_comma,
        )  # fmt: skip
        counts.append((variable.name, counted))
        units = own["unit"].fill_null("").str.strip_chars()
        stated = [unit for unit in units.filter(values.is_not_null()).unique(maintain_order=True) if unit]
        if not stated and variable.unit not in ("", "1"):
            assumed.append(f"{variable.name} in {variable.unit}")
        factors = {unit: find_factor(variable, unit) for unit in stated}
        wrong = [unit for unit, factor in factors.items() if factor is None]
        if wrong:
            raise UserError(
                f"{source.name}: column '{source.unit}' says '{wrong[0]}' of '{variable.name}', expected one of "
                f"{', '.join(list_units(variable))}. Convert these rows, or correct their unit."
            )
        if not variable.unit and len({normalize_unit(unit) for unit in stated}) > 1:
            raise UserError(
                f"{source.name}: column '{source.unit}' says {' and '.join(repr(unit) for unit in stated[:3])} of "
                f"'{variable.name}', which has no unit in the vocabulary. Give it one there."
            )
        factor = units.replace_strict(factors, default=1.0, return_dtype=pl.Float64) if factors else 1.0
        parts.append(own.select("owner", "item", "time").with_columns(value=values * factor))
    notes += describe_cells(counts, bounds)
    notes += note_assumed(assumed)
    if not any(counted.numbers for _, counted in counts):
        raise UserError(f"{source.name}: holds no number for any laboratory value of the vocabulary.")
    return pl.concat(parts).filter(pl.col("value").is_not_null())


def _split_by_item(events: pl.DataFrame, vocabulary: LaboratoryVocabulary) -> Iterator[tuple[int, pl.DataFrame]]:
    for place, name in enumerate(vocabulary.names):
        own = events.filter(pl.col("item") == name)
        if len(own):
            yield place, own
