"""Every kind of file gives the same record, or the reason why it cannot."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from ecg_files import MIMIC_ORDER, RATE, build_channel, build_group, make_leads, write_dicom_ecg, write_wfdb

from hilum.signals.read import read_record
from hilum.signals.record import LEADS, RecordSource, take_leads
from hilum.signals.rejection import RejectedRecord


def reject(path: Path, **how) -> str:
    with pytest.raises(RejectedRecord) as caught:
        read_record(RecordSource(path, **how))
    assert caught.value.file.startswith(path.name.split(".")[0])
    assert "SECRET" not in str(caught.value)
    assert str(path.parent) not in str(caught.value)
    return caught.value.reason


# --- WFDB


@pytest.mark.parametrize("named", ["a.hea", "a.dat", "a"])
def test_wfdb_by_any_of_its_names(tmp_path: Path, named: str):
    leads = make_leads()
    write_wfdb(tmp_path, "a", leads[[0, 1, 2, 3, 5, 4, *range(6, 12)]], MIMIC_ORDER)
    record = read_record(RecordSource(tmp_path / named))
    assert (record.channels, record.rate, record.file) == (MIMIC_ORDER, RATE, "a.hea")
    np.testing.assert_allclose(take_leads(record), leads, atol=0.5e-3)


def test_wfdb_in_microvolts_with_a_pressure_beside(tmp_path: Path):
    leads = make_leads(1.0)
    pressure = 80 + leads[:1]
    stored = np.vstack([1000 * leads, pressure])
    write_wfdb(tmp_path, "a", stored, (*LEADS, "ABP"), ["uV"] * 12 + ["mmHg"], gain=10.0)
    record = read_record(RecordSource(tmp_path / "a"))
    assert record.channels == LEADS
    np.testing.assert_allclose(record.samples, leads, atol=1e-4)
    write_wfdb(tmp_path, "units", leads, units=["NU"] * 12)
    assert "none of its 12 channels is a voltage (units: NU)" in reject(tmp_path / "units.hea")


def test_samples_that_wfdb_marks_as_invalid_are_missing(tmp_path: Path):
    leads = make_leads(1.0)
    leads[3, 10:20] = np.nan
    write_wfdb(tmp_path, "a", leads)
    found = read_record(RecordSource(tmp_path / "a")).samples
    np.testing.assert_array_equal(np.isnan(found), np.isnan(leads))


def test_wfdb_whose_signal_file_is_cut_off_or_gone(tmp_path: Path):
    write_wfdb(tmp_path, "a", make_leads(1.0))
    (tmp_path / "a.dat").write_bytes((tmp_path / "a.dat").read_bytes()[:1000])
    assert "damaged WFDB record" in reject(tmp_path / "a.hea")
    (tmp_path / "a.dat").unlink()
    assert "damaged WFDB record" in reject(tmp_path / "a.hea")
    (tmp_path / "b.hea").write_bytes(b"\0\1not a header")
    assert "damaged WFDB record" in reject(tmp_path / "b")
    assert "no WFDB header" in reject(tmp_path / "c.hea")


# --- arrays


@pytest.mark.parametrize("shape", [(12, 500), (500, 12)])
def test_npy_either_way_round(tmp_path: Path, shape: tuple[int, int]):
    leads = make_leads(1.0)
    np.save(tmp_path / "a.npy", leads.reshape(12, 500) if shape[0] == 12 else leads.T)
    record = read_record(RecordSource(tmp_path / "a.npy", rate=500.0, leads=LEADS))
    np.testing.assert_array_equal(record.samples, leads)


def test_a_stack_as_symile_has_it(tmp_path: Path):
    leads = np.stack([make_leads(1.0, seed=seed) for seed in range(3)])
    order = [0, 1, 2, 3, 5, 4, *range(6, 12)]
    np.save(tmp_path / "ecg_train.npy", leads[:, order].transpose(0, 2, 1)[:, None].astype(np.float32))
    for row in range(3):
        record = read_record(RecordSource(tmp_path / "ecg_train.npy", rate=500.0, leads=MIMIC_ORDER, row=row))
        assert record.file == f"ecg_train.npy row {row}"
        np.testing.assert_allclose(take_leads(record), leads[row], atol=1e-6)


def test_npy_units_and_integers(tmp_path: Path):
    leads = np.arange(12 * 100).reshape(12, 100)
    np.save(tmp_path / "a.npy", leads.astype(np.int16))
    record = read_record(RecordSource(tmp_path / "a.npy", rate=500.0, leads=LEADS, unit="uV"))
    np.testing.assert_allclose(record.samples, leads / 1000)


def test_npy_files_that_cannot_be_read(tmp_path: Path):
    path = tmp_path / "a.npy"
    assert "does not exist" in reject(path, rate=500.0, leads=LEADS)
    path.write_bytes(b"nothing of numpy")
    assert "not a whole .npy file" in reject(path, rate=500.0, leads=LEADS)
    np.save(path, np.array([{"an": "object"}]), allow_pickle=True)
    assert "not a whole .npy file" in reject(path, rate=500.0, leads=LEADS)
    np.save(path, np.array([["a"] * 12]))
    assert "not numbers" in reject(path, rate=500.0, leads=LEADS)
    np.save(path, np.zeros((12, 100)))
    assert "does not say its rate" in reject(path, leads=LEADS)
    assert "does not say its leads" in reject(path, rate=500.0)
    assert "row 2 was asked for" in reject(path, rate=500.0, leads=LEADS, row=2)
    np.save(path, np.zeros((12, 12)))
    assert "does not tell where its 12 leads are" in reject(path, rate=500.0, leads=LEADS)
    np.save(path, np.zeros((4, 1, 100, 12)))
    assert "holds 4 records, and row None" in reject(path, rate=500.0, leads=LEADS)
    assert "holds 4 records, and row 4" in reject(path, rate=500.0, leads=LEADS, row=4)


# --- CSV


def test_csv_columns_are_leads_in_any_order_with_gaps(tmp_path: Path):
    leads = make_leads(1.0)
    leads[2, 5], leads[2, 6] = np.nan, np.nan
    table = {"time": np.arange(500) / 500} | {name: leads[LEADS.index(name)] for name in reversed(LEADS)}
    pl.DataFrame(table).fill_nan(None).write_csv(tmp_path / "a.csv")
    record = read_record(RecordSource(tmp_path / "a.csv", rate=500.0))
    assert record.channels == tuple(reversed(LEADS))
    np.testing.assert_allclose(take_leads(record), leads)


def test_csv_files_that_cannot_be_read(tmp_path: Path):
    path = tmp_path / "a.csv"
    path.write_text("I,II\n1,2\n3,off\n")
    assert "does not say its rate" in reject(path)
    assert reject(path, rate=500.0).startswith("column II, line 3: expected a number")
    assert "leads and row are for .npy" in reject(path, rate=500.0, leads=LEADS)
    path.write_text("")
    assert "not a table" in reject(path, rate=500.0)
    path.write_text("I,i\n1,2\n")
    with pytest.raises(RejectedRecord, match="lead I is there twice"):
        take_leads(read_record(RecordSource(path, rate=500.0)))


# --- DICOM


def write_stored(
    path: Path, leads: np.ndarray, *, baseline: float = 0.0, correction: float = 1.0, **attributes
) -> Path:
    """Twelve leads at 2.5 uV a step; what is stored is what gives these leads by the standard's equation."""
    stored = np.round((1000 * leads - baseline) / (2.5 * correction)).astype(np.int16)
    channels = [build_channel(lead, baseline=baseline, correction=correction) for lead in LEADS]
    return write_dicom_ecg(path, [build_group(stored, channels, **attributes)])


