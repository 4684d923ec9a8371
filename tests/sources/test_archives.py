"""What every archive's adapter promises, tried on small archives written from the published formats."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pytest

from hilum.cli import main
from hilum.sources.named import READERS
from hilum.study import StudySummary, read_studies, summarize_studies
from sources.archives.chestxray14 import write_chestxray14
from sources.archives.chexchonet import write_chexchonet
from sources.archives.chexpert import write_chexpert
from sources.archives.chexpert_plus import LABEL_FILES, TABLE, write_chexpert_plus
from sources.archives.csv_files import drop_column, set_cell
from sources.archives.ingested import find_study, ingest
from sources.archives.mimic_cxr import write_mimic_cxr
from sources.archives.mimic_tables import write_medmod, write_triples
from sources.archives.openi import write_openi
from sources.archives.padchest import TABLE as PADCHEST_TABLE
from sources.archives.padchest import name_patient, name_study, write_padchest
from sources.archives.vindr_cxr import write_vindr_cxr


@dataclass(frozen=True)
class Archive:
    """What is known of a small archive, counted by hand from the tables in its file."""

    name: str
    write: Callable[[Path], Path]
    table: str  # the file, or folder, without which there is nothing to ingest
    needed_column: str  # that says who or what a row is; "" where there are no columns
    counts: tuple[int, int, int, int]  # studies, patients, groups, views
    views_per_study: dict[int, int]
    kinds: dict[str, int]
    splits: dict[str, int] | None  # None: the published lists do not decide it
    secrets: tuple[str, ...]  # identifiers, dates, names of people: never outside of image paths


ARCHIVES = [
    Archive(
        "mimic-cxr",
        write_mimic_cxr,
        "mimic-cxr-2.0.0-metadata.csv.gz",
        "subject_id",
        (16, 6, 6, 22),
        {1: 13, 2: 1, 3: 1, 4: 1},
        {"frontal": 16, "lateral": 3, "unknown": 3},
        {"train": 12, "val": 1, "test": 2, "": 1},
        ("10000001", "60000001", "19999991", "21800506", "2180-05-06", "2180", "2144"),
    ),
    Archive(
        "chexpert",
        write_chexpert,
        "train.csv",
        "Path",
        (10, 8, 8, 14),
        {1: 7, 2: 2, 3: 1},
        {"frontal": 10, "lateral": 4},
        {"train": 8, "val": 2},
        ("patient90001", "patient91001"),
    ),
    Archive(
        "chexpert-plus",
        write_chexpert_plus,
        TABLE,
        "path_to_image",
        (7, 5, 5, 11),
        {1: 4, 2: 2, 3: 1},
        {"frontal": 8, "lateral": 3},
        {"train": 6, "val": 1},
        ("patient90011", "patient91011"),
    ),
    Archive(
        "padchest",
        write_padchest,
        PADCHEST_TABLE,
        "PatientID",
        (11, 8, 7, 18),
        {1: 7, 2: 2, 3: 1, 4: 1},
        {"frontal": 12, "lateral": 2, "unknown": 4},
        {"": 11},
        (name_patient("1"), name_patient("4"), name_study("1"), "20140915", "2014-09-15", "9000001"),
    ),
    Archive(
        "chestxray14",
        write_chestxray14,
        "Data_Entry_2017.csv",
        "Patient ID",
        (9, 5, 5, 9),
        {1: 9},
        {"frontal": 9},
        None,
        ("90011", "90014"),
    ),
    Archive(
        "open-i",
        write_openi,
        "ecgen-radiology",
        "",
        (6, 6, 6, 9),
        {1: 3, 2: 3},
        {"unknown": 9},
        {"": 6},
        ("Quillfeather", "CXR9001", "2013"),
    ),
    Archive(
        "mimic-triples",
        write_triples,
        "hosp/admissions.csv.gz",
        "hadm_id",
        (3, 2, 2, 3),
        {1: 3},
        {"frontal": 3},
        {"": 3},
        ("19000001", "70000001", "80000002", "40000001", "2180-05-07", "21800507"),
    ),
    Archive(
        "medmod",
        write_medmod,
        "root/all_stays.csv",
        "stay_id",
        (4, 3, 3, 4),
        {1: 4},
        {"frontal": 3, "lateral": 1},
        {"": 4},
        ("19000001", "39000001", "70000001", "2180-05-07", "21800507"),
    ),
    Archive(
        "chexchonet",
        write_chexchonet,
        "metadata.csv",
        "patient_id",
        (4, 3, 3, 4),
        {1: 4},
        {"frontal": 4},
        {"": 4},
        ("CX900001",),
    ),
    Archive(
        "vindr-cxr",
        write_vindr_cxr,
        "annotations/image_labels_train.csv",
        "image_id",
        (5, 5, 5, 5),
        {1: 5},
        {"frontal": 5},
        {"": 3, "test": 2},
        (),
    ),
]
each_archive = pytest.mark.parametrize("archive", ARCHIVES, ids=[archive.name for archive in ARCHIVES])
each_table = pytest.mark.parametrize(
    "archive", [archive for archive in ARCHIVES if archive.needed_column], ids=lambda archive: archive.name
)


def count(summary: StudySummary) -> tuple[int, int, int, int]:
    return summary.num_studies, summary.num_patients, summary.num_groups, summary.num_views


def run_ingest(archive: Archive, folder: Path, out: Path) -> pl.DataFrame:
    """Its study table; of Open-i one report has no image, which may count as rejected or not."""
    code = main(["ingest", archive.name, str(folder), "--out", str(out)])
    assert code in ((0, 3) if archive.name == "open-i" else (0,))
    return read_studies(out)


@each_archive
def test_counts_and_files(archive: Archive, tmp_path: Path) -> None:
    frame = run_ingest(archive, archive.write(tmp_path / "download"), tmp_path / "out" / "s.parquet")
    summary = summarize_studies(frame)
    assert count(summary) == archive.counts
    assert summary.views_per_study == archive.views_per_study
    assert summary.kinds == archive.kinds
    assert archive.splits is None or summary.splits == archive.splits
    assert frame["dataset"].n_unique() == 1
    for root, views in frame.select("root", "views").rows():
        assert [view["path"] for view in views if not (Path(root) / view["path"]).is_file()] == []
    texts = [section["text"] for sections in frame["sections"] for section in sections]
    assert all(text.strip() and text.strip() != "nan" for text in texts)


@each_archive
def test_neither_identifiers_nor_dates_leave(
    archive: Archive, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    frame = run_ingest(archive, archive.write(tmp_path / "download"), tmp_path / "out" / "s.parquet")
    for column in ("study", "patient", "group"):
        assert frame[column].str.contains("^[0-9a-f]{32}$").all()
    # Paths are what they are, and a hash may hold any digits.
    bare = frame.drop("study", "patient", "group", "root", "signals").with_columns(
        pl.col("views").list.eval(pl.element().struct.field("position"))
    )
    shown = json.dumps(bare.to_dicts(), ensure_ascii=False)
    printed = "".join(capfd.readouterr())
    assert [secret for secret in archive.secrets if secret in shown] == []
    people = [secret for secret in archive.secrets if not secret.isdigit() or len(secret) > 4]
    assert [secret for secret in people if secret in printed] == []


@each_archive
def test_tables_alone_are_enough(archive: Archive, tmp_path: Path) -> None:
    folder = archive.write(tmp_path / "download")
    images = [path for path in folder.rglob("*") if path.suffix in (".png", ".jpg")]
    assert len(images) == archive.counts[3]
    for path in images:
        path.unlink()
    frame = run_ingest(archive, folder, tmp_path / "out" / "s.parquet")
    assert count(summarize_studies(frame)) == archive.counts


@each_archive
def test_a_lost_table_is_named(archive: Archive, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = archive.write(tmp_path / "download")
    (folder / archive.table).rename(tmp_path / "elsewhere")
    out = tmp_path / "out" / "s.parquet"
    assert main(["ingest", archive.name, str(folder), "--out", str(out)]) == 2
    assert Path(archive.table).name.removesuffix(".gz") in capsys.readouterr().err
    assert not out.exists()


@each_archive
def test_a_folder_that_does_not_exist_is_named(
    archive: Archive, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out" / "s.parquet"
    assert main(["ingest", archive.name, str(tmp_path / "nowhere"), "--out", str(out)]) == 2
    assert "nowhere" in capsys.readouterr().err
    assert not out.exists()


@each_table
def test_a_lost_column_is_named_with_its_table(
    archive: Archive, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = archive.write(tmp_path / "download")
    drop_column(folder / archive.table, archive.needed_column)
    out = tmp_path / "out" / "s.parquet"
    assert main(["ingest", archive.name, str(folder), "--out", str(out)]) == 2
    message = capsys.readouterr().err
    assert archive.needed_column in message
    assert Path(archive.table).name in message
    assert not out.exists()


@pytest.mark.parametrize(
    ("name", "write", "table"),
    [
        ("mimic-cxr", write_mimic_cxr, "mimic-cxr-2.0.0-chexpert.csv.gz"),
        ("chexpert", write_chexpert, "train.csv"),
        ("chexpert", write_chexpert, "valid.csv"),
    ],
)
def test_a_state_that_means_nothing_is_named_with_its_table(
    name: str, write: Callable[[Path], Path], table: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write(tmp_path / "download")
    set_cell(folder / table, 1, "Edema", "7.5")
    out = tmp_path / "out" / "s.parquet"
    assert main(["ingest", name, str(folder), "--out", str(out)]) == 2
    message = capsys.readouterr().err
    assert "Edema" in message
    assert "7.5" in message
    assert table in message
    assert not out.exists()


def test_a_state_in_json_that_means_nothing_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_chexpert_plus(tmp_path / "download")
    for name in LABEL_FILES:  # whichever of the three is read
        lines = [json.loads(line) for line in (folder / name).read_text().splitlines()]
        lines[3]["Edema"] = 7.5
        (folder / name).write_text("\n".join(map(json.dumps, lines)) + "\n")
    out = tmp_path / "out" / "s.parquet"
    assert main(["ingest", "chexpert-plus", str(folder), "--out", str(out)]) == 2
    message = capsys.readouterr().err
    assert "Edema" in message
    assert "7.5" in message
    assert "_fixed.json" in message
    assert not out.exists()


def test_one_broken_report_stops_nothing(tmp_path: Path) -> None:
    folder = write_openi(tmp_path / "download")
    broken = folder / "ecgen-radiology" / "9003.xml"
    broken.write_text(broken.read_text()[:700])
    out = tmp_path / "out" / "s.parquet"
    assert main(["ingest", "open-i", str(folder), "--out", str(out)]) == 3
    assert count(summarize_studies(read_studies(out))) == (5, 5, 5, 8)
    rejected = [pl.read_parquet(path) for path in out.parent.glob("*rejected*.parquet")]
    assert "9003.xml" in str(pl.concat(rejected).to_dicts())


@each_archive
def test_a_complete_download_passes_the_check(
    archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of an archive of this size: how counts are compared is tested where they are known by hand."""
    folder = archive.write(tmp_path / "download")
    if counts := READERS[archive.name](folder, quick=True).counts:
        module = sys.modules[READERS[archive.name].__module__]
        monkeypatch.setattr(module, "PUBLISHED", {count.what: count.found for count in counts})
    assert main(["sources", archive.name, "--check", str(folder)]) == 0


