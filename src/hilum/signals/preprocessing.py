"""ECGFounder's preprocessing, whose authors warn that it must be followed strictly (P 1.3).

Of twelve leads, ten seconds, 500 samples a second, in this order: missing samples are 0; zero-phase notch at 50 Hz (Q
30); zero-phase Butterworth band-pass of order 4, 0.67 to 40 Hz; minus a running median of 201 samples; one z-score over
the whole array. A lead's offset is lost to the band-pass and the scale to the z-score, so that volts and millivolts,
or Symile's range of -1 to 1, give the same array.

Filters are linear and run over all leads at once. Zero-phase is forwards, then backwards (`filtfilt`), the ends
mirrored through their last sample, scipy's default. The median sees zeros beyond the ends, as `scipy.signal.medfilt`.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64
from scipy.ndimage import median_filter
from scipy.signal import butter, filtfilt, iirnotch, sosfiltfilt

RATE = 500.0  # samples a second
MAINS, MAINS_QUALITY = 50.0, 30.0  # Hz; centre over bandwidth
BAND, ORDER = (0.67, 40.0), 4  # Hz
MEDIAN_SECONDS = 0.4
EPSILON = 1e-8

_BAND_PASS = butter(ORDER, BAND, "bandpass", fs=RATE, output="sos")
_NOTCH = iirnotch(MAINS, MAINS_QUALITY, fs=RATE)
_MEDIAN_WINDOW = int(MEDIAN_SECONDS * RATE) + 1


def fill_missing(leads: Float64[np.ndarray, "lead time"]) -> Float64[np.ndarray, "lead time"]:
    """Missing samples (NaN) as 0 (P 1.3, as ECGFounder's own loader)."""
    return np.where(np.isnan(leads), 0.0, leads)


def remove_mains(leads: Float64[np.ndarray, "lead time"]) -> Float64[np.ndarray, "lead time"]:
    """Without the hum of 50 Hz mains: a second-order notch, zero-phase (P 1.3). 60 Hz lies above the band anyway."""
    return filtfilt(*_NOTCH, leads)


def pass_band(leads: Float64[np.ndarray, "lead time"]) -> Float64[np.ndarray, "lead time"]:
    """0.67 to 40 Hz, Butterworth of order 4, zero-phase (P 1.3).

    As second-order sections: the coefficients of one polynomial, with poles this near to 1, cost six digits.
    """
    return sosfiltfilt(_BAND_PASS, leads)


def subtract_baseline(leads: Float64[np.ndarray, "lead time"]) -> Float64[np.ndarray, "lead time"]:
    """Each sample minus the median of the 201 around it, 0.4 s, zeros beyond the ends (P 1.3)."""
    # In one dimension scipy keeps the window sorted as it moves; in two it sorts anew for each sample.
    return leads - np.stack([median_filter(lead, _MEDIAN_WINDOW, mode="constant") for lead in leads])


def standardize(leads: Float64[np.ndarray, "lead time"]) -> Float64[np.ndarray, "lead time"]:
    """(x - mean) / (standard deviation + 1e-8), both over the whole array and not for each lead (P 1.3).

    Example: leads (0, 2) and (4, 6) have mean 3 and standard deviation sqrt(5): the first sample becomes -1.342.
    """
    return (leads - leads.mean()) / (leads.std() + EPSILON)


def clean(leads: Float64[np.ndarray, "lead time"]) -> Float64[np.ndarray, "lead time"]:
    """All of it but the z-score, of leads at `RATE`, of any unit."""
    return subtract_baseline(pass_band(remove_mains(fill_missing(leads))))