@pytest.mark.parametrize(("baseline", "correction"), [(0.0, 1.0), (120.0, 1.0), (-40.0, 0.8)])
def test_dicom_calibration(tmp_path: Path, baseline: float, correction: float):
    leads = make_leads(1.0)
    record = read_record(RecordSource(write_stored(tmp_path / "a", leads, baseline=baseline, correction=correction)))
    assert (record.channels, record.rate) == (LEADS, RATE)
    np.testing.assert_allclose(record.samples, leads, atol=1.3e-3)


def test_dicom_calibration_by_hand(tmp_path: Path):
    """Stored 100 at 1.25 uV a step, correction 2, baseline 50 uV: 100 * 1.25 * 2 + 50 = 300 uV = 0.3 mV."""
    channels = [build_channel(lead, sensitivity=1.25, correction=2.0, baseline=50.0) for lead in LEADS]
    path = write_dicom_ecg(tmp_path / "a", [build_group(np.full((12, 10), 100), channels)])
    np.testing.assert_allclose(read_record(RecordSource(path)).samples, 0.3)


def test_dicom_padding_is_missing(tmp_path: Path):
    stored = np.zeros((12, 10), np.int16)
    stored[4, 3] = -32768
    group = build_group(stored, [build_channel(lead) for lead in LEADS])
    group.add_new("WaveformPaddingValue", "OW", np.array([-32768], "<i2").tobytes())
    found = read_record(RecordSource(write_dicom_ecg(tmp_path / "a", [group]))).samples
    assert np.argwhere(np.isnan(found)).tolist() == [[4, 3]]


def test_the_longest_original_group_is_taken(tmp_path: Path):
    channels = [build_channel(lead) for lead in LEADS]
    short, long = (build_group(np.full((12, num), num), channels) for num in (100, 300))
    derived = build_group(np.full((12, 900), 900), channels, WaveformOriginality="DERIVED")
    record = read_record(RecordSource(write_dicom_ecg(tmp_path / "a", [short, derived, long])))
    np.testing.assert_allclose(record.samples, np.full((12, 300), 300 * 2.5e-3))


