"""Laboratory values as study tables list them: found by name or item number, in the vocabulary's units and splits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from hilum.errors import UserError
from hilum.laboratory.splits import split_by_patient
from hilum.laboratory.studies import collect_labs, list_labs
from hilum.study import build_studies
from toy_labs import VOCABULARY, draw_table, make_table

NAN = float("nan")


def make_studies(labs: list[list[tuple]], splits: list[str | None]) -> pl.DataFrame:
    """Studies s0, s1, ... of two archives in turn; patients p0, p0, p1, p1, ..."""
    return build_studies(
        [
            {
                "dataset": "ab"[row % 2], "study": f"s{row}", "patient": f"p{row // 2}", "root": "/", "split": split,
                "views": [{"path": "x.png", "kind": "frontal", "laterality": "unknown"}],
                "labs": [dict(zip(("name", "value", "unit"), entry, strict=True)) for entry in entries],
            }
            for row, (entries, split) in enumerate(zip(labs, splits, strict=True))
        ]
    )  # fmt: skip


def test_values_by_name_or_item_in_the_vocabularys_units() -> None:
    labs = [
        [("50912", 1.5, None), ("sodium", 140.0, "mmol/L"), ("troponin", 9.0, None)],
        [],
        [("Creatinine", 88.4, "umol/L"), ("creatinine", 7.0, "mg/dL"), ("crp", None, "mg/L")],
        [("troponin", 1.0, None), ("crp", NAN, None)],
    ]
    table = collect_labs(make_studies(labs, ["train", "train", "test", None]), VOCABULARY, "here")
    assert (table.dataset, table.study, table.patient) == (("a", "a"), ("s0", "s2"), ("p0", "p1"))
    assert table.split == ("train", "test")
    assert np.allclose(table.values, [[1.5, 140, NAN], [1, NAN, NAN]], rtol=1e-3, equal_nan=True)
    assert table.notes == (
        "2 values of 1 names that the vocabulary does not have are left out: troponin (`hilum pretrain labs "
        "--vocabulary FILE` learns from other values).",
        "1 values repeat one of the same study: the first counts.",
    )


def test_rows_of_two_archives_are_two_rows_whatever_their_ids() -> None:
    studies = make_studies([[("crp", 1.0, None)], [("crp", 2.0, None)]], ["train", "train"])
    table = collect_labs(studies.with_columns(study=pl.lit("same")), VOCABULARY, "here")
    assert len(set(table.key.tolist())) == 2


@pytest.mark.parametrize(
    ("labs", "message"),
    [
        ([[("troponin", 1.0, None)]], "here: none of its 1 studies has a laboratory value of the vocabulary"),
        ([[]], r"none of its 1 studies .* --labs\.file FILE; --labs\.vocabulary FILE names other values"),
        ([[], [("50912", 1.0, "furlong")]], "here, study b/s1: 'Creatinine' is in 'furlong', expected one of mg/dL"),
        ([[("crp", 1.0, "mg/L")], [("crp", 1.0, "mg/dL")]], "study b/s1: 'CRP' is in 'mg/dL', expected 'mg/L' as"),
    ],
)
def test_values_that_cannot_be_meant(labs: list, message: str) -> None:
    with pytest.raises(UserError, match=message):
        collect_labs(make_studies(labs, ["train"] * len(labs)), VOCABULARY, "here")


def test_what_a_reader_found_is_listed_as_studies_have_it_and_read_back() -> None:
    found = make_table(np.array([[1.0, NAN, -np.inf], [NAN, NAN, NAN], [3.5, 140, 2.0]]))
    listed = list_labs(found)
    assert listed.rows() == [
        ("s0", [{"name": "50912", "value": 1.0, "unit": "mg/dL"}, {"name": "CRP", "value": -np.inf, "unit": None}]),
        ("s2", [
            {"name": "50912", "value": 3.5, "unit": "mg/dL"}, {"name": "50983", "value": 140.0, "unit": "mEq/L"},
            {"name": "CRP", "value": 2.0, "unit": None},
        ]),
    ]  # fmt: skip
    studies = make_studies([[], [], []], ["train"] * 3).drop("labs").join(listed, on="study", how="left")
    again = collect_labs(studies, VOCABULARY, "here")
    assert again.study == ("s0", "s2")
    assert np.array_equal(again.values, found.values[[0, 2]], equal_nan=True)


def test_patients_are_split_whole_and_alike_whatever_else_is_there() -> None:
    table = split_by_patient(draw_table(400, 3))
    assert table.split is not None
    of_patient: dict[str, set[str]] = {}
    for patient, split in zip(table.patient, table.split, strict=True):
        of_patient.setdefault(patient, set()).add(split)
    assert all(len(splits) == 1 for splits in of_patient.values())
    assert {split: len(table.find_rows(split)) for split in ("train", "val", "test")}["train"] > 280
    some = split_by_patient(table.take(np.arange(100, 200)))
    assert some.split == table.split[100:200]
    with pytest.raises(UserError, match="not divided into training"):
        replace(table, split=None).find_rows("train")
