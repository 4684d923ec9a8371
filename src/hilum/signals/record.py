"""A record as its file has it, and its twelve leads by name."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float64

from .rejection import RejectedRecord

# The order of ECGFounder (P 1.3) and of every array after this module. MIMIC-IV-ECG has aVF before aVL.
LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")

Unit = Literal["mV", "uV", "V"]
UNITS: tuple[Unit, ...] = get_args(Unit)
_MILLIVOLTS = {"mv": 1.0, "uv": 1e-3, "v": 1e3, "nv": 1e-6}

_CANONICAL = {lead.upper(): lead for lead in LEADS}
# DI and D1 are usual where Romance languages are spoken, C1 where German is, MLI in Holter archives.
_SYNONYMS = {
    **{f"{prefix}{roman}": roman for prefix in ("D", "ML") for roman in ("I", "II", "III")},
    **{f"D{number}": roman for number, roman in enumerate(("I", "II", "III"), start=1)},
    **{f"C{number}": f"V{number}" for number in range(1, 7)},
}


@dataclass(frozen=True)
class RecordSource:
    """Where a record is, and what its file does not say itself."""

    path: Path
    """WFDB (any of its files, or the name they share), .npy, .csv, or a DICOM waveform."""
    rate: float | None = None
    """Samples a second; of .npy and .csv files only, which do not say."""
    leads: tuple[str, ...] | None = None
    """Names of the leads in the order of a .npy file."""
    unit: Unit = "mV"
    """Of .npy and .csv files."""
    row: int | None = None
    """Which record of a .npy file that holds several."""


@dataclass(frozen=True)
class EcgRecord:
    """Channels of one recording, named and ordered as in its file."""

    channels: tuple[str, ...]
    samples: Float64[np.ndarray, "channel time"]  # mV; NaN where nothing was recorded
    rate: float  # samples a second
    file: str  # bare name, for messages


def normalize_lead(name: str) -> str | None:
    """The standard name of a lead whatever its spelling ("AVR", "Lead aVR", "MDC_ECG_LEAD_AVR"); None for others.

    "-aVR" is not aVR: it is the same lead upside down.
    """
    plain = re.sub(r"\(.*?\)", "", name).strip().upper()
    plain = re.sub(r"^(MDC_ECG_LEAD|MDC_ECG_ELEC_POTL|LEAD|ECG|EKG)(?=[\s_:.-]|[IVDCAM])[\s_:.-]*", "", plain)
    plain = re.sub(r"^LEAD[\s_:.-]*", "", plain).rstrip(". ").replace(" ", "")
    return _CANONICAL.get(plain) or _SYNONYMS.get(plain)


def scale_to_millivolts(unit: str) -> float | None:
    """What a value in `unit` is multiplied by; None for what is no voltage."""
    return _MILLIVOLTS.get(unit.strip().lower().replace("µ", "u").replace("μ", "u"))


def take_leads(record: EcgRecord) -> Float64[np.ndarray, "12 time"]:
    """The twelve leads in the order of `LEADS`, found by their names; other channels are left out.

    Raises:
        RejectedRecord: a lead is missing, there twice, or without a single sample; or there is no rate.
    """
    if not (np.isfinite(record.rate) and record.rate > 0):
        raise RejectedRecord(record.file, f"its sampling rate is {record.rate}; expected samples a second. Give it.")
    names = [normalize_lead(channel) for channel in record.channels]
    twice = [lead for lead in LEADS if names.count(lead) > 1]
    if twice:
        of = ", ".join(repr(record.channels[i]) for i, name in enumerate(names) if name == twice[0])
        raise RejectedRecord(record.file, f"lead {twice[0]} is there twice ({of}). Keep one of the two.")
    missing = [lead for lead in LEADS if lead not in names]
    if missing:
        found = ", ".join(record.channels) or "none"
        raise RejectedRecord(
            record.file,
            f"no lead {', '.join(missing)} among its channels ({found}); expected {', '.join(LEADS)}. Rename the "
            "channels if they are these leads; others cannot be made up.",
        )
    leads = record.samples[[names.index(lead) for lead in LEADS]]
    empty = [lead for lead, values in zip(LEADS, leads, strict=True) if np.isnan(values).all()]
    if empty:
        raise RejectedRecord(record.file, f"lead {', '.join(empty)} has no sample at all. Record it anew.")
    return leads
