"""Smaller images that can be traced back to the source pixel."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hilum.imaging.resize import quantize, resize_short_side


@pytest.mark.parametrize(("row", "column"), [(30, 200), (90, 40)])
def test_affine_leads_back_to_the_source_pixel(row: int, column: int):
    """A blob off the diagonal of a 120 x 300 image: its centre of mass, sent back, is where it was."""
    rows, columns = np.mgrid[:120, :300]
    source = np.exp(-((rows - row) ** 2 + (columns - column) ** 2) / (2 * 8.0**2)).astype(np.float32)
    small, affine = resize_short_side(source, 50)
    assert small.shape == (50, 125)
    at = [(grid * small).sum() / small.sum() for grid in np.mgrid[:50, :125]]
    a, b, c, d, e, f = affine
    assert a * at[0] + b * at[1] + c == pytest.approx(row, abs=0.05)
    assert d * at[0] + e * at[1] + f == pytest.approx(column, abs=0.05)
    assert resize_short_side(source.T, 50)[0].shape == (125, 50)


def test_long_side_goes_to_the_nearest_pixel():
    assert resize_short_side(np.zeros((100, 198), dtype=np.float32), 64)[0].shape == (64, 127)  # 126.72
    assert resize_short_side(np.zeros((100, 199), dtype=np.float32), 64)[0].shape == (64, 127)  # 127.36


def test_corners_map_to_corners():
    _, affine = resize_short_side(np.zeros((512, 1024), dtype=np.float32), 256)
    assert affine.tolist() == [2, 0, 0.5, 0, 2, 0.5]


def test_never_enlarges():
    source = np.random.default_rng(0).random((156, 200), dtype=np.float32)
    for short_side in (156, 256):
        same, affine = resize_short_side(source, short_side)
        np.testing.assert_array_equal(same, source)
        assert affine.tolist() == [1, 0, 0, 0, 1, 0]


def test_stripes_finer_than_the_new_pixels_become_grey():
    stripes = np.tile(np.array([0, 1], dtype=np.float32), (512, 320))
    small, _ = resize_short_side(stripes, 100)
    assert np.abs(small[:, 1:-1] - 0.5).max() < 0.001


@given(st.integers(64, 200), st.integers(64, 200), st.integers(16, 128))
def test_sizes_and_range(height: int, width: int, short_side: int):
    source = np.random.default_rng(height * width).random((height, width), dtype=np.float32)
    small, affine = resize_short_side(source, short_side)
    assert small.shape[0] <= height
    assert small.shape[1] <= width
    assert min(small.shape) == min(short_side, height, width)
    assert small.min() >= 0
    assert small.max() <= 1
    # The outer edge of the last pixel is the outer edge of the source.
    assert affine[0] * (small.shape[0] - 0.5) + affine[2] == pytest.approx(height - 0.5, abs=1e-3)
    assert affine[4] * (small.shape[1] - 0.5) + affine[5] == pytest.approx(width - 0.5, abs=1e-3)


@pytest.mark.parametrize("bits", [8, 16])
def test_quantize_gives_stored_values_back(bits: int):
    stored = np.arange(2**bits).reshape(16, -1)
    restored = quantize((stored / (2**bits - 1)).astype(np.float32), bits)
    np.testing.assert_array_equal(restored, stored)
    assert restored.dtype == np.dtype(f"uint{bits}")


def test_quantize_rounds_halves_to_even_and_refuses_other_ranges():
    half = np.array([[0.5, 0.0, 1.0]], dtype=np.float32)
    assert quantize(half, 8).tolist() == [[128, 0, 255]]  # 127.5
    assert quantize(half, 16).tolist() == [[32768, 0, 65535]]  # 32767.5
    assert quantize(np.full((1, 1), 2.5 / 255, dtype=np.float32), 8).tolist() == [[2]]
    for wrong in (-0.1, 1.1, np.nan):
        with pytest.raises(AssertionError, match="outside"):
            quantize(np.full((1, 1), wrong, dtype=np.float32), 8)
