"""ECG records on disk: WFDB, the format of PhysioNet's archives, written without its library.

A record is a text header (`.hea`) and a file of little-endian 16-bit samples, one of each lead in turn (`.dat`, format
16). Every reader of public ECG archives opens it, the header is readable by eye, and writing it takes the few lines
below. Limb leads I and II are rounded to even steps, so that what follows from them (III, aVR, aVL, aVF) is whole and
the laws between leads hold exactly in the file, too.

Two hospitals write the leads in the usual order, one puts aVF before aVL, as the recorders of MIMIC-IV-ECG do: a reader
goes by the names in the header.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int16

from hilum.phantom.physiology.ecg import LEAD_NAMES, Leads
from hilum.phantom.physiology.heart import RATE_HZ


@dataclass(frozen=True)
class Recorder:
    """A hospital's machine: its steps per millivolt and the order of its leads."""

    steps_per_mv: int
    order: tuple[str, ...] = LEAD_NAMES


RECORDERS = {
    "northfield": Recorder(1000),
    "harbour": Recorder(1000),
    "stanne": Recorder(200, ("I", "II", "III", "aVR", "aVF", "aVL", *LEAD_NAMES[6:])),
}
_LIMIT = 2**14 - 2  # steps of I and II at most, so that none of the others leaves 16 bits


def quantise(leads: Leads, steps_per_mv: int) -> Int16[np.ndarray, "12 sample"]:
    """Leads (in the order of LEAD_NAMES) in whole steps that obey Einthoven's and Goldberger's laws exactly."""
    steps = np.clip(np.rint(leads * steps_per_mv), -2 * _LIMIT, 2 * _LIMIT)
    first, second = np.clip(2 * np.rint(leads[:2] * (steps_per_mv / 2)), -_LIMIT, _LIMIT)
    steps[:6] = first, second, second - first, -(first + second) / 2, first - second / 2, second - first / 2
    return steps.astype(np.int16)


def encode_record(name: str, leads: Leads, recorder: Recorder) -> tuple[str, bytes]:
    """Header and samples of one record; `name` is that of its two files without suffix."""
    steps = quantise(leads, recorder.steps_per_mv)[[LEAD_NAMES.index(lead) for lead in recorder.order]]
    lines = [f"{name} {len(steps)} {RATE_HZ} {steps.shape[1]}"]
    for lead, row in zip(recorder.order, steps, strict=True):
        checksum = int(row.sum(dtype=np.int64)) % 65536
        lines.append(f"{name}.dat 16 {recorder.steps_per_mv}(0)/mV 16 0 {row[0]} {checksum} 0 {lead}")
    return "\n".join(lines) + "\n", np.ascontiguousarray(steps.T).astype("<i2").tobytes()
