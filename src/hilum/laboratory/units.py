"""Units of laboratory values: converted only where `unit_factors.csv` says how, never guessed.

A row of that file without a variable holds for every one; `to` value = factor x `from` value, and the other way round
by division. What needs the molar mass of a substance names it.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from functools import cache
from importlib import resources
from io import StringIO

from .vocabulary import LaboratoryVariable, normalize_name

_ANY = ""
_NUM_NAMED = 5  # in a message


def find_factor(variable: LaboratoryVariable, unit: str) -> float | None:
    """What a value in `unit` is multiplied by to be in the variable's own; None where nothing says how.

    A blank unit counts as the variable's own, and so does any unit of a variable that has none.
    """
    own, its = normalize_unit(variable.unit), normalize_unit(unit)
    if _ANY in (own, its) or own == its:
        return 1.0
    factors = _read_factors()
    return next((factors[name, its, own] for name in _names(variable) if (name, its, own) in factors), None)


def list_units(variable: LaboratoryVariable) -> list[str]:
    """The units that a variable can be given in, its own first, as they are usually written."""
    own = normalize_unit(variable.unit)
    spelled = _read_spelling()
    found = [its for name, its, to in _read_factors() if name in _names(variable) and to == own]
    return [variable.unit, *dict.fromkeys(spelled[its] for its in found)]


def normalize_unit(unit: str) -> str:
    """A unit's spelling: case, blanks, both micro signs, "x10^9", "10*9" and "10E9" do not matter."""
    plain = re.sub(r"[\s^*]", "", unit.lower().replace("\u00b5", "u").replace("\u03bc", "u").replace("\u00d7", "x"))
    return re.sub(r"^x?10e?(?=\d)", "10", plain)


def note_assumed(assumed: Sequence[str]) -> list[str]:
    """The line on laboratory values ("creatinine in mg/dL") of which no cell and no column says its unit."""
    if not assumed:
        return []
    named = ", ".join(assumed[:_NUM_NAMED]) + (", ..." if len(assumed) > _NUM_NAMED else "")
    return [f"No unit is stated, so {len(assumed)} laboratory values are taken to be in the vocabulary's: {named}."]


def _names(variable: LaboratoryVariable) -> tuple[str, str]:
    return normalize_name(variable.name), _ANY


def _read_rows() -> list[dict[str, str]]:
    text = resources.files("hilum.laboratory").joinpath("unit_factors.csv").read_text("utf-8")
    return list(csv.DictReader(StringIO(text)))


@cache
def _read_factors() -> dict[tuple[str, str, str], float]:
    """(variable, from, to) -> factor, both ways, all normalised; what the file says goes before what it implies."""
    said, implied = {}, {}
    for row in _read_rows():
        name = normalize_name(row["variable"])
        one, other, factor = normalize_unit(row["from"]), normalize_unit(row["to"]), float(row["factor"])
        said[name, one, other] = factor
        implied[name, other, one] = 1 / factor
    return implied | said


@cache
def _read_spelling() -> dict[str, str]:
    return {normalize_unit(row[end]): row[end] for row in _read_rows() for end in ("from", "to")}
