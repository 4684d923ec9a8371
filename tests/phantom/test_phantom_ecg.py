"""ECGs: the laws between leads, what is planted measured from the leads alone, rhythm, nuisance, and the files."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from evidence.ecg_measurements import measure_ecg

from hilum.phantom.physiology import ecg as ecg_module
from hilum.phantom.physiology.ecg import LEAD_NAMES, LEADS, SIGHT, draw_ecg
from hilum.phantom.physiology.heart import NUM_SAMPLES, RATE_HZ, build_qrs, measure_axis, sum_waves
from hilum.phantom.physiology.records import RECORDERS, Recorder, encode_record, quantise
from hilum.phantom.physiology.state import Physiology

FIRST, SECOND, THIRD, AVR, AVL, AVF, V1 = range(7)
USUAL = {"axis": 45.0, "rate": 70.0, "variability": -3.4}


@pytest.fixture(scope="module")
def plain(bodies: list[Physiology]) -> Physiology:
    """A healthy heart in sinus rhythm without any ectopic beat."""
    body = next(body for body in bodies if body.rhythm == "sinus" and body.ecg["block"] == 0)
    return replace(body, ecg={**body.ecg, "ectopy": 0.0, "strain": 0.0, "st": 0.0, **USUAL})


def change(body: Physiology, **ecg: float) -> Physiology:
    return replace(body, ecg={**body.ecg, **ecg})


def test_a_dipole_to_the_left_is_seen_as_einthoven_says() -> None:
    leads = LEADS @ SIGHT @ np.array([1.0, 0.0, 0.0])
    # An equilateral triangle of side 0.64: I sees all of it, II half, III minus half; aVR is -(I + II) / 2, and so on.
    expected = {"I": 0.64, "II": 0.32, "III": -0.32, "aVR": -0.48, "aVL": 0.48, "aVF": 0.0, "V1": -0.515, "V4": 1.213}
    for name, value in expected.items():
        assert leads[LEAD_NAMES.index(name)] == pytest.approx(value, abs=1e-12), name
    down = LEADS @ SIGHT @ np.array([0.0, 1.0, 0.0])
    assert down[[FIRST, AVF]] == pytest.approx([0.0, 0.64 * 3**0.5 / 2])


def test_einthoven_s_and_goldberger_s_laws_hold_for_all_that_electrodes_carry(bodies: list[Physiology]) -> None:
    for key, body in enumerate(bodies[:8]):
        leads = draw_ecg(body, key)
        assert leads.shape == (12, NUM_SAMPLES)
        assert 0.05 < leads.std() < 2.0
        laws = {THIRD: leads[SECOND] - leads[FIRST], AVR: -(leads[FIRST] + leads[SECOND]) / 2}
        laws |= {AVL: leads[FIRST] - leads[SECOND] / 2, AVF: leads[SECOND] - leads[FIRST] / 2}
        for lead, expected in laws.items():
            np.testing.assert_allclose(leads[lead], expected, atol=1e-12)
        steps = quantise(leads, 200).astype(int)
        assert (steps[SECOND] == steps[FIRST] + steps[THIRD]).all()
        assert (2 * steps[AVR] == -(steps[FIRST] + steps[SECOND])).all()
        assert (2 * steps[AVL] == steps[FIRST] - steps[THIRD]).all()
        assert (2 * steps[AVF] == steps[SECOND] + steps[THIRD]).all()
        assert np.abs(steps / 200 - leads).max() < 0.0151


def test_summed_waves_agree_with_a_slow_loop() -> None:
    rng = np.random.default_rng(0)
    waves = np.concatenate(
        [rng.uniform(-300, 10_300, (12, 1)), rng.uniform(5, 60, (12, 2)), rng.normal(0, 1, (12, 3))], 1
    )
    slow = np.zeros((3, NUM_SAMPLES))
    for middle, before, after, *vector in waves:
        for sample in range(NUM_SAMPLES):
            ms = sample * 1000 / RATE_HZ - middle
            slow[:, sample] += np.array(vector) * np.exp(-0.5 * (ms / (before if ms < 0 else after)) ** 2)
    np.testing.assert_allclose(sum_waves(waves), slow, atol=1e-4)


@pytest.mark.parametrize("axis", [-60.0, -20.0, 10.0, 50.0, 95.0])
def test_the_axis_measured_from_the_leads_is_the_planted_one(plain: Physiology, axis: float) -> None:
    body = change(plain, axis=axis)
    assert measure_axis(build_qrs(body.ecg)) == pytest.approx(axis, abs=1e-9)
    assert measure_ecg(draw_ecg(body, 1, clean=True))["axis"] == pytest.approx(axis, abs=5.0)
    noisy = [measure_ecg(draw_ecg(body, key))["axis"] for key in range(10, 17)]
    assert np.median(noisy) == pytest.approx(axis, abs=8.0)


def test_measurements_follow_what_is_planted(plain: Physiology) -> None:
    """A ruler on the leads sees each quantity grow with what was planted."""

    def measure(name: str, quantity: str, values: tuple[float, ...]) -> list[float]:
        return [measure_ecg(draw_ecg(change(plain, **{quantity: value}), 2))[name] for value in values]

    for name, quantity, values in (
        ("rate", "rate", (55.0, 80.0, 120.0)),
        ("qrs", "qrs", (80.0, 110.0, 145.0)),
        ("qrs", "block", (0.0, 0.4, 0.9)),
        ("chest_voltage", "voltage", (-0.5, 0.0, 0.5)),
        ("sokolow", "posterior", (0.6, 1.0, 1.4)),
        ("t_peak", "qtc", (380.0, 430.0, 500.0)),
        ("t_lateral", "t_voltage", (-0.8, 0.0, 0.7)),
        ("irregularity", "variability", (-4.5, -3.5, -2.5)),
    ):
        found = measure(name, quantity, values)
        assert found[0] < found[1] < found[2], (name, quantity, found)
    falling = measure("t_lateral", "strain", (0.0, 0.4, 1.0))
    assert falling[0] > falling[1] > falling[2]
    assert falling[2] < 0
    assert measure("rate", "rate", (64.0,))[0] == pytest.approx(64.0, rel=0.04)


def test_voltage_follows_the_body(bodies: list[Physiology]) -> None:
    """Thick ventricles show more, hearts behind fluid and fat less, in the recorded leads."""
    sinus = [(key, body) for key, body in enumerate(bodies) if body.rhythm == "sinus"]

    def voltage(chosen: list) -> float:
        return float(np.mean([measure_ecg(draw_ecg(body, key))["chest_voltage"] for key, body in chosen[:12]]))

    def lies(name: str, low: float, high: float) -> list:
        return [each for each in sinus if low <= each[1].causes[name] <= high]

    usual = voltage([each for each in lies("hypertrophy", 0, 0) if each[1].causes["left_effusion"] == 0])
    assert voltage(lies("hypertrophy", 0.4, 1.0)) > 1.2 * usual
    assert voltage(lies("left_effusion", 0.5, 1.0)) < 0.9 * usual


def test_rhythms_are_told_by_their_intervals_and_p_waves(plain: Physiology) -> None:
    found = {
        rhythm: [measure_ecg(draw_ecg(replace(plain, rhythm=rhythm), key)) for key in range(8)]
        for rhythm in ("sinus", "fibrillation", "paced")
    }
    median = {
        rhythm: {name: np.median([each[name] for each in all_of]) for name in all_of[0]}
        for rhythm, all_of in found.items()
    }
    assert median["fibrillation"]["irregularity"] > 0.12 > 0.07 > median["sinus"]["irregularity"]
    assert median["paced"]["irregularity"] < 0.01
    assert median["paced"]["qrs"] > median["sinus"]["qrs"] + 40
    assert median["paced"]["axis"] < -40


def test_swapped_arms_turn_lead_i_over(plain: Physiology, monkeypatch: pytest.MonkeyPatch) -> None:
    right = draw_ecg(plain, 5)
    monkeypatch.setattr(ecg_module, "SWAPPED_LIMBS", 1.0)
    swapped = draw_ecg(plain, 5)
    for now, before, sign in (
        (FIRST, FIRST, -1),
        (SECOND, THIRD, 1),
        (THIRD, SECOND, 1),
        (AVR, AVL, 1),
        (AVL, AVR, 1),
        (AVF, AVF, 1),
    ):
        np.testing.assert_allclose(swapped[now], sign * right[before], atol=1e-12)
    np.testing.assert_allclose(swapped[V1:], right[V1:], atol=1e-12)


def test_a_loose_electrode_shows_nothing_of_the_heart_in_one_chest_lead(
    plain: Physiology, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = draw_ecg(plain, 6)
    monkeypatch.setattr(ecg_module, "LOOSE", 1.0)
    loose = draw_ecg(plain, 6)
    changed = [lead for lead in range(12) if not np.allclose(loose[lead], right[lead])]
    assert len(changed) == 1
    assert changed[0] >= V1
    heart = draw_ecg(plain, 6, clean=True)[changed[0]]
    assert abs(np.corrcoef(np.diff(loose[changed[0]]), np.diff(heart))[0, 1]) < 0.1


def parse_record(header: str, samples: bytes) -> dict[str, np.ndarray]:
    """Leads in mV by name: what the WFDB header format says, of one file in format 16."""
    first, *lines = header.splitlines()
    _, num, rate, length = first.split()
    assert (int(num), int(rate), int(length), len(lines)) == (12, 500, 5000, 12)
    steps = np.frombuffer(samples, "<i2").reshape(-1, 12)
    leads = {}
    for column, line in zip(steps.T, lines, strict=True):
        file, kind, gain, bits, zero, start, checksum, block, name = line.split()
        assert (file, kind, bits, zero, block) == ("r1.dat", "16", "16", "0", "0")
        assert int(start) == column[0]
        assert int(checksum) == sum(column.tolist()) % 65536
        leads[name] = column / float(gain.split("(")[0])
    return leads


@pytest.mark.parametrize("hospital", RECORDERS)
def test_records_read_back_by_their_header(plain: Physiology, hospital: str) -> None:
    leads, recorder = draw_ecg(plain, 3), RECORDERS[hospital]
    found = parse_record(*encode_record("r1", leads, recorder))
    assert tuple(found) == recorder.order
    for lead, name in enumerate(LEAD_NAMES):
        np.testing.assert_allclose(found[name], leads[lead], atol=3.01 / recorder.steps_per_mv)


def test_what_leaves_16_bits_is_cut_and_keeps_the_laws() -> None:
    huge = np.random.default_rng(0).normal(0, 100, (12, 20))
    steps = quantise(huge, Recorder(1000).steps_per_mv).astype(int)
    assert (steps[SECOND] == steps[FIRST] + steps[THIRD]).all()
    assert (2 * steps[AVF] == steps[SECOND] + steps[THIRD]).all()
