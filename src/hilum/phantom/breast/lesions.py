"""Findings in the body: what each adds to the line integral of a view, and where it is on the image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64
from scipy.ndimage import binary_dilation, distance_transform_edt

from hilum.phantom.breast import kernels
from hilum.phantom.breast.calcifications import make_particles
from hilum.phantom.breast.noise import make_rng
from hilum.phantom.breast.plan import Finding
from hilum.phantom.breast.shape import Frame, Pose
from hilum.phantom.breast.tissue import Tissue

FAT = 0.045  # attenuation per millimetre, as in `projector`
MASS = {"high": 0.084, "equal": 0.074, "low": 0.062, "fat-containing": 0.046}  # the same, of masses by their density
STRAND = 0.060  # of spicules, beyond fat
ISLANDS = ("focal asymmetry", "global asymmetry", "developing asymmetry")
AXIS_TILT = np.radians(49)  # of the axilla, from above: nodes lie where MLO looks


@dataclass(frozen=True)
class Drawn:
    """What a finding adds to a view, (row, col)."""

    added: Float64[np.ndarray, "row col"]  # line integral beyond fat
    length: Float64[np.ndarray, "row col"]  # millimetres of tissue that it takes the place of
    region: Bool[np.ndarray, "row col"]  # where a reader would point


def is_shown(finding: Finding, pose: Pose, frame: Frame) -> bool:
    """Whether the finding's centre falls on the image of this view at all."""
    if finding.only:
        return finding.only == pose.projection
    if finding.kind == "lymph node":
        return pose.projection == "MLO"
    row, col = frame.find_pixel(*find_center(finding, pose)[:2])
    return 0 <= row < frame.rows and 0 <= col < frame.cols


def find_center(finding: Finding, pose: Pose) -> tuple[float, float, float]:
    """(u, v, share of the half thickness) of the finding's place."""
    if finding.kind == "nipple retraction":
        return float(pose.outline[:, 0].max() - 6), 0.0, 0.0
    if finding.kind in ("skin thickening", "skin retraction"):  # on the skin where it is seen from its side
        u, v, _ = pose.place(np.array([finding.place]))[0]
        u, v = pose.outline[np.argmin(np.hypot(pose.outline[:, 0] - u, pose.outline[:, 1] - v))]
        return float(u), float(v), 0.0
    u, v, w = pose.place(np.array([finding.place]))[0]
    return float(u), float(v), float(w)


def find_islands(findings: tuple[Finding, ...]) -> Float64[np.ndarray, "island 5"]:
    """Glandular tissue that asymmetries add in 3-D, and that which obscures a mass's margin."""
    rows = []
    for finding in findings:
        if finding.kind in ISLANDS:
            rows.append([*finding.place, 0.62 * finding.size, 3.2 * finding.strength])
        if finding.margin == "obscured":
            way = make_rng("breast obscuring", finding.key).normal(0, 1, 3)
            aside = np.array(finding.place) + 0.45 * finding.size * way / np.linalg.norm(way)
            rows.append([*aside, 0.75 * finding.size, 1.6])
    return np.array(rows).reshape(-1, 5)


def find_pulls(findings: tuple[Finding, ...]) -> Float64[np.ndarray, "pull 5"]:
    """How tissue is drawn together around distortions and spiculated masses."""
    rows = [
        [
            *finding.place,
            (0.9 if finding.kind == "architectural distortion" else 1.3) * finding.size,
            1.1 * finding.strength,
        ]
        for finding in findings
        if finding.kind == "architectural distortion" or finding.margin == "spiculated"
    ]
    return np.array(rows).reshape(-1, 5)


def thicken_skin(pose: Pose, frame: Frame, findings: tuple[Finding, ...]) -> Float64[np.ndarray, "row col"]:
    """Millimetres that skin thickening adds to the skin at each pixel."""
    v = frame.top - frame.pixel * np.arange(frame.rows)[:, None]
    u = frame.left + frame.pixel * np.arange(frame.cols)[None, :]
    more = np.zeros((frame.rows, frame.cols))
    for finding in findings:
        if finding.kind in ("skin thickening", "skin retraction"):
            middle = find_center(finding, pose)
            away = ((u - middle[0]) ** 2 + (v - middle[1]) ** 2) / (0.6 * finding.size) ** 2
            more += (3.6 if finding.kind == "skin thickening" else 1.5) * finding.strength / (1 + away**2)
    return more


