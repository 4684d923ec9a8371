"""What a reader measures on an ECG: rate, rhythm, axis, widths and amplitudes, by plain rules.

The yardstick of `ecg_probe.py`: simple, and not made weak. Beats are found where all leads together move fastest; each
lead's waves are measured on its median beat.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Float64, Int64
from scipy.signal import butter, find_peaks, sosfiltfilt

from hilum.signals.preprocessing import RATE, fill_missing
from hilum.signals.record import LEADS, EcgRecord, take_leads
from hilum.signals.resampling import resample

BAND = (0.5, 40.0)  # Hz; no running median here, which takes a part of slow T waves away
QRS_BAND = (5.0, 25.0)
BEFORE, AFTER = 0.30, 0.50  # seconds of a beat around its QRS complex
LEAST_RR = 0.30  # seconds
WAVES = ("P", "Q", "R", "S", "QRS area", "ST", "T")
NAMES = (
    *("rate", "RR deviation", "RR change", "RR longest over shortest", "beats unlike the median", "least like it"),
    *("QRS width", "QT", "corrected QT", "PR"),
    *("axis sine", "axis cosine", "T axis sine", "T axis cosine", "QRS-T angle", "Sokolow-Lyon", "Cornell"),
    *(f"{wave} {lead}" for lead in LEADS for wave in WAVES),
)


def measure_waves(record: EcgRecord) -> Float64[np.ndarray, " feature"]:
    """The features named in `NAMES`, amplitudes in mV and times in seconds; NaN where no beat is found."""
    leads = resample(fill_missing(take_leads(record)), record.rate, RATE)
    leads = sosfiltfilt(butter(2, BAND, "bandpass", fs=RATE, output="sos"), leads)
    peaks = find_beats(leads)
    before, after = round(BEFORE * RATE), round(AFTER * RATE)
    whole = peaks[(peaks >= before) & (peaks + after <= leads.shape[1])]
    if len(whole) < 2:
        return np.full(len(NAMES), np.nan)
    beats = np.stack([leads[:, peak - before : peak + after] for peak in whole])
    median = np.median(beats, axis=0)
    start, end = find_qrs(median, before)
    median = median - np.median(median[:, max(0, start - round(0.04 * RATE)) : start], axis=1, keepdims=True)
    waves = measure_leads(median, start, end)
    rr = np.diff(peaks) / RATE
    likeness = [float(np.corrcoef(beat.ravel(), median.ravel())[0, 1]) for beat in beats]
    qt = find_t_end(median, end) - start
    p_peak = int(np.abs(median[:, : max(1, start - round(0.02 * RATE))]).sum(axis=0).argmax())
    axis, t_axis = (find_axis(waves[:, WAVES.index(wave)]) for wave in ("QRS area", "T"))
    of = {lead: waves[place] for place, lead in enumerate(LEADS)}
    r, s = WAVES.index("R"), WAVES.index("S")
    whole_features = [
        60 / rr.mean(),
        rr.std(),
        float(np.sqrt(np.mean(np.diff(rr) ** 2))) if len(rr) > 1 else 0.0,
        rr.max() / rr.min(),
        float(np.mean(np.array(likeness) < 0.8)),
        min(likeness),
        (end - start) / RATE,
        qt / RATE,
        qt / RATE / float(np.sqrt(rr.mean())),
        (start - p_peak) / RATE,
        *(np.sin(axis), np.cos(axis), np.sin(t_axis), np.cos(t_axis)),
        float(np.arccos(np.clip(np.cos(axis - t_axis), -1, 1))),
        max(of["V5"][r], of["V6"][r]) - of["V1"][s],
        of["aVL"][r] - of["V3"][s],
    ]
    return np.concatenate([whole_features, waves.ravel()])


def find_beats(leads: Float[np.ndarray, "lead time"]) -> Int64[np.ndarray, " beat"]:
    """Where QRS complexes are: peaks of how fast all leads together move, at least 0.3 s apart."""
    steep = np.diff(sosfiltfilt(butter(2, QRS_BAND, "bandpass", fs=RATE, output="sos"), leads), axis=1)
    window = np.hanning(round(0.16 * RATE) + 1)  # a box would leave a plateau, and peaks anywhere on it
    energy = np.convolve(np.sqrt((steep**2).sum(axis=0)), window / window.sum(), mode="same")
    height = 0.4 * np.quantile(energy, 0.98)
    return find_peaks(energy, height=height, distance=round(LEAST_RR * RATE))[0]


def find_qrs(median: Float[np.ndarray, "lead time"], peak: int) -> tuple[int, int]:
    """First and last sample of the QRS complex: around `peak`, where the leads move at an eighth of their fastest."""
    speed = np.sqrt((np.diff(median, axis=1) ** 2).sum(axis=0))
    speed = np.convolve(speed, np.ones(5) / 5, mode="same")
    reach = round(0.12 * RATE)
    fast = speed > speed[peak - reach : peak + reach].max() / 8
    near = np.flatnonzero(fast[peak - reach : peak + reach]) + peak - reach
    return int(near[0]), int(near[-1]) + 1


def measure_leads(median: Float[np.ndarray, "lead time"], start: int, end: int) -> Float64[np.ndarray, "lead wave"]:
    """Amplitudes of `WAVES` in each lead of the median beat; P and T with their sign."""
    qrs = median[:, start:end]
    first = median[:, start : start + max(1, min(round(0.04 * RATE), end - start))]
    st = median[:, min(end + round(0.06 * RATE), median.shape[1] - 1)]
    return np.stack(
        [
            take_extreme(median[:, max(0, start - round(0.22 * RATE)) : max(1, start - round(0.02 * RATE))]),
            first.min(axis=1),
            qrs.max(axis=1),
            qrs.min(axis=1),
            qrs.sum(axis=1) / RATE,
            st,
            take_extreme(median[:, min(end + round(0.08 * RATE), median.shape[1] - 1) :]),
        ],
        axis=1,
    )


def take_extreme(values: Float[np.ndarray, "lead time"]) -> Float[np.ndarray, " lead"]:
    """The value farthest from zero in each row."""
    return values[np.arange(len(values)), np.abs(values).argmax(axis=1)]


def find_t_end(median: Float[np.ndarray, "lead time"], end: int) -> int:
    """Where the T wave of all leads together has fallen to a quarter of its height."""
    size = np.sqrt((median[:, end:] ** 2).sum(axis=0))
    from_here = min(round(0.08 * RATE), len(size) - 1)
    peak = from_here + int(size[from_here:].argmax())
    low = np.flatnonzero(size[peak:] < 0.25 * size[peak])
    return end + peak + (int(low[0]) if len(low) else len(size) - peak)


def find_axis(values: Float[np.ndarray, " lead"]) -> float:
    """Angle in the frontal plane in radians, from I (0 degrees) and aVF (90 degrees)."""
    return float(np.arctan2(values[LEADS.index("aVF")], values[LEADS.index("I")]))
