"""X-ray, ECG and laboratory values around admissions, by time, from the tables of MIMIC-IV, -IV-ECG and -CXR-JPG.

What Symile-MIMIC publishes of 11,622 admissions, built by the same rule (`hours.py`) from whatever release is there,
with the windows as settings. Differences: a release may have other events; an ECG is taken whatever its signal holds
(Symile passed over those of zeros or gaps); studies without a row of findings stay, with blanks.

An admission is a study. Days count from the patient's first, hours from admission; no date leaves.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import polars as pl

from hilum.errors import UserError
from hilum.sources.archive import (
    ADVICE,
    Reading,
    check_header,
    check_unique,
    choose_paths,
    find_table,
    name_kinds,
    read_table,
    read_times,
)
from hilum.sources.hours import Windows, build_triples
from hilum.sources.mimic_cxr import METADATA, join_labels, read_metadata
from hilum.sources.symile_labs import LABS

Labels = Literal["chexpert", "negbio", "none"]
ADMISSIONS, LAB_EVENTS, RECORDS = "admissions.csv", "labevents.csv", "record_list.csv"
_FRONTAL = ("AP", "PA")
_VALUE = ["labevent_id", "subject_id", "itemid", "charttime", "valuenum", "valueuom"]


def read(root: Path, *, windows: Windows = Windows(), labels: Labels = "chexpert", quick: bool = False) -> Reading:
    """Read the tables below `root`: in it, or in folders (or links) of it such as hosp, mimic-iv-ecg, mimic-cxr-jpg.

    `quick` leaves the laboratory values out, whose table is large, and with them the rule that there be one.
    """
    reading = Reading(pl.DataFrame())
    files = {
        name: find_table(root, name, needed=why)
        for name, why in (
            (ADMISSIONS, "it lists admissions (MIMIC-IV, hosp)"),
            (LAB_EVENTS, "it holds laboratory values (MIMIC-IV, hosp)"),
            (RECORDS, "it lists ECGs (MIMIC-IV-ECG)"),
            (METADATA, "it lists X-rays (MIMIC-CXR-JPG)"),
        )
    }
    paths = {name: path for name, path in files.items() if path is not None}
    admissions = _read_admissions(paths[ADMISSIONS])
    images = read_metadata(paths[METADATA]).rename({"image": "event", "study": "image_study"}).drop("row")
    images = images.filter(pl.col("position").str.to_uppercase().is_in(_FRONTAL))
    ecgs = _read_records(paths[RECORDS])
    values = _make_values(admissions) if quick else _scan_values(paths[LAB_EVENTS], images, ecgs)
    triples = build_triples(admissions.select("patient", "admission", "second"), images, ecgs, values, windows)
    if triples.is_empty():
        raise UserError(
            f"{root}: no admission has an X-ray, an ECG and a laboratory value in the windows. Are all tables of MIMIC "
            "patients in the same release, so that ids and shifted dates agree?"
        )
    reading.images = _lay_out(triples, admissions, root, paths, labels, reading)
    reading.notes.append(
        f"Of {len(admissions):,} admissions {len(triples):,} of {triples['patient'].n_unique():,} patients have all "
        f"three{' (laboratory values were not looked at)' if quick else ''}. There is no official split: `hilum cache` "
        "draws one by patient."
    )
    return reading


def _read_admissions(path: Path) -> pl.DataFrame:
    keys = ["subject_id", "hadm_id", "admittime"]
    table = read_table(path, keys, filled=keys)
    check_unique(table, ["hadm_id"], path)
    return table.select(
        row="_row", patient="subject_id", admission="hadm_id", second=read_times(table, path, keys[2:])[0]
    )


def _read_records(path: Path) -> pl.DataFrame:
    """ECGs; the event is the path of the record, which holds its number."""
    keys = ["subject_id", "study_id", "ecg_time", "path"]
    table = read_table(path, keys, filled=keys)
    check_unique(table, ["study_id"], path)
    return table.select(patient="subject_id", event="path", second=read_times(table, path, ["ecg_time"])[0])


def _scan_values(path: Path, images: pl.DataFrame, ecgs: pl.DataFrame) -> pl.DataFrame:
    """The values of the 50 tests, of patients with an X-ray and an ECG: a small part of a table of 150 million rows,
    which is read as a stream."""
    check_header(path, _VALUE)
    patients = images.join(ecgs, on="patient", how="semi")["patient"].unique()
    scan = pl.scan_csv(path, infer_schema=False, row_index_name="_row", row_index_offset=2).select("_row", *_VALUE)
    scan = scan.filter(
        pl.col("itemid").is_in(list(LABS)),
        pl.col("subject_id").is_in(patients.to_list()),
        pl.col("valuenum").str.strip_chars().ne("").fill_null(False),
    )
    try:
        table = scan.collect(engine="streaming")
    except pl.exceptions.PolarsError as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{path} cannot be read to its end ({reason}): it may be cut off. Download it again.") from None
    value = table["valuenum"].cast(pl.Float64, strict=False)
    if value.null_count():
        raise UserError(f"{path}: column 'valuenum' has '{table['valuenum'][value.is_null().arg_true()[0]]}'. {ADVICE}")
    return table.select(
        patient="subject_id",
        event=pl.col("labevent_id").cast(pl.Int64, strict=False),
        item="itemid",
        value=value,
        unit=pl.col("valueuom").str.strip_chars().replace("", None),
        second=read_times(table, path, ["charttime"])[0],
    ).drop_nulls("second")


def _make_values(admissions: pl.DataFrame) -> pl.DataFrame:
    """A value for every admission, where the real ones are not looked at."""
    return admissions.select(
        patient="patient",
        event="row",
        item=pl.lit("50912"),
        value=pl.lit(1.0),
        unit=pl.lit(None, pl.String),
        second="second",
    )


def _lay_out(
    triples: pl.DataFrame,
    admissions: pl.DataFrame,
    root: Path,
    paths: dict[str, Path],
    labels: Labels,
    reading: Reading,
) -> pl.DataFrame:
    """The triples as images of the study table, with their findings."""
    homes = {name: path.parent.relative_to(root).as_posix() for name, path in paths.items()}
    x_rays, records = (pl.lit("" if homes[name] == "." else f"{homes[name]}/") for name in (METADATA, RECORDS))
    frame = triples.join(admissions.select("admission", "row"), on="admission", maintain_order="left")
    frame = frame.with_columns(
        study="image_study",
        file=pl.concat_str(x_rays, "file"),
        kind=name_kinds(frame["position"]),
        signals=pl.concat_list(pl.struct(path=pl.concat_str(records, "ecg"), kind=pl.lit("ecg"))),
        labs=pl.col("labs").list.eval(
            pl.struct(
                name=pl.element().struct.field("item"),
                value=pl.element().struct.field("value"),
                unit=pl.element().struct.field("unit"),
            )
        ),
        extra_hours_to_image=_write_hours(pl.col("image_hour")),
        extra_hours_to_ecg=_write_hours(pl.col("ecg_hour")),
    )
    frame = frame.with_columns(path=choose_paths(root, [frame["file"] + ".jpg", frame["file"] + ".dcm"]))
    if labels != "none":
        frame = join_labels(frame, root, labels, True, reading)
    return frame.with_columns(study="admission")


def _write_hours(hours: pl.Expr) -> pl.Expr:
    return hours.round(2).cast(pl.String)
