"""WFDB records, as PhysioNet publishes them: a header (.hea) and signal files, by the wfdb library."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np

from hilum.errors import UserError

from .record import EcgRecord, scale_to_millivolts
from .rejection import RejectedRecord, refuse_units, rejecting


def find_header(path: Path) -> Path | None:
    """The header of a record named by it, by one of its signal files, or by the name they share; None: no record."""
    by_name = path.with_name(path.name + ".hea")  # such names may have dots
    for header in (path.with_suffix(".hea") if path.suffix in (".hea", ".dat") else by_name, by_name):
        if header.is_file():
            return header
    return None


def read_wfdb(path: Path) -> EcgRecord:
    """The record of a header; segments are joined, samples marked as invalid are NaN.

    Raises:
        RejectedRecord: not a whole record, or a channel that is no voltage.
        UserError: the wfdb library is not installed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it uses what pandas is about to remove
            import wfdb  # an extra, and it brings pandas and aiohttp along
    except ImportError as error:
        raise UserError(f"{path}: WFDB records need the wfdb library: pip install 'hilum[signals]'.") from error
    header = find_header(path)
    if header is None:
        raise RejectedRecord(path.name, "there is no WFDB header (.hea) of that name. Copy it beside its signal files.")
    with rejecting(header, "damaged WFDB record: its header and signal files do not fit each other. Copy them again."):
        found = wfdb.rdrecord(str(header.with_suffix("")))
        channels, units, samples = tuple(found.sig_name), found.units, np.asarray(found.p_signal, np.float64).T
        rate = float(found.fs)
    scales = [scale_to_millivolts(unit) for unit in units]
    # Monitors record pressures and breathing beside the ECG: such channels are no leads.
    kept = [place for place, scale in enumerate(scales) if scale is not None]
    if not kept:
        refuse_units(header, units)
    values = np.array([scales[place] for place in kept], np.float64)[:, None] * samples[kept]
    return EcgRecord(tuple(channels[place] for place in kept), values, rate, header.name)