def draw_finding(finding: Finding, pose: Pose, frame: Frame, tissue: Tissue) -> Drawn:
    """One finding on one view; all zeros where it is not shown."""
    added, length = np.zeros((2, frame.rows, frame.cols))
    if not is_shown(finding, pose, frame):
        return Drawn(added, length, np.zeros(added.shape, bool))
    u, v, _ = find_center(finding, pose)
    if finding.kind in ("mass", "lymph node"):
        _draw_mass(finding, (u, v), pose, frame, added, length)
        return Drawn(added, length, length > 0.3 * length.max() if length.max() > 0 else length > 0)
    if finding.kind == "calcification":
        return _draw_calcium(finding, pose, frame, tissue, added, length)
    if finding.kind == "asymmetry":
        _draw_summation(finding, (u, v), frame, added)
        return Drawn(added, length, added > 0.35 * added.max())
    if finding.kind == "architectural distortion":
        _draw_spicules(finding, pose, frame, added, 0.08, 0.62, int(18 + 10 * finding.strength))
    return Drawn(added, length, _find_disc(finding, (u, v), frame))


def _find_disc(finding: Finding, middle: tuple[float, float], frame: Frame) -> Bool[np.ndarray, "row col"]:
    row, col = frame.find_pixel(*middle)
    radius = {"nipple retraction": 11.0, "skin thickening": 0.5 * finding.size}.get(finding.kind, 0.5 * finding.size)
    rows, cols = np.arange(frame.rows)[:, None] - row, np.arange(frame.cols)[None, :] - col
    return rows**2 + cols**2 <= (radius / frame.pixel) ** 2


def _make_bumps(
    rng: np.random.Generator, num: int, width: tuple[float, float], height: tuple[float, float]
) -> np.ndarray:
    way = rng.normal(0, 1, (num, 3))
    way /= np.linalg.norm(way, axis=1, keepdims=True)
    return np.column_stack([way, rng.uniform(*width, num), rng.uniform(*height, num)])


def _draw_mass(
    finding: Finding, middle: tuple[float, float], pose: Pose, frame: Frame, added: np.ndarray, length: np.ndarray
) -> None:
    rng = make_rng("breast mass", finding.key)
    half = 0.5 * finding.size
    turn = np.linalg.qr(rng.normal(0, 1, (3, 3)))[0]
    ratios = {
        "round": (1.0, rng.uniform(0.93, 1.0), rng.uniform(0.93, 1.0)),
        "oval": (1.0, rng.uniform(0.55, 0.78), rng.uniform(0.6, 0.85)),
        "irregular": (0.85, rng.uniform(0.55, 0.85), rng.uniform(0.55, 0.85)),
    }[finding.shape or "oval"]
    bumps = {"irregular": _make_bumps(rng, 12, (0.25, 0.7), (-0.35, 0.42))}.get(
        finding.shape, _make_bumps(rng, 6, (0.4, 0.9), (-0.04, 0.05))
    )
    if finding.margin == "microlobulated":
        bumps = np.concatenate([bumps, _make_bumps(rng, 46, (0.03, 0.07), (0.12, 0.24))])
    soft = {"indistinct": 0.75 * half, "spiculated": 0.45 * half, "obscured": 0.8}.get(finding.margin, 0.6)
    soft = max(soft, 0.6)
    axes = pose.axes @ turn
    window = _find_window(middle, 1.7 * half + soft, frame)
    radii = half * np.array(ratios)
    kernels.draw_star(np.array(middle), axes, radii, bumps, soft, frame.corner, frame.pixel, window, length)
    contrast = (MASS[finding.density or "equal"] - FAT) * finding.strength
    contrast *= 0.65 if finding.kind == "lymph node" else 1.0  # among muscle and fat, not all of it node
    if (finding.kind == "lymph node" and not finding.malignant) or finding.density == "fat-containing":
        core = np.zeros_like(length)
        aside = np.array(middle) + (axes @ rng.normal(0, 0.18 * half, 3))[:2]
        kernels.draw_star(aside, axes, 0.68 * radii, bumps, soft, frame.corner, frame.pixel, window, core)
        added += np.maximum(length - 1.1 * core, 0) * 0.030 * finding.strength
    else:
        added += contrast * length
    length *= min(finding.strength, 1.0)
    if finding.margin == "spiculated":
        _draw_spicules(finding, pose, frame, added, 0.30, 1.25, int(20 + 20 * finding.strength))


