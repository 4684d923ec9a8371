"""Periodic blocks of smooth random numbers, from which tissue is cut."""

from __future__ import annotations

import numpy as np
import scipy.fft
from jaxtyping import Float32

from hilum.phantom.dice import make_key

TILE = 64  # voxels along each side; the kernels count on a power of two


def make_rng(purpose: str, *parts: int) -> np.random.Generator:
    """The generator of one purpose: the same numbers whenever and wherever it is asked for."""
    return np.random.Generator(np.random.Philox(make_key(purpose, *parts)))


def _filter(rng: np.random.Generator, gain: np.ndarray) -> Float32[np.ndarray, "x y z"]:
    white = rng.standard_normal((TILE, TILE, TILE), dtype=np.float32)
    field = scipy.fft.irfftn(scipy.fft.rfftn(white, workers=1) * gain, s=white.shape, workers=1)
    return (field / field.std()).astype(np.float32)


def _frequencies() -> np.ndarray:
    along, half = scipy.fft.fftfreq(TILE), scipy.fft.rfftfreq(TILE)
    return np.sqrt(along[:, None, None] ** 2 + along[None, :, None] ** 2 + half[None, None, :] ** 2)


def make_web(rng: np.random.Generator) -> Float32[np.ndarray, "x y z"]:
    """A field of one scale (11 voxels, give or take half an octave): its zero set is a web of curved sheets."""
    frequency = np.maximum(_frequencies(), 1e-6)
    return _filter(rng, np.exp(-0.5 * (np.log2(frequency * 11.0) / 0.42) ** 2).astype(np.float32))


def make_clouds(rng: np.random.Generator, exponent: float = 3.0) -> Float32[np.ndarray, "x y z"]:
    """A field of power spectrum 1 / f^exponent, as breast tissue has (Burgess 1999: about 3), without its coarsest."""
    frequency = np.maximum(_frequencies(), 1.0 / TILE)
    gain = frequency ** (-exponent / 2) * np.exp(-0.5 * (frequency / 0.22) ** 2)
    gain[0, 0, 0] = 0.0
    return _filter(rng, gain.astype(np.float32))
