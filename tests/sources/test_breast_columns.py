"""Breasts and findings in a user's own table."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from hilum.breasts import BREAST_FINDINGS, BREASTS, tabulate_breasts
from hilum.cli import main
from hilum.errors import UserError
from toy_table import ingest, write_table

TABLE = """
    image|study|patient|side|view|birads|density|cancer|finding|xmin|ymin|xmax|ymax|mass_shape|mass_margin|seen
    a.png|1|7|L|CC|BI-RADS 4|B|1|Mass|1|2|3|4|Oval|Circumscribed;Obscured|1
    a.png|1|7|L|CC|4|B||['Suspicious Calcification']|0|0|2|2|||0
    b.png|1|7|L|MLO|4|2|0||1|1|2|3|||
    c.png|1|7|R|CC|2|B|0|no finding|||||||0
    d.png|2|8||CC|1|A|0||||||||
"""


def write(folder: Path, text: str = TABLE) -> Path:
    return write_table(folder, text)


def test_a_table_of_findings_becomes_breasts_and_findings(tmp_path: Path) -> None:
    frame, summary = ingest(write(tmp_path), columns={"breast_mass_seen": "seen"})
    assert frame["views"].list.len().to_list() == [3, 1]
    breasts = tabulate_breasts(frame)
    told = breasts.select("laterality", "assessment", "assessment_source", "density", "cancer", "mass seen").rows()
    assert told == [("left", 4, "breast", "b", 1, 1), ("right", 2, "breast", "b", 0, 0)]
    found = frame[BREAST_FINDINGS][0].to_list()
    assert [(one["path"], one["kind"], one["shape"], one["margin"]) for one in found] == [
        ("a.png", "mass", "oval", "circumscribed;obscured"),
        ("a.png", "calcification", None, None),
        ("b.png", "region", None, None),  # a box without a word
    ]
    assert [one["suspicious"] for one in found] == [None, True, None]
    assert [found[0][side] for side in ("top", "left", "bottom", "right")] == [2, 1, 4, 3]
    assert any("1 image without a side" in note for note in summary.notes)
    assert not any("14 findings" in warning for warning in summary.warnings)


def test_rows_of_one_breast_that_disagree_leave_it_blank(tmp_path: Path) -> None:
    frame, summary = ingest(write(tmp_path, TABLE.replace("b.png|1|7|L|MLO|4", "b.png|1|7|L|MLO|3")))
    assert tabulate_breasts(frame)["assessment"].to_list() == [None, 2]
    assert any("1 breast whose rows disagree on assessment" in note for note in summary.notes)


@pytest.mark.parametrize(
    ("before", "after", "reason"),
    [
        ("BI-RADS 4", "BI-RADS 7", "BI-RADS 0 to 6"),
        ("|Mass|", "|Mess|", "'mess' is no kind of finding"),
        ("|1|2|3|4|", "|1|4|3|2|", "box of a finding without area"),
        ("|1|2|3|4|", "|1|2||4|", "box of a finding without area"),
    ],
)
def test_cells_that_mean_nothing_are_refused(tmp_path: Path, before: str, after: str, reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        ingest(write(tmp_path, TABLE.replace(before, after)))


def test_without_a_column_of_sides_columns_of_breasts_are_not_guessed(tmp_path: Path) -> None:
    plain = TABLE.replace("|side|", "|hand|")
    frame, _ = ingest(write(tmp_path, plain))
    assert BREASTS not in frame.columns
    with pytest.raises(UserError, match="no image has a side"):
        ingest(write(tmp_path, plain), columns={"cancer": "cancer"})


def test_the_command_for_the_cache_is_that_of_mammograms(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["ingest", "table", str(write(tmp_path)), "--out", str(tmp_path / "o" / "t.parquet")]) == 0
    assert "--policy mammo-auto-1 --bits 16" in capsys.readouterr().out
    frame = pl.read_parquet(tmp_path / "o" / "t.parquet")
    assert {BREASTS, BREAST_FINDINGS} <= set(frame.columns)


@pytest.mark.parametrize(
    ("years", "reason"),
    [
        ("||-1", r"row 2: column 'years_to_last_followup' .* has '-1', expected years from the exam, 0 or more"),
        ("|-0.5|2", r"row 2: column 'years_to_cancer' .* has '-0.5', expected years from the exam, 0 or more"),
        ("|3|2", "a cancer after the last follow-up"),
    ],
)
def test_years_that_cannot_be_are_refused(tmp_path: Path, years: str, reason: str) -> None:
    text = "image|side|view|study|patient|years_to_cancer|years_to_last_followup\n"
    with pytest.raises(UserError, match=reason):
        ingest(write(tmp_path, f"{text}a.png|L|CC|1|7{years}"))


FINDINGS = """
    image|exam|patient|side|view|finding|xmin|ymin|xmax|ymax
    a.png|1|7|L|CC|Mass|1|1|3|3
    b.png|1|7|L|MLO|No Finding||||
    c.png|1|7|R|CC|No Finding||||
    d.png|1|7|R|MLO|normal||||
    e.png|2|8|L|CC|calcifications||||
    f.png|2|8|R|CC|||||
