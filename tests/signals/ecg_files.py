"""ECGs that nobody recorded, and files of every kind that hold them."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, TwelveLeadECGWaveformStorage, generate_uid

from hilum.signals.record import LEADS, EcgRecord

RATE = 500.0
MIMIC_ORDER = ("I", "II", "III", "aVR", "aVF", "aVL", "V1", "V2", "V3", "V4", "V5", "V6")
_CODES = dict(zip(LEADS, (1, 2, 61, 62, 63, 64, 3, 4, 5, 6, 7, 8), strict=True))


def make_leads(seconds: float = 10.0, rate: float = RATE, seed: int = 0) -> np.ndarray:
    """Twelve leads in mV, (12, time): beats of a P wave, a QRS complex and a T wave, other in every lead."""
    generator = np.random.default_rng(seed)
    time = np.arange(round(seconds * rate)) / rate
    since = (time - 0.3) % 0.85  # 71 beats a minute
    waves = [
        ((since - at) / width, height) for at, width, height in ((0.1, 0.03, 0.1), (0.25, 0.01, 1.0), (0.5, 0.05, 0.3))
    ]
    shapes = np.stack([height * np.exp(-(place**2) / 2) for place, height in waves])
    return generator.uniform(-1, 1, (12, 3)) @ shapes + 0.01 * generator.standard_normal((12, len(time)))


def make_record(leads: np.ndarray, names: tuple[str, ...] = LEADS, rate: float = RATE) -> EcgRecord:
    return EcgRecord(names, leads.astype(np.float64), rate, "made.ecg")


def write_wfdb(
    folder: Path, name: str, leads: np.ndarray, names=LEADS, units: Sequence[str] = ("mV",) * 12, gain: float = 1000.0
) -> Path:
    """A record of 16-bit samples, `gain` of which are one unit."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # wfdb uses what pandas is about to remove, and warnings are errors here
        import wfdb

        wfdb.wrsamp(
            name, fs=RATE, units=list(units), sig_name=list(names), p_signal=leads.T, fmt=["16"] * len(names),
            adc_gain=[gain] * len(names), baseline=[0] * len(names), write_dir=str(folder),
        )  # fmt: skip
    return folder / f"{name}.hea"


def build_channel(lead: str, *, sensitivity=2.5, correction=1.0, baseline=0.0, unit="uV", **changes) -> Dataset:
    """The definition of a DICOM channel; `code` and `meaning` of its source can be other than the lead's."""
    source = Dataset()
    source.CodeValue = changes.get("code", f"2:{_CODES[lead]}")
    source.CodingSchemeDesignator, source.CodeMeaning = "MDC", changes.get("meaning", f"Lead {lead}")
    channel = Dataset()
    channel.ChannelSourceSequence = [source]
    channel.ChannelSensitivity, channel.ChannelBaseline = sensitivity, baseline
    channel.ChannelSensitivityCorrectionFactor = correction
    units = Dataset()
    units.CodeValue, units.CodingSchemeDesignator, units.CodeMeaning = unit, "UCUM", unit
    channel.ChannelSensitivityUnitsSequence = [units]
    return channel


def build_group(stored: np.ndarray, channels: list[Dataset], rate: float = RATE, **attributes) -> Dataset:
    """A multiplex group of 16-bit samples (channel, time)."""
    group = Dataset()
    group.WaveformOriginality, group.MultiplexGroupTimeOffset = "ORIGINAL", 0
    group.NumberOfWaveformChannels, group.NumberOfWaveformSamples = stored.shape
    group.SamplingFrequency = rate
    group.ChannelDefinitionSequence = channels
    group.WaveformBitsAllocated, group.WaveformSampleInterpretation = 16, "SS"
    group.add_new("WaveformData", "OW", np.ascontiguousarray(stored.T, dtype="<i2").tobytes())
    for keyword, value in attributes.items():
        setattr(group, keyword, value)
    return group


def write_dicom_ecg(path: Path, groups: list[Dataset]) -> Path:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = TwelveLeadECGWaveformStorage
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[path.name])
    dataset = FileDataset(path, {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID, dataset.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    dataset.Modality, dataset.PatientName, dataset.PatientID = "ECG", "SECRET^NAME", "ID-7"
    dataset.WaveformSequence = groups
    dataset.save_as(path)
    return path
