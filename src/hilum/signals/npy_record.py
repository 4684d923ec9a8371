"""Arrays of numpy: one record, or a stack of records as Symile-MIMIC has them (P 4.1)."""

from __future__ import annotations

import numpy as np

from .record import EcgRecord, RecordSource, scale_to_millivolts
from .rejection import RejectedRecord, rejecting


def read_npy(source: RecordSource) -> EcgRecord:
    """One record of a .npy file: (lead, time) or (time, lead); (record, ...) or (record, 1, ...) with `source.row`.

    The file is mapped, so that a record of a stack costs what it holds.

    Raises:
        RejectedRecord: not numbers, without rate or leads, or of a shape that does not go with the leads.
    """
    path, name = source.path, source.path.name
    if source.rate is None or source.leads is None:
        lacking = "rate" if source.rate is None else "leads"
        raise RejectedRecord(
            name, f"a .npy file does not say its {lacking}. Give the sampling rate and the order of its leads."
        )
    with rejecting(path, "not a whole .npy file of numbers. Copy it again."):
        stored = np.load(path, mmap_mode="r", allow_pickle=False)
    if not np.issubdtype(stored.dtype, np.number) or np.iscomplexobj(stored):
        raise RejectedRecord(name, f"it holds {stored.dtype} and not numbers.")
    if stored.ndim in (3, 4):
        if source.row is None or not 0 <= source.row < len(stored):
            raise RejectedRecord(name, f"it holds {len(stored)} records, and row {source.row} was asked for.")
        stored = stored[source.row]
        stored = stored[0] if stored.ndim == 3 and len(stored) == 1 else stored
    elif source.row is not None:
        raise RejectedRecord(name, f"row {source.row} was asked for, but it holds one record of shape {stored.shape}.")
    num = len(source.leads)
    if stored.ndim != 2 or (stored.shape[0] == num) == (stored.shape[1] == num):
        raise RejectedRecord(name, f"a record has shape {stored.shape}, which does not tell where its {num} leads are.")
    samples = np.array(stored if stored.shape[0] == num else stored.T, np.float64)
    scale = scale_to_millivolts(source.unit)
    assert scale is not None, f"{source.unit} is none of the units"
    label = name if source.row is None else f"{name} row {source.row}"
    return EcgRecord(source.leads, samples * scale, source.rate, label)
