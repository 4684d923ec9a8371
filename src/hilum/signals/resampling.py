"""Another rate, another length."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from jaxtyping import Float64
from scipy.signal import resample_poly

_LARGEST_FACTOR = 1000  # rates are ratios of such whole numbers to within a thousandth of a sample in ten seconds


def resample(
    leads: Float64[np.ndarray, "lead time"], rate: float, to: float
) -> Float64[np.ndarray, "lead resampled_time"]:
    """The same signal at another rate, by a polyphase filter that removes what the lower rate cannot hold.

    The ends go on along the line through them, so that a drift makes no edge. The mean is taken out before and put
    back after: the filter's phases differ in gain by a thousandth, which makes a ripple of an offset.
    """
    ratio = Fraction(to / rate).limit_denominator(_LARGEST_FACTOR)
    if ratio == 1:
        return leads
    mean = leads.mean(axis=1, keepdims=True)
    return mean + resample_poly(leads - mean, ratio.numerator, ratio.denominator, axis=1, padtype="line")


def crop_centre(leads: Float64[np.ndarray, "lead time"], length: int) -> Float64[np.ndarray, "lead kept_time"]:
    """The `length` samples in the middle, or all of a shorter signal."""
    start = max(0, (leads.shape[1] - length) // 2)
    return leads[:, start : start + length]


def pad_end(leads: Float64[np.ndarray, "lead time"], length: int) -> Float64[np.ndarray, "lead padded_time"]:
    """Zeros at the end, up to `length` samples."""
    return np.pad(leads, ((0, 0), (0, length - leads.shape[1])))
