"""From line integrals to the stored image, by hospital: beam, scatter, quanta, electronics, processing, borders.

The order is that of a digital system: transmitted primary plus scatter, blurred and counted; logarithm; the vendor's
tone processing; 12-bit storage in either photometric interpretation with a window.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float32, UInt16
from scipy.ndimage import gaussian_filter

from hilum.errors import UserError
from hilum.phantom.bodies import make_rng
from hilum.phantom.plan import Projection

Photometric = Literal["MONOCHROME1", "MONOCHROME2"]
_LEVELS = 4095  # 12 bits
_GLYPHS = {
    "L": ("1000", "1000", "1000", "1000", "1000", "1111"),
    "R": ("1110", "1001", "1001", "1110", "1010", "1001"),
    "P": ("1110", "1001", "1001", "1110", "1000", "1000"),
}


@dataclass(frozen=True)
class Detector:
    """How one institution's room makes images. Portable films are made without a grid, at a lower voltage."""

    hardness: float  # attenuation relative to the bodies' nominal one: lower at a higher tube voltage
    quanta: float  # per square millimetre behind no body, in units of the noise that reaches the image
    electronic: float  # noise in the same units
    scatter: float  # scattered share of what arrives at the detector, with a grid
    spread: float  # of scatter, centimetres
    blur: float  # millimetres
    equalise: float  # share of the large-scale brightness differences that processing takes out
    edge: float  # gain of fine detail
    curve: float  # steepness of the tone curve
    inverted: float  # share stored as MONOCHROME1
    aspects: tuple[float, ...]  # width / height of frontal images
    border: float  # share with collimation inside the image
    faces_left: float  # share of laterals shown facing left
    marker: float  # size, share of the image's height


DETECTORS: dict[str, Detector] = {
    "northfield": Detector(0.92, 9e4, 10.0, 0.26, 6.0, 0.22, 0.30, 0.65, 3.4, 0.10, (1.0, 0.86), 0.25, 0.05, 0.030),
    "harbour": Detector(1.00, 4e4, 16.0, 0.34, 5.0, 0.30, 0.18, 0.50, 3.0, 0.35, (0.84, 1.0, 1.18), 0.45, 0.15, 0.038),
    "stanne": Detector(1.07, 2.6e4, 12.0, 0.30, 7.0, 0.28, 0.42, 0.85, 3.9, 0.0, (1.0, 1.2, 0.82), 0.35, 0.30, 0.026),
}


@dataclass(frozen=True)
class Acquisition:
    """One stored image and what its DICOM header says of it."""

    pixels: UInt16[np.ndarray, "row col"]
    photometric: Photometric
    window_center: float
    window_width: float
    pixel_spacing_mm: float  # at the detector
    kilovolts: float
    exposure_microampere_seconds: float


@dataclass(frozen=True)
class Frame:
    """The part of the square detector that is stored, and whether it is mirrored; masks are framed the same way."""

    rows: slice
    cols: slice
    mirrored: bool

    def apply(self, image: np.ndarray) -> np.ndarray:
        part = image[self.rows, self.cols]
        return part[:, ::-1] if self.mirrored else part


def find_detector(institution: str) -> Detector:
    """The detector of an institution; UserError for one that has none."""
    if institution not in DETECTORS:
        raise UserError(f"institution {institution!r} has no detector: choose from {', '.join(DETECTORS)}")
    return DETECTORS[institution]


def frame_view(institution: str, projection: Projection, key: int, size: int) -> Frame:
    """Which part of (size, size) an image keeps: the institution's aspect ratios, laterals narrower than high."""
    detector, rng = find_detector(institution), _rng("frame", projection, key)
    aspect = float(rng.choice(detector.aspects)) if projection != "LATERAL" else float(rng.choice((0.72, 0.82, 0.9)))
    height, width = (size, round(size * aspect)) if aspect <= 1 else (round(size / aspect), size)
    top, left = round((size - height) * 0.4), (size - width) // 2
    mirrored = projection == "LATERAL" and rng.random() < detector.faces_left
    return Frame(slice(top, top + height), slice(left, left + width), mirrored)


def _rng(purpose: str, projection: Projection, key: int) -> np.random.Generator:
    return make_rng(f"detector {purpose}", key, ("PA", "AP", "LATERAL").index(projection))


