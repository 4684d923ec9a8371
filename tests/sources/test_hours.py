"""As-of joins around admissions: hand-worked edges and ties, and a slow loop."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hilum.sources.hours import HOUR, Window, Windows, build_triples, find_first, give_images

ADMISSION = pl.DataFrame({"patient": ["a"], "admission": ["1"], "second": [10 * HOUR]})
IMAGE = Windows().image
ECG = Windows().ecg


def place(*events: tuple[str, float, str]) -> pl.DataFrame:
    """Events of (patient, hour, id); hours from the origin, not from admission."""
    rows = [(patient, name, round(hour * HOUR)) for patient, hour, name in events]
    return pl.DataFrame(rows, schema={"patient": pl.String, "event": pl.String, "second": pl.Int64}, orient="row")


SECOND = 1 / HOUR


@pytest.mark.parametrize(
    ("hours", "window", "found"),
    [
        ([34.0], IMAGE, None),  # 24 hours after admission is not later than 24
        ([34 + SECOND], IMAGE, 24 + SECOND),
        ([82.0], IMAGE, 72.0),
        ([82 + SECOND], IMAGE, None),
        ([34.0, 60.0, 50.0], IMAGE, 40.0),
        ([-14.0], ECG, -24.0),  # before the patient's first event, and included
        ([-14 - SECOND], ECG, None),
        ([34.0], ECG, 24.0),
        ([34 + SECOND], ECG, None),
        ([-14 - SECOND, 9.0, 10.0], ECG, -1.0),
    ],
)
def test_edges_of_the_windows(hours: list[float], window: Window, found: float | None) -> None:
    first = find_first(ADMISSION, place(*(("a", hour, str(hour)) for hour in hours)), window)
    assert first["hour"].to_list() == ([] if found is None else [pytest.approx(found)])


def test_of_two_at_one_second_the_smaller_id_counts_in_any_order() -> None:
    events = place(("a", 50.0, "y"), ("a", 50.0, "x"), ("b", 40.0, "other patient"))
    for order in (events, events.reverse()):
        assert find_first(ADMISSION, order, IMAGE).rows() == [("a", "1", "x", 40.0)]


def test_an_event_can_serve_two_admissions_of_its_patient_and_each_test_has_its_first() -> None:
    admissions = pl.DataFrame({"patient": ["a", "a"], "admission": ["1", "2"], "second": [0, 20 * HOUR]})
    values = place(("a", 10.0, "v1"), ("a", 12.0, "v2"), ("a", 11.0, "v3")).with_columns(
        item=pl.Series(["K", "K", "Na"])
    )
    first = find_first(admissions, values, Windows().labs, each=("item",))
    assert first.rows() == [
        ("a", "1", "K", "v1", 10.0),
        ("a", "1", "Na", "v3", 11.0),
        ("a", "2", "K", "v1", -10.0),
        ("a", "2", "Na", "v3", -9.0),
    ]


def test_an_admission_needs_all_three() -> None:
    admissions = pl.DataFrame({"patient": list("abcd"), "admission": list("1234"), "second": [0, 0, 0, 0]})
    images = place(*((patient, 30.0, f"i{patient}") for patient in "abc")).with_columns(position=pl.lit("PA"))
    ecgs = place(*((patient, -2.0, f"e{patient}") for patient in "abd"))
    labs = place(("a", 1.0, "l1"), ("a", 0.5, "l2"), ("b", 25.0, "late"), ("d", 1.0, "l3"), ("a", 0.1, "blank"))
    labs = labs.with_columns(item=pl.lit("50912"), value=pl.Series([1.0, 2.0, 3.0, 4.0, None]), unit=pl.lit("mg/dL"))
    assert build_triples(admissions, images, ecgs, labs).to_dicts() == [
        {
            "admission": "1",
            "patient": "a",
            "image": "ia",
            "position": "PA",
            "image_hour": 30.0,
            "ecg": "ea",
            "ecg_hour": -2.0,
            "labs": [{"item": "50912", "value": 2.0, "unit": "mg/dL", "hour": 0.5}],
        }
    ]
    wider = Windows(labs=Window(-24.0, 30.0))
    assert build_triples(admissions, images, ecgs, labs, wider)["admission"].to_list() == ["1", "2"]


def find_slowly(admissions: pl.DataFrame, events: pl.DataFrame, window: Window) -> list[tuple[str, str]]:
    found = []
    for patient, admission, admitted in admissions.rows():
        low, high = admitted + window.first * HOUR, admitted + window.last * HOUR
        near = [
            (second, event)
            for owner, event, second in events.rows()
            if owner == patient and second <= high and (second > low if window.after else second >= low)
        ]
        found += [(admission, min(near)[1])] if near else []
    return sorted(found)


patients = st.sampled_from("ab")
times = st.integers(-6, 90).map(lambda hour: hour * HOUR)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(patients, times), min_size=1, max_size=6), st.lists(st.tuples(patients, times), max_size=12))
def test_as_of_joins_agree_with_a_loop(admitted: list[tuple[str, int]], happened: list[tuple[str, int]]) -> None:
    admissions = pl.DataFrame(
        [(patient, f"{number:02}", second) for number, (patient, second) in enumerate(admitted)],
        schema={"patient": pl.String, "admission": pl.String, "second": pl.Int64},
        orient="row",
    )
    events = place(*((patient, second / HOUR, f"{number:02}") for number, (patient, second) in enumerate(happened)))
    for window in (IMAGE, ECG):
        found = find_first(admissions, events, window).select("admission", "event").rows()
        assert sorted(found) == find_slowly(admissions, events, window)


def test_each_image_is_given_once_the_earliest_to_the_earliest_stay() -> None:
    stays = pl.DataFrame(
        {"patient": list("aaab"), "stay": list("4321"), "begin": [0, 0, 50, 0], "end": [100, 100, 100, 100]}
    )
    images = place(("a", 10 / HOUR, "i1"), ("a", 60 / HOUR, "i2"), ("a", 101 / HOUR, "late"), ("b", 100 / HOUR, "i3"))
    # Stays 3 and 4 begin together: 3 comes first and takes i1; 4 takes i2, so that 2 has none left.
    assert sorted(give_images(stays, images).select("stay", "event").rows()) == [("1", "i3"), ("3", "i1"), ("4", "i2")]
