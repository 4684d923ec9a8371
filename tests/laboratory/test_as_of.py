"""The earliest value within a window, by hand and against a loop."""

from __future__ import annotations

from datetime import timedelta

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hilum.errors import UserError
from hilum.laboratory.as_of import choose_earliest, count_ties, end_days, read_times

HOUR = 3_600_000_000
DAY = timedelta(hours=24)


def make_events(rows: list[tuple[str, str, int, float]]) -> pl.DataFrame:
    schema = {"owner": pl.String, "item": pl.String, "time": pl.Int64, "value": pl.Float64}
    return pl.DataFrame(rows, schema=schema, orient="row")


def make_references(rows: list[tuple[str, int | None]]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema={"owner": pl.String, "time": pl.Int64}, orient="row")


def test_edges_ties_and_owners_by_hand() -> None:
    """An admission at hour 100; Symile's window is hours 76 to 124, both included."""
    events = make_events(
        [
            ("a", "Na", 76 * HOUR - 1, 1.0),  # a microsecond too early
            ("a", "Na", 124 * HOUR, 2.0),  # at the end, but not the earliest
            ("a", "Na", 76 * HOUR, 3.0),  # at the beginning: this one
            ("a", "Na", 76 * HOUR, 4.0),  # at the same time, later in the table
            ("a", "K", 124 * HOUR, 5.0),  # at the end and alone: this one
            ("a", "Cl", 124 * HOUR + 1, 6.0),  # a microsecond too late
            ("b", "Na", 100 * HOUR, 7.0),  # another patient's
            ("a", "Mg", 100 * HOUR, 8.0),  # nobody asked
        ]
    )
    references = make_references([("b", 100 * HOUR), ("a", 100 * HOUR), ("c", 100 * HOUR), ("a", None)])
    found = choose_earliest(events, references, ["Na", "K", "Cl"], before=DAY, after=DAY)
    assert found.rows() == [(7.0, None, None), (3.0, 5.0, None), (None, None, None), (None, None, None)]
    assert count_ties(events) == 1


def test_two_studies_of_one_patient_have_each_their_window() -> None:
    events = make_events([("a", "Na", hour * HOUR, float(hour)) for hour in (10, 50, 90)])
    references = make_references([("a", 60 * HOUR), ("a", 12 * HOUR), ("a", 500 * HOUR)])
    found = choose_earliest(events, references, ["Na"], before=timedelta(hours=12), after=timedelta(hours=40))
    assert found["Na"].to_list() == [50.0, 10.0, None]


def choose_slowly(events: list[tuple], references: list[tuple], item: str, before: int, after: int) -> list:
    found = []
    for owner, time in references:
        best = None
        for whose, which, when, value in events:
            is_inside = whose == owner and which == item and time - before <= when <= time + after
            if is_inside and (best is None or when < best[0]):
                best = when, value
        found.append(best[1] if best else None)
    return found


WHOSE, WHEN = st.sampled_from("ab"), st.integers(-5, 5)


@settings(deadline=None, max_examples=60)
@given(
    events=st.lists(st.tuples(WHOSE, st.sampled_from(["Na", "K"]), WHEN, st.floats(0, 9)), max_size=12),
    references=st.lists(st.tuples(WHOSE, WHEN), min_size=1, max_size=5),
    before=st.integers(0, 3),
    after=st.integers(0, 3),
)
def test_the_join_agrees_with_a_loop(events: list, references: list, before: int, after: int) -> None:
    window = {"before": timedelta(microseconds=before), "after": timedelta(microseconds=after)}
    found = choose_earliest(make_events(events), make_references(references), ["Na", "K"], **window)
    for item in ("Na", "K"):
        assert found[item].to_list() == choose_slowly(events, references, item, before, after)


def test_an_empty_window_is_refused() -> None:
    with pytest.raises(UserError, match="empty"):
        choose_earliest(make_events([]), make_references([]), ["Na"], before=-DAY, after=timedelta(hours=3))


def test_times_are_dates_or_hours() -> None:
    dates = pl.Series(["2150-01-01 01:00:00", "2150-01-01T02:00", "2150-01-01", "2150-01-01 00:00:00.5", "", None])
    times, scale = read_times(dates, "t.csv", "charttime")
    assert scale == "dates"
    assert [None if time is None else time - times[2] for time in times] == [HOUR, 2 * HOUR, 0, 500_000, None, None]
    times, scale = read_times(pl.Series(["-1.5", "24", ""]), "t.csv", "hour")
    assert (times.to_list(), scale) == ([-1.5 * HOUR, 24 * HOUR, None], "hours")


@pytest.mark.parametrize("cells", [["21500101", "21500102"], ["5", "1700000000"]])
def test_dates_without_dashes_and_seconds_are_not_taken_for_hours(cells: list[str]) -> None:
    """A day between two such dates would be an hour, and a window of 24 hours would reach over a month."""
    with pytest.raises(UserError, match=r"column 'charttime' has \d numbers that are no hours .* row [12]:") as error:
        read_times(pl.Series(cells), "t.csv", "charttime")
    assert "2150" not in str(error.value).split("Expected")[0]
    assert read_times(pl.Series(["1300000", "-1300000"]), "t.csv", "hour")[1] == "hours"


def test_a_cell_that_is_no_time_is_named_by_its_row_and_not_shown() -> None:
    with pytest.raises(
        UserError, match=r"column 'charttime' has 1 cells that are no time, first in data row 2"
    ) as error:
        read_times(pl.Series(["2150-01-01", "31.01.2150"]), "t.csv", "charttime")
    assert "31.01" not in str(error.value)


@pytest.mark.parametrize(
    ("cells", "days"),
    [
        (["2150-01-01", "2150-01-01 00:00:00", "2150-01-01 06:00", ""], [True, False, False, False]),
        (["2150-01-01 00:00:00", "2150-01-02T00:00", None], [True, True, False]),  # a table of midnights
        (["2150-01-01 00:00", "2150-01-02 00:01"], [False, False]),
    ],
)
def test_a_measurement_of_a_day_is_at_its_end(cells: list, days: list[bool]) -> None:
    column = pl.Series(cells, dtype=pl.String)
    times, _ = read_times(column, "t.csv", "charttime")
    ended, num = end_days(times, column)
    assert num == sum(days)
    for time, end, is_day in zip(times, ended, days, strict=True):
        assert end == (time if time is None or not is_day else time + 24 * HOUR - 1)
