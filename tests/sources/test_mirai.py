"""Tables in Mirai's format, written from the columns that its README documents; each trap is a test."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from PIL import Image

from hilum.breasts import BREAST, BREASTS, tabulate_breasts
from hilum.cache import Cache
from hilum.cache.writer import build_cache
from hilum.cli import main
from hilum.errors import UserError
from hilum.evaluate.risk.follow_up import read_follow_up
from hilum.export.mirai_table import MiraiTable, build_mirai_table, write_mirai_table
from hilum.sources.mirai import COLUMNS
from hilum.study import build_studies, write_studies
from toy_table import ingest

VIEWS = (("L", "CC"), ("L", "MLO"), ("R", "CC"), ("R", "MLO"))


def write(folder: Path, exams: list[tuple], views: tuple = VIEWS, **changed: str) -> Path:
    """Exams as (patient, exam, years to cancer, years to the last follow-up, split) with an image of each view.

    `changed`: cells of the first row.
    """
    rows = []
    for patient, exam, cancer, followed, split in exams:
        for side, view in views:
            path = (folder / f"{patient}_{exam}_{view}_{side}.png").absolute()
            Image.effect_noise((80, 96), len(rows) + 20).save(path)
            cells = (patient, exam, side, view, path, cancer, followed, split)
            rows.append(dict(zip(HEADER, map(str, cells), strict=True)))
    rows[0] |= changed
    pl.DataFrame(rows).write_csv(folder / "mirai.csv")
    return folder / "mirai.csv"


HEADER = (
    *("patient_id", "exam_id", "laterality", "view", "file_path"),
    *("years_to_cancer", "years_to_last_followup", "split_group"),
)


def find_years(frame: pl.DataFrame) -> dict[str, list[tuple]]:
    """Study -> different (years to cancer, years of follow-up) of its breasts."""
    breasts = tabulate_breasts(frame).select("study", "years_to_cancer", "years_to_last_followup").unique()
    return {str(study): part.drop("study").rows() for (study,), part in breasts.group_by("study")}


def test_the_columns_are_those_documented() -> None:
    assert set(COLUMNS.values()) == set(HEADER)


def test_a_hundred_is_never_and_exams_are_numbered_within_a_patient(tmp_path: Path) -> None:
    file = write(tmp_path, [(1, "ab", 0, 10, "test"), (2, "ab", 100, 10, "train"), (2, "cd", 100, 8, "train")])
    frame, summary = ingest(file, mirai=True)
    assert len(frame) == 3
    assert sorted(frame["split"]) == ["test", "train", "train"]
    assert find_years(frame) == {"1/ab": [(0.0, 10.0)], "2/ab": [(None, 10.0)], "2/cd": [(None, 8.0)]}
    assert any("both breasts" in note for note in summary.notes)
    views = frame["views"].list.eval(pl.element().struct.field("kind")).list.sort().to_list()
    assert views == [["cc", "cc", "mlo", "mlo"]] * 3


def test_without_the_flag_a_hundred_is_asked_about(tmp_path: Path) -> None:
    file = write(tmp_path, [(1, "ab", 100, 10, "test")])
    with pytest.raises(UserError, match=r"has 100 years to cancer in 4 rows: .* Give --mirai"):
        ingest(file)


def test_follow_up_ends_no_sooner_than_the_cancer_that_was_seen(tmp_path: Path) -> None:
    """Years known to be free of cancer are fewer than those to it, or say nothing."""
    frame, _ = ingest(write(tmp_path, [(1, "a", 3, 2, "train"), (2, "a", 4, 0, "train")]), mirai=True)
    assert find_years(frame) == {"1/a": [(3.0, 3.0)], "2/a": [(4.0, 4.0)]}


def test_no_cancer_and_no_year_of_follow_up_says_nothing(tmp_path: Path) -> None:
    exams = [(1, "a", 100, 0, "train"), (2, "a", 100, -1, "train"), (3, "a", 2, 2, "train")]
    frame, summary = ingest(write(tmp_path, exams), mirai=True)
    assert find_years(frame) == {"1/a": [(None, None)], "2/a": [(None, None)], "3/a": [(2.0, 2.0)]}
    assert any(note.startswith("2 exams without cancer and without a year of follow-up") for note in summary.notes)


def test_exams_without_all_four_views_are_kept_and_told(tmp_path: Path) -> None:
    frame, summary = ingest(write(tmp_path, [(1, "a", 100, 5, "dev")], VIEWS[:3]), mirai=True)
    assert frame["split"].to_list() == ["val"]
    assert frame["views"].list.len().to_list() == [3]
    assert "1 exam without all four views, which Mirai drops: kept." in summary.notes


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"years_to_cancer": ""}, r"row 2: column 'years_to_cancer' has nothing"),
        ({"years_to_cancer": "2.5"}, r"has '2.5', expected whole years; 100 is no cancer"),
        ({"years_to_last_followup": "long"}, r"column 'years_to_last_followup' has 'long', expected whole years"),
        ({"years_to_cancer": "-1"}, r"column 'years_to_cancer' has '-1', expected whole years"),
        ({"years_to_cancer": "7"}, r"column 'years_to_cancer' has '100', other rows of the exam another; 3 such rows"),
        ({"split_group": "dev"}, r"column 'split_group' has 'test', other rows of the patient another"),
        ({"split_group": "valid8"}, r"other rows of the patient another"),
        ({"exam_id": ""}, r"column 'exam_id' has nothing"),
        ({"laterality": "X"}, r"\(laterality\) has 'X', expected left, right, both or L, R, B"),
    ],
)
def test_what_the_format_does_not_allow_is_refused_with_its_row(tmp_path: Path, changed: dict, reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        ingest(write(tmp_path, [(1, "a", 100, 5, "test")], **changed), mirai=True)


def test_a_table_that_lacks_a_column_is_not_mirais(tmp_path: Path) -> None:
    file = write(tmp_path, [(1, "a", 100, 5, "test")])
    pl.read_csv(file).drop("exam_id", "split_group").write_csv(file)
    with pytest.raises(UserError, match=r"it has no column exam_id, split_group. Leave --mirai out"):
        ingest(file, mirai=True)


def test_the_command_brings_the_outcomes_to_the_risk_task(tmp_path: Path) -> None:
    exams = [(1, "a", 0, 3, "train"), (2, "a", 100, 4, "train"), (2, "b", 1, 1, "train"), (3, "a", 100, 0, "train")]
    file = write(tmp_path, exams, VIEWS[:1])
    assert main(["ingest", "table", str(file), "--mirai", "--out", str(tmp_path / "studies.parquet")]) == 0
    build_cache(
        tmp_path / "studies.parquet", tmp_path / "cache", workers=0, short_side=64, bits=8, policy="voi-1",
        progress=False,
    )  # fmt: skip
    follow_up = read_follow_up(Cache.open(tmp_path / "cache"))
    rows = follow_up.rows("train")
    assert sorted(zip(follow_up.years[rows], follow_up.event[rows], strict=True)) == [(0, True), (1, True), (4, False)]
    assert follow_up.excluded["without follow-up"] == 1


# --- and out again

FREE = {"years_to_last_followup": 5.5}


def make_study(name: str, *breasts: dict, views: tuple = VIEWS, **columns) -> dict:
    """A study of the standard views; `breasts` are what is told of left and right."""
    sides = {"L": "left", "R": "right"}
    shown = [
        {
            "path": f"{name}-{side}-{view}-{number}.dcm",
            "kind": view.lower(),
            "position": view,
            "laterality": sides[side],
        }
        for number, (side, view) in enumerate(views)
    ]
    told = [
        dict.fromkeys(BREAST.to_schema()) | {"laterality": side, "labels": []} | said
        for side, said in zip(("left", "right"), breasts, strict=True)
    ]
    row = {"dataset": "d", "study": name, "patient": f"p-{name}", "root": "/archive", "split": "train", "views": shown}
    return row | {BREASTS: told} | columns


def export(*studies: dict) -> MiraiTable:
    return build_mirai_table(build_studies(list(studies)), "studies.parquet")


def test_a_table_comes_back_as_it_was(tmp_path: Path) -> None:
    exams = [
        (1, "ab", 0, 10, "test"), (2, "ab", 100, 10, "train"), (2, "cd", 100, 8, "train"), (3, "ab", 4, 4, "dev"),
    ]  # fmt: skip
    file = write(tmp_path, exams)
    first, _ = ingest(file, mirai=True)
    table = build_mirai_table(first, "studies.parquet")
    assert table.notes == ()
    written = pl.read_csv(file, infer_schema=False)
    back = table.rows.cast(pl.String)
    assert back.columns == [*COLUMNS.values()]
    assert sorted(back.rows()) == sorted(written.select(back.columns).rows())
    write_mirai_table(tmp_path / "out" / "studies.parquet", tmp_path / "again.csv")
    second, _ = ingest(tmp_path / "again.csv", mirai=True, dataset="mirai")
    assert second.sort("study").equals(first.with_columns(dataset=pl.lit("mirai")).sort("study"))


def test_outcomes_are_whole_years_of_the_woman() -> None:
    """The breast that has cancer first; follow-up as long as both are known; later seen than followed."""
    rows = export(
        make_study("a", {"years_to_cancer": 2.7, "years_to_last_followup": 2.7}, FREE),
        make_study("b", {"years_to_cancer": 0.0}, {"years_to_cancer": 3.0}, split="val"),
        make_study("c", FREE, {"years_to_last_followup": 4.9}, split="test"),
    ).rows
    exams = rows.unique("exam_id").sort("exam_id")
    outcome = ("exam_id", "years_to_cancer", "years_to_last_followup", "split_group")
    assert exams.select(outcome).rows() == [("a", 2, 2, "train"), ("b", 0, 0, "dev"), ("c", 100, 4, "test")]
    assert rows.filter(pl.col("exam_id") == "a").select("laterality", "view", "file_path").rows() == [
        (side, view, f"/archive/a-{side}-{view}-{number}.dcm") for number, (side, view) in enumerate(VIEWS)
    ]


def test_what_mirai_drops_or_would_mistake_is_left_out_and_named() -> None:
    table = export(
        make_study("whole", FREE, FREE),
        make_study("three", FREE, FREE, views=VIEWS[:3]),
        make_study("spot", FREE, FREE, views=(*VIEWS[:3], ("R", "unknown"))),
        make_study("short", {"years_to_last_followup": 0.9}, FREE),
        make_study("lost", {}, FREE),
        make_study("known", {"assessment": 6, "years_to_cancer": 0.0}, FREE),
        make_study("undated", {"cancer": 1, **FREE}, FREE),
        make_study("first", {"years_to_cancer": 1.0}, FREE, patient="w", day=0.0),
        make_study("after", FREE, FREE, patient="w", day=900.0),
    )
    assert table.rows["exam_id"].unique().sort().to_list() == ["first", "whole"]
    assert set(table.notes) == {
        "Left out without all four views: 2 studies (d/three, d/spot).",
        "Left out with a known cancer (BI-RADS 6): 1 study (d/known).",
        "Left out with a cancer of unknown date: 1 study (d/undated).",
        "Left out after a diagnosis: 1 study (d/after).",
        "Left out without follow-up: 1 study (d/lost).",
        "Left out without cancer, followed for less than a year: 1 study (d/short).",
    }


def test_of_several_images_of_a_view_the_first_is_written() -> None:
    table = export(make_study("a", FREE, FREE, views=(*VIEWS, ("L", "CC"))))
    assert table.rows["file_path"].to_list()[0] == "/archive/a-L-CC-0.dcm"
    assert len(table.rows) == 4
    assert table.notes == ("1 further image of a view that has one already: the first is written.",)


def test_one_name_of_two_archives_exams_is_told_apart() -> None:
    same = {"patient": "w"}
    table = export(make_study("a", FREE, FREE, **same), make_study("a", FREE, FREE, dataset="e", **same))
    assert table.rows["exam_id"].unique().sort().to_list() == ["d/a", "e/a"]


def test_what_cannot_be_written_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no exam can be written for Mirai. Left out without follow-up: 1 study"):
        export(make_study("a", {}, {}))
    with pytest.raises(UserError, match=r"no split is known of 1 study \(d/a\), .* `hilum cache` draws splits"):
        export(make_study("a", FREE, FREE, split=None))
    chest = {name: value for name, value in make_study("a", FREE, FREE).items() if name != BREASTS}
    with pytest.raises(UserError, match="Mirai needs mammograms with years to cancer"):
        export(chest)
    mine = tmp_path / "mine.csv"
    mine.write_text("patient_id,notes\n1,x\n")
    with pytest.raises(UserError, match="is no table in Mirai's format"):
        write_mirai_table(tmp_path / "studies.parquet", mine)


def test_a_patient_in_two_splits_is_refused() -> None:
    """One name is one person, in another archive too."""
    one, other = make_study("a", FREE, FREE, patient="p"), make_study("b", FREE, FREE, patient="p", split="test")
    for second in (other, other | {"dataset": "e"}):
        with pytest.raises(UserError, match=r"2 studies \(d/a, .\/b\) are of patients with exams in several splits"):
            export(one, second)


def test_the_command_writes_it_and_tells(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    studies = [make_study("a", FREE, FREE), make_study("b", {"years_to_cancer": 1.5}, FREE), make_study("c", {}, FREE)]
    write_studies(build_studies(studies), tmp_path / "studies.parquet")
    words = ["export", str(tmp_path / "studies.parquet"), "--mirai", "--out", str(tmp_path / "new" / "mirai.csv")]
    assert main(words) == 0
    assert main(words) == 0  # its own file is replaced
    said = capsys.readouterr().out
    assert "- Left out without follow-up: 1 study (d/c)." in said
    assert "mirai.csv: 2 exams of 2 patients, 1 with cancer" in said
    assert len(pl.read_csv(tmp_path / "new" / "mirai.csv")) == 8
    assert main([*words, "--embedding-only"]) == 2
    assert "--embedding-only has no effect with --mirai" in capsys.readouterr().err
