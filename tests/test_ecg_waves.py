"""The yardstick of `evidence/ecg_probe.py` measures what was put into a made ECG."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from evidence.ecg_waves import NAMES, find_beats, measure_waves

from hilum.signals.read import read_record
from hilum.signals.record import LEADS, EcgRecord, RecordSource

RATE = 500.0


def make_record(rr: list[float], axis: float) -> EcgRecord:
    """Beats at these distances; QRS of 1 mV along `axis` (degrees), a T wave of 0.3 mV along it, in the limb leads by
    their angles, in the chest leads as in lead I."""
    time = np.arange(round((0.5 + sum(rr) + 0.5) * RATE)) / RATE
    beat = np.zeros_like(time)
    for at in 0.5 + np.concatenate([[0.0], np.cumsum(rr)]):
        beat += np.exp(-(((time - at) / 0.015) ** 2) / 2) + 0.3 * np.exp(-(((time - at - 0.28) / 0.04) ** 2) / 2)
    degrees = dict(zip(LEADS, (0, 60, 120, -150, -30, 90), strict=False))
    gain = np.array([np.cos(np.radians(axis - degrees.get(lead, 0))) for lead in LEADS])
    noise = 0.005 * np.random.default_rng(0).standard_normal((12, len(time)))
    return EcgRecord(LEADS, gain[:, None] * beat + noise, RATE, "made.ecg")


def read_waves(record: EcgRecord) -> dict[str, float]:
    return dict(zip(NAMES, measure_waves(record).tolist(), strict=True))


@pytest.mark.parametrize("rr", [0.6, 0.85, 1.2])
def test_rate_and_regularity(rr: float):
    found = read_waves(make_record([rr] * 8, 30.0))
    assert found["rate"] == pytest.approx(60 / rr, rel=0.01)
    assert found["RR deviation"] < 0.005
    assert found["beats unlike the median"] == 0


def test_an_irregular_rhythm_is_one():
    found = read_waves(make_record([0.6, 1.0, 0.7, 1.2, 0.6, 0.9, 1.1], 30.0))
    assert found["RR deviation"] == pytest.approx(np.std([0.6, 1.0, 0.7, 1.2, 0.6, 0.9, 1.1]), abs=0.01)
    assert found["RR longest over shortest"] == pytest.approx(2.0, abs=0.05)


@pytest.mark.parametrize("axis", [-60.0, 0.0, 45.0, 110.0])
def test_axis(axis: float):
    found = read_waves(make_record([0.85] * 8, axis))
    measured = np.degrees(np.arctan2(found["axis sine"], found["axis cosine"]))
    # aVF as written is of a lead of unit length, as I is.
    assert measured == pytest.approx(axis, abs=4)


def test_amplitudes_and_widths():
    found = read_waves(make_record([0.85] * 8, 0.0))
    assert found["R I"] == pytest.approx(1.0, abs=0.12)
    assert found["T I"] == pytest.approx(0.3, abs=0.06)
    assert found["R aVF"] == pytest.approx(0.0, abs=0.05)
    assert 0.04 < found["QRS width"] < 0.12
    assert 0.28 < found["QT"] < 0.42


def test_a_flat_record_has_no_beat():
    record = EcgRecord(LEADS, np.zeros((12, 5000)), RATE, "flat.ecg")
    assert np.isnan(measure_waves(record)).all()


@pytest.mark.needs_real_data
def test_real_rates_are_those_of_living_people(real_data: Path):
    rows = pl.read_csv(real_data / "ptbxl" / "manifest.csv", infer_schema=False).filter(pl.col("path_hr") != "")
    for row in rows.head(5).iter_rows(named=True):
        low, high = (read_record(RecordSource(real_data / "ptbxl" / row[name])) for name in ("path", "path_hr"))
        assert 40 < read_waves(high)["rate"] < 160
        assert read_waves(low)["rate"] == pytest.approx(read_waves(high)["rate"], rel=0.03)
    assert len(find_beats(high.samples)) > 5
