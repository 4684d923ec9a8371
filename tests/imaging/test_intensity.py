"""Window functions and ranges against numbers worked by hand from DICOM PS3.3 C.11.2."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hilum.imaging.intensity import (
    Lut,
    Rescale,
    StoredImage,
    Window,
    apply_policy,
    apply_window,
    find_raster_range,
    find_robust_range,
)


def window(values: list, center: float, width: float, function: str = "LINEAR") -> list[float]:
    return apply_window(np.array(values, dtype=np.float64), Window(float(center), float(width), function)).tolist()


def test_linear_window():
    """C.11.2.1.2.1 and the cases its notes work out: c=2048 w=4096, c=2048 w=1, c=0 w=100, c=0 w=1."""
    assert window([0, 4095], 2048, 4096) == [0, 1]
    assert window([1], 2048, 4096) == pytest.approx([1 / 4095])
    assert window([2047, 2048], 2048, 1) == [0, 1]
    # x <= -50 is black, x > 49 is white, between ((x + 0.5)/99 + 0.5): -50 -> 0, 0 -> 0.50505, 49 -> 1
    assert window([-51, -50, 0, 49, 50], 0, 100) == pytest.approx([0, 0, 50 / 99, 1, 1])
    assert window([-1, 0], 0, 1) == [0, 1]


def test_linear_exact_window():
    """C.11.2.1.3.2: x <= c - w/2 black, x > c + w/2 white, (x - c)/w + 1/2 between."""
    assert window([-50, -25, 0, 50, 51], 0, 100, "LINEAR_EXACT") == pytest.approx([0, 0.25, 0.5, 1, 1])
    assert window([0.25], 0, 0.5, "LINEAR_EXACT") == [1]


def test_sigmoid_window():
    """C.11.2.1.3.1: 1/(1 + exp(-4 (x - c)/w)); at c it is 1/2 and the slope there is 1/w, as the line's."""
    assert window([100, 150, 50], 100, 200, "SIGMOID") == pytest.approx([0.5, 1 / (1 + np.exp(-1)), 1 / (1 + np.e)])
    assert window([-1e9, 1e9], 100, 2, "SIGMOID") == pytest.approx([0, 1])


def test_robust_range_by_hand():
    counts = np.array([1, 3, 992, 3, 1])  # 0.5 % of 1000 is 5
    assert find_robust_range(np.arange(5.0), counts) == (0, 4)  # both ends fall on the one crowded level: full range
    counts = np.array([4, 1, 990, 5, 0])
    assert find_robust_range(np.arange(5.0), counts) == (1, 3)


@given(st.lists(st.integers(0, 30), min_size=1, max_size=40))
def test_robust_range_of_the_mirrored_image_is_mirrored(counts: list[int]):
    levels, counts = np.arange(float(len(counts))), np.array(counts)
    low, high = find_robust_range(levels, counts)
    top = len(counts) - 1
    if counts.sum():
        assert find_robust_range(levels, counts[::-1]) == (top - high, top - low)


VOIS = [
    None,
    Window(40.0, 400.0),
    Window(-3.0, 1.0),
    Window(5.0, 7.0, "SIGMOID"),
    Lut(-9, np.array([0, 9, 3]), 8),
]


@given(
    st.lists(st.integers(-5000, 5000), min_size=6, max_size=6),
    st.sampled_from(["voi-1", "range-1"]),
    st.booleans(),
    st.sampled_from(VOIS),
    st.sampled_from([Rescale(), Rescale(-0.5, 3.0), Lut(-4, np.array([5, 1, 700]), 16)]),
    st.sampled_from([None, (-5000, 0), (3, 3)]),
)
def test_grey_is_always_between_zero_and_one(values, policy, inverted, voi, modality, padding):
    stored = np.array(values, dtype=np.int16).reshape(2, 3)
    before = stored.copy()
    pixels = apply_policy(policy, StoredImage(stored, inverted=inverted, voi=voi, modality=modality, padding=padding))
    assert pixels.dtype == np.float32
    assert np.all((pixels >= 0) & (pixels <= 1))
    if padding is not None:
        assert np.all(pixels[(stored >= padding[0]) & (stored <= padding[1])] == 0)
    np.testing.assert_array_equal(stored, before)


def test_sparse_32_bit_values_are_counted_too():
    stored = np.array([[0, 1 << 30], [1 << 29, 1 << 30]], dtype=np.int32)
    np.testing.assert_allclose(apply_policy("range-1", StoredImage(stored)), [[0, 1], [0.5, 1]])


def test_what_rasters_mean_as_white():
    assert find_raster_range(np.array([[3, 9]], dtype=np.uint8)) == (0, 255)
    assert find_raster_range(np.array([[3, 32768]], dtype=np.uint16)) == (0, 65535)
    assert find_raster_range(np.array([[3, 32767]], dtype=np.uint16)) is None
    assert find_raster_range(np.array([[-3, 40000]], dtype=np.int32)) is None
    assert find_raster_range(np.array([[0.1, 0.9]], dtype=np.float32)) is None


def test_lut_longer_than_its_declared_bits_stays_in_range():
    pixels = apply_policy("voi-1", StoredImage(np.array([[0, 1]], dtype=np.uint8), voi=Lut(0, np.array([0, 4095]), 8)))
    assert pixels.tolist() == [[0, 1]]
