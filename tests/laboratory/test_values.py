"""What cells become, each kind counted."""

from __future__ import annotations

import math

import polars as pl
import pytest

from hilum.errors import UserError
from hilum.laboratory.values import CellCounts, describe_cells, parse_values


def test_every_kind_of_cell_is_read_by_its_rule_and_counted() -> None:
    cells = ["4.1", " 1e3 ", ">60", "<= 0.5", "LESS THAN 5", "inf", "-Inf", "", None, "NaN", "n/a", "___", "hemolyzed"]
    values, counts = parse_values(pl.Series(cells), "t.csv")
    assert values.to_list() == [4.1, 1000, 60, 0.5, 5, math.inf, -math.inf, *[None] * 6]
    assert counts == CellCounts(numbers=2, blank=4, bounds=3, infinite=2, hidden=1, unreadable=1)
    assert sum(counts) == len(cells)
    assert describe_cells([("egfr", counts)], "bound") == [
        "egfr: 3 bounds such as '>60', taken as the bound; 2 infinite, ranked beyond every number; 1 hidden ('___'), "
        "taken as missing; 1 text that is no number, taken as missing (of 9 cells)."
    ]
    values, counts = parse_values(pl.Series(cells), "t.csv", bounds="missing")
    assert values.to_list()[2:5] == [None] * 3
    assert counts.bounds == 3


def test_commas_are_decimal_where_asked() -> None:
    values, _ = parse_values(pl.Series(["4,1", "<0,5", "7"]), "t.csv", decimal_comma=True)
    assert values.to_list() == [4.1, 0.5, 7.0]
    values, counts = parse_values(pl.Series(["4,1", "3", "7"]), "t.csv")
    assert values.to_list() == [None, 3.0, 7.0]
    assert counts.unreadable == 1


def test_a_column_of_words_is_refused_and_named() -> None:
    with pytest.raises(UserError, match=r"column 'ward': 2 of 3 cells are no number \('icu', 'er'\)"):
        parse_values(pl.Series(["ICU", "ER", "4", ""]), "column 'ward'")


def test_numbers_of_a_typed_column() -> None:
    values, counts = parse_values(pl.Series([1.5, float("nan"), None]), "t.parquet")
    assert values.to_list() == [1.5, None, None]
    assert counts == CellCounts(numbers=1, blank=2)
    assert describe_cells([("x", counts)], "bound") == []
