"""ECGFounder's preprocessing, piece by piece against scipy's plain functions, and as a whole (P 1.3, P 12 item 10)."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from ecg_files import MIMIC_ORDER, make_leads, make_record, write_wfdb
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import butter, filtfilt, freqz, iirnotch, medfilt, resample_poly

from hilum.model.net1d import Net1D
from hilum.signals.prepare import prepare_record, prepare_records
from hilum.signals.preprocessing import (
    clean,
    fill_missing,
    pass_band,
    remove_mains,
    standardize,
    subtract_baseline,
)
from hilum.signals.read import read_record
from hilum.signals.record import LEADS, RecordSource, normalize_lead
from hilum.signals.rejection import RejectedRecord
from hilum.signals.resampling import count_resampled, pad_end, resample, resample_centre


def wave(hertz: float, rate: float = 500.0, seconds: float = 10.0) -> np.ndarray:
    return np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)


def test_z_score_by_hand():
    found = standardize(np.array([[0.0, 2.0], [4.0, 6.0]]))
    np.testing.assert_allclose(found, np.array([[-3, -1], [1, 3]]) / np.sqrt(5), atol=1e-7)


def test_missing_samples_are_zero():
    np.testing.assert_array_equal(fill_missing(np.array([[np.nan, 2.0]])), [[0.0, 2.0]])


def test_filters_are_the_published_ones():
    """One lead at a time, by the functions and the direct form that ECGFounder's description names."""
    leads = make_leads() + 0.1 * wave(50.0)
    hum = np.stack([filtfilt(*iirnotch(50.0, 30.0, fs=500), lead) for lead in leads])
    np.testing.assert_allclose(remove_mains(leads), hum, atol=1e-12)
    numerator, denominator = butter(4, (0.67, 40.0), "bandpass", fs=500)
    band = np.stack([filtfilt(numerator, denominator, lead) for lead in hum])
    np.testing.assert_allclose(pass_band(hum), band, atol=2e-5)  # what the direct form costs in rounding
    baseline = np.stack([medfilt(lead, 201) for lead in band])
    np.testing.assert_allclose(subtract_baseline(band), band - baseline, atol=1e-12)
    np.testing.assert_allclose(clean(leads), band - baseline, atol=5e-5)


def test_the_running_median_by_a_slow_loop():
    lead = make_leads(1.0)[:1]
    padded = np.pad(lead[0], 100)
    slow = lead[0] - np.array([np.sort(padded[place : place + 201])[100] for place in range(lead.shape[1])])
    np.testing.assert_allclose(subtract_baseline(lead)[0], slow, atol=1e-12)


def test_zero_phase_response():
    """Forwards and backwards, a filter acts by its squared gain and moves nothing."""
    middle = slice(2000, 3000)
    numerator, denominator = butter(4, (0.67, 40.0), "bandpass", fs=500)
    for hertz in (5.0, 10.0, 40.0, 60.0):
        gain = np.abs(freqz(numerator, denominator, [hertz], fs=500)[1][0]) ** 2
        np.testing.assert_allclose(pass_band(wave(hertz)[None])[0, middle], gain * wave(hertz)[middle], atol=2e-3)
    assert np.abs(remove_mains(wave(50.0)[None])[0, middle]).max() < 1e-3
    np.testing.assert_allclose(remove_mains(wave(10.0)[None])[0, middle], wave(10.0)[middle], atol=1e-3)


def test_the_array_has_mean_0_and_deviation_1():
    found = prepare_record(make_record(make_leads())).values.astype(np.float64)
    assert found.shape == (12, 5000)
    assert abs(found.mean()) < 1e-6
    assert abs(found.std() - 1) < 1e-5
    assert np.ptp(found.std(axis=1)) > 0.1  # of the array, not of each lead


@settings(max_examples=15, deadline=None)
@given(offset=st.floats(-5, 5), scale=st.floats(1e-2, 1e3))
def test_offset_and_scale_of_the_recording_change_nothing(offset: float, scale: float):
    leads = make_leads()
    plain = prepare_record(make_record(leads)).values
    np.testing.assert_allclose(prepare_record(make_record(scale * (leads + offset))).values, plain, atol=2e-4)


def test_a_lead_upside_down_or_of_another_scale_does_change_something():
    leads = make_leads()
    plain = prepare_record(make_record(leads)).values
    np.testing.assert_allclose(prepare_record(make_record(-leads)).values, -plain, atol=1e-5)
    other = leads * np.array([2.0] + [1.0] * 11)[:, None]
    assert np.abs(prepare_record(make_record(other)).values - plain).max() > 0.1


def test_swapped_leads_are_put_right_by_their_names():
    leads = make_leads()
    order = [LEADS.index(lead) for lead in MIMIC_ORDER]
    swapped = prepare_record(make_record(leads[order], MIMIC_ORDER)).values
    np.testing.assert_array_equal(swapped, prepare_record(make_record(leads)).values)


