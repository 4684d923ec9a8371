"""A tree of image files as a source: DICOM by its headers, PNG and JPEG by their folders, report texts beside them.

DICOM files of one StudyInstanceUID are one study, wherever they lie. Raster files know nothing of studies, so the
folders speak. With `layout`, a pattern such as "{patient}/{study}/{view}", as it says. Without: the folder of an image
is its study and what lies above that folder its patient (a single level is both), an image directly in the root is a
study and a patient of its own, and raster files beside DICOM files are taken for previews and left out.
"""

from __future__ import annotations

import filecmp
import os
import re
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from functools import partial
from pathlib import Path, PurePosixPath

import polars as pl
from rich.console import Console

from hilum.errors import UserError
from hilum.identifiers import SALT_FILE, Naming
from hilum.imaging.dicom import find_header_fault, is_dicom, open_dicom
from hilum.imaging.rejection import RejectedImage
from hilum.imaging.view import HEADER_TAGS, describe_header
from hilum.sources.assemble import (
    IMAGE_SCHEMA,
    IngestSummary,
    begin_ingest,
    finish_ingest,
    print_summary,
    read_each,
    read_report,
)
from hilum.sources.layout import (
    DICOM_SUFFIXES,
    RASTER_SUFFIXES,
    Row,
    compile_layout,
    describe_folders,
    describe_layout,
    read_raster_row,
)
from hilum.study import EXTRA_PREFIX
from hilum.vocabulary import MODALITIES

_NOT_REPORTS = {SALT_FILE, "readme.txt", "license.txt", "license_subscription.txt", "sha256sums.txt"}


def ingest_folder(
    root: Path,
    out: Path,
    *,
    layout: str | None = None,
    dataset: str | None = None,
    modalities: Sequence[str] = MODALITIES,
    allow_burned_in: bool = False,
    naming: Naming = Naming(),
    workers: int | None = None,
    console: Console | None = None,
) -> IngestSummary:
    """Read the tree `root` into a study table `out`; files that cannot be used go to rejected.parquet with the reason.

    `layout` concerns raster files only. Its fields each match within one folder or file name (the suffix is left off):
    {patient}, {study}, {view} (a position such as PA), {image} and {_} (anything), {split}; other fields are kept as
    extra_ columns, but a name that looks like one of these is refused. `dataset` defaults to the folder's name.
    `modalities` lists the DICOM modalities that are taken ("": files whose header names none); give `build_cache` the
    same, and the same `allow_burned_in`. `workers` processes read headers (default: all cores).
    """
    begin_ingest(out, [], naming)
    console = console or Console(stderr=True)
    if not root.is_dir():
        raise UserError(f"There is no folder {root}.")
    root = root.resolve()
    pattern = None if layout is None else compile_layout(layout)
    paths, texts, rejected = _list_files(root)
    read = partial(
        _read_file, root=root, pattern=pattern, modalities=tuple(modalities), allow_burned_in=allow_burned_in
    )
    rows: list[Row] = []
    num_others = 0
    for path, found in zip(paths, read_each(read, paths, "reading headers", workers), strict=True):
        if isinstance(found, str):
            rejected.append((path, found))
        elif found is None:
            num_others += 1
        else:
            rows.append(found)
    if not rows and not rejected:
        looked_for = ", ".join((*DICOM_SUFFIXES, *RASTER_SUFFIXES))
        raise UserError(
            f"There is no image in {root}: looked in all its folders for {looked_for} and for DICOM files of any name. "
            "Give the folder that holds the images."
        )
    notes = [f"Files of other kinds, left aside: {num_others:,}."] if num_others else []
    rows = _leave_out(rows, root, pattern is not None, notes)
    warnings: list[str] = []
    if pattern is None:
        describe_folders(rows, notes)
    elif any("depth" not in row and "instance" not in row for row in rows):  # raster images, read by the layout
        describe_layout(pattern, notes, warnings)
    _attach_reports(rows, texts, root, notes, rejected)
    extras = sorted({name for row in rows for name in row if name.startswith(EXTRA_PREFIX)})
    schema = {**IMAGE_SCHEMA, **dict.fromkeys([*extras, "section_report"], pl.String)}
    images = pl.DataFrame([[row.get(name) for name in schema] for row in rows], schema=schema, orient="row")
    images = images.with_columns(dataset=pl.lit(dataset or root.name))
    summary = finish_ingest(
        images,
        rejected,
        out=out,
        root=root,
        naming=naming,
        notes=notes,
        warnings=warnings,
    )
    print_summary(summary, console)
    return summary


def _list_files(root: Path) -> tuple[list[str], list[str], list[tuple[str, str]]]:
    """Paths below `root`, sorted: possible images; texts; (path, reason) where a name cannot even be written down."""
    paths, texts, rejected = [], [], []
    seen = set()

    def reject(error: OSError) -> None:
        path = Path(os.fsdecode(error.filename)).relative_to(root).as_posix()
        rejected.append((f"{path}/", f"the folder cannot be read: {error.strerror}"))

    for folder, folders, files in os.walk(root, followlinks=True, onerror=reject):
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__MACOSX")))
        real = os.path.realpath(folder)
        if real in seen:  # a link back up
            folders.clear()
            continue
        seen.add(real)
        for name in sorted(files):
            if name.startswith(".") or name == "DICOMDIR":
                continue
            path = PurePosixPath(Path(folder, name).relative_to(root).as_posix()).as_posix()
            if not _is_utf8(path):
                rejected.append(
                    (os.fsencode(path).decode("utf-8", "replace"), "its name is not valid UTF-8: rename it")
                )
            elif name.lower().endswith(".txt"):
                texts.extend([path] if name.lower() not in _NOT_REPORTS else [])
            else:
                paths.append(path)
    return paths, texts, rejected


