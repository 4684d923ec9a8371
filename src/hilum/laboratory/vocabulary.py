"""Which laboratory values there are, in the order of an encoder's inputs, each with its unit.

`symile.csv` lists the 50 of Symile-MIMIC (P 1.2) in the order of its arrays: MIMIC's itemids sorted as text. A user's
own list is a CSV with the columns name, unit and (where MIMIC has the value) itemid.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from io import StringIO
from pathlib import Path

from hilum.errors import UserError
from hilum.wording import say_no_file


@dataclass(frozen=True)
class LaboratoryVariable:
    """One laboratory value: what it is called and in which unit it is kept."""

    name: str
    unit: str = ""  # "": whichever a table has, one for all its rows; "1": without dimension
    itemid: int | None = None  # MIMIC's, where it has one


@dataclass(frozen=True)
class LaboratoryVocabulary:
    """Laboratory values in the order of an encoder's inputs."""

    variables: tuple[LaboratoryVariable, ...]

    def __post_init__(self) -> None:
        known = Counter(
            key for variable in self.variables for key in {normalize_name(variable.name), *_itemid(variable)}
        )
        twice = [key for key, number in known.items() if number > 1]
        if twice:
            raise UserError(
                f"Two laboratory values are called '{twice[0]}': give each a name and an itemid of its own."
            )
        if not self.variables:
            raise UserError("A vocabulary of laboratory values needs one at least.")

    def __len__(self) -> int:
        return len(self.variables)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(variable.name for variable in self.variables)

    @cached_property
    def _places(self) -> dict[str, int]:
        places = {normalize_name(variable.name): place for place, variable in enumerate(self.variables)}
        return places | {key: place for place, variable in enumerate(self.variables) for key in _itemid(variable)}

    def find(self, word: str) -> int | None:
        """The place of the value of that name or itemid; letters' case, blanks and punctuation do not matter."""
        return self._places.get(normalize_name(word))

    def describe_difference(self, other: LaboratoryVocabulary) -> str | None:
        """In which way another vocabulary is not this one, for messages; None where they are equal."""
        if len(self) != len(other):
            return f"{len(other)} laboratory values and not {len(self)}"
        for place, (own, its) in enumerate(zip(self.variables, other.variables, strict=True)):
            if own != its:
                return f"value {place + 1} is {_show(its)} and not {_show(own)}"
        return None


def read_vocabulary(source: str | Path) -> LaboratoryVocabulary:
    """The vocabulary `symile`, or one of a CSV file with columns name, unit (may be blank) and itemid (may be absent).

    Raises:
        UserError: no such file, no such columns, a name twice.
    """
    if source == "symile":
        return _parse(resources.files("hilum.laboratory").joinpath("symile.csv").read_text("utf-8"), "symile.csv")
    path = Path(source)
    if not path.is_file():
        raise UserError(f"{path}: {say_no_file(path)}; give `symile`, or a CSV file with the columns name and unit.")
    return _parse(path.read_text("utf-8-sig"), path.name)


def normalize_name(name: str) -> str:
    """Letters and digits in lower case: "D-dimer", "d_dimer" and "D Dimer" are one name."""
    return re.sub(r"[^a-z0-9]+", "", name.lower()) or name.strip()


def _parse(text: str, source: str) -> LaboratoryVocabulary:
    rows = _read_rows(text, source)
    if rows and "name" not in rows[0]:
        raise UserError(f"{source}: has the columns {', '.join(rows[0])}; expected name, unit and perhaps itemid.")
    variables = []
    for number, row in enumerate(rows, start=2):
        name, itemid = (row.get("name") or "").strip(), (row.get("itemid") or "").strip()
        if not name or (itemid and not itemid.isdigit()):
            raise UserError(
                f"{source}, row {number}: expected a name, a unit or blank, and an itemid (digits) or blank."
            )
        variables.append(LaboratoryVariable(name, (row.get("unit") or "").strip(), int(itemid) if itemid else None))
    return LaboratoryVocabulary(tuple(variables))


def _read_rows(text: str, source: str) -> list[dict[str, str]]:
    rows = list(csv.DictReader(StringIO(text)))
    if not rows:
        raise UserError(f"{source}: no such file, or one without rows; expected a CSV file with a header.")
    return [{str(key).strip().lower(): value or "" for key, value in row.items()} for row in rows]


def _itemid(variable: LaboratoryVariable) -> tuple[str, ...]:
    return () if variable.itemid is None else (str(variable.itemid),)


def _show(variable: LaboratoryVariable) -> str:
    return f"'{variable.name}'{f' ({variable.unit})' if variable.unit else ''}"
