"""Calcifications: specks, rods, shells and tracks in 3-D, by morphology and distribution (L 2.2; BI-RADS atlas).

Particles are rows (dx, dy, dz, first radius, second radius, angle, weight) in millimetres from the finding's place;
weight is attenuation at the centre of the chord. Rods are rows of two ends, radius and weight per mm of chord.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from hilum.phantom.breast.noise import make_rng
from hilum.phantom.breast.plan import Finding

CALCIUM = 0.75  # attenuation per millimetre beyond tissue, of what a plain calcification is made of

# Morphology -> number of particles (least, most), their radius (mm), ratio of radii, density relative to CALCIUM.
SPECKS: dict[str, tuple[tuple[int, int], tuple[float, float], tuple[float, float], float]] = {
    "skin": ((1, 5), (0.5, 0.9), (0.9, 1.0), 0.8),
    "coarse/popcorn": ((4, 9), (0.8, 2.0), (0.6, 1.0), 0.9),
    "round": ((3, 14), (0.3, 0.55), (0.9, 1.0), 1.0),
    "punctate": ((5, 20), (0.16, 0.26), (0.9, 1.0), 1.0),
    "rim/lucent-centred": ((1, 4), (1.0, 3.0), (0.85, 1.0), 0.6),
    "dystrophic": ((2, 7), (0.5, 1.4), (0.45, 0.9), 1.0),
    "milk of calcium": ((5, 18), (0.35, 0.7), (0.85, 1.0), 0.35),
    "amorphous": ((14, 40), (0.14, 0.26), (0.8, 1.0), 0.45),
    "coarse heterogeneous": ((6, 16), (0.25, 0.6), (0.5, 1.0), 1.0),
    "fine pleomorphic": ((10, 32), (0.12, 0.34), (0.35, 1.0), 1.0),
}
SHELLS = ("skin", "rim/lucent-centred")


@dataclass(frozen=True)
class Particles:
    """What one finding's calcium is made of; see the module."""

    specks: Float64[np.ndarray, "speck 7"]
    rods: Float64[np.ndarray, "rod 8"]


def make_particles(finding: Finding, vessel: np.ndarray) -> Particles:
    """All particles of a finding; vascular calcium follows `vessel` (point, 3), a line in the breast's frame."""
    rng = make_rng("breast calcium", finding.key)
    to_nipple = np.array([1.0, *rng.normal(0, 0.35, 2)])
    to_nipple /= np.linalg.norm(to_nipple)
    if finding.morphology == "vascular":
        return Particles(np.zeros((0, 7)), _line_vessel(rng, vessel - np.array(finding.place), finding.strength))
    if finding.morphology in ("large rod-like", "fine linear or branching", "suture"):
        return Particles(np.zeros((0, 7)), _make_rods(rng, finding, to_nipple))
    (least, most), (small, large), (flat, full), dense = SPECKS[finding.morphology]
    num = int(rng.integers(least, most + 1) * (2.2 if finding.distribution in ("regional", "diffuse") else 1.0))
    offsets = _scatter(rng, finding, to_nipple, num)
    if finding.morphology == "coarse/popcorn":
        offsets = rng.normal(0, 0.22 * finding.size, (num, 3))
    radius = (
        rng.uniform(small, large, num)
        if finding.morphology != "coarse/popcorn"
        else 0.22 * finding.size * rng.uniform(0.5, 1, num)
    )
    weight = 2 * radius * CALCIUM * dense * finding.strength * rng.uniform(0.7, 1.15, num)
    specks = np.column_stack(
        [offsets, radius, radius * rng.uniform(flat, full, num), rng.uniform(0, np.pi, num), weight]
    )
    if finding.morphology in SHELLS:
        core = specks.copy()
        core[:, 3:5] *= 0.72
        core[:, 6] *= -0.72
        specks = np.concatenate([specks, core])
    return Particles(specks, np.zeros((0, 8)))


def _scatter(rng: np.random.Generator, finding: Finding, to_nipple: np.ndarray, num: int) -> np.ndarray:
    """Where particles lie: (num, 3) from the place."""
    half = 0.5 * finding.size
    if finding.distribution == "linear":
        return rng.uniform(-half, half, (num, 1)) * to_nipple + rng.normal(0, 0.7, (num, 3))
    if finding.distribution == "segmental":
        along = np.sqrt(rng.uniform(0, 1, (num, 1)))  # a cone whose tip points at the nipple
        return (half - 2 * half * along) * to_nipple + rng.normal(0, 0.22 * finding.size, (num, 3)) * along
    way = rng.normal(0, 1, (num, 3))
    way /= np.linalg.norm(way, axis=1, keepdims=True)
    return way * half * rng.uniform(0, 1, (num, 1)) ** (1 / 3) * np.array([1.0, 0.8, 0.8])


def _make_rods(rng: np.random.Generator, finding: Finding, to_nipple: np.ndarray) -> np.ndarray:
    fine, suture = finding.morphology == "fine linear or branching", finding.morphology == "suture"
    num = int(rng.integers(8, 22)) if fine else int(rng.integers(2, 4)) if suture else int(rng.integers(5, 16))
    starts = _scatter(rng, finding, to_nipple, num)
    rods = []
    for start in starts:
        length = rng.uniform(0.8, 2.8) if fine else rng.uniform(4, 8) if suture else rng.uniform(2.5, 7.0)
        radius = rng.uniform(0.10, 0.17) if fine else 0.2 if suture else rng.uniform(0.3, 0.5)
        way = to_nipple + rng.normal(0, 0.30 if fine else 0.9 if suture else 0.15, 3)
        way /= np.linalg.norm(way)
        weight = CALCIUM * finding.strength * rng.uniform(0.7, 1.1)
        rods.append([*start, *(start + way * length), radius, weight])
        if fine and rng.random() < 0.4:
            fork = start + way * length * rng.uniform(0.3, 0.8)
            branch = way + rng.normal(0, 0.6, 3)
            rods.append([*fork, *(fork + branch / np.linalg.norm(branch) * length * 0.6), radius, weight])
    return np.array(rods)


def _line_vessel(rng: np.random.Generator, line: np.ndarray, strength: float) -> np.ndarray:
    """Two broken parallel tracks along a vessel's walls."""
    along = np.diff(line, axis=0)
    across = np.cross(along, rng.normal(0, 1, 3))
    across *= 0.9 / np.linalg.norm(across, axis=1, keepdims=True)
    rods = []
    for sign in (-1, 1):
        for piece in range(len(along)):
            if rng.random() < 0.72:
                first, last = line[piece] + sign * across[piece], line[piece + 1] + sign * across[piece]
                rods.append(
                    [
                        *first,
                        *(first + (last - first) * rng.uniform(0.5, 1.0)),
                        0.28,
                        CALCIUM * strength * rng.uniform(0.4, 0.9),
                    ]
                )
    return np.array(rods).reshape(-1, 8)
