"""From line integrals to what a viewer shows, by institution: beam, scatter, quanta, blur, processing, markers.

The order is that of a digital system: primary plus scatter, counted and blurred; logarithm; the vendor's correction of
the thin edge, of detail and of tone. What comes out is the grey that the vendor means to be shown, 0 to 1, and beyond
where a window would cut; `stored` writes it in one of the forms of DICOM.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32
from scipy.ndimage import gaussian_filter

from hilum.phantom.breast.markers import burn_markers
from hilum.phantom.breast.noise import make_rng
from hilum.phantom.breast.plan import PROJECTIONS, ExamPlan, ViewPlan
from hilum.phantom.breast.projector import FAT, Projected, project
from hilum.phantom.breast.shape import find_muscle
from hilum.phantom.breast.stored import Form


@dataclass(frozen=True)
class Detector:
    """How one institution makes images."""

    name: str
    site: int  # as RSNA numbers sites
    share: float  # of the patients
    manufacturer: str
    models: tuple[str, ...]
    hardness: float  # contrast, relative to the nominal attenuation: less at a harder beam
    quanta: float  # per square millimetre in air
    scatter: float  # of the primary
    blur: float  # millimetres
    edge: float  # gain of detail
    equalise: float  # share of the edge's thinness that processing takes out
    gamma: float  # of the tone curve: over 1 is darker
    floor: float  # grey of the background, with noise; 0 is exactly black
    mirrored: float  # share of exams whose right breasts are stored facing as the left
    forms: Mapping[Form, float]
    marker: float  # height of the burnt-in letters, share of the image's
    bead: float  # share of exams with a metal bead on the nipple


DETECTORS: dict[str, Detector] = {
    "lakeside": Detector(
        "Lakeside Breast Centre", 1, 0.55, "Fictive Imaging", ("Mammoray 5", "Mammoray 7"), 1.0, 2.2e6, 0.18, 0.10,
        0.35, 0.85, 1.20, 0.0, 0.0, {"window": 0.7, "lut": 0.3}, 0.030, 0.05,
    ),
    "hillcrest": Detector(
        "Hillcrest Mobile Screening", 2, 0.45, "Sample Medical Systems", ("Selena S", "PlateReader M", "Selena 2"),
        0.92, 1.3e6, 0.26, 0.16, 0.55, 0.92, 1.0, 0.015, 0.35, {"inverted": 0.35, "sigmoid": 0.35, "window": 0.3},
        0.024, 0.12,
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Acquisition:
    """One image as it is meant to be shown, and how it was taken."""

    grey: Float32[np.ndarray, "row col"]  # 0 black to 1 white; a window cuts what is beyond
    flipped: bool  # the chest wall is at the right
    mirrored: bool  # a right breast stored facing as the left, letters and all
    pixel_mm: float
    kilovolts: float
    thickness_mm: float
    force_newtons: float


def acquire(exam: ExamPlan, view: ViewPlan, size: int) -> Acquisition:
    """The image of one exposure with `size` rows; the same plan gives the same grey."""
    projected = project(exam, view, size=size)
    detector = DETECTORS[exam.institution]
    rng = make_rng(
        "breast exposure", exam.key, "LR".index(view.laterality), PROJECTIONS.index(view.projection), view.repeat
    )
    pixel = projected.frame.pixel
    kilovolts = 27 + 0.06 * (projected.pose.thickness - 50) + rng.normal(0, 0.4)
    hardness = detector.hardness * (1 - 0.02 * (kilovolts - 27))
    counted = _count(hardness * projected.total, detector, pixel, rng)
    dense = -np.log(counted) / hardness
    grey = _render(dense, projected, detector, rng)
    shown, beaded = is_mirrored(exam, view), rng.random() < detector.bead
    right = view.laterality == "R"
    if beaded:
        _lay_bead(grey, projected)
    grey = grey[:, ::-1].copy() if right else grey
    burn_markers(grey, view, detector.marker, detector.site, rng)
    if shown:  # the file was mirrored after everything else, so its letters are too
        grey = grey[:, ::-1]
    return Acquisition(
        np.ascontiguousarray(grey, np.float32),
        right and not shown,
        shown,
        pixel,
        float(kilovolts),
        projected.pose.thickness,
        float(np.clip(rng.normal(95, 20), 40, 160)),
    )


def is_mirrored(exam: ExamPlan, view: ViewPlan) -> bool:
    """Whether this right breast's image is stored mirrored, so that all breasts face the same way."""
    share = DETECTORS[exam.institution].mirrored
    return view.laterality == "R" and bool(make_rng("breast mirrored", exam.key).random() < share)


