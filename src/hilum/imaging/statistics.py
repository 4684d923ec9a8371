"""How images look, as two curves that need no picture: shares of grey values, and contrast by size of structure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float, Float32, Float64, Int64
from scipy import fft
from scipy.signal.windows import hann

from .resize import resize_short_side

SIDE = 128  # images are measured at this many pixels; smaller ones at their own size
NUM_GREYS = 64
_BAND = (0.1, 0.9)


@dataclass(frozen=True)
class Curve:
    """A curve over many images: what they have in the middle, and what 80 % of them lie between."""

    mean: Float64[np.ndarray, " point"]
    low: Float64[np.ndarray, " point"]
    high: Float64[np.ndarray, " point"]


@dataclass(frozen=True)
class Look:
    """Curves of a collection of images.

    `histogram`: share of pixels in each of NUM_GREYS equal steps from black (0) to white (1).
    `spectrum`: see `measure_spectrum`, at 1 to SIDE / 2 cycles per short side; its mean is geometric, for powers of
    different images differ by factors.
    """

    num_images: int
    histogram: Curve
    spectrum: Curve


def cut_square(
    pixels: Float32[np.ndarray, "height width"], side: int = SIDE
) -> Float32[np.ndarray, "measured measured"]:
    """The central square of an image, shrunk to `side` pixels; never enlarged."""
    edge = min(pixels.shape)
    top, left = ((length - edge) // 2 for length in pixels.shape)
    return resize_short_side(np.ascontiguousarray(pixels[top : top + edge, left : left + edge]), side)[0]


def measure_histogram(
    pixels: Float[np.ndarray, "height width"], num_greys: int = NUM_GREYS
) -> Float64[np.ndarray, " {num_greys}"]:
    """Share of the pixels in each of `num_greys` equal steps of [0, 1]; 1 itself belongs to the last."""
    step = np.minimum((pixels * num_greys).astype(np.int64), num_greys - 1)
    return np.bincount(step.ravel(), minlength=num_greys) / pixels.size


def measure_spectrum(pixels: Float[np.ndarray, "side side"]) -> Float64[np.ndarray, "side//2"]:
    """Radial power spectrum of a square image: entry f - 1 is the power at f cycles per side, for f = 1 ... side / 2.

    The image, under a Hann window that takes away the jump between opposite edges, is divided by its own contrast:
    powers of all frequencies of the plane add up to 1. So an image's exposure and contrast do not matter, its size in
    pixels matters at the finest structure only, and white noise of n x n pixels has 1 / n^2 everywhere. An entry is
    the mean over the frequencies (u, v) whose distance from 0 rounds to f. NaN for an image of one grey.
    """
    side = len(pixels)
    window, ring = _lay_rings(side)
    grey = pixels.astype(np.float64)
    grey = (grey - np.vdot(window, grey) / window.sum()) * window
    total = np.square(grey).sum() * side**2  # Parseval: what |F|^2 adds up to
    if total < 1e-12 * side**2:
        return np.full(side // 2, np.nan)
    waves = fft.fft2(grey)
    power = (waves.real**2 + waves.imag**2) / total
    return (np.bincount(ring, power.ravel()) / np.bincount(ring))[1 : side // 2 + 1]


@lru_cache(4)
def _lay_rings(side: int) -> tuple[Float64[np.ndarray, "{side} {side}"], Int64[np.ndarray, " {side**2}"]]:
    """The window, and the rounded distance from 0 of every frequency of the plane."""
    line, frequency = hann(side, sym=False), fft.fftfreq(side, 1 / side)
    ring = np.rint(np.hypot(frequency[:, None], frequency)).astype(np.int64).ravel()
    return line[:, None] * line, ring


def summarize_images(images: Iterable[Float32[np.ndarray, "_ _"]]) -> Look:
    """Curves over images of any size in [0, 1], each by its central square; at least one image."""
    greys, powers = [], []
    for image in images:
        square = cut_square(image)
        power = np.full(SIDE // 2, np.nan)  # what a small image does not resolve, it says nothing about
        power[: len(square) // 2] = measure_spectrum(square)
        greys.append(measure_histogram(square))
        powers.append(power)
    assert greys, "no image to measure"
    logs = np.log(np.stack(powers))
    resolved = logs[:, ~np.isnan(logs).all(axis=0)]
    spectrum = _draw_curve(resolved) if resolved.size else Curve(*np.empty((3, 0)))
    return Look(
        len(greys),
        histogram=_draw_curve(np.stack(greys)),
        spectrum=Curve(np.exp(spectrum.mean), np.exp(spectrum.low), np.exp(spectrum.high)),
    )


def _draw_curve(values: Float64[np.ndarray, "image point"]) -> Curve:
    """Mean and band of the images that have each point."""
    low, high = np.nanquantile(values, _BAND, axis=0)
    return Curve(np.nanmean(values, axis=0), low, high)