# --- rate and length


@pytest.mark.parametrize("rate", [100.0, 250.0, 257.0, 360.0, 1000.0])
def test_another_rate_gives_the_same_signal(rate: float):
    found = resample(wave(7.0, rate)[None] + 3.0, rate, 500.0)[0]
    assert len(found) == 5000
    np.testing.assert_allclose(found[200:-200], wave(7.0)[200:-200] + 3.0, atol=5e-3)
    np.testing.assert_allclose(resample(np.full((1, round(rate)), 2.5), rate, 500.0), 2.5, atol=1e-9)  # no edges


def test_the_middle_of_a_longer_record():
    np.testing.assert_array_equal(resample_centre(np.arange(7.0)[None], 500.0, 500.0, 3), [[2, 3, 4]])
    np.testing.assert_array_equal(resample_centre(np.arange(2.0)[None], 500.0, 500.0, 3), [[0, 1]])
    long = make_leads(30.0)
    found = prepare_record(make_record(long))
    assert found.notes == ("the middle 10 s of 30.0 s",)
    np.testing.assert_allclose(found.values, prepare_record(make_record(long[:, 5000:10000])).values, atol=1e-6)


@pytest.mark.parametrize("rate", [100.0, 128.0, 257.0, 499.9, 512.0, 1000.0, 8000.0])
@pytest.mark.parametrize("seconds", [4.0, 10.001, 10.05, 11.0, 37.7])
def test_the_middle_is_that_of_the_whole_record_resampled(rate: float, seconds: float):
    """Against scipy's filter over everything, also where the middle nearly reaches the ends; a drift, so that they
    would show."""
    whole = np.random.default_rng(0).normal(size=(2, round(seconds * rate)))
    whole += np.linspace(5, 40, whole.shape[1])
    ratio, mean = Fraction(500 / rate).limit_denominator(1000), whole.mean(axis=1, keepdims=True)
    expected = mean + resample_poly(whole - mean, ratio.numerator, ratio.denominator, axis=1, padtype="line")
    assert expected.shape[1] == count_resampled(whole.shape[1], rate, 500.0)
    start = max(0, (expected.shape[1] - 5000) // 2)
    found = resample_centre(whole, rate, 500.0, 5000)
    np.testing.assert_allclose(found, expected[:, start : start + 5000], rtol=0, atol=1e-11)
    np.testing.assert_allclose(resample(whole, rate, 500.0), expected, rtol=0, atol=1e-11)


def test_zeros_after_a_shorter_record():
    np.testing.assert_array_equal(pad_end(np.array([[1.0, 2.0]]), 4), [[1, 2, 0, 0]])
    short = make_leads(6.0)
    found = prepare_record(make_record(short))
    assert found.notes == ("4.0 s of zeros at its end",)
    np.testing.assert_allclose(found.values, standardize(pad_end(clean(short), 5000)), atol=1e-6)
    assert np.ptp(found.values[:, 3000:]) == 0


def test_what_was_done_is_said():
    leads = make_leads(10.0, 250.0)
    leads[1, :25], leads[4] = np.nan, 0.3
    notes = prepare_record(make_record(leads, rate=250.0)).notes
    assert notes == ("1.0% of lead II missing, taken as 0", "flat: aVL", "resampled from 250 to 500 Hz")


def test_records_that_cannot_be_used():
    def reject(leads: np.ndarray, rate: float = 500.0) -> str:
        with pytest.raises(RejectedRecord) as caught:
            prepare_record(make_record(leads, rate=rate))
        return caught.value.reason

    assert reject(make_leads(4.9)).startswith("it lasts 4.9 s (2,450 samples)")
    assert "flat lines" in reject(np.full((12, 5000), 0.2))
    leads = make_leads()
    leads[3, 7] = np.inf
    assert "infinite" in reject(leads)


@pytest.mark.parametrize("rate", [1e-9, 0.001, 1.0, 79.0])
def test_a_rate_that_cannot_hold_the_band_is_refused_and_not_resampled(rate: float):
    """Such a rate is a wrong one; resampled it would ask for terabytes, and end the run over all other records."""
    with pytest.raises(RejectedRecord, match=r"sampling rate is .* Hz; expected 80 at least"):
        prepare_record(make_record(make_leads(), rate=rate))


def test_a_lead_of_less_than_a_beat_is_refused():
    leads = make_leads()
    leads[4, 499:] = np.nan
    with pytest.raises(RejectedRecord, match=r"of lead aVL there is less than 1 s"):
        prepare_record(make_record(leads))
    leads = make_leads()
    leads[4, 500:] = np.nan
    assert prepare_record(make_record(leads)).notes == ("90.0% of lead aVL missing, taken as 0",)


def test_a_lead_of_a_longer_record_must_be_in_the_part_that_is_read():
    leads = make_leads(30.0)
    leads[4, 5400:] = np.nan  # of the middle ten seconds, which begin at 5000
    with pytest.raises(RejectedRecord, match=r"of lead aVL there is less than 1 s in the middle 10 s, which are read"):
        prepare_record(make_record(leads))
    leads = make_leads(30.0)
    leads[4, :4000], leads[5, 5000:10000] = np.nan, 0.3
    assert prepare_record(make_record(leads)).notes == ("flat: aVF", "the middle 10 s of 30.0 s")


@pytest.mark.parametrize("scale", [1e-12, 1e200])
def test_what_no_body_can_have_made_is_no_signal(scale: float):
    """Beside the z-score's epsilon the former would be zeros, and the latter, which overflows, as well."""
    with pytest.raises(RejectedRecord, match=r"millivolts.*Correct its unit"):
        prepare_record(make_record(make_leads() * scale))


def test_processes_give_what_one_gives_in_order(tmp_path: Path):
    for place in range(5):
        write_wfdb(tmp_path, f"r{place}", make_leads(seed=place))
    write_wfdb(tmp_path, "short", make_leads(1.0))
    names = ["r0", "r1", "short", "r2", "missing", "r3", "r4"]
    sources = [RecordSource(tmp_path / name) for name in names]
    alone, pooled = list(prepare_records(sources)), list(prepare_records(sources, 2))
    for name, one, other in zip(names, alone, pooled, strict=True):
        if isinstance(one, RejectedRecord):
            assert isinstance(other, RejectedRecord)
            assert (one.file, one.reason) == (other.file, other.reason)
            assert name in ("short", "missing")
        else:
            assert not isinstance(other, RejectedRecord)
            np.testing.assert_array_equal(one.values, other.values)


# --- real records


@pytest.mark.needs_real_data
def test_real_records_at_500_hz_and_their_copies_at_100_hz(real_data: Path):
    rows = pl.read_csv(real_data / "ptbxl" / "manifest.csv", infer_schema=False).filter(pl.col("path_hr") != "")
    assert len(rows) == 100
    for row in rows.head(10).iter_rows(named=True):
        high = prepare_record(read_record(RecordSource(real_data / "ptbxl" / row["path_hr"])))
        low = prepare_record(read_record(RecordSource(real_data / "ptbxl" / row["path"])))
        assert high.notes == ()
        assert low.notes == ("resampled from 100 to 500 Hz",)
        assert abs(high.values.mean()) < 1e-5
        assert abs(high.values.std() - 1) < 1e-4
        assert np.corrcoef(high.values.ravel(), low.values.ravel())[0, 1] > 0.97


@pytest.mark.needs_real_data
def test_a_real_record_keeps_what_p_12_10_asks_and_goes_through_the_teachers_network(real_data: Path):
    """Leads by name, one z-score, no unit and no offset; 5,000 samples to 20 places and 1,024 numbers."""
    rows = pl.read_csv(real_data / "ptbxl" / "manifest.csv", infer_schema=False).filter(pl.col("path_hr") != "")
    prepared = []
    for path in rows["path_hr"].head(2):
        record = read_record(RecordSource(real_data / "ptbxl" / path))
        assert record.samples.shape == (12, 5000)
        plain = prepare_record(record).values
        prepared.append(plain)
        names = [normalize_lead(channel) for channel in record.channels]
        order = [names.index(lead) for lead in MIMIC_ORDER]
        swapped = replace(
            record, channels=tuple(record.channels[place] for place in order), samples=record.samples[order]
        )
        assert names.index("aVL") < names.index("aVF")
        assert order.index(names.index("aVF")) < order.index(names.index("aVL"))
        np.testing.assert_array_equal(prepare_record(swapped).values, plain)
        wrong = replace(record, samples=record.samples[order])  # the same swap without its names
        assert np.abs(prepare_record(wrong).values - plain).max() > 0.1
        other_unit = replace(record, samples=40.0 * record.samples + 3.0)
        np.testing.assert_allclose(prepare_record(other_unit).values, plain, atol=2e-4)
        assert np.ptp(plain.std(axis=1)) > 0.1, "one z-score of the array, not of each lead"
    net, lengths = Net1D().eval(), []
    for part in (net.first_conv, *net.stage_list):
        part.register_forward_hook(lambda module, given, found: lengths.append(found.shape[2]))
    with torch.inference_mode():
        vectors = net(torch.from_numpy(np.stack(prepared)))
    assert sum(parameter.numel() for parameter in net.parameters()) == 30_598_896
    assert lengths == [2500, 1250, 625, 313, 157, 79, 40, 20]
    assert vectors.shape == (2, 1024)
    assert not torch.allclose(vectors[0], vectors[1])


@pytest.mark.needs_real_data
def test_a_real_dicom_ecg_through_the_whole_path(real_data: Path):
    found = prepare_record(read_record(RecordSource(real_data / "dicom" / "ecg12_waveform.dcm")))
    assert found.values.shape == (12, 5000)
    assert found.notes == ("resampled from 1000 to 500 Hz",)