def orient(image: np.ndarray, exam: ExamPlan, view: ViewPlan) -> np.ndarray:
    """A mask in the breast's frame (chest wall left) as it lies on the stored image."""
    return image[:, ::-1] if view.laterality == "R" and not is_mirrored(exam, view) else image


def _count(line: np.ndarray, detector: Detector, pixel: float, rng: np.random.Generator) -> np.ndarray:
    primary = np.exp(-line)
    step = max(int(4.0 / pixel), 1)
    small = primary[::step, ::step]
    haze = gaussian_filter(small, 14.0 / (step * pixel), mode="nearest")
    rows, cols = (np.linspace(0, length - 1, num) for length, num in zip(haze.shape, primary.shape, strict=True))
    haze = _interpolate(haze, rows, cols)
    arrived = gaussian_filter(primary, detector.blur / pixel, mode="nearest") + detector.scatter * np.minimum(
        haze, 0.35
    )
    grain = rng.standard_normal(line.shape, dtype=np.float32) / np.sqrt(detector.quanta * pixel**2 * arrived)
    grain = gaussian_filter(grain, 0.09 / pixel) if pixel < 0.3 else grain
    return arrived * np.maximum(1 + grain, 0.2)


def _interpolate(image: np.ndarray, rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
    """Bilinear, at every pair of a row and a column."""
    i, j = np.minimum(rows.astype(int), image.shape[0] - 2), np.minimum(cols.astype(int), image.shape[1] - 2)
    down, right = (rows - i)[:, None], (cols - j)[None, :]
    upper = image[np.ix_(i, j)] * (1 - right) + image[np.ix_(i, j + 1)] * right
    lower = image[np.ix_(i + 1, j)] * (1 - right) + image[np.ix_(i + 1, j + 1)] * right
    return upper * (1 - down) + lower * down


def _render(dense: np.ndarray, projected: Projected, detector: Detector, rng: np.random.Generator) -> np.ndarray:
    """The vendor's processing: 0 is black, breast fat about 0.2, glandular tissue 0.5 to 0.95."""
    frame, pose = projected.frame, projected.pose
    thin = gaussian_filter(pose.thickness - projected.thickness, 2.0 / frame.pixel)
    flat = dense + detector.equalise * FAT * np.where(projected.distance > 0, thin, 0)
    fine = dense - gaussian_filter(dense, 1.3 / frame.pixel)
    flat = flat + detector.edge * fine * (projected.distance > 1.0)
    well_inside = (projected.distance > 7) & (find_muscle(pose, frame) == 0)
    low, high = np.percentile(flat[well_inside][::5], (3.0, 96.0)) if well_inside.sum() > 200 else (2.0, 3.0)
    span = min(max(1.18 * (high - low), 0.72), 1.6) * rng.normal(1.0, 0.04)  # an implant is beyond it
    place = np.maximum((flat - low) / span, -1.0)
    # A shoulder: what is denser than the breast's own tissue (muscle, implant, metal) is held back.
    tone = np.where(place > 0.7, 0.7 + 0.36 * (1 - np.exp(-(place - 0.7) / 0.36)), place)
    tone = np.where(tone > 0, np.abs(tone) ** detector.gamma, 0.35 * tone)
    grey = 0.13 + rng.normal(0, 0.015) + 0.78 * tone
    outside = (
        detector.floor * (1 + 0.25 * rng.standard_normal(dense.shape, dtype=np.float32)) if detector.floor else 0.0
    )
    return np.where(projected.distance > 0, np.maximum(grey, 0.02), outside)


def _lay_bead(grey: np.ndarray, projected: Projected) -> None:
    frame = projected.frame
    row, col = frame.find_pixel(float(projected.pose.outline[:, 0].max()) - 2.0, 0.0)
    rows, cols = np.arange(frame.rows)[:, None] - row, np.arange(frame.cols)[None, :] - col
    grey[rows**2 + cols**2 <= (1.2 / frame.pixel) ** 2] = 1.05
