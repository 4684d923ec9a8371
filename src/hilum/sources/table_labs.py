"""The laboratory values of a user's studies, from a table of their own: wide or long (`hilum.laboratory`).

A table with a column of items and one of values is long: one measurement a row, of a study or of a patient. Of a
patient's, the earliest within a window around each study counts. Any other is wide: one row a study, or, with a column
of times, one row for each time of a study or patient.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl

from hilum.errors import UserError
from hilum.laboratory.as_of import read_times
from hilum.laboratory.events import References
from hilum.laboratory.long import LongColumns, read_long
from hilum.laboratory.over_time import read_over_time
from hilum.laboratory.studies import list_labs
from hilum.laboratory.table import LaboratoryTable
from hilum.laboratory.vocabulary import LaboratoryVocabulary, normalize_name, read_vocabulary
from hilum.laboratory.wide import read_wide
from hilum.sources.columns import USUAL_NAMES, suggest
from hilum.sources.signal_files import LabsFile
from hilum.sources.table_file import read_table

# Meaning -> usual names of columns, compared without case and punctuation; the first that the table has is taken.
_USUAL = {
    "study": USUAL_NAMES["study"],
    "patient": USUAL_NAMES["patient"],
    "item": ("item", "itemid", "test", "test_name", "analyte", "parameter", "lab"),
    "value": ("value", "valuenum", "result", "result_value"),
    "unit": ("unit", "units", "valueuom"),
    "time": ("time", "charttime", "collected", "taken", "datetime"),
}


def add_labs(
    images: pl.DataFrame, when: pl.DataFrame, given: LabsFile, notes: list[str], *, per_patient: bool
) -> pl.DataFrame:
    """The images with their studies' `labs`.

    Args:
        images: one row an image, with dataset, study, patient and row; ids as in the user's tables.
        when: row of the user's table and the time of its study as text, null where it says none.
        per_patient: study ids are numbered anew for every patient.

    Raises:
        UserError: a column that is not there, values of no study, or patients' values without times.
    """
    if given.file is None:
        if given != LabsFile():
            raise UserError("--labs.columns, vocabulary, before and after have no effect without --labs.file.")
        return images
    studies = images.select("dataset", "study", "patient", "row").unique("study", maintain_order=True)
    if per_patient or len(studies) < images.n_unique(["dataset", "study"]):
        raise UserError(
            f"{given.file}: study ids are not unique, so that nobody can tell whose its values are. Give studies ids "
            "of their own."
        )
    table = _read(given, given.file, studies.join(when, on="row", how="left", maintain_order="left"))
    labs = list_labs(table)
    known = labs.filter(pl.col("study").is_in(studies["study"].to_list()))
    if known.is_empty():
        raise UserError(
            f"{given.file}: none of its {len(labs):,} rows with a value is of one of the {len(studies):,} studies. Are "
            "the ids of both tables of one kind, and written alike?"
        )
    notes += table.notes
    notes.append(f"{len(known):,} of {len(studies):,} studies have laboratory values.")
    if strangers := len(labs) - len(known):
        notes.append(f"{given.file.name}: the values of {strangers:,} other studies are left out.")
    return images.join(known, on="study", how="left", maintain_order="left").with_columns(pl.col("labs").fill_null([]))


def _read(given: LabsFile, file: Path, studies: pl.DataFrame) -> LaboratoryTable:
    vocabulary = read_vocabulary(given.vocabulary)
    table, _, _ = read_table(file)
    meaning, called = _choose_columns(table.columns, given.columns, vocabulary, file)
    owner = meaning.get("study", meaning.get("patient"))
    if owner is None:
        raise UserError(
            f"{file.name}: no column says whose values they are: name it, --labs.columns study=COLUMN, or "
            "patient=COLUMN."
        )
    window: dict[str, Any] = {}
    if "study" not in meaning:
        window = {
            "references": _make_references(studies, file, "time" in meaning),
            "before": timedelta(hours=given.before),
            "after": timedelta(hours=given.after),
        }
    elif (given.before, given.after) != (LabsFile.before, LabsFile.after):
        raise UserError("--labs.before and --labs.after have no effect: values name their studies.")
    if {"item", "value"} <= set(meaning):
        columns = LongColumns(owner, meaning["item"], meaning["value"], meaning.get("unit"), meaning.get("time"))
        return read_long(file, vocabulary, columns, items={word: name for name, word in called.items()}, **window)
    if "time" not in meaning or ("study" in meaning and table[owner].is_unique().all()):
        return read_wide(file, vocabulary, study=owner, columns=called)
    return read_over_time(file, vocabulary, owner=owner, time=meaning["time"], columns=called, **window)


def _make_references(studies: pl.DataFrame, file: Path, has_times: bool) -> References:
    if not has_times or studies["time"].null_count() == len(studies):
        lacks = (
            f"{file.name} has none: --labs.columns time=COLUMN" if not has_times else "studies: --columns time=COLUMN"
        )
        raise UserError(
            f"{file.name}: its values name patients and not studies, so that which of them are a study's is told by "
            f"times; name the column of {lacks}."
        )
    times, scale = read_times(studies["time"], "the table of studies", "time")
    patient = tuple(studies["patient"])
    return References(tuple(studies["study"]), patient, patient, times, scale)


def _choose_columns(
    names: list[str], given: tuple[str, ...], vocabulary: LaboratoryVocabulary, file: Path
) -> tuple[dict[str, str], dict[str, str]]:
    """Meaning -> column, and name in the vocabulary -> what the table calls it."""
    plain: dict[str, str] = {}
    for name in names:
        plain.setdefault(normalize_name(name), name)
    found = {
        target: next((plain[normalize_name(one)] for one in usual if normalize_name(one) in plain), None)
        for target, usual in _USUAL.items()
    }
    meaning = {target: name for target, name in found.items() if name is not None}
    called = {}
    for word in given:
        target, is_given, column = word.partition("=")
        if not is_given:
            raise UserError(f"--labs.columns {word}: expected meaning=column, such as study=exam.")
        if target in _USUAL:
            if column and column not in names:
                raise UserError(f"{file.name} has no column '{column}'.{suggest(column, names)}")
            meaning.pop(target, None)
            meaning |= {target: column} if column else {}
        elif vocabulary.find(target) is not None:
            called[target] = column
        else:
            raise UserError(
                f"--labs.columns {word}: '{target}' is neither {', '.join(_USUAL)} nor a laboratory value of the "
                f"vocabulary.{suggest(target, [*_USUAL, *vocabulary.names])}"
            )
    return meaning, called
