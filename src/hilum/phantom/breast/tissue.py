"""The tissue of one breast: glandular tissue by density, septa, ducts, Cooper's ligaments and vessels, in 3-D."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from math import sqrt

import numpy as np
from jaxtyping import Float32, Float64
from scipy.spatial.transform import Rotation

from hilum.phantom.breast import kernels
from hilum.phantom.breast.noise import make_clouds, make_rng, make_web
from hilum.phantom.breast.plan import Laterality, Woman
from hilum.phantom.breast.shape import Frame, Pose

NUM_STEPS = 34  # pieces of a ray
MILLIMETRES = (1.6, 0.72, 2.0)  # of a voxel of the coarse web, the fine web and the clouds


@dataclass(frozen=True)
class Tissue:
    """What `kernels.march` reads, and the tubes of ducts and vessels: (x, y, z) polylines with a radius."""

    web: Float32[np.ndarray, "x y z"]
    clouds: Float32[np.ndarray, "x y z"]
    rotations: Float32[np.ndarray, "3 3 3"]
    envelope: tuple[np.float32, ...]
    ducts: tuple[tuple[np.ndarray, float], ...]
    vessels: tuple[tuple[np.ndarray, float], ...]


@functools.lru_cache(maxsize=2)
def build_tissue(woman: Woman, laterality: Laterality) -> Tissue:
    """The same at every exam and in every view. Left and right share density and the coarse clouds."""
    rng = make_rng("breast tissue", woman.key, "LR".index(laterality))
    both = make_rng("breast tissue of both", woman.key)
    web = make_web(rng)
    clouds = (0.85 * make_clouds(both) + sqrt(1 - 0.85**2) * make_clouds(rng)).astype(np.float32)
    rotations = []
    for size in MILLIMETRES:
        own = both if size == MILLIMETRES[2] else rng  # a breast and the other are much alike in the large
        turn = Rotation.from_rotvec(own.normal(0, 0.5, 3)).as_matrix()
        stretch = np.diag([0.62, 1.0, 1.0]) if size != MILLIMETRES[2] else np.diag([0.85, 1.0, 1.0])
        rotations.append(turn @ stretch / (size * both.normal(1, 0.08)))
    g = woman.glandularity
    lobules = both.uniform(0.7, 1.3)
    crisp = both.uniform(1.4, 2.1)
    envelope = (
        -2.1 + 5.2 * g + 0.62 * lobules,  # level
        both.uniform(0.50, 0.66),  # slope: where along the axis the most is
        both.uniform(3.4, 5.6) * (1.25 - 0.75 * g),  # hump
        both.uniform(2.4, 3.6) * (1.15 - 0.4 * g),  # falloff
        both.uniform(9, 15),  # skirt: fat behind the nipple's skin
        lobules,
        both.uniform(0.75, 1.15),  # cloud
        both.uniform(0.05, 0.085),  # half value range of the coarse sheets
        both.uniform(0.06, 0.11),  # of the fine ones
        both.uniform(0.0, 0.35),  # bias
        crisp,
    )
    ducts, vessels = _grow_ducts(rng, woman), _grow_vessels(rng, woman)
    return Tissue(web, clouds, np.array(rotations, np.float32), tuple(np.float32(e) for e in envelope), ducts, vessels)


def _wander(rng: np.random.Generator, start: np.ndarray, heading: np.ndarray, length: float, bend: float) -> np.ndarray:
    """A curved line in steps of 2.5 mm."""
    points = [start]
    turn = rng.normal(0, bend, 3)
    for _ in range(max(int(length / 2.5), 2)):
        turn = 0.85 * turn + rng.normal(0, bend, 3) * 0.5
        heading = heading + turn
        heading = heading / np.linalg.norm(heading)
        points.append(points[-1] + 2.5 * heading)
    return np.array(points)


def _grow_ducts(rng: np.random.Generator, woman: Woman) -> tuple[tuple[np.ndarray, float], ...]:
    """Eight to fourteen lobes' ducts from the nipple, each branching."""
    ducts = []
    for _ in range(int(rng.integers(8, 15))):
        angle, spread = rng.uniform(0, 2 * np.pi), rng.uniform(0.05, 0.75)
        heading = np.array([-1.0, spread * np.cos(angle), spread * np.sin(angle)])
        start = np.array([woman.depth * 0.97, *(rng.normal(0, 1.2, 2))])
        stem = _wander(rng, start, heading / np.linalg.norm(heading), woman.depth * rng.uniform(0.25, 0.55), 0.05)
        ducts.append((stem, rng.uniform(0.35, 0.9)))
        for _ in range(int(rng.integers(1, 4))):
            fork = stem[int(rng.uniform(0.3, 0.95) * len(stem))]
            way = stem[-1] - stem[0]
            branch = _wander(rng, fork, way / np.linalg.norm(way) + rng.normal(0, 0.35, 3), rng.uniform(8, 28), 0.08)
            ducts.append((branch, rng.uniform(0.2, 0.5)))
    return tuple(ducts)


