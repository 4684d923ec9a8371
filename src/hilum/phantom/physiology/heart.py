"""The heart as one electric dipole that turns and swells with every beat: P, QRS and T loops as sums of Gaussians.

A wave is a Gaussian in time with its own width before and after its middle, times a vector in millivolts (x to the
patient's left, y to the feet, z to the back, as in vectorcardiography). A beat is a dozen of them; what a quantity of
`effects.ECG` says is done to these waves. The idea is that of McSharry et al. 2003 ("A dynamical model for generating
synthetic electrocardiogram signals", IEEE TBME 50:289) in three dimensions (Sameni et al. 2007, EURASIP J. Adv. Signal
Process. 043407), without their differential equation: Gaussians in time are what it comes to.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float64

from hilum.phantom.physiology.state import Rhythm

RATE_HZ, SECONDS = 500, 10
NUM_SAMPLES = RATE_HZ * SECONDS
WAVE = ("middle", "before", "after", "left", "foot", "back")  # columns: ms from the R wave and widths in ms, mV
Waves = Float64[np.ndarray, "wave 6"]

USUAL_QRS = 90.0  # ms that the loops below take
ONSET, END = -0.43, 0.57  # of QRS, in its own length around the R wave
NORMAL_QRS: Waves = np.array(
    [
        (-24, 7, 7, -0.13, 0.02, -0.34),  # septum: to the right and front
        (0, 9, 10, 1.15, 0.74, 0.12),  # both ventricles: to the left and feet
        (20, 9, 10, 0.14, 0.05, 1.00),  # base: to the back; "posterior" scales it
        (37, 7, 7, -0.14, -0.10, 0.12),
    ]
)
LEFT_BLOCK: Waves = np.array(  # the left ventricle from the right: no septal wave, notched, late
    [(-18, 8, 9, 0.35, 0.22, 0.40), (-4, 9, 9, 0.72, 0.40, 0.75), (17, 9, 11, 0.80, 0.36, 0.62)]
)
NORMAL_T = np.array([0.36, 0.26, -0.17])
STRAIN_T = np.array([-0.26, -0.10, -0.24])  # against the left ventricle
PACED_AXIS, PACED_QRS, PACED_RATE = -72.0, 164.0, (60.0, 80.0)  # from the apex of the right ventricle
ECTOPIC_AXIS, ECTOPIC_QRS = 115.0, 152.0
SPIKE = np.array([0.25, 0.9, -0.5])  # of a pacemaker, 2 ms
RESPIRATION = (0.20, 0.32)  # breaths a second
REACH = 0.9  # seconds: a beat further off shows nothing in the record
CUT = 4.8  # widths from its middle where a wave ends, at a hundred-thousandth of its height
BREATH_TURN, BREATH_SWELL = 3.0, 0.05  # degrees of the axis and share of the voltage, at full breath


def turn_axis(vectors: Float64[np.ndarray, "wave 3"], degrees: float) -> Float64[np.ndarray, "wave 3"]:
    """Vectors turned in the frontal plane, from the left towards the feet."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return vectors @ np.array([[c, s, 0], [-s, c, 0], [0, 0, 1.0]])


def measure_axis(waves: Waves) -> float:
    """Degrees of the mean vector (the sum of areas) in the frontal plane: 0 to the left, 90 to the feet."""
    left, foot = ((waves[:, 1] + waves[:, 2])[:, None] * waves[:, 3:5]).sum(0)
    return float(np.degrees(np.arctan2(foot, left)))


def point_axis(waves: Waves, degrees: float) -> Waves:
    """The same loop, turned until its mean vector points at `degrees`."""
    turned = waves.copy()
    turned[:, 3:] = turn_axis(waves[:, 3:], degrees - measure_axis(waves))
    return turned


def build_qrs(ecg: Mapping[str, float]) -> Waves:
    """The QRS loop of a conducted beat, between a normal one and left bundle branch block."""
    normal, block = NORMAL_QRS.copy(), ecg["block"]
    normal[2, 5] *= ecg["posterior"] / 0.72
    normal[:, 3:] *= 1 - block
    blocked = LEFT_BLOCK.copy()
    blocked[:, 3:] *= block
    waves = point_axis(np.concatenate([normal, blocked]), ecg["axis"])
    return stretch_qrs(waves, find_qrs_length(ecg), np.exp(ecg["voltage"]))


