"""The ECGs that a user's table names: a column of paths, of any files that `signals/read.py` reads."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from hilum.errors import UserError
from hilum.imaging.array_row import is_there, split_row
from hilum.signals.wfdb_record import find_header
from hilum.sources.signal_files import EcgFiles
from hilum.study import ECG_LEADS, ECG_RATE, ECG_UNIT

_SILENT = (".npy", ".csv")  # suffixes of files that do not say their rate


def add_ecgs(
    images: pl.DataFrame, paths: pl.DataFrame, root: Path, files: EcgFiles, notes: list[str]
) -> tuple[pl.DataFrame, list[tuple[str, str]]]:
    """The images with their studies' `signals`, and (path, reason) of ECGs that are not there.

    Args:
        images: one row an image, with dataset, study and row.
        paths: row of the table, and its ecg, null where it has none.

    Raises:
        UserError: a file does not say its rate or leads and nobody does; or somebody says them of no file.
    """
    listed = images.select("dataset", "study", "row").unique(maintain_order=True).join(paths, on="row")
    listed = listed.drop_nulls("ecg").unique(["dataset", "study", "ecg"], maintain_order=True)
    _check_files(listed["ecg"].to_list(), files)
    found = {path: is_there(root / path) or find_header(root / path) is not None for path in listed["ecg"].unique()}
    missing = sorted(path for path, there in found.items() if not there)
    known = listed.filter(~pl.col("ecg").is_in(missing))
    signals = known.group_by("dataset", "study").agg(signals=pl.struct(path="ecg", kind=pl.lit("ecg")))
    images = images.join(signals, on=["dataset", "study"], how="left", maintain_order="left")
    if files != EcgFiles():
        said = {ECG_RATE: None if files.rate is None else f"{files.rate:g}", ECG_LEADS: files.leads}
        said[ECG_UNIT] = None if files.unit == "mV" else files.unit
        has = pl.col("signals").is_not_null()
        images = images.with_columns(
            pl.when(has).then(pl.lit(value)).alias(name) for name, value in said.items() if value is not None
        )
    notes.append(f"{len(signals):,} of {images.n_unique(['dataset', 'study']):,} studies have an ECG.")
    return images.with_columns(pl.col("signals").fill_null([])), [
        (path, "the ECG does not exist; its study stays, without it") for path in missing
    ]


def _check_files(paths: list[str], files: EcgFiles) -> None:
    suffixes = {path: split_row(path)[0].suffix.lower() for path in paths}
    silent = [path for path, suffix in suffixes.items() if suffix in _SILENT]
    arrays = [path for path in silent if suffixes[path] == ".npy"]
    if silent and files.rate is None:
        raise UserError(
            f"{silent[0]}: a {suffixes[silent[0]]} file does not say its sampling rate ({len(silent):,} such ECGs): "
            "give --ecg.rate, in samples a second."
        )
    if arrays and files.leads is None:
        raise UserError(
            f"{arrays[0]}: a .npy file does not name its leads ({len(arrays):,} such ECGs): give them in order, such "
            "as --ecg.leads 'I II III aVR aVL aVF V1 V2 V3 V4 V5 V6'."
        )
    if not silent and files != EcgFiles():
        raise UserError("--ecg.rate, --ecg.leads and --ecg.unit have no effect: no ECG is a .npy or .csv file.")
    if not arrays and files.leads is not None:
        raise UserError("--ecg.leads has no effect: no ECG is a .npy file, and .csv files name their leads.")