def test_groups_recorded_together_are_one_record(tmp_path: Path):
    leads = make_leads(1.0)
    stored = np.round(1000 * leads / 2.5).astype(np.int16)
    limb = build_group(stored[:6], [build_channel(lead) for lead in LEADS[:6]])
    chest = build_group(stored[6:], [build_channel(lead) for lead in LEADS[6:]])
    record = read_record(RecordSource(write_dicom_ecg(tmp_path / "a", [limb, chest])))
    np.testing.assert_allclose(take_leads(record), leads, atol=1.3e-3)
    chest.MultiplexGroupTimeOffset = 2500
    assert "groups of different times" in reject(write_dicom_ecg(tmp_path / "b", [limb, chest]))


def test_dicom_names_are_meanings_or_codes_and_must_agree(tmp_path: Path):
    stored = np.arange(12, dtype=np.int16)[:, None] * np.ones((1, 10), np.int16)

    def write(name: str, first: dict) -> Path:
        channels = [build_channel("I", **first), *(build_channel(lead) for lead in LEADS[1:])]
        return write_dicom_ecg(tmp_path / name, [build_group(stored, channels)])

    assert read_record(RecordSource(write("a", {"meaning": "Ableitung 1"}))).channels == LEADS
    assert read_record(RecordSource(write("b", {"code": "5.6.3-9-1", "meaning": ""}))).channels == LEADS
    assert read_record(RecordSource(write("c", {"code": "own"}))).channels == LEADS
    assert "coded as lead I and called V1" in reject(write("d", {"meaning": "Lead V1"}))


def test_dicom_without_what_is_needed(tmp_path: Path):
    channels = [build_channel(lead, unit="mm[Hg]") for lead in LEADS]
    path = write_dicom_ecg(tmp_path / "pressures", [build_group(np.zeros((12, 10)), channels)])
    assert "none of its 12 channels is a voltage (units: mm[Hg])" in reject(path)
    for channel in channels:
        del channel.ChannelSensitivityUnitsSequence
    path = write_dicom_ecg(tmp_path / "bare", [build_group(np.zeros((12, 10)), channels)])
    assert "none of its 12 channels is a voltage (units: none)" in reject(path)
    path = write_dicom_ecg(tmp_path / "none", [])
    assert "holds no waveform (modality ECG)" in reject(path)
    whole = write_stored(tmp_path / "whole", make_leads(1.0)).read_bytes()
    (tmp_path / "cut").write_bytes(whole[: len(whole) // 2])
    assert "damaged" in reject(tmp_path / "cut")


def test_a_dicom_rate_of_zero_is_said_and_another_group_goes_first(tmp_path: Path):
    """It divided by the rate to find the longest group, and ended the run over all other records."""
    channels = [build_channel(lead) for lead in LEADS]
    stopped, whole = (build_group(np.ones((12, num), "<i2"), channels, rate=rate) for num, rate in ((20, 0), (10, 500)))
    path = write_dicom_ecg(tmp_path / "stopped", [stopped])
    with pytest.raises(RejectedRecord, match=r"sampling rate is 0\.0"):
        take_leads(read_record(RecordSource(path)))
    both = read_record(RecordSource(write_dicom_ecg(tmp_path / "both", [stopped, whole])))
    assert (both.rate, both.samples.shape) == (500.0, (12, 10))


# --- anything


def test_what_is_no_ecg(tmp_path: Path):
    (tmp_path / "a.txt").write_text("hello")
    assert "not an ECG that can be read" in reject(tmp_path / "a.txt")
    assert "does not exist" in reject(tmp_path / "b.dcm")
    write_wfdb(tmp_path, "c", make_leads(1.0))
    assert "are for .npy and .csv" in reject(tmp_path / "c.hea", rate=500.0)


@pytest.mark.needs_real_data
def test_a_real_dicom_ecg(real_data: Path):
    """Ten seconds at 1,000 Hz and an averaged beat, by Mortara, its leads coded as in SCP-ECG."""
    record = read_record(RecordSource(real_data / "dicom" / "ecg12_waveform.dcm"))
    assert (record.rate, record.samples.shape) == (1000.0, (12, 10000))
    leads = dict(zip(LEADS, take_leads(record), strict=True))
    np.testing.assert_allclose(leads["III"], leads["II"] - leads["I"], atol=2e-3)  # Einthoven
    np.testing.assert_allclose(leads["aVF"], (leads["II"] + leads["III"]) / 2, atol=2e-3)  # Goldberger
    assert "holds no waveform (modality CR)" in reject(real_data / "dicom" / "RG1_J2KI.dcm")


@pytest.mark.needs_real_data
def test_real_wfdb_records(real_data: Path):
    rows = pl.read_csv(real_data / "ptbxl" / "manifest.csv", infer_schema=False).filter(pl.col("path_hr") != "")
    for row in rows.head(5).iter_rows(named=True):
        low, high = (read_record(RecordSource(real_data / "ptbxl" / row[name])) for name in ("path", "path_hr"))
        assert (low.rate, high.rate) == (100.0, 500.0)
        for record in (low, high):
            leads = dict(zip(LEADS, take_leads(record), strict=True))
            np.testing.assert_allclose(leads["III"], leads["II"] - leads["I"], atol=3e-3)