def find_qrs_length(ecg: Mapping[str, float]) -> float:
    """Milliseconds of a conducted QRS, the block's delay included."""
    return ecg["qrs"] + 48.0 * ecg["block"]


def stretch_qrs(waves: Waves, length: float, scale: float) -> Waves:
    """The same loop in `length` ms and `scale` times the voltage."""
    return waves * np.array([*[length / USUAL_QRS] * 3, scale, scale, scale])


def build_repolarisation(
    ecg: Mapping[str, float], qrs: Waves, length: float, qt: float, against: float
) -> Float64[np.ndarray, "2 6"]:
    """ST segment and T wave of a beat whose QRS takes `length` ms; QT in ms; `against`: share opposite to QRS."""
    areas = (qrs[:, 1] + qrs[:, 2])[:, None] * qrs[:, 3:]
    along = areas.sum(0) / max(float(np.linalg.norm(areas.sum(0))), 1e-6)
    lean = 0.5 * (ecg["axis"] - 45.0)
    usual = turn_axis(NORMAL_T[None], lean)[0] * np.exp(ecg["t_voltage"] + 0.4 * ecg["voltage"])
    strain = turn_axis(STRAIN_T[None], lean)[0]
    t_wave = (1 - ecg["strain"]) * usual + ecg["strain"] * strain
    t_wave = (1 - against) * t_wave - against * 0.45 * along
    peak, end = ONSET * length + qt - 84.0, END * length
    st = ecg["st"] * along + 0.18 * (ecg["strain"] * strain - against * 0.4 * along)
    middle = end + 0.45 * max(peak - end - 40.0, 20.0)
    return np.array(
        [
            (middle, 0.42 * (middle - end) + 8.0, 45.0, *st),
            (peak, 0.30 * max(peak - end, 60.0), 34.0, *t_wave),
        ]
    )


def build_p(ecg: Mapping[str, float], length: float) -> Waves:
    """Both atria, right before left; the left one's share grows with "p_duration"."""
    start, late = ONSET * length - ecg["pr"], ecg["p_duration"] - 104.0
    swell = 1.0 + 0.035 * late
    vectors = turn_axis(
        np.array([(0.060, 0.125, -0.060), (0.080, 0.070, 0.055 * swell)]), 0.3 * (ecg["axis"] - 48.0)
    ) * np.exp(0.3 * ecg["voltage"])
    middles = (start + 36.0, start + ecg["p_duration"] - 34.0)
    return np.array([(middle, 15.0, 15.0, *vector) for middle, vector in zip(middles, vectors, strict=True)])


def draw_beats(
    ecg: Mapping[str, float], rhythm: Rhythm, breath: float, rng: np.random.Generator
) -> Float64[np.ndarray, "beat 3"]:
    """Times of R waves from before the record to after it, the RR interval before each (s), and 1 where ectopic.

    `breath`: breaths a second; in sinus rhythm the rate follows them.
    """
    num = 40
    deviates, bad = rng.standard_normal(num), rng.random(num) < ecg["ectopy"]
    start, phase = rng.random(), rng.random() * 2 * np.pi
    mean = 60.0 / ecg["rate"]
    match rhythm:
        case "paced":
            intervals = np.full(num, 60.0 / rng.uniform(*PACED_RATE))
            bad[:] = False
        case "fibrillation":
            # Irregularly irregular: no beat knows of the one before.
            mean = 60.0 / min(1.15 * ecg["rate"] + 6.0, 165.0)
            intervals = np.maximum(mean * np.exp(0.22 * deviates - 0.024), 0.30)
        case _:
            share, when = np.exp(ecg["variability"]), np.arange(num) * mean
            wave = np.sqrt(2.0) * np.sin(2 * np.pi * breath * when + phase)
            intervals = mean * (1 + share * (0.75 * wave + 0.66 * np.clip(deviates, -2.5, 2.5)))
    early = np.flatnonzero(bad[:-1])
    saved = intervals[early] * 0.38  # an ectopic beat comes early, and the next waits for the sinus node
    intervals[early] -= saved
    if rhythm == "sinus":
        intervals[early + 1] += saved
    times = np.cumsum(intervals) - 1.5 - start * mean
    return np.stack([times, intervals, bad], axis=1)


