"""A 12-lead ECG of ten seconds: the heart's dipole, seen by nine electrodes, read against each other as leads.

Leads are differences of electrodes and nothing else (`LEADS`), so Einthoven's law II = I + III and Goldberger's
augmented leads (aVR = -(I + II) / 2, ...) hold for whatever the electrodes carry: heart, breath, mains, muscle. What
goes wrong goes wrong at an electrode too: two are swapped, one comes loose.

| electrodes | what they see of the dipole | source |
|---|---|---|
| RA, LA, LL | corners of Einthoven's equilateral triangle in the frontal plane | Einthoven et al. 1913 |
| V1 to V6 | rows of the Dower transform | Dower et al. 1980, Clin. Cardiol. 3:87, table |

With an equilateral triangle the frontal axis measured from the leads is the dipole's own: atan2(2 aVF / sqrt(3), I).
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32, Float64

from hilum.phantom.bodies import make_rng
from hilum.phantom.physiology.heart import NUM_SAMPLES, RATE_HZ, build_dipole
from hilum.phantom.physiology.state import Physiology

LEAD_NAMES = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
ELECTRODES = ("RA", "LA", "LL", "V1", "V2", "V3", "V4", "V5", "V6")
LIMB_GAIN = 0.64  # limb electrodes are further from the heart than V4

# Potential at each electrode for a dipole of 1 mV to the left, to the feet, to the back; the mean of the limbs is 0.
SIGHT = np.array(
    [
        *(LIMB_GAIN * np.array([(-0.5, -(3**-0.5) / 2, 0), (0.5, -(3**-0.5) / 2, 0), (0, 3**-0.5, 0)])),
        (-0.515, 0.157, -0.917),
        (0.044, 0.164, -1.387),
        (0.882, 0.098, -1.277),
        (1.213, 0.127, -0.601),
        (1.125, 0.127, -0.086),
        (0.831, 0.076, 0.230),
    ]
)
_RA, _LA, _LL = np.eye(9)[:3]
LEADS = np.array(  # each lead as a difference of electrodes
    [
        _LA - _RA,
        _LL - _RA,
        _LL - _LA,
        _RA - (_LA + _LL) / 2,
        _LA - (_RA + _LL) / 2,
        _LL - (_RA + _LA) / 2,
        *(np.eye(9)[3:] - (_RA + _LA + _LL) / 3),
    ]
)
NUM_FREE = 8  # I, II and the chest leads say all; the other four follow

# Nuisance: nothing of it depends on the patient.
WANDER, HUM, MUSCLE = 0.030, 0.002, 0.003  # mV, medians of what electrodes carry
SWAPPED_LIMBS, SWAPPED_CHEST, LOOSE = 0.02, 0.015, 0.03  # shares of records
MAINS_HZ = 50.0

Leads = Float64[np.ndarray, "12 sample"]


def draw_ecg(physiology: Physiology, key: int, clean: bool = False) -> Leads:
    """The leads of one study in mV, 500 samples a second for ten seconds, in the order of LEAD_NAMES.

    The same physiology and key give the same record. `clean`: what the heart alone would show, at electrodes that all
    hold and sit where they belong.
    """
    rng = make_rng("ecg", key)
    electrodes = SIGHT @ build_dipole(physiology.ecg, physiology.rhythm, rng)
    if not clean:
        electrodes = disturb(electrodes, rng)
    return LEADS @ electrodes


def disturb(electrodes: Float64[np.ndarray, "9 sample"], rng: np.random.Generator) -> Float64[np.ndarray, "9 sample"]:
    """What electrodes carry beside the heart, and what goes wrong with them."""
    num = len(ELECTRODES)
    seconds = np.arange(NUM_SAMPLES) / RATE_HZ
    wander, hum, muscle = np.array([WANDER, HUM, MUSCLE]) * np.exp(rng.normal(0, (0.6, 0.9, 0.7)))
    # Slow waves of three rates and the mains, each electrode with its own size and phase of each.
    rates = np.array([*rng.uniform((0.05, 0.15, 0.3), (0.15, 0.3, 0.6)), MAINS_HZ])
    turns = 2 * np.pi * rates[:, None] * seconds
    sizes = rng.normal(0, 1, (num, 8)) * np.repeat((wander, 0.8 * wander, 0.4 * wander, 0.3 * hum), 2)
    sizes[:, 6] += hum
    noise = sizes @ np.stack([np.sin(turns), np.cos(turns)], axis=1).reshape(8, -1)
    noise += muscle * rng.uniform(0.4, 1.6, (num, 1)) * _draw_muscle(rng, num)
    mixed = electrodes + noise
    swapped, at, loose, which = rng.random(), int(rng.integers(3, 8)), rng.random(), int(rng.integers(3, 9))
    if swapped < SWAPPED_LIMBS:
        mixed[[0, 1]] = mixed[[1, 0]]
    elif swapped < SWAPPED_LIMBS + SWAPPED_CHEST:
        mixed[[at, at + 1]] = mixed[[at + 1, at]]
    if loose < LOOSE:
        # It hangs in the air: hum and drift, nothing of the heart.
        drift = np.cumsum(rng.normal(0, 0.004, NUM_SAMPLES))
        mixed[which] = mixed[:3].mean(0) + drift + 12 * hum * np.sin(turns[3])
    return mixed


def _draw_muscle(rng: np.random.Generator, num: int) -> Float32[np.ndarray, "electrode sample"]:
    """Noise of deviation 1 between some 20 and 150 Hz."""
    white = rng.standard_normal((num, NUM_SAMPLES + 2), dtype=np.float32)
    return (white[:, 2:] + 0.5 * white[:, 1:-1] - white[:, :-2]) / 1.5
