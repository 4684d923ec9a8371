"""What a cardiologist's ruler reads off a 12-lead ECG: rate, intervals, axis, voltages; of the leads alone."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64, Int64
from scipy.ndimage import median_filter, uniform_filter1d
from scipy.signal import find_peaks

from hilum.phantom.physiology.ecg import LEAD_NAMES, NUM_FREE, Leads
from hilum.phantom.physiology.heart import RATE_HZ

BEFORE, AFTER = 160, 260  # samples of a beat around its R wave
_II, _V1, _V5, _V6 = (LEAD_NAMES.index(name) for name in ("II", "V1", "V5", "V6"))
_FREE = (0, 1, *range(6, 12))  # the leads that the others follow from
assert len(_FREE) == NUM_FREE


def find_beats(leads: Leads) -> Int64[np.ndarray, " beat"]:
    """Samples of the R waves: peaks of the speed at which most leads change."""
    speed = np.median(np.abs(np.diff(leads[list(_FREE)], axis=1, prepend=leads[list(_FREE), :1])), axis=0)
    energy = uniform_filter1d(speed, 40)
    peaks, _ = find_peaks(energy, height=0.42 * np.percentile(energy, 97), distance=round(0.28 * RATE_HZ))
    return peaks


def average_beat(leads: Leads, beats: Int64[np.ndarray, " beat"]) -> Float64[np.ndarray, "12 sample"]:
    """The median beat, its slow drift taken off each lead."""
    slow = median_filter(leads[:, ::5], (1, 61), mode="nearest").repeat(5, axis=1)
    still = leads - slow
    inside = beats[(beats >= BEFORE) & (beats < leads.shape[1] - AFTER)]
    if not len(inside):
        return still[:, : BEFORE + AFTER]
    cut = np.median([still[:, beat - BEFORE : beat + AFTER] for beat in inside], axis=0)
    return cut - np.median(cut[:, BEFORE - 60 : BEFORE - 40], axis=1, keepdims=True)


def find_qrs(speed: Float64[np.ndarray, " sample"]) -> tuple[int, int]:
    """First and last sample of QRS: all around the quickest one that is quick, over pauses of 20 ms (notches)."""
    middle = BEFORE - 40 + int(speed[BEFORE - 40 : BEFORE + 40].argmax())
    quick = np.flatnonzero(speed > 0.16 * speed[middle])
    pauses = np.flatnonzero(np.diff(quick) > 10)
    runs = np.split(quick, pauses + 1)
    run = next(run for run in runs if run[0] <= middle <= run[-1])
    return max(int(run[0]), 40), min(int(run[-1]), len(speed) - 200)


def measure_ecg(leads: Leads) -> dict[str, float]:
    """Measurements of a record in ms, mV and degrees; always finite."""
    beats = find_beats(leads)
    intervals = np.diff(beats) / RATE_HZ if len(beats) > 2 else np.array([0.8, 0.8])
    beat = average_beat(leads, beats)
    # The median takes a pacemaker's spike out, which is a sample wide.
    speed = uniform_filter1d(np.abs(np.diff(median_filter(beat, (1, 5)), axis=1)).mean(0), 5)
    first, last = find_qrs(speed)
    qrs = beat[:, first : last + 2] - 0.5 * (beat[:, first, None] + beat[:, last + 1, None])
    after = beat[:, last + 20 :]
    strength = uniform_filter1d(np.abs(after[list(_FREE)]).sum(0), 9)
    t_peak = int(strength[:170].argmax())
    before = beat[:, max(first - 110, 0) : max(first - 12, 1)]
    high, low = qrs.max(1), qrs.min(1)
    return {
        "rate": 60 / intervals.mean(),
        "irregularity": intervals.std() / intervals.mean(),
        "successive": np.abs(np.diff(intervals)).mean() / intervals.mean(),
        "axis": float(np.degrees(np.arctan2(2 / 3**0.5 * qrs[5].sum(), qrs[0].sum()))),
        "qrs": (last - first) * 1000 / RATE_HZ,
        "t_peak": (last + 20 + t_peak - first) * 1000 / RATE_HZ / intervals.mean() ** 0.5,
        "sokolow": high[_V5] - low[_V1],
        "limb_voltage": (high - low)[:6].mean(),
        "chest_voltage": (high - low)[6:].mean(),
        "t_lateral": float(after[[0, _V5, _V6], t_peak].mean()),
        "t_front": float(after[7:9, t_peak].mean()),
        "t_inferior": float(after[[1, 5], t_peak].mean()),
        "st_lateral": float(beat[[_V5, _V6], last + 22].mean()),
        "p_voltage": float(before[_II].max() - before[_II].min()),
        "p_time": float(before[_II].argmax()),
        "p_front": float(before[_V1].max() - before[_V1].min()),
    }