def build_dipole(ecg: Mapping[str, float], rhythm: Rhythm, rng: np.random.Generator) -> Float64[np.ndarray, "3 sample"]:
    """The heart's dipole in mV over ten seconds at 500 Hz."""
    breath, phase = rng.uniform(*RESPIRATION), rng.random() * 2 * np.pi
    dipole = np.zeros((3, NUM_SAMPLES))
    conducted = build_qrs(ecg)
    length, usual = find_qrs_length(ecg), 60.0 / ecg["rate"]
    wide = stretch_qrs(point_axis(LEFT_BLOCK * 0.9, PACED_AXIS), PACED_QRS, 1.0)
    ectopic = stretch_qrs(point_axis(LEFT_BLOCK * [1, 1, 1, 1.3, 1.3, -1.0], ECTOPIC_AXIS), ECTOPIC_QRS, 1.2)
    p_wave = build_p(ecg, length)
    beats = draw_beats(ecg, rhythm, breath, rng)
    beats = beats[(beats[:, 0] > -REACH) & (beats[:, 0] < SECONDS + REACH)]
    gaussians = []
    for time, interval, is_ectopic in beats:
        # QT follows the rate with a memory of many beats (Bazett on mostly the mean interval).
        qt = ecg["qtc"] * np.sqrt(0.8 * usual + 0.2 * min(interval, 1.4))
        against = ecg["block"]
        qrs, took = conducted, length
        if is_ectopic or rhythm == "paced":
            qrs, took = (ectopic, ECTOPIC_QRS) if is_ectopic else (wide, PACED_QRS)
            against, qt = 1.0, qt + 0.5 * (took - USUAL_QRS)
        waves = [qrs, build_repolarisation(ecg, qrs, took, qt, against)]
        if rhythm == "sinus" and not is_ectopic:
            waves.append(p_wave)
        swing = np.sin(2 * np.pi * breath * time + phase)
        beat = np.concatenate(waves)
        beat[:, 3:] = turn_axis(beat[:, 3:], BREATH_TURN * swing) * (1 + BREATH_SWELL * swing)
        beat[:, 0] += 1000 * time
        gaussians.append(beat)
        if rhythm == "paced":
            _add_spike(dipole, time + (ONSET * PACED_QRS - 12.0) / 1000)
    dipole += sum_waves(np.concatenate(gaussians))
    if rhythm == "fibrillation":
        dipole += _draw_fibrillation(rng)
    return dipole


def sum_waves(waves: Waves) -> Float64[np.ndarray, "3 sample"]:
    """The sum of waves whose middles are in ms from the record's start."""
    middles = waves[:, :1] * (RATE_HZ / 1000)
    reach = int(np.ceil(CUT * waves[:, 1:3].max() * (RATE_HZ / 1000)))
    samples = np.rint(middles).astype(int) + np.arange(-reach, reach + 1)
    offset = samples - middles
    share = np.exp(-0.5 * (offset * (1000 / RATE_HZ) / np.where(offset < 0, waves[:, 1:2], waves[:, 2:3])) ** 2)
    places = np.clip(samples, -1, NUM_SAMPLES).ravel() + 1  # what lies outside ends in the first and the last
    summed = [np.bincount(places, (share * waves[:, i, None]).ravel(), NUM_SAMPLES + 2) for i in (3, 4, 5)]
    return np.stack(summed)[:, 1:-1]


def _add_spike(dipole: np.ndarray, time: float) -> None:
    sample = round(time * RATE_HZ)
    if 0 <= sample < NUM_SAMPLES:
        dipole[:, sample] += SPIKE


def _draw_fibrillation(rng: np.random.Generator) -> Float64[np.ndarray, "3 sample"]:
    """The atria's tremor, 5 to 8 a second and never quite the same, mostly towards V1."""
    seconds = np.arange(NUM_SAMPLES) / RATE_HZ
    rate = rng.uniform(5.2, 7.6) + 0.5 * np.sin(2 * np.pi * rng.uniform(0.1, 0.4) * seconds + rng.random() * 6.28)
    phase = 2 * np.pi * np.cumsum(rate) / RATE_HZ
    size = 0.075 * np.exp(rng.normal(0, 0.35)) * (1 + 0.3 * np.sin(2 * np.pi * 0.37 * seconds + rng.random() * 6.28))
    tremor = size * (np.sin(phase) + 0.35 * np.sin(2 * phase + 0.8))
    return np.array([-0.35, 0.75, -0.95])[:, None] * tremor
