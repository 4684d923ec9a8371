"""Another rate, another length."""

from __future__ import annotations

from fractions import Fraction
from math import ceil

import numpy as np
from jaxtyping import Float64
from scipy.signal import resample_poly

_LARGEST_FACTOR = 1000  # rates are ratios of such whole numbers to within a thousandth of a sample in ten seconds
_REACH = 10  # of scipy's polyphase filter to each side, in samples of the lower of the two rates


def resample(
    leads: Float64[np.ndarray, "lead time"], rate: float, to: float
) -> Float64[np.ndarray, "lead resampled_time"]:
    """The same signal at another rate, by a polyphase filter that removes what the lower rate cannot hold.

    The ends go on along the line through them, so that a drift makes no edge. The mean is taken out before and put
    back after: the filter's phases differ in gain by a thousandth, which makes a ripple of an offset.
    """
    return resample_centre(leads, rate, to, count_resampled(leads.shape[1], rate, to))


def resample_centre(
    leads: Float64[np.ndarray, "lead time"], rate: float, to: float, length: int
) -> Float64[np.ndarray, "lead kept_time"]:
    """The `length` samples in the middle of what `resample` gives, or all of a shorter signal.

    Of a longer one no more is filtered than these samples depend on, a day's ECG being 8,640 times what is kept.
    """
    ratio = _find_ratio(rate, to)
    up, down = ratio.numerator, ratio.denominator
    num = count_resampled(leads.shape[1], rate, to)
    start = max(0, (num - length) // 2)
    if ratio == 1:
        return leads[:, start : start + length]
    mean = leads.mean(axis=1, keepdims=True)
    reach = _REACH * max(up, down) // up + 2  # in samples of the signal; whole, with one more for the last phase
    # A part begins where an output sample lies on an input sample: the filter's phases stay what they are.
    first = (start * down // up - reach) // down * down
    last = -(-(start + length) * down // up) + reach
    if first < 0 or last > leads.shape[1]:
        first, last = 0, leads.shape[1]
    found = resample_poly(leads[:, first:last] - mean, up, down, axis=1, padtype="line")
    start -= first // down * up
    return mean + found[:, start : start + length]


def count_resampled(num: int, rate: float, to: float) -> int:
    """Samples of a signal of so many at another rate."""
    return ceil(num * _find_ratio(rate, to))


def pad_end(leads: Float64[np.ndarray, "lead time"], length: int) -> Float64[np.ndarray, "lead padded_time"]:
    """Zeros at the end, up to `length` samples."""
    return np.pad(leads, ((0, 0), (0, length - leads.shape[1])))


def _find_ratio(rate: float, to: float) -> Fraction:
    return Fraction(to / rate).limit_denominator(_LARGEST_FACTOR)