@each_archive
def test_the_check_names_what_a_download_lacks(
    archive: Archive, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = archive.write(tmp_path / "download")
    for path in folder.rglob("*"):
        if path.suffix in (".png", ".jpg"):
            path.unlink()
    assert main(["sources", archive.name, "--check", str(folder)]) != 0
    assert "image" in "".join(capfd.readouterr()).lower()
    (folder / archive.table).rename(tmp_path / "elsewhere")
    assert main(["sources", archive.name, "--check", str(folder)]) != 0
    assert Path(archive.table).name.removesuffix(".gz") in "".join(capfd.readouterr())


def test_sources_lists_every_archive(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sources"]) == 0
    listed = capsys.readouterr().out
    assert [archive.name for archive in ARCHIVES if archive.name not in listed] == []


def test_plain_and_gzipped_tables_say_the_same(tmp_path: Path) -> None:
    for name, write in (("mimic-cxr", write_mimic_cxr), ("padchest", write_padchest)):
        tables = []
        for compressed in (False, True):
            folder = write(tmp_path / name / str(compressed), compressed=compressed)
            tables.append(ingest(name, folder, tmp_path / name / f"{compressed}.parquet").drop("root"))
        assert tables[0].sort("study").equals(tables[1].sort("study"))


def test_an_archive_ingested_again_is_the_same(tmp_path: Path) -> None:
    folder = write_chexpert(tmp_path / "download")
    first, again = (ingest("chexpert", folder, tmp_path / "out" / f"{time}.parquet") for time in ("a", "b"))
    assert first.equals(again)
    assert find_study(first, "patient90001/study1")["study"] == find_study(again, "patient90001/study1")["study"]
