import shutil
from pathlib import Path

import polars as pl
import pytest

from hilum.errors import UserError
from hilum.study import (
    STUDY_SCHEMA,
    build_studies,
    check_studies,
    name_studies,
    read_studies,
    summarize_studies,
    write_studies,
)


def make_view(path: str = "a.png", **fields) -> dict:
    return {"path": path, "kind": "frontal", "position": "PA", "laterality": "unknown"} | fields


def make_study(study: str = "s1", **fields) -> dict:
    return {"dataset": "d", "study": study, "patient": "p1", "root": "/archive", "views": [make_view()]} | fields


def test_build_fills_what_is_left_out() -> None:
    frame = build_studies([make_study(Edema=-1, extra_site="A"), make_study("s2", group="p0")])
    assert frame.schema == {**STUDY_SCHEMA, "extra_site": pl.String}
    assert frame["group"].to_list() == ["p1", "p0"]
    assert frame["Edema"].to_list() == [-1, None]
    assert frame["labs"].to_list() == [[], []]
    assert frame["views"][0][0]["width"] is None
    assert build_studies([]).schema == STUDY_SCHEMA


def test_table_moves_with_its_archive(tmp_path: Path) -> None:
    archive = tmp_path / "here" / "images"
    archive.mkdir(parents=True)
    write_studies(build_studies([make_study(root=str(archive))]), tmp_path / "here" / "tables" / "studies.parquet")
    assert pl.read_parquet(tmp_path / "here" / "tables" / "studies.parquet")["root"].to_list() == ["../images"]
    shutil.move(tmp_path / "here", tmp_path / "there")
    frame = read_studies(tmp_path / "there" / "tables" / "studies.parquet")
    assert frame["root"].to_list() == [str(tmp_path / "there" / "images")]


def test_round_trip_keeps_everything(tmp_path: Path) -> None:
    frame = build_studies(
        [make_study(root=str(tmp_path), day=3.0, age=54.0, sex="F", split="val", Edema=1, extra_site="A")]
    )
    write_studies(frame, tmp_path / "studies.parquet")
    assert read_studies(tmp_path / "studies.parquet").equals(frame)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"views": []}, "no view: 1 study (d/s1)"),
        ({"views": None}, "no view: 1 study (d/s1)"),
        ({"patient": ""}, "no dataset, study, patient, group or root: 1 study"),
        ({"Edema": 2}, "a label outside 1 (present), 0 (absent), -1 (uncertain) and blank: 1 study (d/s1)"),
        ({"age": 121.0}, "an age outside 0 to 120 years"),
        ({"age": float("nan")}, "an age outside 0 to 120 years"),
        ({"sex": "f"}, "a sex other than F and M"),
        ({"day": -1.0}, "a day before the patient's first study"),
        ({"day": float("inf")}, "a day before the patient's first study"),
        ({"split": "dev"}, "a split other than train, val, test"),
        ({"views": [make_view("")]}, "a view without an image path"),
        ({"views": [make_view(kind="PA")]}, "a view kind other than frontal, lateral, unknown, cc, mlo"),
        ({"views": [make_view(laterality=None)]}, "a laterality other than unknown, left, right, both"),
        ({"views": [make_view(), make_view()]}, "one image listed twice: 1 study (d/s1)"),
    ],
)
def test_check_names_the_problem_and_the_study(fields: dict, message: str) -> None:
    check_studies(build_studies([make_study(), make_study("s2")]))
    with pytest.raises(UserError) as error:
        check_studies(build_studies([make_study(**fields), make_study("s2")]))
    assert message in str(error.value)


def test_check_lists_every_problem_with_its_first_studies() -> None:
    rows = [make_study(f"s{number}", age=200.0) for number in range(5)] + [make_study("twice"), make_study("twice")]
    with pytest.raises(UserError) as error:
        check_studies(build_studies(rows))
    assert "an age outside 0 to 120 years: 5 studies (d/s0, d/s1, d/s2, ...)" in str(error.value)
    assert "listed twice in one dataset: 1 study (d/twice)" in str(error.value)


def test_one_study_name_in_two_datasets_is_two_studies() -> None:
    check_studies(build_studies([make_study(), make_study(dataset="other")]))


def test_a_bad_table_does_not_replace_a_good_one(tmp_path: Path) -> None:
    path = tmp_path / "studies.parquet"
    write_studies(build_studies([make_study(root=str(tmp_path))]), path)
    before = path.read_bytes()
    with pytest.raises(UserError):
        write_studies(build_studies([make_study(root=str(tmp_path), views=[])]), path)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["studies.parquet"]


def test_read_refuses_what_is_not_a_study_table(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no such file; expected a study table"):
        read_studies(tmp_path / "absent.parquet")
    (tmp_path / "text.parquet").write_text("patient,study\n")
    with pytest.raises(UserError, match="is not a Parquet file"):
        read_studies(tmp_path / "text.parquet")
    pl.DataFrame({"a": [1]}).write_parquet(tmp_path / "other.parquet")
    with pytest.raises(UserError, match="it has no column dataset, study"):
        read_studies(tmp_path / "other.parquet")
    frame = build_studies([make_study()])
    frame.write_parquet(tmp_path / "newer.parquet", metadata={"hilum_studies": "99"})
    with pytest.raises(UserError, match="format 99, this Hilum reads 1"):
        read_studies(tmp_path / "newer.parquet")
    frame.with_columns(pl.col("Edema").cast(pl.Float64)).write_parquet(tmp_path / "floats.parquet")
    with pytest.raises(UserError, match="column 'Edema' must be Int8, found Float64"):
        read_studies(tmp_path / "floats.parquet")


def test_summary_counts() -> None:
    views = [make_view("a.png"), make_view("b.png", kind="lateral")]
    frame = build_studies(
        [
            make_study(views=views, Edema=1, sections=[{"section": "report", "text": "Clear."}]),
            make_study("s2", Edema=-1, split="test"),
            make_study("s3", patient="p2", group="p1"),
        ]
    )
    summary = summarize_studies(frame)
    assert (summary.num_studies, summary.num_patients, summary.num_groups, summary.num_views) == (3, 2, 1, 4)
    assert summary.views_per_study == {1: 2, 2: 1}
    assert summary.kinds == {"frontal": 3, "lateral": 1}
    assert summary.splits == {"": 2, "test": 1}
    assert summary.num_reports == 1
    assert summary.labels["Edema"] == {1: 1, -1: 1, None: 1}


def test_studies_are_named_once_each() -> None:
    frame = build_studies([make_study(), make_study(), make_study("s2")])
    assert name_studies(frame) == "2 studies (d/s1, d/s2)"
