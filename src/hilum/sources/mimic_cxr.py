"""MIMIC-CXR-JPG and MIMIC-CXR (Johnson et al. 2019), from their tables: subjects, studies, views, splits, labels.

MIMIC-CXR-JPG has metadata, split and label tables; MIMIC-CXR has lists of DICOM files and of reports, whose headers
name view and date. Reports lie in files/pXX/pSUBJECT/sSTUDY.txt, unpacked or in mimic-cxr-reports.zip.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Literal

import polars as pl

from hilum.errors import UserError
from hilum.imaging.rejection import RejectedImage
from hilum.imaging.view import read_dicom_header
from hilum.labels import FINDINGS
from hilum.sources.archive import (
    Reading,
    check_unique,
    choose_paths,
    find_table,
    list_tables,
    name_kinds,
    read_cells,
    read_findings,
    read_table,
    sample,
)
from hilum.sources.assemble import decode_report, read_each, track
from hilum.sources.catalogue import name_table
from hilum.sources.cells import SPLIT_NAMES
from hilum.sources.columns import SECTION_PREFIX
from hilum.sources.folder import count_days
from hilum.text.sections import split_sections

Labels = Literal["chexpert", "negbio", "none"]
METADATA, SPLIT, LABELS = "mimic-cxr-*-metadata.csv", "mimic-cxr-*-split.csv", "mimic-cxr-*-{}.csv"
RECORDS, REPORTS = "cxr-record-list.csv", "mimic-cxr-reports.zip"
_REPORT_FOLDERS = ("", "mimic-cxr-reports", "reports")  # above files/


def read(root: Path, *, labels: Labels = "chexpert", own_splits: bool = False, quick: bool = False) -> Reading:
    """Read the tables below `root`, and the reports unless `quick`. Studies without a label row keep blanks."""
    reading = Reading(pl.DataFrame())
    metadata = find_table(root, METADATA)
    if metadata is not None:
        images = read_metadata(metadata)
    elif (records := find_table(root, RECORDS)) is not None:
        images = _read_records(root, records, reading, quick)
    else:
        raise UserError(
            f"{root} has neither {name_table(METADATA)} (of MIMIC-CXR-JPG) nor {RECORDS} (of MIMIC-CXR), plain or as "
            ".gz, in it or one folder below. Download the tables into that folder, or give the folder that holds them."
        )
    images = images.with_columns(
        path=choose_paths(root, [images["file"] + ".jpg", images["file"] + ".dcm"]),
        folder=images["file"].str.replace(r"/[^/]+$", ""),
        kind=name_kinds(images["position"]) if "kind" not in images.columns else images["kind"],
    ).drop("file")
    needed = metadata is not None  # MIMIC-CXR itself has neither splits nor labels
    if not own_splits:
        images = _join_splits(images, root, needed, reading)
    if labels != "none":
        images = join_labels(images, root, labels, needed, reading)
    reading.images = _join_reports(images, root, reading, quick).drop("folder")
    return reading


def read_metadata(path: Path) -> pl.DataFrame:
    """MIMIC-CXR-JPG's table of images: row, image, study, patient, when (days), second (of the same origin), position,
    and file (its path without suffix)."""
    keys = ["dicom_id", "subject_id", "study_id"]
    table = read_table(path, [*keys, "ViewPosition", "StudyDate", "StudyTime"], filled=keys)
    check_unique(table, ["dicom_id"], path)
    cells = read_cells(table, path, date="StudyDate", view="ViewPosition")
    clock = table["StudyTime"].fill_null("").str.extract(r"^\s*(\d{1,6})", 1).str.zfill(6)
    hours, minutes, seconds = (clock.str.slice(start, 2).cast(pl.Float64) for start in (0, 2, 4))
    days = cells.read_days()
    return table.select(
        row="_row",
        image="dicom_id",
        study="study_id",
        patient="subject_id",
        when=days + (hours / 24 + minutes / 1440).fill_null(0.0),
        second=(days * 86_400 + (hours * 3600 + minutes * 60 + seconds).fill_null(0.0)).cast(pl.Int64),
        position=cells.read_text("view").fill_null(""),
        file=_name_file("dicom_id"),
    )


def _name_file(name: str) -> pl.Expr:
    """files/p10/p10000032/s50414267/<name>, without a suffix."""
    subject = pl.col("subject_id")
    return pl.format("files/p{}/p{}/s{}/{}", subject.str.slice(0, 2), subject, "study_id", name)


def _read_records(root: Path, path: Path, reading: Reading, quick: bool) -> pl.DataFrame:
    """MIMIC-CXR's list of DICOM files; of those that exist the headers name the view and count the days."""
    keys = ["dicom_id", "subject_id", "study_id"]
    table = read_table(path, keys, filled=keys)
    check_unique(table, ["dicom_id"], path)
    images = table.select(row="_row", study="study_id", patient="subject_id", file=_name_file("dicom_id"))
    files = images["file"].to_list()
    if quick or not any((root / f"{file}.dcm").is_file() for file in sample(files)):
        reading.notes.append("Without MIMIC-CXR-JPG's metadata only headers name views, and no DICOM file is there.")
        return images.with_columns(position=pl.lit(""), kind=pl.lit("unknown"))
    headers = list(read_each(partial(_read_header, root=root), files, "reading headers"))
    schema = {"position": pl.String, "kind": pl.String, "laterality": pl.String, "when": pl.Float64, "age": pl.Float64}
    found = pl.DataFrame(headers, schema={**schema, "sex": pl.String}, orient="row")
    return pl.concat([images, found], how="horizontal")