def _grow_vessels(rng: np.random.Generator, woman: Woman) -> tuple[tuple[np.ndarray, float], ...]:
    """Three to seven long winding vessels under the skin, thinner at every fork."""
    vessels = []
    for _ in range(int(rng.integers(3, 8))):
        angle = rng.uniform(0, 2 * np.pi)
        out = np.array([0.0, np.cos(angle), np.sin(angle)])
        start = out * woman.radius * rng.uniform(0.35, 0.85)
        heading = np.array([1.0, *rng.normal(0, 0.35, 2)]) - 0.35 * out
        stem = _wander(rng, start, heading / np.linalg.norm(heading), woman.depth * rng.uniform(0.5, 0.95), 0.055)
        radius = rng.uniform(0.5, 1.15)
        vessels.append((stem, radius))
        for _ in range(int(rng.integers(0, 3))):
            place = int(rng.uniform(0.2, 0.7) * len(stem))
            way = stem[min(place + 2, len(stem) - 1)] - stem[place - 1]
            branch = _wander(
                rng, stem[place], way / np.linalg.norm(way) + rng.normal(0, 0.3, 3), rng.uniform(15, 40), 0.07
            )
            vessels.append((branch, 0.65 * radius))
    return tuple(vessels)


def lay_tubes(pose: Pose, lines: tuple[tuple[np.ndarray, float], ...], weight: float) -> Float64[np.ndarray, "tube 6"]:
    """Polylines as `kernels.draw_tubes` takes them; a tube along the beam is as much denser as it is longer."""
    tubes = []
    for points, radius in lines:
        u, v, w = pose.place(points).T
        inside = np.abs(w) < 1.0
        length = np.linalg.norm(np.diff(points, axis=0), axis=1)
        flat = np.hypot(np.diff(u), np.diff(v))
        keep = (flat > 0.05) & inside[1:] & inside[:-1]
        thick = weight * np.minimum(length / np.maximum(flat, 1e-6), 2.5)
        fade = np.linspace(1.0, 0.6, len(length))
        rows = np.stack([u[:-1], v[:-1], u[1:], v[1:], radius * fade, thick], axis=1)
        tubes.append(rows[keep])
    return np.concatenate(tubes) if tubes else np.zeros((0, 6))


def measure_tissue(
    tissue: Tissue, pose: Pose, frame: Frame, inside: np.ndarray, islands: np.ndarray, pulls: np.ndarray
) -> Float32[np.ndarray, "2 row col"]:
    """Millimetres of gland and of septa along each ray; `inside` is the breast's thickness within its skin."""
    parts = np.zeros((2, frame.rows, frame.cols), np.float32)
    view = tuple(np.float32(each) for each in (pose.a, pose.b, pose.k, pose.o, *pose.m, *pose.n))
    body = tuple(np.float32(each) for each in (pose.depth, pose.radius, pose.tail))
    kernels.march(
        inside.astype(np.float32), frame.corner, frame.pixel, view, body, tissue.rotations, tissue.web, tissue.clouds,
        tissue.envelope, islands.astype(np.float32), pulls.astype(np.float32), NUM_STEPS, parts,
    )  # fmt: skip
    return parts
