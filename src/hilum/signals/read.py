"""Any ECG file to one record."""

from __future__ import annotations

from pathlib import Path

from .csv_record import read_csv
from .dicom_waveform import read_dicom_waveform
from .npy_record import read_npy
from .record import EcgRecord, RecordSource
from .rejection import RejectedRecord
from .wfdb_record import find_header, read_wfdb


def read_record(source: RecordSource) -> EcgRecord:
    """Read one record of any supported kind: .npy and .csv by their names, WFDB by its header, DICOM by its content.

    Raises:
        RejectedRecord: no such file, of no such kind, damaged, or without what it must be given.
        UserError: a library is missing.
    """
    path = source.path
    if path.suffix.lower() in (".npy", ".csv"):
        _check_there(path)
        return read_npy(source) if path.suffix.lower() == ".npy" else read_csv(source)
    if source.rate is not None or source.leads is not None or source.row is not None:
        raise RejectedRecord(path.name, "rate, leads and row are for .npy and .csv files: leave them out.")
    if find_header(path) is not None or path.suffix == ".hea":
        return read_wfdb(path)
    _check_there(path)
    if _is_dicom(path):
        return read_dicom_waveform(path)
    raise RejectedRecord(
        path.name, "not an ECG that can be read: no WFDB header (.hea) beside it, no DICOM, no .npy, no .csv."
    )


def _check_there(path: Path) -> None:
    if not path.is_file():
        raise RejectedRecord(path.name, "the file does not exist.")


def _is_dicom(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"
