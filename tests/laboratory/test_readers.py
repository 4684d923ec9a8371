"""Hospitals' tables: wide, long, and what is wrong with them."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from hilum.errors import UserError
from hilum.laboratory.as_of import read_times
from hilum.laboratory.events import References
from hilum.laboratory.long import LongColumns, read_long
from hilum.laboratory.wide import read_wide
from toy_labs import VOCABULARY

NAN = float("nan")


def write(folder: Path, text: str, name: str = "t.csv") -> Path:
    """A table of this text, blanks around '|' free."""
    lines = [",".join(cell.strip() for cell in line.split("|")) for line in text.strip().splitlines()]
    (folder / name).write_text("\n".join(lines) + "\n")
    return folder / name


def same(found: np.ndarray, expected: list[list[float]]) -> bool:
    return np.allclose(found, np.array(expected), rtol=1e-3, equal_nan=True)


def test_wide(tmp_path: Path) -> None:
    file = write(
        tmp_path,
        """study | creatinine [umol/L] | 50983 | note
           s1    | 88.4                | 140   | x
           s2    | >884                |       | y
           s3    | ___                 | 131.5 | z""",
    )
    table = read_wide(file, VOCABULARY, study="study")
    assert table.study == ("s1", "s2", "s3")
    assert same(table.values, [[1, 140, NAN], [10, NAN, NAN], [NAN, 131.5, NAN]])
    assert table.observed.tolist() == [[True, True, False], [True, False, False], [False, True, False]]
    assert table.notes == (
        "creatinine [umol/L]: 1 bounds such as '>60', taken as the bound; 1 hidden ('___'), taken as missing (of 3 "
        "cells).",
        "No unit is stated, so 1 laboratory values are taken to be in the vocabulary's: 50983 in mEq/L.",
        "No column holds CRP: missing in every row.",
    )
    assert not read_wide(file, VOCABULARY, study="study", bounds="missing").observed[1, 0]


def test_wide_parquet_with_other_names_and_units(tmp_path: Path) -> None:
    frame = {"id": [1, 2], "crea": [88.4, None], "na": [140, 141], "c_reactive": [5.0, float("-inf")]}
    pl.DataFrame(frame).write_parquet(tmp_path / "t.parquet")
    columns = {"creatinine": "crea", "sodium": "na", "crp": "c_reactive"}
    table = read_wide(
        tmp_path / "t.parquet", VOCABULARY, study="id", columns=columns, units={"creatinine": "umol/L", "crp": "mg/L"}
    )
    assert table.study == ("1", "2")
    assert same(table.values, [[1, 140, 5], [NAN, 141, -np.inf]])


@pytest.mark.parametrize(
    ("header", "options", "message"),
    [
        (
            "study | creatinine [mmol/mol]",
            {},
            r"column 'creatinine \[mmol/mol\]' is in 'mmol/mol', expected one of mg/dL",
        ),
        ("study | creatinine", {"units": {"creatinine": "furlong"}}, "column 'creatinine' is in 'furlong'"),
        ("study | creatinine | Creatinine (mg/dL)", {}, "are both 'Creatinine'"),
        ("study | weight", {}, "no column is called like"),
        ("study | creatinine", {"columns": {"crp": "c"}}, "no column 'c'"),
        ("study | creatinine", {"columns": {"ldh": "study"}}, "no laboratory value 'ldh'"),
        ("exam | creatinine", {}, "no column 'study'"),
    ],
)
def test_wide_tables_that_cannot_be_meant(tmp_path: Path, header: str, options: dict, message: str) -> None:
    cells = " | ".join(["s1", "1", "2"][: header.count("|") + 1])
    with pytest.raises(UserError, match=message):
        read_wide(write(tmp_path, f"{header}\n{cells}"), VOCABULARY, study="study", **options)


def test_a_study_listed_twice_is_refused(tmp_path: Path) -> None:
    file = write(tmp_path, "study | creatinine\ns1 | 1\ns1 | 2")
    with pytest.raises(UserError, match="column 'study' has 1 repeated cells"):
        read_wide(file, VOCABULARY, study="study")


LONG = """patient | test       | result | units  | taken
          p1      | Creatinine | 176.8  | umol/L | 2150-01-02 06:00
          p1      | Creatinine | 1.0    | mg/dL  | 2150-01-01 06:00
          p1      | natrium    | 139    | mEq/L  | 2150-01-01 06:00
          p1      | Creatinine | 9.0    | mg/dL  | 2149-12-30 06:00
          p2      | Creatinine | 3.0    |        | 2150-02-01 00:00
          p2      | troponin   | 0.1    | ng/mL  | 2150-02-01 00:00"""
MADE = ("2150-01-01 12:00", "2150-01-03 00:00", "2150-02-02 00:00:00", "2150-02-02 00:00")
COLUMNS = LongColumns(owner="patient", item="test", value="result", unit="units", time="taken")


def refer(patients: tuple[str, ...], made: tuple[str, ...]) -> References:
    """Studies e1, e2, ... of these patients at these times."""
    times, scale = read_times(pl.Series(made), "studies.csv", "made")
    return References(tuple(f"e{place + 1}" for place in range(len(made))), patients, patients, times, scale)


def test_long_around_studies(tmp_path: Path) -> None:
    references = refer(("p1", "p1", "p2", "p3"), MADE)
    file = write(tmp_path, LONG)
    table = read_long(file, VOCABULARY, COLUMNS, references=references, items={"natrium": "sodium"})
    assert table.study == ("e1", "e2", "e3", "e4")
    assert table.patient == ("p1", "p1", "p2", "p3")
    assert same(table.values, [[1, 139, NAN], [2, NAN, NAN], [3, NAN, NAN], [NAN, NAN, NAN]])
    assert table.notes == ("1 measurements of 1 items that the vocabulary does not have are left out.",)
    narrow = read_long(file, VOCABULARY, COLUMNS, references=references, before=timedelta(0), after=timedelta(hours=18))
    assert same(narrow.values[:, :1], [[2], [NAN], [NAN], [NAN]])


def test_units_that_nobody_states_are_said(tmp_path: Path) -> None:
    file = write(tmp_path, LONG)
    table = read_long(file, VOCABULARY, LongColumns("patient", "test", "result", time="taken"))
    assert (
        "No unit is stated, so 1 laboratory values are taken to be in the vocabulary's: Creatinine in mg/dL."
    ) in table.notes
    assert not any("unit" in note for note in read_long(file, VOCABULARY, COLUMNS).notes)


def test_long_by_itself_takes_each_owners_earliest(tmp_path: Path) -> None:
    table = read_long(write(tmp_path, LONG), VOCABULARY, COLUMNS)
    assert table.study == table.patient == ("p1", "p2")
    assert same(table.values, [[9, NAN, NAN], [3, NAN, NAN]])


def test_typed_times_of_parquet(tmp_path: Path) -> None:
    frame = {
        "p": ["a", "a"],
        "t": ["CRP", "CRP"],
        "v": [2.0, 1.0],
        "when": [datetime(2150, 1, 2), datetime(2150, 1, 1)],
    }
    pl.DataFrame(frame).write_parquet(tmp_path / "t.parquet")
    table = read_long(tmp_path / "t.parquet", VOCABULARY, LongColumns("p", "t", "v", time="when"))
    assert same(table.values, [[NAN, NAN, 1]])


def test_long_tables_that_cannot_be_meant(tmp_path: Path) -> None:
    file = write(tmp_path, LONG)
    with pytest.raises(UserError, match="1 pairs of an owner and a laboratory value have several measurements"):
        read_long(file, VOCABULARY, LongColumns("patient", "test", "result", unit="units"))
    with pytest.raises(UserError, match="no column 'when'"):
        read_long(file, VOCABULARY, LongColumns("patient", "test", "result", time="when"))
    with pytest.raises(UserError, match="no cell of column 'units' names"):
        read_long(file, VOCABULARY, LongColumns("patient", "units", "result", time="taken"))
    wrong = write(tmp_path, LONG.replace("umol/L", "mol/furlong"), "wrong.csv")
    with pytest.raises(
        UserError, match="column 'units' says 'mol/furlong' of 'Creatinine', expected one of mg/dL, mg/L, umol/L"
    ):
        read_long(wrong, VOCABULARY, COLUMNS)
    with pytest.raises(UserError, match="times are dates and those of the studies hours"):
        read_long(file, VOCABULARY, COLUMNS, references=refer(("p1",), ("12",)))
    with pytest.raises(UserError, match="not one of its measurements belongs to one of the 1 studies"):
        read_long(file, VOCABULARY, COLUMNS, references=refer(("p1.0",), ("2150-01-01",)))
    two = write(tmp_path, "p | t | v | u\na | CRP | 1 | mg/L\nb | CRP | 1 | mg/dL", "two.csv")
    with pytest.raises(UserError, match="'mg/L' and 'mg/dL' of 'CRP', which has no unit"):
        read_long(two, VOCABULARY, LongColumns("p", "t", "v", unit="u"))
