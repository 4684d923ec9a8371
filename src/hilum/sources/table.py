"""A user's own table (CSV, TSV, Parquet) as a source: one row per image, or one per study.

Columns with usual names are recognised (`columns.USUAL_NAMES`), others are named by `--columns target=column`. Without
a study column every row is a study, without a patient column every study a patient of its own; the summary says so.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path, PureWindowsPath

import polars as pl
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from hilum.errors import UserError
from hilum.identifiers import Naming
from hilum.imaging.array_row import is_there
from hilum.imaging.rejection import RejectedImage
from hilum.imaging.view import classify_name, read_dicom_header
from hilum.labels import DISEASES, FINDINGS
from hilum.sources.assemble import (
    IMAGE_SCHEMA,
    IngestSummary,
    begin_ingest,
    finish_ingest,
    print_summary,
    read_each,
    read_report,
    track,
)
from hilum.sources.breast_columns import read_breasts
from hilum.sources.breast_names import BREAST_NAMES
from hilum.sources.cells import ANSWERS, SEXES, SPLIT_NAMES, Cells, classify_position
from hilum.sources.columns import SECTION_PREFIX, Column, choose_columns, hint_targets, list_columns
from hilum.sources.layout import DICOM_SUFFIXES
from hilum.sources.mirai import COLUMNS, refuse_never, translate_mirai
from hilum.sources.signal_files import EcgFiles, LabsFile
from hilum.sources.table_ecgs import add_ecgs
from hilum.sources.table_file import read_table
from hilum.sources.table_labs import add_labs
from hilum.study import EXTRA_PREFIX
from hilum.wording import say_count


def ingest_table(
    file: Path,
    out: Path,
    *,
    columns: Mapping[str, str] | None = None,
    root: Path | None = None,
    dataset: str | None = None,
    study_ids_per_patient: bool = False,
    mirai: bool = False,
    findings_complete: bool = False,
    ecg: EcgFiles = EcgFiles(),
    labs: LabsFile = LabsFile(),
    naming: Naming = Naming(),
    console: Console | None = None,
) -> IngestSummary:
    """Read the table `file` into a study table `out`; images that do not exist go to rejected.parquet.

    `columns` maps targets to columns, for example {"patient": "PatientID", "image": "path", "extra_ward": "ward"}; see
    `columns.choose_columns`. Paths are relative to `root` (default: the table's folder). Of signals, `ecg` says what
    files do not say themselves, and `labs` is a table of laboratory values. With `mirai` the table is in the format of
    `mirai.py`; with `findings_complete` it lists every finding of every breast. Raises UserError for a column or a
    value that means nothing, with its row; row 1 of a CSV is its header.
    """
    begin_ingest(out, [file, *([labs.file] if labs.file else [])], naming)
    console = console or Console(stderr=True)
    root = (root or file.parent).absolute()
    notes: list[str] = []
    table, first_row, separator = read_table(file, notes)
    if table.is_empty():
        raise UserError(f"{file}: the table has no rows, only a header ({list_columns(table.columns)[:-1]}).")
    if mirai:
        table = translate_mirai(table, file.name, first_row, notes)
        columns, study_ids_per_patient = COLUMNS | dict(columns or {}), True
    chosen = choose_columns(table.columns, columns or {}, file.name)
    if not mirai and "years_to_cancer" in chosen:
        refuse_never(table, chosen["years_to_cancer"].name, file.name)
    console.print(_describe_mapping(chosen, table.columns))
    warnings = _warn_of_columns(chosen)
    cells = Cells(table.with_row_index("_row", offset=first_row), chosen, file.name, decimal_comma=separator == ";")
    images = _turn_windows_paths(_read_images(cells, root, notes), root, notes)
    images = images.with_columns(
        dataset=pl.lit(dataset) if dataset else pl.col("dataset").fill_null(_name_dataset(file))
    )
    images = _fill_ids(images, chosen, study_ids_per_patient, notes)
    owners = images.select("row", "study").unique()
    images, rejected = _drop_missing(images, file, root)
    if "ecg" in chosen:
        paths = pl.DataFrame({"row": cells.rows, "ecg": cells.read_text("ecg")})
        images, lost = add_ecgs(images, paths, root, ecg, notes)
        rejected += lost
    elif ecg != EcgFiles():
        raise UserError(f"--ecg.rate, --ecg.leads and --ecg.unit have no effect: {file.name} has no column of ECGs.")
    when = pl.DataFrame({"row": cells.rows, "time": cells.read_text("time" if "time" in chosen else "date")})
    images = add_labs(images, when, labs, notes, per_patient=study_ids_per_patient)
    images = _name_views(images, chosen, root, notes)
    images = read_breasts(cells, images, owners, notes, is_complete=findings_complete)
    notes += _doubt_no_finding(images)
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


def _describe_mapping(chosen: Mapping[str, Column], names: list[str]) -> Table:
    mapping = Table("study table", "your column", "", title="Columns", title_justify="left")
    plain = [target for target, column in chosen.items() if target in FINDINGS and target == column.name]
    for target, column in chosen.items():
        if target in plain:
            continue
        mapping.add_row(
            target, ("-" if column.negative else "") + column.name, "given" if column.given else "recognised"
        )
    if plain:
        mapping.add_row("findings", ", ".join(plain) if len(plain) < len(FINDINGS) else "all 14", "recognised")
    used = {column.name for column in chosen.values()}
    unused = [name for name in names if name not in used]
    if unused:
        mapping.add_row("not used", ", ".join(unused), "")
    for column, target in hint_targets(unused, chosen):
        setting = shlex.quote(f"{target}={column}")
        mapping.add_row("not used", column, f"[yellow]if it means {target}: --columns {escape(setting)}[/]")
    return mapping


def _warn_of_columns(chosen: Mapping[str, Column]) -> list[str]:
    """What is missing in the table and makes a later result wrong or impossible."""
    warnings = []
    if "patient" not in chosen:
        owner = "study" if "study" in chosen else "row"
        warnings.append(
            f"There is no patient column: every {owner} counts as a patient of its own, so that one person may be in "
            "training and test. If a column says who the patient is, name it: --columns patient=COLUMN."
        )
    if not {*FINDINGS, *BREAST_NAMES} & set(chosen):
        warnings.append(
            "No column is one of the 14 findings: `hilum probe` and `hilum finetune` will have none to score. If "
            "columns are, name them: --columns 'Pleural Effusion=COLUMN'."
        )
    return warnings


def _read_images(cells: Cells, root: Path, notes: list[str]) -> pl.DataFrame:
    """IMAGE_SCHEMA plus sections and extras, one row per image; ids as written, null where the table has none."""
    read: dict[str, pl.Series] = {name: cells.read_text(name) for name in ("dataset", "patient", "study", "group")}
    read["when"] = cells.read_days()
    read["age"] = cells.read_age()
    read["sex"] = cells.read_word("sex", SEXES, "F, M, female, male or blank (0 and 1 do not say which is which)")
    read["split"] = cells.read_word("split", SPLIT_NAMES, "train, val, test or blank")
    read |= {finding: cells.read_label(finding, ANSWERS) for finding in FINDINGS}
    read |= {target: cells.read_text(target) for target in cells.columns if target.startswith(EXTRA_PREFIX)}
    for target in cells.columns:
        if target.startswith(SECTION_PREFIX):
            read[target] = _open_reports(cells.read_text(target, blanks=("", "nan")), root, notes)
    frame = pl.DataFrame({"row": cells.rows, **read, **cells.read_views()})
    frame = frame.explode("path", "position", "kind", "laterality")
    named = {position: classify_position(position) for position in frame["position"].unique()}
    frame = frame.with_columns(
        # A kind column decides where it says something; else the position's own meaning, else unknown.
        kind=pl.coalesce(pl.col("kind").replace("unknown", None), pl.col("position").replace_strict(named)),
    )
    return frame.select(*(pl.col(name).cast(kind) for name, kind in IMAGE_SCHEMA.items()), pl.exclude(*IMAGE_SCHEMA))


def _turn_windows_paths(images: pl.DataFrame, root: Path, notes: list[str]) -> pl.DataFrame:
    r"""Paths with / for the \ of Windows, but for files whose names have a \."""
    turned = {path: found for path in images["path"].drop_nulls().unique() if (found := _turn(path, root)) != path}
    if not turned:
        return images
    notes.append(f"{say_count(len(turned), 'path')} with \\ as Windows writes them: read with / instead.")
    return images.with_columns(pl.col("path").replace(turned))


def _turn(path: str, root: Path) -> str:
    return PureWindowsPath(path).as_posix() if "\\" in path and not is_there(root / path) else path


def _open_reports(texts: pl.Series, root: Path, notes: list[str]) -> pl.Series:
    """A cell that is the path of a .txt file stands for what the file says."""
    paths = texts.filter(texts.str.contains(r"^[^\n]{1,300}\.txt$")).unique()
    opened: dict[str, str] = {}
    failed: list[str] = []
    for path in paths:
        try:
            opened[path] = read_report(root / _turn(path, root))
        except OSError as error:
            failed.append(f"{path}: {error.strerror}")
    if failed:
        notes.append(f"{say_count(len(failed), 'report file')} cannot be read and gives no text; first: {min(failed)}")
    return texts.replace({path: opened.get(path) for path in paths}) if len(paths) else texts


def _name_dataset(file: Path) -> str:
    """The table's own name, or its folder's where every archive calls its table so."""
    return file.absolute().parent.name if file.stem in ("manifest", "metadata", "studies", "index") else file.stem


def _name_views(images: pl.DataFrame, chosen: Mapping[str, Column], root: Path, notes: list[str]) -> pl.DataFrame:
    """For views the table does not name DICOM headers are asked, and file names if it has no view column at all."""
    nameless = images.filter((pl.col("kind") == "unknown") & (pl.col("position") == ""))["path"].unique().to_list()
    dicom = [path for path in nameless if path.lower().endswith(DICOM_SUFFIXES)]
    read = partial(_read_header_view, root=root)
    named = dict(zip(dicom, read_each(read, dicom, "reading headers"), strict=True)) if dicom else {}
    if not {"view", "kind"} & set(chosen):
        notes.append("There is no view column: DICOM headers and file names name the views where they can.")
        named |= {path: ("", *classify_name(path)) for path in nameless if path not in named}
    if not named:
        return images
    rows = [(path, *view) for path, view in named.items()]
    columns = dict.fromkeys(("path", "new_position", "new_kind", "new_laterality"), pl.String)
    images = images.join(pl.DataFrame(rows, schema=columns, orient="row"), on="path", how="left", maintain_order="left")
    return images.with_columns(
        position=pl.coalesce("new_position", "position"),
        kind=pl.coalesce("new_kind", "kind"),
        laterality=pl.coalesce(pl.col("laterality", "new_laterality").replace("unknown", None), pl.lit("unknown")),
    ).drop("new_position", "new_kind", "new_laterality")


def _read_header_view(path: str, root: Path) -> tuple[str, str, str]:
    try:
        header = read_dicom_header(root / path)
    except RejectedImage:  # `hilum cache` opens the file and says why it cannot be used
        return "", "unknown", "unknown"
    return header["view_position"], header["view_kind"], header["laterality"]


def _fill_ids(images: pl.DataFrame, chosen: Mapping[str, Column], per_patient: bool, notes: list[str]) -> pl.DataFrame:
    """Every image gets a study and a patient; where the table names none, the row is the study and its own patient."""
    num_rows = images["row"].n_unique()
    for name, owner in (("study", "row"), ("patient", "study")):
        blank = images.filter(pl.col(name).is_null())["row"].n_unique()
        if blank == num_rows and name == "study":
            notes.append(f"There is no {name} column: every {owner} is a {name} of its own.")
        elif 0 < blank < num_rows:
            notes.append(f"{say_count(blank, 'row')} without a {name} id: each {owner} there is a {name} of its own.")
    if per_patient and "patient" not in chosen:
        raise UserError("--study-ids-per-patient needs a patient column.")
    if per_patient:
        images = images.with_columns(study=pl.concat_str("patient", "study", separator="/"))
    # The first path, not the row number: the same study then has the same name after rows were added above it.
    first = pl.col("path").first().over("row")
    images = images.with_columns(study=pl.coalesce("study", pl.format("file:{}", first)))
    return images.with_columns(patient=pl.coalesce("patient", pl.format("study:{}", "study")))


def _doubt_no_finding(images: pl.DataFrame) -> list[str]:
    """A note on studies that state No Finding beside a disease: nobody can tell here which of the two is wrong."""
    stated = pl.concat_list(pl.when(pl.col(name) == 1).then(pl.lit(name)) for name in DISEASES).list.drop_nulls()
    both = images.filter(pl.col("No Finding") == 1).with_columns(diseases=stated)
    both = both.filter(pl.col("diseases").list.len() > 0).unique(["dataset", "study"], maintain_order=True)
    if both.is_empty():
        return []
    first = ", ".join(f"row {row} {diseases[0]}" for row, diseases in both.head(3)["row", "diseases"].iter_rows())
    return [
        f"{say_count(len(both), 'study', 'studies')} with No Finding present and a disease too ({first}"
        f"{', ...' if len(both) > 3 else ''}): one of the two is wrong. Both are kept as they are."
    ]


def _drop_missing(images: pl.DataFrame, file: Path, root: Path) -> tuple[pl.DataFrame, list[tuple[str, str]]]:
    """Images whose file exists, and (path, reason) of the others; an error if there is not a single one."""
    paths = images["path"].drop_nulls().unique(maintain_order=True).to_list()
    with ThreadPoolExecutor(16) as pool:  # waits for file servers, not for the processor
        exists = pool.map(
            lambda path: is_there(root / path), track(paths, "looking for images", len(paths)), chunksize=256
        )
        missing = [path for path, found in zip(paths, exists, strict=True) if not found]
    if paths and len(missing) == len(paths):
        drive = PureWindowsPath(missing[0]).drive
        raise UserError(
            f"Not one image that {file.name} lists ({len(paths):,}) exists under {root} ({', '.join(missing[:3])}"
            f"{', ...' if len(missing) > 3 else ''}): "
            + (
                f"they name a drive of Windows ({drive}). Cut them off at the folder you give as --root."
                if drive and os.name != "nt"
                else "give the folder the paths start from as --root."
            )
        )
    nameless = images.filter(pl.col("path").is_null())["row"].to_list()
    rejected = [(f"{file.name}, row {row}", "the row names no image") for row in nameless]
    rejected += [(path, "the file does not exist") for path in missing]
    return images.filter(pl.col("path").is_not_null() & ~pl.col("path").is_in(missing)), rejected