def _read_header(file: str, root: Path) -> tuple[str, str, str, float | None, float | None, str | None]:
    try:
        header = read_dicom_header(root / f"{file}.dcm")
    except (RejectedImage, OSError):  # missing or broken: `hilum cache` says so
        return "", "unknown", "unknown", None, None, None
    when = count_days(header["study_date"], header["study_time"])
    return header["view_position"], header["view_kind"], header["laterality"], when, header["age_years"], header["sex"]


def _join_splits(images: pl.DataFrame, root: Path, needed: bool, reading: Reading) -> pl.DataFrame:
    path = find_table(root, SPLIT, needed="it is the official split (--own-splits draws another)" if needed else "")
    if path is None:
        reading.notes.append(f"There is no {name_table(SPLIT)}: `hilum cache` draws a split of its own.")
        return images
    table = read_table(path, ["study_id", "split"], filled=["study_id"])
    split = read_cells(table, path, split="split").read_word("split", SPLIT_NAMES, "train, validate or test")
    splits = table.select(study="study_id", split=split).unique()
    check_unique(splits, ["study"], path)
    images = images.join(splits, on="study", how="left", maintain_order="left")
    lacking = images.filter(pl.col("split").is_null())["study"].n_unique()
    if lacking:
        reading.notes.append(f"{lacking:,} studies stand in no split of {path.name}: `hilum cache` draws theirs.")
    return images


def join_labels(images: pl.DataFrame, root: Path, labels: str, needed: bool, reading: Reading) -> pl.DataFrame:
    pattern = LABELS.format(labels)
    others = [name for name in ("chexpert", "negbio") if name != labels and list_tables(root, LABELS.format(name))]
    hint = "".join(f"--labels {name} reads those of {name}, which are there; " for name in others)
    use = f"it holds the findings ({hint}--labels none goes on without)"
    path = find_table(root, pattern, needed=use if needed or others else "")
    if path is None:
        reading.warnings.append(f"There is no {name_table(pattern)}: all findings are blank.")
        return images
    table = read_table(path, ["study_id", *FINDINGS], filled=["study_id"])
    check_unique(table, ["study_id"], path)
    states = pl.DataFrame([table["study_id"].alias("study"), *read_findings(table, path, FINDINGS)])
    lacking = images["study"].unique().is_in(states["study"].to_list()).not_().sum()
    if lacking:
        reading.notes.append(f"{lacking:,} studies have no row in {path.name}: their findings are blank.")
    return images.join(states, on="study", how="left", maintain_order="left")


def _join_reports(images: pl.DataFrame, root: Path, reading: Reading, quick: bool) -> pl.DataFrame:
    """Sections of the reports, on the first image of each study."""
    first = images.with_row_index("place").unique("study", keep="first", maintain_order=True)
    paths = [f"{folder}.txt" for folder in first["folder"]]
    with ExitStack() as opened:
        find = _open_reports(root, paths, opened)
        if find is None:
            reading.notes.append(f"There are no reports (files/.../sSTUDY.txt or {REPORTS}).")
            return images
        if quick:
            sampled = sample(paths)
            number = sum(find(path) is not None for path in sampled)
            reading.notes.append(f"Reports: {number:,} of {len(sampled):,} looked for are there.")
            return images
        sections = [{} if text is None else split_sections(text) for text in _read_reports(find, paths)]
    lacking = sum(not found for found in sections)
    if lacking:
        reading.notes.append(f"{lacking:,} studies have no report file, or one without a word.")
    names = dict.fromkeys(name for found in sections for name in found)
    texts = {f"{SECTION_PREFIX}{name}": [found.get(name) for found in sections] for name in names}
    columns = pl.DataFrame({"place": first["place"], **texts}, schema_overrides=dict.fromkeys(texts, pl.String))
    return images.with_row_index("place").join(columns, on="place", how="left", maintain_order="left").drop("place")


def _open_reports(root: Path, paths: list[str], opened: ExitStack) -> Callable[[str], bytes | None] | None:
    """What gives the bytes of a report by its path, or None where the study has none."""
    for folder in _REPORT_FOLDERS:
        if any((root / folder / path).is_file() for path in sample(paths)):
            return partial(_read_file, root / folder)
    if archives := [path for depth in ("", "*/") for path in root.glob(depth + REPORTS)]:
        try:
            packed = opened.enter_context(zipfile.ZipFile(archives[0]))
        except zipfile.BadZipFile as error:
            raise UserError(
                f"{archives[0]} cannot be opened ({error}): it may be cut off. Download it again."
            ) from None
        names = {name[name.find("files/") :]: name for name in packed.namelist()}
        return lambda path: packed.read(names[path]) if path in names else None
    return None


def _read_file(folder: Path, path: str) -> bytes | None:
    try:
        return (folder / path).read_bytes()
    except FileNotFoundError:
        return None


def _read_reports(find: Callable[[str], bytes | None], paths: list[str]) -> Iterator[str | None]:
    with ThreadPoolExecutor(8) as pool:  # waits for the disk
        for content in track(pool.map(find, paths), "reading reports", len(paths)):
            yield None if content is None else decode_report(content)