def _find_window(middle: tuple[float, float], reach: float, frame: Frame) -> np.ndarray:
    row, col = frame.find_pixel(*middle)
    wide = reach / frame.pixel
    top, bottom = max(int(row - wide), 0), min(int(row + wide) + 2, frame.rows)
    left, right = max(int(col - wide), 0), min(int(col + wide) + 2, frame.cols)
    return np.array([top, max(bottom, top), left, max(right, left)])


def _draw_spicules(
    finding: Finding, pose: Pose, frame: Frame, added: np.ndarray, begin: float, end: float, num: int
) -> None:
    """Thin strands that radiate from the place, from `begin` to about `end` times the size."""
    rng = make_rng("breast spicules", finding.key)
    way = rng.normal(0, 1, (num, 3))
    way /= np.linalg.norm(way, axis=1, keepdims=True)
    middle = np.array(find_center(finding, pose)[:2])
    tubes = []
    for one in way:
        share = np.linspace(begin, end * rng.uniform(0.45, 1.2), 7)[:, None] * finding.size
        bend = rng.normal(0, 0.10, 3)
        points = (one * share + bend * share**2 / finding.size) @ pose.axes.T
        places = middle + points[:, :2]
        true, flat = np.linalg.norm(np.diff(points, axis=0), axis=1), np.linalg.norm(np.diff(places, axis=0), axis=1)
        radius = rng.uniform(0.22, 0.5) * np.linspace(1.0, 0.45, 6)
        weight = STRAND * finding.strength * np.minimum(true / np.maximum(flat, 1e-6), 3.0)
        tubes.append(np.column_stack([places[:-1], places[1:], radius, weight]))
    kernels.draw_tubes(np.concatenate(tubes), frame.corner, frame.pixel, added)


def _draw_summation(finding: Finding, middle: tuple[float, float], frame: Frame, added: np.ndarray) -> None:
    """Tissue of several depths that happens to overlap on this view: a soft, strandy patch."""
    rng = make_rng("breast summation", finding.key)
    half = 0.5 * finding.size
    num = 9
    places = np.array(middle) + rng.normal(0, 0.38 * half, (num, 2))
    angle = rng.uniform(0, np.pi, num)
    radii = half * np.column_stack([rng.uniform(0.5, 0.95, num), rng.uniform(0.2, 0.5, num)])
    weight = 0.16 * finding.strength * rng.uniform(0.5, 1.2, num)
    balls = np.column_stack([places, radii, np.cos(angle), np.sin(angle), weight])
    patch = np.zeros_like(added)
    kernels.draw_balls(balls, frame.corner, frame.pixel, patch)
    added += patch**1.5 / max(patch.max(), 1e-9) ** 0.5  # its edges fade


def _draw_calcium(
    finding: Finding, pose: Pose, frame: Frame, tissue: Tissue, added: np.ndarray, length: np.ndarray
) -> Drawn:
    vessel = max((line for line, _ in tissue.vessels), key=len)
    particles = make_particles(finding, vessel)
    base = np.array(find_center(finding, pose)[:2])
    axes = pose.axes
    if len(particles.specks):
        place = base + particles.specks[:, :3] @ axes[:2].T
        radii, angle, weight = particles.specks[:, 3:5], particles.specks[:, 5], particles.specks[:, 6]
        if finding.morphology == "milk of calcium" and pose.projection == "MLO":  # seen from the side: teacups
            radii, angle = radii * np.array([1.0, 0.35]), np.zeros_like(angle)
            weight = weight * 2.2
        balls = np.column_stack([place, radii, np.cos(angle), np.sin(angle), weight])
        kernels.draw_balls(balls, frame.corner, frame.pixel, added)
    if len(particles.rods):
        first, last = particles.rods[:, :3], particles.rods[:, 3:6]
        if finding.morphology == "vascular":  # it follows its vessel through the compression
            first, last = (pose.place(ends + np.array(finding.place))[:, :2] for ends in (first, last))
        else:
            first, last = (base + ends @ axes[:2].T for ends in (first, last))
        tubes = np.column_stack([first, last, particles.rods[:, 6], particles.rods[:, 7]])
        kernels.draw_tubes(tubes, frame.corner, frame.pixel, added)
    calcium = np.abs(added) > 0
    if not calcium.any():
        return Drawn(added, length, calcium)
    margin = max(1.5 / frame.pixel, 1.0)
    near = distance_transform_edt(~calcium) <= margin
    return Drawn(added, length, binary_dilation(near))
