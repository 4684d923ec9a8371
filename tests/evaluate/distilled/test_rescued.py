"""Rescued studies, by hand: who is one, how many there are of either way, and which are drawn."""

from __future__ import annotations

import numpy as np

from hilum.evaluate.distilled.rescued import choose_reader, count_rescued, list_rescued, spread_cases
from hilum.evaluate.scoring.scores import Scores

NAN = np.nan
TARGET = np.array([[1, 0], [1, 0], [1, 0], [0, 0], [NAN, 0], [1, 0]], float)
FIRST = np.array([[0, 0], [1, 0], [0, 0], [0, 0], [0, 0], [NAN, 0]], float)
SECOND = np.array([[1, 0], [1, 1], [0, 0], [1, 0], [1, 0], [1, 0]], float)


def say(decision: np.ndarray) -> Scores:
    logit = np.zeros((1, 6, 2))
    return Scores(("Edema", "Fracture"), TARGET, logit, decision[None], np.arange(6), np.arange(10, 16))


def test_rescued_cases_are_those_one_misses_and_the_other_catches() -> None:
    """Of six: one is rescued; found by both, missed by both, without the finding, unknown, and undecided are not."""
    assert list_rescued(say(FIRST), say(SECOND), "Edema").tolist() == [10]
    assert list_rescued(say(SECOND), say(FIRST), "Edema").tolist() == []
    assert list_rescued(say(FIRST), say(SECOND), "Fracture").tolist() == []


def test_both_ways_are_counted_among_the_positives_that_both_decide_on() -> None:
    for sides, expected in (((FIRST, SECOND), (1, 0)), ((SECOND, FIRST), (0, 1))):
        found = count_rescued(*map(say, sides))
        assert [(one.metric, one.of, one.num, one.positives) for one in found] == [
            ("rescued", "Edema", 4, 3), ("lost", "Edema", 4, 3),
        ]  # fmt: skip
        assert tuple(one.value for one in found) == expected


def test_cases_are_spread_over_findings_in_the_order_of_rows() -> None:
    rows = {"a": np.array([9, 2, 5]), "b": np.array([], int), "c": np.array([2, 7]), "d": np.array([3])}
    assert spread_cases(rows, 4) == [("a", 2), ("c", 7), ("d", 3), ("a", 5)]
    assert spread_cases(rows, 9) == [("a", 2), ("c", 7), ("d", 3), ("a", 5), ("a", 9)]
    assert spread_cases(rows, 2) == [("a", 2), ("c", 7)]
    assert spread_cases({"b": rows["b"]}, 4) == []


def test_one_reader_shows_what_either_head_reads() -> None:
    assert choose_reader(["class", "class"]) == "class"
    assert choose_reader(["mean", "4x4"]) == choose_reader(["max", "max"]) == "mean"
    assert choose_reader(["class", "mean"]) == choose_reader(["both", "class"]) == "both"
