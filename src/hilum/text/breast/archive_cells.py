"""Cells of archives' rows: without blanks, as numbers, lists, views and boxes; what cannot be used is counted."""

from __future__ import annotations

import ast
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from .record import Box
from .terms import View

Row = Mapping[str, str | None]
Value = TypeVar("Value")
VIEWS: dict[str, View] = {"cc": "cc", "mlo": "mlo"}


class BreastNotes:
    """Counts what cannot be used of one breast."""

    def __init__(self, notes: Counter[str], study: str) -> None:
        self._notes, self._study = notes, study

    def count(self, what: str) -> None:
        self._notes[what] += 1

    def look_up(self, column: str, word: str, known: Mapping[str, Value]) -> Value | None:
        if word and word not in known:
            self.count(f"{column}: unknown value {word[:40]!r}")
        return known.get(word)

    def look_up_all(self, column: str, words: Iterable[str], known: Mapping[str, Value]) -> tuple[Value, ...]:
        found = [self.look_up(column, word, known) for word in words]
        return tuple(dict.fromkeys(one for one in found if one is not None))

    def agree(self, column: str, words: Iterable[str], known: Mapping[str, Value]) -> Value | None:
        """The one value that rows give; None of none, or of several."""
        values = self.look_up_all(column, (word.strip() for word in words), known)
        if len(values) > 1:
            self.count(f"{column}: rows of one breast differ")
        return values[0] if len(values) == 1 else None

    def agree_on_lists(self, column: str, rows: Iterable[Row], known: Mapping[str, Value]) -> tuple[Value, ...]:
        """The parts of compound words such as OVAL-LOBULATED, where rows of one finding agree."""
        lists = {
            self.look_up_all(column, read_compound(read_cell(row, column), known), known)
            for row in rows
            if read_cell(row, column)
        }
        if len({frozenset(one) for one in lists}) > 1:
            self.count(f"{column}: views of one finding differ")
            return ()
        return next(iter(lists), ())


def read_compound(cell: str, known: Mapping[str, Any]) -> list[str]:
    words = [] if cell.upper() in ("N/A", "NAN") else cell.upper().replace(" ", "_").split("-")
    return [word for word in words if word]


def group_rows(rows: Iterable[Row], *columns: str) -> dict[tuple[str, ...], list[Row]]:
    grouped = defaultdict(list)
    for row in rows:
        key = tuple(read_cell(row, column) for column in columns)
        grouped[(*key[:-1], key[-1].lower())].append(row)
    return grouped


def read_cell(row: Row, column: str) -> str:
    """A cell without surrounding blanks and line breaks; "" where there is none."""
    return " ".join((row.get(column) or "").split())


def read_letters(row: Row, column: str, allowed: str = "") -> list[str]:
    """One-letter codes of a cell, however they are parted; 0.0 is the code 0."""
    cell = re.sub(r"(?<=\d)\.0$", "", read_cell(row, column).upper())
    return [letter for letter in cell if letter.isalnum() or letter in allowed]


def read_number(cell: str) -> str:
    """The whole number in "BI-RADS 4", "4" or "4.0"; "" where there is none."""
    found = re.fullmatch(r"(?:bi-?rads\s*)?(\d+)(?:\.0+)?", cell.lower())
    return found[1] if found else cell


def read_views(rows: Iterable[Row], column: str) -> tuple[View, ...]:
    return tuple(sorted({VIEWS[name] for row in rows if (name := read_cell(row, column).lower()) in VIEWS}))


def read_list(cell: str) -> list[str]:
    try:
        value = ast.literal_eval(cell) if cell else []
    except (ValueError, SyntaxError):
        return [cell]  # counted as an unknown value
    return [str(one) for one in value] if isinstance(value, list) else [cell]


def read_box(row: Row, view: View, note: BreastNotes) -> Box | None:
    try:
        return Box(view, *(float(read_cell(row, name)) for name in ("ymin", "xmin", "ymax", "xmax")))
    except ValueError:
        note.count("a finding without a usable box")
        return None
