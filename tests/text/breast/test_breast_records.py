"""The canonical record: what it refuses, which breasts are described alike, how often a batch holds such."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from pathlib import Path

import polars as pl
import pytest
from pydantic import ValidationError

from hilum.errors import UserError
from hilum.study import STUDY_SCHEMA, build_studies, write_studies
from hilum.text.breast.duplicates import count_identical, expect_identical
from hilum.text.breast.record import (
    Box,
    BreastRecord,
    Finding,
    Location,
    describe_record,
    hash_description,
    hash_record,
    order_by_concern,
    read_records,
    write_records,
)
from hilum.text.breast.study_breasts import BREASTS, dump_breasts, open_records, read_breasts
from toy_breasts import NEGATIVE, RICH, SPARSE


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Finding("asymmetry", margins=("spiculated",)), "mass's shape, margin"),
        (lambda: Finding("mass", distributions=("grouped",)), "calcification's"),
        (lambda: Finding("mass", shapes=("square",)), "shapes"),
        (lambda: Finding("mass", size_mm=12.0), "needs its source"),
        (lambda: Finding("mass", size_mm=-1.0, size_source="box"), "greater than 0"),
        (lambda: Finding("mass", boxes=(Box("cc", 0, 0, 5, 5),)), "box in a view"),
        (lambda: Box("cc", 5, 0, 5, 5), "no area"),
        (lambda: BreastRecord("d", "p", "s", "left", 4), "needs its source"),
        (
            lambda: BreastRecord("d", "p", "s", "left", views=("cc",), findings=(Finding("mass", views=("mlo",)),)),
            "not taken",
        ),
    ],
)
def test_what_cannot_be_is_refused(make, words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        make()


def test_descriptions_hold_neither_ids_nor_side_nor_boxes() -> None:
    moved = replace(RICH, patient="another", study="other", laterality="right", dataset="elsewhere")
    boxed = replace(moved, findings=(replace(RICH.findings[0], boxes=(Box("mlo", 1, 1, 9, 9),)), RICH.findings[1]))
    assert describe_record(boxed) == describe_record(RICH)
    assert hash_description(boxed) == hash_description(RICH)
    assert hash_record(boxed) != hash_record(RICH)
    assert not [word for word in ("4711", "0815", "left", "toy") if word in str(describe_record(RICH))]


def test_descriptions_do_not_depend_on_the_order_of_findings_and_tell_what_texts_tell() -> None:
    turned = replace(RICH, findings=RICH.findings[::-1])
    assert hash_description(turned) == hash_description(RICH)
    elsewhere = replace(RICH.findings[0], location=Location("lower"))
    other = replace(RICH, findings=(elsewhere, RICH.findings[1]))
    assert hash_description(other) != hash_description(RICH)
    assert hash_description(other, "categories") == hash_description(RICH, "categories")
    assert hash_description(replace(RICH, density="b"), "categories") != hash_description(RICH, "categories")


def test_an_asymmetry_of_any_kind_is_no_absence_of_asymmetry() -> None:
    record = replace(NEGATIVE, findings=(Finding("focal asymmetry"),))
    assert record.list_absent() == ("mass", "calcification", "architectural distortion")


def test_incomplete_worries_more_than_probably_benign() -> None:
    findings = [Finding("mass", birads=value) for value in (2, 0, None, 3, 5)]
    assert [one.birads for one in order_by_concern(findings)] == [5, 0, 3, 2, None]


def test_records_come_back_from_their_file_and_wrong_lines_are_named(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    write_records([RICH, NEGATIVE, SPARSE], path)
    assert read_records(path) == [RICH, NEGATIVE, SPARSE]
    assert open_records(path) == [RICH, NEGATIVE, SPARSE]
    path.write_text(path.read_text() + '{"dataset": "d", "patient": "p", "study": "s", "laterality": "middle"}\n')
    with pytest.raises(UserError, match=r"line 4: laterality: .* \(found 'middle'\)"):
        read_records(path)
    path.write_text('{"dataset": "d", "patient": "p", "study": "s", "laterality": "left", "assessment": 7}\n')
    with pytest.raises(UserError, match="line 1: assessment: Input should be 0, 1"):
        read_records(path)
    write_records([RICH, RICH], path)
    with pytest.raises(UserError, match="line 2: the left breast of study study-0815 again"):
        read_records(path)


def test_a_study_table_gives_the_records_its_own_ids(tmp_path: Path) -> None:
    view = {"path": "a.dcm", "kind": "mlo", "position": "MLO", "laterality": "left"}
    studies = build_studies(
        [
            {
                "dataset": "toy",
                "patient": "hashed",
                "study": "one",
                "root": "/",
                BREASTS: dump_breasts([RICH, NEGATIVE]),
            },
            {"dataset": "toy", "patient": "other", "study": "two", "root": "/", BREASTS: None},
        ]
    )
    assert "4711" not in studies[BREASTS][0]
    records = read_breasts(studies, "table")
    assert [(one.patient, one.study, one.laterality) for one in records] == [
        ("hashed", "one", "left"), ("hashed", "one", "right"),
    ]  # fmt: skip
    assert describe_record(records[0]) == describe_record(RICH)
    write_studies(
        studies.with_columns(views=pl.Series([[view]] * 2, dtype=STUDY_SCHEMA["views"])), tmp_path / "s.parquet"
    )
    assert open_records(tmp_path / "s.parquet") == records
    with pytest.raises(UserError, match="no column extra_breasts"):
        read_breasts(studies.drop(BREASTS), "table")
    with pytest.raises(UserError, match="study one"):
        read_breasts(studies.with_columns(studies[BREASTS].str.replace("left", "up")), "table")


def test_identical_negatives_of_a_batch_by_hand() -> None:
    assert count_identical(["a", "a", "b"]) == pytest.approx((2 / 3, 2 / 3))
    assert count_identical(["a", "b", "c"]) == (0.0, 0.0)
    assert count_identical([]) == (0.0, 0.0)


@pytest.mark.parametrize("batch_size", [1, 2, 3, 6, 7])
def test_expected_identical_negatives_are_the_mean_over_all_batches(batch_size: int) -> None:
    descriptions = list("aaabbcd")
    batches = [count_identical(one) for one in combinations(descriptions, batch_size)]
    mean = tuple(sum(values) / len(batches) for values in zip(*batches, strict=True))
    assert expect_identical(descriptions, batch_size) == pytest.approx(mean)
