"""Symile-MIMIC: whose array row is whose, what is a study, and the structure of retrieval."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from hilum.cache import Cache
from hilum.cli import main
from hilum.errors import UserError
from hilum.evaluate.distilled.candidates import find_candidates
from hilum.identifiers import Naming
from hilum.imaging.array_row import split_row
from hilum.sources import symile_mimic
from hilum.sources.named import ingest_archive
from hilum.sources.symile_labs import LABS
from hilum.study import read_studies, write_studies
from sources.archives.csv_files import set_cell
from sources.archives.symile_mimic import list_observed, make_picture, name_admission, name_subject, write_symile_mimic
from toy_cache import build
from toy_table import QUIET

KEPT = Naming(keep_ids=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_symile_mimic(tmp_path_factory.mktemp("symile"))


@pytest.fixture(scope="module")
def table(folder: Path):
    summary, settings = ingest_archive("symile-mimic", folder, folder / "out.parquet", naming=KEPT, console=QUIET)
    assert settings == ("--short-side", "320")
    return read_studies(summary.out)


@pytest.fixture(scope="module")
def cache(table, folder: Path) -> Cache:
    return build(folder / "out.parquet", folder / "cache", short_side=320)


def test_admissions_are_studies_and_candidates_are_not(table) -> None:
    assert dict(table.group_by("split").len().iter_rows()) == {"train": 12, "val": 10, "test": 10}
    one = table.row(by_predicate=pl.col("study") == name_admission("train", 1), named=True)
    assert one["patient"] == f"mimic-cxr:{name_subject('train', 0)}"
    assert [one[name] for name in ("Atelectasis", "Cardiomegaly", "Edema", "No Finding", "Pneumonia")] == [
        1,
        0,
        -1,
        None,
        None,
    ]


def test_rows_of_arrays_are_found_by_admission_not_by_position(table, folder: Path) -> None:
    for split, number in (("train", 0), ("train", 11), ("val", 4), ("test", 0), ("test", 9)):
        row = table.row(by_predicate=pl.col("study") == name_admission(split, number), named=True)
        file, place = split_row(row["views"][0]["path"])
        assert np.load(folder / str(file).replace("cxr", "hadm_id"))[place] == int(name_admission(split, number))
        if split == "test":  # its own row as a query, not as another's candidate
            assert np.load(folder / "data_npy/test/label_test.npy")[place] == 1
        assert row["signals"] == [{"kind": "ecg", "path": f"data_npy/{split}/ecg_{split}.npy#{place}"}]


def test_laboratory_values_are_those_observed(table) -> None:
    row = table.row(by_predicate=pl.col("study") == name_admission("val", 5), named=True)
    items = list(LABS)
    assert row["labs"] == [
        {"name": items[place], "value": 5 + place / 10, "unit": None} for place in np.flatnonzero(list_observed(5))
    ]


@pytest.mark.parametrize("split", ["val", "test"])
def test_a_query_keeps_its_ten_candidates_its_own_first(table, folder: Path, split: str) -> None:
    admissions = np.load(folder / f"data_npy/{split}/hadm_id_{split}.npy")
    for study, views, candidates in (
        table.filter(table["split"] == split).select("study", "views", "extra_candidates").iter_rows()
    ):
        rows = [int(row) for row in candidates.split(";")]
        assert rows[0] == split_row(views[0]["path"])[1]
        assert str(admissions[rows[0]]) == study
        assert sorted(map(str, admissions[rows])) == [name_admission(split, number) for number in range(10)]
    assert table.filter(table["split"] == "train")["extra_candidates"].null_count() == 12


def test_the_cache_holds_the_pixels_that_were_normalised(cache: Cache, folder: Path) -> None:
    place = {study: row for row, study in enumerate(cache.table()["study"])}
    for split, number in (("train", 3), ("test", 2)):
        view = int(cache.studies["first_view"][place[name_admission(split, number)]])
        assert np.array_equal(cache.image(view), make_picture(split, number))
    sizes = [(folder / "data_npy" / split / f"cxr_{split}.npy").stat().st_size for split in ("train", "val")]
    kept = int((cache.views["height"] * cache.views["width"]).sum())
    assert sum(sizes) / (kept * 22 / 32) == pytest.approx(12, rel=0.01)


def test_retrieval_finds_a_querys_candidates_among_the_studies(table, cache: Cache, tmp_path: Path) -> None:
    """All ten of the test are candidates of each; of other studies, and of a shuffled row, what the table says."""
    tested = cache.rows("test")
    assert find_candidates(cache, tested).all()
    assert find_candidates(cache, tested[3:]).sum() == 49, "three have no vector"
    assert find_candidates(cache, cache.rows("train")) is None
    both = find_candidates(cache, np.concatenate([cache.rows("train"), cache.rows("val")]))
    assert (both[:12].sum(), both[12:, 12:].all(), both[:, :12].sum()) == (0, True, 0)
    listed = table.filter(pl.col("split") == "test").row(0, named=True)
    first, *others = listed["extra_candidates"].split(";")
    for cell, num in ((f"{first};{others[4]}", 2), (";".join([*others, first]), 0), ("yes", 0), (None, 0)):
        name = pl.when(pl.col("study") == listed["study"]).then(pl.lit(cell)).otherwise("extra_candidates")
        write_studies(table.with_columns(extra_candidates=name), tmp_path / "one.parquet")
        other = build(tmp_path / "one.parquet", tmp_path / f"cache-{num}-{cell is None}-{cell == 'yes'}", short_side=64)
        rows = other.rows("test")
        place = other.table()[rows]["study"].to_list().index(listed["study"])
        assert find_candidates(other, rows)[place].sum() == num


def test_of_two_studies_of_one_image_each_is_its_own_candidate(table, tmp_path: Path) -> None:
    first = table.filter(pl.col("split") == "test").head(1)
    twin = first.with_columns(study=pl.lit("twin"))
    write_studies(pl.concat([table.filter(pl.col("split") == "test"), twin]), tmp_path / "two.parquet")
    cache = build(tmp_path / "two.parquet", tmp_path / "cache", short_side=64)
    found = find_candidates(cache, cache.rows("test"))
    assert len(found) == 11
    assert found.diagonal().all()
    twins = cache.table()[cache.rows("test")]["study"].is_in(["twin", first["study"][0]]).to_numpy()
    assert not found[np.ix_(twins, twins)][~np.eye(2, dtype=bool)].any(), "the same image is no wrong answer"


def change(folder: Path, path: str, row: int, column: str, cell: str) -> Path:
    set_cell(folder / path, row, column, cell)
    return folder


def test_one_patient_in_two_splits_is_refused(tmp_path: Path) -> None:
    root = change(write_symile_mimic(tmp_path), "val.csv", 0, "subject_id", name_subject("train", 4))
    with pytest.raises(UserError, match=r"1 patient in several splits; the first in (train|val) \(row \d+\) and"):
        ingest_archive("symile-mimic", root, tmp_path / "o.parquet", naming=KEPT, console=QUIET)


@pytest.mark.parametrize(
    ("path", "row", "column", "cell", "message"),
    [
        ("train.csv", 2, "hadm_id", "29999999", "1 admissions of the table have no row in the arrays"),
        ("train.csv", 2, "50802", "", r"labs_missingness_train.npy has other values observed than"),
        ("val_retrieval.csv", 0, "label", "1", "has 2 rows with label 1, expected one"),
        ("train.csv", 3, "Edema", "2", "train.csv, row 5: column 'Edema'"),
    ],
)
def test_tables_and_arrays_that_do_not_belong_together(
    tmp_path: Path, path: str, row: int, column: str, cell: str, message: str
) -> None:
    root = change(write_symile_mimic(tmp_path), path, row, column, cell)
    with pytest.raises(UserError, match=message):
        ingest_archive("symile-mimic", root, tmp_path / "o.parquet", naming=KEPT, console=QUIET)


def test_check_says_what_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_symile_mimic(tmp_path)
    assert main(["sources", "symile-mimic", "--check", str(root)]) == 3
    said = capsys.readouterr().out
    assert "differs  training admissions: 12, published 10,000" in said
    assert "differs  test rows: 100, published 4,640" in said
    counts = {"training admissions": 12, "validation admissions": 10, "test queries": 10, "test rows": 100}
    monkeypatch.setattr(symile_mimic, "PUBLISHED", counts)
    assert main(["sources", "symile-mimic", "--check", str(root)]) == 0
    said = capsys.readouterr().out
    assert "Images: 32 of 32" in said
    assert "4 of 4 counts are as published." in said
    (root / "data_npy/val/cxr_val.npy").unlink()
    assert main(["ingest", "symile-mimic", str(root), "--check"]) == 3
    assert "missing for example data_npy/val/cxr_val.npy#" in capsys.readouterr().out
    (root / "data_npy/test/ecg_test.npy").rename(root / "ecg.npy")
    assert main(["ingest", "symile-mimic", str(root), "--check"]) == 3
    assert "ecg_test.npy is missing: download data_npy completely" in capsys.readouterr().out
    np.save(root / "data_npy/test/ecg_test.npy", np.load(root / "ecg.npy")[:-1])
    assert main(["ingest", "symile-mimic", str(root), "--check"]) == 3
    assert "ecg_test.npy has 99 rows, hadm_id_test.npy 100" in capsys.readouterr().out
    (root / "val_retrieval.csv").unlink()
    assert main(["ingest", "symile-mimic", str(root), "--check"]) == 3
    assert "missing  val_retrieval.csv" in capsys.readouterr().out


def test_no_identifier_leaves(folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["ingest", "symile-mimic", str(folder), "--out", str(tmp_path / "s.parquet")]) == 0
    shown = str(read_studies(tmp_path / "s.parquet").drop("root").to_dicts()) + "".join(capfd.readouterr())
    secrets = [name_subject("train", 0), name_admission("train", 0), name_admission("test", 3)]
    assert [secret for secret in secrets if secret in shown] == []
