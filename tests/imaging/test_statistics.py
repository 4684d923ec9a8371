"""Grey histogram and power spectrum on images whose curves are known beforehand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hilum.imaging.statistics import NUM_GREYS, SIDE, cut_square, measure_histogram, measure_spectrum, summarize_images


def test_constant_image_is_one_bin_without_spectrum() -> None:
    grey = np.full((16, 24), 0.5, np.float32)
    assert np.flatnonzero(measure_histogram(grey)).tolist() == [NUM_GREYS // 2]
    assert measure_histogram(grey).sum() == 1
    assert np.isnan(measure_spectrum(np.full((16, 16), 0.7, np.float32))).all()
    assert summarize_images([grey]).spectrum.mean.size == 0


def test_white_belongs_to_the_last_step() -> None:
    pixels = np.array([[0.0, 0.25], [0.999, 1.0]])
    assert measure_histogram(pixels, 4).tolist() == [0.25, 0.25, 0.0, 0.5]


def test_white_noise_is_flat() -> None:
    noise = np.random.default_rng(0).normal(size=(40, 64, 64))
    mean = np.mean([measure_spectrum(image) for image in noise], axis=0)
    assert mean == pytest.approx(np.full(32, 1 / 64**2), rel=0.2)
    assert mean[8:] == pytest.approx(np.full(24, 1 / 64**2), rel=0.1)


@settings(max_examples=20, deadline=None)
@given(cycles=st.integers(3, 28), phase=st.floats(0, 6.28), contrast=st.floats(0.01, 0.5), across=st.booleans())
def test_sinusoid_peaks_at_its_frequency_whatever_its_contrast(
    cycles: int, phase: float, contrast: float, across: bool
) -> None:
    wave = 0.5 + contrast * np.sin(2 * np.pi * cycles * np.arange(64) / 64 + phase)
    image = np.tile(wave, (64, 1)) if across else np.tile(wave[:, None], (1, 64))
    power = measure_spectrum(image)
    assert power.argmax() == cycles - 1
    # The window spreads a wave over its own and the next frequencies only, in both directions.
    assert power[: cycles - 3].sum() + power[cycles + 2 :].sum() < 1e-12


def test_powers_of_the_plane_add_up_to_one() -> None:
    # White noise without its highest frequencies, so that the rings up to side / 2 hold all of it but the mean.
    spectrum = np.fft.fft2(np.random.default_rng(1).normal(size=(64, 64)))
    frequency = np.fft.fftfreq(64, 1 / 64)
    distance = np.hypot(frequency[:, None], frequency)
    image = np.fft.ifft2(np.where(distance < 28, spectrum, 0)).real
    cells = np.bincount(np.rint(distance).astype(int).ravel())[1:33]
    assert (measure_spectrum(image) * cells).sum() == pytest.approx(1, abs=0.005)


def test_size_in_pixels_moves_no_coarse_structure() -> None:
    rows, columns = np.mgrid[0:256, 0:256] / 256
    image = (0.5 + 0.3 * np.sin(2 * np.pi * 5 * rows) + 0.1 * np.cos(2 * np.pi * 9 * columns)).astype(np.float32)
    small = cut_square(image)
    assert small.shape == (SIDE, SIDE)
    kept = [4, 8]  # 5 and 9 cycles
    assert measure_spectrum(small)[kept] == pytest.approx(measure_spectrum(image)[kept], rel=0.03)


def test_square_is_the_middle_and_never_enlarged() -> None:
    image = np.zeros((40, 60), np.float32)
    image[:, 10:50] = 1
    assert cut_square(image).shape == (40, 40)
    assert cut_square(image).min() == 1


def test_small_images_say_nothing_of_fine_structure() -> None:
    generator = np.random.default_rng(2)
    large = [generator.random((SIDE, SIDE), np.float32) for _ in range(3)]
    small = [generator.random((32, 32), np.float32) for _ in range(3)]
    look = summarize_images([*large, *small, np.ones((SIDE, SIDE), np.float32)])
    assert look.num_images == 7
    assert look.spectrum.mean[16:] == pytest.approx(summarize_images(large).spectrum.mean[16:])
    assert len(summarize_images(small).spectrum.mean) == 16
    assert look.histogram.mean[-1] == pytest.approx(1 / 7 + 6 / 7 / NUM_GREYS, abs=0.01)
    assert (look.spectrum.low <= look.spectrum.high).all()