def _blur_wide(image: np.ndarray, sigma: float) -> np.ndarray:
    """A Gaussian blur of many pixels, on a coarse grid."""
    step = max(int(sigma / 3), 1)
    height, width = (length // step * step for length in image.shape)
    small = image[:height, :width].reshape(height // step, step, width // step, step).mean((1, 3))
    smooth = gaussian_filter(small, sigma / step, mode="nearest")
    return _stretch(image.shape[0], height // step) @ smooth @ _stretch(image.shape[1], width // step).T


def _stretch(num: int, num_coarse: int) -> Float32[np.ndarray, "fine coarse"]:
    """Linear interpolation from `num_coarse` cells to `num` pixels."""
    place = np.clip((np.arange(num) + 0.5) * num_coarse / num - 0.5, 0, num_coarse - 1)
    return np.maximum(1 - np.abs(place[:, None] - np.arange(num_coarse)), 0).astype(np.float32)


def acquire(
    line_integrals: Float32[np.ndarray, "row col"], institution: str, projection: Projection, key: int, pixel_mm: float
) -> Acquisition:
    """The stored image of line integrals on the whole detector (size, size), whose pixels are `pixel_mm` wide."""
    detector, rng = find_detector(institution), _rng("exposure", projection, key)
    size = line_integrals.shape[0]
    portable, lateral = projection == "AP", projection == "LATERAL"
    voltage = (90 if portable else 118) + rng.normal(0, 3)
    hardness = detector.hardness * (1.08 if portable else 1.0) * rng.normal(1, 0.015)
    scatter = np.clip(
        detector.scatter + (0.16 if portable else 0.06 if lateral else 0.0) + rng.normal(0, 0.03), 0.1, 0.65
    )
    exposure = 2.0 ** rng.normal(0, 0.45) * (2.5 if lateral else 0.7 if portable else 1.0)

    primary = np.exp(-hardness * line_integrals)
    # Scatter follows the body it comes from: little behind air, much behind tissue.
    source = np.minimum(primary, 0.25)
    spread = _blur_wide(source, detector.spread * 10 / pixel_mm)
    arriving = primary + spread * (scatter / (1 - scatter)) * 0.8
    heel = 1 + rng.normal(0, 0.06) * np.linspace(-0.5, 0.5, size, dtype=np.float32)[:, None]
    arriving = gaussian_filter(arriving * heel, detector.blur / pixel_mm + 0.45)
    quanta = detector.quanta * exposure * pixel_mm**2
    noise = rng.standard_normal((size, size), dtype=np.float32) * np.sqrt(arriving * quanta + detector.electronic**2)
    counted = np.maximum(arriving + noise / quanta, 0.2 / quanta)

    frame = frame_view(institution, projection, key, size)
    opened = _open_collimator(rng, detector, projection, size)
    pixels, center, width = _render_tones(
        np.log(counted), line_integrals, opened, detector, frame, pixel_mm, 0.0 if lateral else 0.2, rng
    )
    _burn_marker(pixels, projection, detector, frame, rng)
    inverted = rng.random() < detector.inverted
    stored = (_LEVELS - pixels if inverted else pixels).astype(np.uint16)
    return Acquisition(
        stored,
        "MONOCHROME1" if inverted else "MONOCHROME2",
        float(_LEVELS - center if inverted else center),
        float(width),
        pixel_mm,
        round(float(voltage), 1),
        round(float(exposure * 2500), 0),
    )


def _open_collimator(
    rng: np.random.Generator, detector: Detector, projection: Projection, size: int
) -> Bool[np.ndarray, "row col"]:
    """Where the beam is open: all, or a rectangle somewhat turned and off centre."""
    if rng.random() >= detector.border:
        return np.ones((size, size), dtype=bool)
    low, high = rng.uniform(0.0, 0.07, 2), 1 - rng.uniform(0.0, 0.07, 2)
    if projection == "LATERAL":
        low[0], high[0] = low[0] + 0.10, high[0] - 0.08
    tilt = rng.normal(0, 0.012)
    y, x = np.mgrid[0:size, 0:size] / size
    across, along = x + tilt * (y - 0.5), y - tilt * (x - 0.5)
    return (across > low[0]) & (across < high[0]) & (along > low[1]) & (along < high[1])


def _render_tones(
    exposure: np.ndarray,
    line_integrals: np.ndarray,
    opened: np.ndarray,
    detector: Detector,
    frame: Frame,
    pixel_mm: float,
    brighter: float,
    rng: np.random.Generator,
) -> tuple[np.ndarray, float, float]:
    """Log exposure to 12-bit grey (dense is bright) with the window that a viewer should use."""
    dense = -exposure
    body = frame.apply((line_integrals > 0.35) & opened)
    inside = frame.apply(dense)
    low, high = np.percentile(inside[body][::7], (4, 96)) if body.sum() > 100 else (0.0, 1.0)
    coarse = _blur_wide(np.clip(dense, low - 0.8, high + 0.5), 28.0 / pixel_mm)
    fine = dense - gaussian_filter(dense, 4.5 / pixel_mm)
    flat = dense - detector.equalise * (coarse - 0.5 * (low + high)) + detector.edge * fine
    span = (high - low) * (1 - 0.6 * detector.equalise)
    place = (frame.apply(flat) - 0.5 * (low + high)) / max(span, 0.3) + rng.normal(brighter, 0.10)
    tone = 1 / (1 + np.exp(-detector.curve * rng.normal(1, 0.08) * place))
    grey = 250 + 3300 * tone
    grey[~frame.apply(opened)] = 120 + 30 * rng.random()
    center, width = 250 + 3300 * (0.5 + rng.normal(0, 0.03)), 3300 * rng.normal(0.98, 0.06)
    return np.clip(np.rint(grey), 0, _LEVELS).astype(np.int32), center, width


def _burn_marker(
    pixels: np.ndarray, projection: Projection, detector: Detector, frame: Frame, rng: np.random.Generator
) -> None:
    """The side letter, near a corner: on the patient's left (or right) in frontal views; lead letters are white."""
    height, width = pixels.shape
    letter = "L" if projection == "LATERAL" or rng.random() < 0.85 else "R"
    on_right = (letter == "L") != frame.mirrored if projection != "LATERAL" else rng.random() < 0.5
    step = max(round(detector.marker * height / 6), 1)
    word = letter + ("P" if projection == "AP" and rng.random() < 0.6 else "")
    bitmap = np.concatenate(
        [np.array([[int(dot) for dot in row] + [0] for row in _GLYPHS[name]]) for name in word], axis=1
    )
    glyph = np.kron(bitmap, np.ones((step, step), dtype=int)).astype(bool)
    y = int(height * rng.uniform(0.03, 0.16))
    x = int(width * rng.uniform(0.02, 0.10))
    if on_right:
        x = width - x - glyph.shape[1]
    view = pixels[y : y + glyph.shape[0], max(x, 0) : max(x, 0) + glyph.shape[1]]
    view[glyph[: view.shape[0], : view.shape[1]]] = 3900