def _is_utf8(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def _read_file(
    path: str, root: Path, pattern: re.Pattern[str] | None, modalities: tuple[str, ...], allow_burned_in: bool
) -> Row | str | None:
    """A row for an image, the reason of a rejection, or None for a file of another kind; content decides, not names."""
    suffix = PurePosixPath(path).suffix.lower()
    try:
        if is_dicom(root / path):
            return _read_dicom(path, root, modalities, allow_burned_in)
    except RejectedImage as error:
        return error.reason
    if suffix in DICOM_SUFFIXES:
        return f"named {suffix}, but it has no DICOM mark (DICM after 128 bytes)"
    return read_raster_row(path, root, pattern) if suffix in RASTER_SUFFIXES else None


def _read_dicom(path: str, root: Path, modalities: tuple[str, ...], allow_burned_in: bool) -> Row | str:
    dataset = open_dicom(root / path, HEADER_TAGS)
    if fault := find_header_fault(dataset, modalities=modalities, allow_burned_in=allow_burned_in):
        return fault
    header = describe_header(dataset)
    study = header["study_uid"] or f"file:{path}"
    facts = {name: header[name] for name in ("manufacturer", "model", "modality", "body_part")}
    return {
        "study": study,
        "patient": header["patient_id"] or f"study:{study}",
        "when": count_days(header["study_date"], header["study_time"]),
        "path": path,
        "kind": header["view_kind"],
        "position": header["view_position"],
        "laterality": header["laterality"],
        "age": header["age_years"],
        "sex": header["sex"],
        "instance": header["sop_uid"],
        **{f"{EXTRA_PREFIX}{name}": value for name, value in facts.items() if value},
    }


def count_days(date: str | None, time: str | None) -> float | None:
    """Days from an origin that nobody needs to know, so that what is kept is the distance between studies."""
    try:
        day = datetime.strptime((date or "").replace(".", ""), "%Y%m%d").toordinal()
    except ValueError:
        return None
    clock = re.match(r"(\d\d):?(\d\d)", time or "")
    return day + (int(clock[1]) / 24 + int(clock[2]) / 1440 if clock else 0.0)


def _leave_out(rows: list[Row], root: Path, has_layout: bool, notes: list[str]) -> list[Row]:
    """Without copies of a DICOM file, and without raster previews beside DICOM files."""
    first: dict[str, str] = {}  # SOP Instance UID -> path
    kept = []
    dicom_folders = {str(PurePosixPath(row["path"]).parent) for row in rows if "instance" in row}
    num_copies = num_previews = 0
    for row in rows:
        path, original = row["path"], first.get(row.get("instance") or "")
        # The same object, recompressed or damaged, has other bytes: then both stay, and the cache sees to the pixels.
        if original and filecmp.cmp(root / path, root / original, shallow=False):
            num_copies += 1
        elif not has_layout and "depth" in row and str(PurePosixPath(path).parent) in dicom_folders:
            num_previews += 1
        else:
            kept.append(row)
        if row.get("instance"):
            first.setdefault(row["instance"], path)
    if num_copies:
        notes.append(f"DICOM files that are copies of others, left out: {num_copies:,}.")
    if num_previews:
        notes.append(f"Raster images beside DICOM files, taken for previews and left out: {num_previews:,}.")
    return kept


def _attach_reports(
    rows: list[Row], texts: list[str], root: Path, notes: list[str], rejected: list[tuple[str, str]]
) -> None:
    """Each text joins the study of the image of its name, else of the folder of its name, else of its own folder."""
    by_name: dict[str, set[str]] = defaultdict(set)
    in_folder: dict[str, set[str]] = defaultdict(set)
    first: dict[str, Row] = {}
    for row in rows:
        path = PurePosixPath(row["path"])
        first.setdefault(row["study"], row)
        by_name[str(path.with_suffix(""))].add(row["study"])
        for folder in path.parents:
            in_folder[str(folder)].add(row["study"])
    num_lost = 0
    for text in texts:
        name, folder = str(PurePosixPath(text).with_suffix("")), str(PurePosixPath(text).parent)
        studies = by_name.get(name) or in_folder.get(name) or in_folder.get(folder, set())
        if len(studies) == 1:
            row = first[next(iter(studies))]
            try:
                said = (row.get("section_report"), read_report(root / text).strip())
            except OSError as error:
                rejected.append((text, f"cannot be read: {error.strerror}"))
                continue
            row["section_report"] = "\n\n".join(filter(None, said))
        else:
            num_lost += 1
    if num_lost:
        notes.append(f"Texts of no single study (no image or folder has their name), left aside: {num_lost:,}.")
