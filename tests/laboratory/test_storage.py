"""Laboratory tables on disk, under the names and in the splits of their studies."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from hilum.errors import UserError
from hilum.identifiers import Naming
from hilum.laboratory.splits import adopt_splits, split_by_patient
from hilum.laboratory.storage import read_laboratory, write_laboratory
from hilum.study import read_studies
from toy_labs import draw_table, make_table
from toy_table import QUIET, write_table

KEPT = Naming(keep_ids=True, id_space="")
NAN = float("nan")


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    table = make_table(np.array([[1.0, NAN, -np.inf], [NAN, NAN, NAN], [3.5, 140, np.inf]]))
    write_laboratory(table, tmp_path / "labs.parquet", KEPT)
    found = read_laboratory(tmp_path / "labs.parquet")
    assert found.vocabulary == table.vocabulary
    assert (found.study, found.patient, found.split, found.dataset) == (table.study, table.patient, None, "toy")
    assert np.array_equal(found.values, table.values, equal_nan=True)
    assert found.observed.tolist() == [[True, False, True], [False, False, False], [True, True, True]]
    split = replace(table, split=("train", "val", "test"))
    write_laboratory(split, tmp_path / "split.parquet", KEPT)
    assert read_laboratory(tmp_path / "split.parquet").split == ("train", "val", "test")


@pytest.mark.parametrize(
    "naming", [Naming(), Naming(salt="a salt for tests"), Naming(keep_ids=True), Naming(id_space="x")]
)
def test_rows_get_the_names_of_their_studies(tmp_path: Path, naming: Naming) -> None:
    """Written beside the study table that the archive's own ingest made, by the same rule."""
    from hilum.sources.table import ingest_table

    studies = write_table(
        tmp_path, "patient|study|path|edema\np0|s0|a.png|1\np0|s1|b.png|0\np1|s2|c.png|0", name="toy.csv"
    )
    out = tmp_path / "out" / "studies.parquet"
    ingest_table(studies, out, naming=naming, console=QUIET)
    table = make_table(np.arange(9.0).reshape(3, 3))
    write_laboratory(table, out.parent / "labs.parquet", naming)
    found, expected = read_laboratory(out.parent / "labs.parquet"), read_studies(out)
    assert set(found.study) == set(expected["study"])
    owners = dict(expected.select("study", "patient").iter_rows())
    assert [owners[study] for study in found.study] == list(found.patient)
    if not naming.keep_ids:
        assert b"s0" not in (out.parent / "labs.parquet").read_bytes()
        assert not set(found.study) & set(table.study)


def test_files_that_are_no_laboratory_table_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no laboratory table"):
        read_laboratory(tmp_path / "absent.parquet")
    pl.DataFrame({"study": ["s"]}).write_parquet(tmp_path / "other.parquet")
    with pytest.raises(UserError, match="its format is None"):
        read_laboratory(tmp_path / "other.parquet")
    (tmp_path / "text.parquet").write_text("study,crp\n")
    with pytest.raises(UserError, match="not a Parquet file"):
        read_laboratory(tmp_path / "text.parquet")
    twice = replace(make_table(np.zeros((2, 3))), study=("s", "s"))
    with pytest.raises(UserError, match=r"studies are repeated \(1 row too many"):
        write_laboratory(twice, tmp_path / "twice.parquet")


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
    with pytest.raises(UserError, match="has no splits"):
        replace(table, split=None).find_rows("train")


def test_splits_of_the_study_table_are_taken_over_for_whole_patients() -> None:
    table = make_table(np.zeros((6, 3)))  # of patients p0, p1, p2
    studies = pl.DataFrame({"patient": ["p1", "p1", "p0", "p9"], "split": ["test", "test", "train", "val"]})
    taken = adopt_splits(table, studies)
    assert taken.study == ("s0", "s1", "s2", "s3")
    assert taken.split == ("train", "train", "test", "test")
    assert taken.notes == ("2 rows of patients whom the study table does not have: left out.",)
    with pytest.raises(UserError, match="not one of its patients"):
        adopt_splits(table, pl.DataFrame({"patient": ["p9"], "split": ["val"]}))
    with pytest.raises(UserError, match="no splits yet"):
        adopt_splits(table, pl.DataFrame({"patient": ["p0"], "split": [None]}, schema_overrides={"split": pl.String}))
