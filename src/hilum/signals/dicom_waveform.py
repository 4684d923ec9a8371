"""DICOM waveforms (PS3.3 C.10.9): channels with their names, units and calibration, in one or several groups."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import numpy as np
from jaxtyping import Float64
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.waveforms import multiplex_array

from .record import LEADS, EcgRecord, normalize_lead, scale_to_millivolts
from .rejection import RejectedRecord, refuse_units, rejecting

# pydicom's complaints quote header values, names among them.
logging.getLogger("pydicom").setLevel(logging.CRITICAL)

# Codes of leads end in the same number in SCP-ECG ("5.6.3-9-61") and in MDC ("2:61") (PS3.16 CID 3001).
_CODED = {**dict(enumerate(("I", "II", *LEADS[6:]), start=1)), **dict(enumerate(LEADS[2:6], start=61))}


def read_dicom_waveform(path: Path) -> EcgRecord:
    """The ECG of a DICOM file: the longest original group with twelve leads, or groups recorded together.

    Averaged beats and other derived groups are left out, unless there is nothing else.

    Raises:
        RejectedRecord: damaged, without a waveform, or its leads were recorded one after the other.
    """
    with rejecting(path, "damaged or cut-off DICOM file. Copy it again."):
        dataset = dcmread(path)
        groups = list(dataset.get("WaveformSequence", []))
    if not groups:
        raise RejectedRecord(path.name, f"it holds no waveform (modality {dataset.get('Modality') or 'not given'}).")
    records = [_read_group(path, dataset, place) for place in range(len(groups))]
    if not any(record.channels for record in records):
        refuse_units(path, [_read_unit(channel) for group in groups for channel in group.ChannelDefinitionSequence])
    original = [place for place, group in enumerate(groups) if group.get("WaveformOriginality") != "DERIVED"]
    places = original or list(range(len(groups)))
    complete = [place for place in places if _has_all(records[place])]
    if complete:
        return records[max(complete, key=lambda place: _measure_seconds(records[place]))]
    return _join(path, groups, records, places)


def _measure_seconds(record: EcgRecord) -> float:
    """0 without a rate, so that a group that has one is taken first."""
    return record.samples.shape[1] / record.rate if record.rate > 0 else 0.0


def _has_all(record: EcgRecord) -> bool:
    return set(LEADS) <= {normalize_lead(channel) for channel in record.channels}


def _join(path: Path, groups: list[Dataset], records: list[EcgRecord], places: list[int]) -> EcgRecord:
    """One record of groups that were recorded at once; the only one, complete or not, as it is."""
    first = records[places[0]]
    for place in places[1:]:
        same = (records[place].rate, records[place].samples.shape[1]) == (first.rate, first.samples.shape[1])
        start = float(groups[place].get("MultiplexGroupTimeOffset") or 0)
        if not same or start != float(groups[places[0]].get("MultiplexGroupTimeOffset") or 0):
            raise RejectedRecord(
                path.name,
                "its leads are in groups of different times or rates; expected twelve leads recorded together. "
                "Export the recording as a 12-lead ECG.",
            )
    channels = tuple(channel for place in places for channel in records[place].channels)
    return EcgRecord(channels, np.concatenate([records[place].samples for place in places]), first.rate, path.name)


def _read_group(path: Path, dataset: Dataset, place: int) -> EcgRecord:
    """Channels of one multiplex group that are voltages, in mV."""
    group = dataset.WaveformSequence[place]
    with rejecting(path, "damaged DICOM waveform: its samples do not fit its header. Copy it again."):
        raw = multiplex_array(dataset, place, as_raw=True).T
        rate = float(group.SamplingFrequency)
        padding = _read_padding(group, raw.dtype)
        names, rows = [], []
        for values, channel in zip(raw, group.ChannelDefinitionSequence, strict=True):
            scaled = _calibrate(channel, values, padding)
            if scaled is not None:
                names.append(_name_channel(path, channel))
                rows.append(scaled)
        samples = np.stack(rows) if rows else np.zeros((0, raw.shape[1]))
    return EcgRecord(tuple(names), samples, rate, path.name)


def _read_padding(group: Dataset, dtype: np.dtype) -> np.generic | None:
    """The stored value that means "nothing was recorded"."""
    value = group.get("WaveformPaddingValue")
    if value in (None, b""):
        return None
    return np.frombuffer(value, dtype)[0] if isinstance(value, bytes) else dtype.type(value)


def _calibrate(channel: Dataset, raw: np.ndarray, padding: np.generic | None) -> Float64[np.ndarray, " time"] | None:
    """Stored values in mV: value x sensitivity x correction + baseline (PS3.3 C.10.9.1.4); None for no voltage."""
    scale = scale_to_millivolts(_read_unit(channel))
    if scale is None or channel.get("ChannelSensitivity") is None:
        return None
    sensitivity = float(channel.ChannelSensitivity) * float(channel.get("ChannelSensitivityCorrectionFactor") or 1)
    values = raw.astype(np.float64) * sensitivity + float(channel.get("ChannelBaseline") or 0)
    if padding is not None:
        values[raw == padding] = np.nan
    return values * scale


def _read_unit(channel: Dataset) -> str:
    units = channel.get("ChannelSensitivityUnitsSequence")
    return str(units[0].get("CodeValue", "")) if units else ""


def _name_channel(path: Path, channel: Dataset) -> str:
    """What the channel's source is called, or coded as, or what is on its label."""
    sources = channel.get("ChannelSourceSequence")
    meaning, code = (str(sources[0].get(key, "")) for key in ("CodeMeaning", "CodeValue")) if sources else ("", "")
    number = re.search(r"(?:^2:|5\.6\.3-9-)(\d+)$", code)
    coded = _CODED.get(int(number[1])) if number else None
    said = normalize_lead(meaning)
    if coded and said and coded != said:
        raise RejectedRecord(path.name, f"a channel is coded as lead {coded} and called {said}: which of them is it?")
    return said or coded or str(channel.get("ChannelLabel") or meaning or code)
