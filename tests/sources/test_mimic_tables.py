"""Triples of MIMIC by time, and MedMod: whose image, whose labels, and who is left out."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from hilum.cli import main
from hilum.errors import UserError
from hilum.identifiers import Naming
from hilum.sources.hours import Window, Windows
from hilum.sources.named import ingest_archive
from hilum.splits import assign_splits, check_no_overlap
from hilum.study import read_studies
from sources.archives.csv_files import read_csv, set_cell, write_csv
from sources.archives.mimic_tables import (
    CHOSEN,
    GIVEN,
    HAS,
    PHENOTYPES,
    write_medmod,
    write_symile_train,
    write_triples,
)
from toy_table import QUIET


def ingest(name: str, root: Path, **settings) -> tuple[pl.DataFrame, str]:
    """The study table, and what the user is told."""
    summary, _ = ingest_archive(
        name, root, root / "out.parquet", naming=Naming(keep_ids=True), console=QUIET, **settings
    )
    return read_studies(summary.out), "\n".join([*summary.notes, *summary.warnings])


def list_paths(frame: pl.DataFrame) -> dict[str, str]:
    return {study: views[0]["path"] for study, views in frame.select("study", "views").iter_rows()}


def test_triples_are_the_earliest_in_their_windows(tmp_path: Path) -> None:
    frame, notes = ingest("mimic-triples", write_triples(tmp_path))
    assert list_paths(frame) == CHOSEN
    assert "Of 6 admissions 3 of 2 patients have all three" in notes
    first, second, third = frame.sort("study").to_dicts()
    ecgs = [row["signals"] for row in (first, second, third)]
    assert [[(signal["kind"], Path(signal["path"]).name) for signal in signals] for signals in ecgs] == [
        [("ecg", "40000001")],  # 24 hours before admission, to the second
        [("ecg", "40000003")],
        [("ecg", "40000006")],
    ]
    assert first["signals"][0]["path"].startswith("mimic-iv-ecg/files/p1900/")
    assert first["labs"] == [
        {"name": "50912", "value": 1.2, "unit": "mg/dL"},
        {"name": "50971", "value": 4.1, "unit": "mEq/L"},
    ]
    assert third["labs"] == [{"name": "50983", "value": 140.0, "unit": None}]
    hours = [(row["extra_hours_to_image"], row["extra_hours_to_ecg"]) for row in (first, second, third)]
    assert hours == [("26.0", "-24.0"), ("48.04", "24.0"), ("72.0", "1.0")]
    # Findings are those of the image's study; a study without a row keeps blanks.
    assert [row["Atelectasis"] for row in (first, second, third)] == [1, None, None]
    assert [row["Cardiomegaly"] for row in (first, second, third)] == [0, None, 1]
    # Days count from the patient's first image: 2180-05-07 12:00 to 2180-08-03 00:02.
    assert [row["day"] for row in (first, third)] == [0.0, 0.0]
    assert second["day"] == pytest.approx(87.5 + 2 / 1440)
    assert first["patient"] == second["patient"] == "mimic-cxr:19000001"


def test_windows_are_settings(tmp_path: Path) -> None:
    root = write_triples(tmp_path)
    windows = Windows(image=Window(24.0, 71.9, after=True), labs=Window(-24.0, 24.1))
    frame, _ = ingest("mimic-triples", root, windows=windows)
    assert set(frame["study"]) == {"70000001", "70000002"}
    assert {value["name"] for value in frame.sort("study")["labs"][0]} == {"50912", "50971", "50813"}
    early = Windows(image=Window(23.0, 24.0, after=True))
    assert "d1early" in str(list_paths(ingest("mimic-triples", root, windows=early)[0]))
    with pytest.raises(UserError, match="no admission has an X-ray, an ECG and a laboratory value"):
        ingest("mimic-triples", root, windows=Windows(image=Window(500.0, 501.0)))


def test_no_patient_of_the_triples_is_in_two_splits(tmp_path: Path) -> None:
    frame, _ = ingest("mimic-triples", write_triples(tmp_path))
    for salt in "abcdef":
        split = assign_splits(frame, fractions={"train": 0.4, "val": 0.3, "test": 0.3}, salt=salt)
        check_no_overlap(split)
        assert split.group_by("patient").agg(pl.col("split").n_unique())["split"].max() == 1


def test_medmod_puts_stays_in_the_order_of_the_labels(tmp_path: Path) -> None:
    frame, notes = ingest("medmod", write_medmod(tmp_path))
    assert list_paths(frame) == GIVEN
    for study in GIVEN:
        row = frame.row(by_predicate=pl.col("study") == study, named=True)
        assert [name for name in PHENOTYPES if row[f"extra_phenotype:{name}"] == "1"] == [
            PHENOTYPES[place] for place in HAS[study]
        ]
    # Reversed in the table: the third of five alone stands where it would have stood by position.
    assert "4 of 5 stays would have had another's phenotypes" in notes
    assert "Patients of Symile-MIMIC are in" in notes


def test_medmod_blank_is_unknown_and_a_key_is_used_where_there_is_one(tmp_path: Path) -> None:
    frame, _ = ingest("medmod", write_medmod(tmp_path))
    row = frame.row(by_predicate=pl.col("study") == "39000002", named=True)
    assert (row["extra_mortality:mortality_inunit"], row["extra_mortality:mortality"]) == (None, "0")
    keyed, notes = ingest("medmod", write_medmod(tmp_path / "keyed", keyed=True))
    assert keyed.drop("root").equals(frame.drop("root"))
    assert "another's phenotypes" not in notes


def test_medmod_leaves_out_whole_patients_of_symile(tmp_path: Path) -> None:
    symile = write_symile_train(tmp_path / "symile")
    frame, notes = ingest("medmod", write_medmod(tmp_path / "medmod"), symile=symile)
    assert "39000005" not in set(frame["study"])  # another admission of the patient is in Symile
    assert "1 stays of 1 patients are left out" in notes
    assert len(frame) == 3


def test_medmod_refuses_labels_of_another_extraction(tmp_path: Path) -> None:
    root = write_medmod(tmp_path)
    file = root / "root" / "phenotype_labels.csv"
    header, rows = read_csv(file)
    write_csv(file, header, rows[:-1])
    with pytest.raises(UserError, match=r"has 4 rows and .*all_stays.csv 5: they belong together row by row"):
        ingest("medmod", root)
    stays_header, stays = read_csv(root / "root" / "all_stays.csv")
    ids = sorted(stay[stays_header.index("stay_id")] for stay in stays)
    write_csv(file, ["stay_id", *header], [[name, *row] for name, row in zip(ids, rows, strict=True)])
    whole = ingest("medmod", root)[0]
    write_csv(file, ["stay_id", *header], [[f"{name}.0", *row] for name, row in zip(ids, rows, strict=True)])
    assert ingest("medmod", root)[0].equals(whole)  # as pandas writes ids of a column with gaps
    write_csv(file, ["stay_id", *header], [[name, *row] for name, row in zip(ids[1:], rows[1:], strict=True)])
    with pytest.raises(UserError, match=r"has no row for 1 of 5 stays"):
        ingest("medmod", root)
    write_csv(file, header[1:], [row[1:] for row in rows])
    with pytest.raises(UserError, match="has 24 phenotypes, expected 25"):
        ingest("medmod", root)


def test_times_and_values_that_mean_nothing_are_named_without_the_date(tmp_path: Path) -> None:
    root = write_triples(tmp_path)
    set_cell(root / "mimic-iv-ecg" / "record_list.csv", 1, "ecg_time", "05/06/2180 10:00")
    with pytest.raises(UserError, match=r"record_list.csv, row 3: column 'ecg_time' is no time") as error:
        ingest("mimic-triples", root)
    assert "05/06" not in str(error.value)
    root = write_triples(tmp_path / "two")
    set_cell(root / "hosp" / "labevents.csv.gz", 0, "valuenum", "high")
    with pytest.raises(UserError, match=r"labevents.csv.gz: column 'valuenum' has 'high'"):
        ingest("mimic-triples", root)


def test_a_download_is_left_as_it_was(tmp_path: Path) -> None:
    root = write_medmod(tmp_path / "download")
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    assert main(["ingest", "medmod", str(root), "--out", str(tmp_path / "out" / "s.parquet")]) == 0
    assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == before