"""


def state(folder: Path, text: str = FINDINGS, absent: str = "", **options) -> tuple[list[tuple], list[str]]:
    """(study, side, mass, calcification) of each breast, and the notes; the file of image `absent` does not exist."""
    folder.mkdir(exist_ok=True)
    file = write_table(folder, text, tuple(letter for letter in "abcdef" if letter != absent))
    frame, summary = ingest(file, **options)
    table = tabulate_breasts(frame).select("study", "laterality", "mass", "calcification")
    return table.rows(), summary.notes


def test_no_finding_in_every_row_of_a_breast_is_the_absence_of_what_the_table_names(tmp_path: Path) -> None:
    rows, notes = state(tmp_path)
    assert rows == [
        ("1", "left", 1, None),  # one view says none, the other a mass: of calcifications nobody speaks
        ("1", "right", 0, 0),
        ("2", "left", None, 1),
        ("2", "right", None, None),  # blank is not "no finding"
    ]
    assert any("1 breast of 4 with 'no finding' in every row: mass, calcification absent" in note for note in notes)


def test_a_table_that_lists_all_findings_says_what_is_absent(tmp_path: Path) -> None:
    rows, notes = state(tmp_path, findings_complete=True)
    assert [row[2:] for row in rows] == [(1, 0), (0, 0), (0, 1), (0, 0)]
    assert any("as you state" in note for note in notes)
    with pytest.raises(UserError, match="--findings-complete has no effect"):
        state(tmp_path, FINDINGS.replace("|finding|", "|words|"), findings_complete=True)


def test_absences_need_every_row_of_the_breast(tmp_path: Path) -> None:
    boxed = FINDINGS.replace("d.png|1|7|R|MLO|normal||||", "d.png|1|7|R|MLO||1|1|3|3")  # a box of nobody knows what
    rows, _ = state(tmp_path / "boxed", boxed, findings_complete=True)
    assert rows[1][2:] == (None, None)
    moved = FINDINGS.replace("d.png|1|7|R|MLO|normal", "d.png|1|7|R|MLO|mass")  # and its image is not there
    rows, _ = state(tmp_path / "lost", moved, absent="d")
    assert rows[1][2:] == (None, None)


def test_a_columns_own_label_counts_before_what_findings_say(tmp_path: Path) -> None:
    text = FINDINGS.replace("patient|", "patient|seen|").replace("|7|R|", "|7|1|R|")
    text = text.replace("|7|L|", "|7|1|L|").replace("|8|", "|8||")
    rows, _ = state(tmp_path, text, columns={"breast_mass": "seen"})
    assert [row[2] for row in rows] == [1, 1, None, None]


DAYS = "image|side|view|study|patient|days_to_cancer|days_to_last_followup\n"


def test_times_in_days_become_years_whose_whole_part_is_the_bin(tmp_path: Path) -> None:
    """floor(days / 365.25): 365 days are less than a year, 366 more, and 1461 are four (L 3.4)."""
    rows = ["a.png|L|CC|1|7|365|366", "b.png|R|CC|1|7||1461"]
    frame, _ = ingest(write(tmp_path, DAYS + "\n".join(rows) + "\n"))
    left, right = tabulate_breasts(frame).select("years_to_cancer", "years_to_last_followup").rows()
    assert left == pytest.approx((365 / 365.25, 366 / 365.25))
    assert [int(years) for years in left] == [0, 1]
    assert right == (None, 4.0)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (DAYS + "a.png|L|CC|1|7||-1\n", r"'days_to_last_followup' .* has '-1', expected days from the exam, 0 or more"),
        (DAYS + "a.png|L|CC|1|7|900|800\n", "a cancer after the last follow-up"),
        (
            DAYS.replace("days_to_last_followup", "years_to_cancer") + "a.png|L|CC|1|7|900|2\n",
            r"'years_to_cancer' \(years_to_cancer\) and 'days_to_cancer' .* leave one out",
        ),
    ],
)
def test_days_that_cannot_be_are_refused(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        ingest(write(tmp_path, text))
