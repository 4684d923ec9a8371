"""Analytic bodies: what a chest is made of, each with an exact chord for any ray, and the density they define.

Coordinates are the patient's, in centimetres: x to the left, y to the back, z up. Attenuation is per centimetre.

Two sorts of body make the density of a point (`density_at`):
- `Solid`: a convex body that displaces what has lower priority (the heart displaces lung, lung displaces muscle).
  A point has the attenuation of the solid of highest priority that contains it, 0 in none.
- `Swarm`: many small bodies (rib segments, vessels, fat lobules) that add to it. A soft swarm fades to its edge as
  1 - r^2, and may count only where a named lung is aerated.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TypeVar

import numpy as np
from jaxtyping import Bool, Float64

from hilum.keyed_random import make_keys
from hilum.phantom import kernels

Points = Float64[np.ndarray, "point 3"]
AnyPart = TypeVar("AnyPart", "Swarm", "Tubes")
Vector = tuple[float | int, float | int, float | int] | np.ndarray

# Effective attenuation at 100 to 120 kV, per centimetre; excess of bone is over the soft tissue it lies in.
AIR, LUNG, FAT, SOFT, LIVER = 0.0005, 0.046, 0.175, 0.200, 0.207
CORTEX, MARROW, CALCIUM = 0.42, 0.10, 0.55


def make_rng(purpose: str, *parts: int) -> np.random.Generator:
    """The generator of one purpose: the same numbers whenever and wherever it is asked for."""
    return np.random.Generator(np.random.Philox(int(make_keys(purpose, *(part & (2**63 - 1) for part in parts))[0])))


@dataclass(frozen=True)
class Solid:
    """A convex body: the points inside all quadrics |A (x - c)| <= 1 and all half-spaces n . x <= d."""

    attenuation: float
    priority: float
    shapes: Float64[np.ndarray, "quadric 3 3"]
    centers: Float64[np.ndarray, "quadric 3"]
    planes: Float64[np.ndarray, "plane 4"] = field(default_factory=lambda: np.zeros((0, 4)))
    tag: str = ""  # what masks call it

    def contains(self, points: Points) -> Bool[np.ndarray, " point"]:
        inside = np.ones(len(points), dtype=bool)
        for shape, center in zip(self.shapes, self.centers, strict=True):
            inside &= (((points - center) @ shape.T) ** 2).sum(1) <= 1
        for plane in self.planes:
            inside &= points @ plane[:3] <= plane[3]
        return inside

    def clip(self, *planes: tuple[Vector, float]) -> Solid:
        """The part inside half-spaces (normal, offset): normal . x <= offset."""
        rows = np.array([(*normal, offset) for normal, offset in planes], dtype=np.float64)
        return replace(self, planes=np.concatenate([self.planes, rows]))

    def meet(self, other: Solid) -> Solid:
        """The part that also lies in `other`; keeps its own attenuation, priority and tag."""
        return replace(
            self,
            shapes=np.concatenate([self.shapes, other.shapes]),
            centers=np.concatenate([self.centers, other.centers]),
            planes=np.concatenate([self.planes, other.planes]),
        )


_SIGNS = np.array([[i, j, k] for i in (-1.0, 1.0) for j in (-1.0, 1.0) for k in (-1.0, 1.0)])


def rotation(yaw: float = 0.0, pitch: float = 0.0, roll: float = 0.0) -> Float64[np.ndarray, "3 3"]:
    """Rotation in radians: about z (turn left), then x (lean back), then y (tilt to the side)."""
    cz, sz, cx, sx, cy, sy = np.cos(yaw), np.sin(yaw), np.cos(pitch), np.sin(pitch), np.cos(roll), np.sin(roll)
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1.0]])
    about_x = np.array([[1.0, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1.0, 0], [-sy, 0, cy]])
    return about_y @ about_x @ about_z


def make_ellipsoid(
    attenuation: float,
    priority: float,
    center: Vector,
    semi_axes: Vector,
    turn: np.ndarray | None = None,
    lean: float = 0.0,
    tag: str = "",
) -> Solid:
    """An ellipsoid; `turn` rotates its axes, `lean` shears y by z (dy/dz), as a chest leans."""
    shape = np.diag(1.0 / np.asarray(semi_axes, dtype=np.float64))
    if turn is not None:
        shape = shape @ turn.T
    if lean:
        shape = shape @ np.array([[1.0, 0, 0], [0, 1.0, -lean], [0, 0, 1.0]])
    return Solid(attenuation, priority, shape[None], np.asarray(center, dtype=np.float64)[None], tag=tag)


def find_corners(solids: list[Solid]) -> Float64[np.ndarray, "solid 8 3"]:
    """Corners of a box around each body's first quadric, hence around the body."""
    if not solids:
        return np.zeros((0, 8, 3))
    back = np.linalg.inv(np.stack([solid.shapes[0] for solid in solids]))
    return np.stack([solid.centers[0] for solid in solids])[:, None] + np.einsum("skl,cl->sck", back, _SIGNS)


def make_rods(
    attenuation: float, priority: float, points: np.ndarray, radii: np.ndarray | float, tag: str = ""
) -> list[Solid]:
    """Displacing rods (aorta, trachea) along points (m, 3): stretched ellipsoids, each cut where the next begins."""
    tubes = make_chain(points, np.asarray(radii) * 1.03, 0.0)
    axes, swarm = tubes.ends - tubes.starts, _finish_tubes(tubes)
    # An ellipsoid of three times the half length is near a cylinder between the cuts.
    lengths = np.linalg.norm(axes, axis=1)
    along = axes / (lengths * (1.5 * lengths + tubes.radii[:, 0]))[:, None]
    shapes = np.concatenate([swarm.shapes, along[:, None]], axis=1)
    return [
        Solid(attenuation, priority, shapes[i, None], swarm.centers[i, None], swarm.planes[i], tag)
        for i in range(len(swarm))
    ]


@dataclass(frozen=True)
class Swarm:
    """Many small bodies |A (x - c)| <= 1 within half-spaces, each adding `weights` per centimetre where it is."""

    shapes: Float64[np.ndarray, "body row 3"]  # 2 rows: an elliptic cylinder; 3 rows: an ellipsoid
    centers: Float64[np.ndarray, "body 3"]
    planes: Float64[np.ndarray, "body plane 4"]
    corners: Float64[np.ndarray, "body 8 3"]  # of a box around each body
    weights: Float64[np.ndarray, " body"]
    cores: Float64[np.ndarray, "body 2"]  # share of the radius, and what is added within it (0, 0: all alike)
    soft: bool = False  # fades as 1 - r^2 to its edge
    host: str = ""  # counts only where the lung of this tag is aerated
    tag: str = ""

    def __len__(self) -> int:
        return len(self.weights)

    def scale(self, factor: float) -> Swarm:
        """As dense as `factor` says."""
        return replace(self, weights=self.weights * factor, cores=self.cores * np.array([1.0, factor]))

    def density(self, points: Points) -> Float64[np.ndarray, " point"]:
        total = np.zeros(len(points))
        near = (self.corners.min(1) <= points.max(0)).all(1) & (self.corners.max(1) >= points.min(0)).all(1)
        for i in np.flatnonzero(near):
            shape, center, planes, weight = self.shapes[i], self.centers[i], self.planes[i], self.weights[i]
            square = (((points - center) @ shape.T) ** 2).sum(1)
            inside = square <= 1
            for plane in planes:
                inside &= points @ plane[:3] <= plane[3]
            total += inside * weight * ((1 - square) if self.soft else 1.0)
            total += (inside & (square <= self.cores[i, 0] ** 2)) * self.cores[i, 1]
        return total


def join_swarms(parts: list[Part]) -> list[Swarm]:
    """Fewer, larger swarms: those that are drawn in the same way become one."""
    tubes: dict[tuple, list[Tubes]] = {}
    swarms: list[Swarm] = []
    for part in parts:
        if isinstance(part, Tubes):
            tubes.setdefault((part.tag, part.cores.any()), []).append(part)
        else:
            swarms.append(part)
    swarms += [_finish_tubes(_concatenate(group)) for group in tubes.values()]
    groups: dict[tuple, list[Swarm]] = {}
    for swarm in swarms:
        alike = swarm.shapes.shape[1], swarm.planes.shape[1], swarm.soft, swarm.host, swarm.tag, swarm.cores.any()
        groups.setdefault(alike, []).append(swarm)
    return [_concatenate(group) for group in groups.values()]


def _concatenate(group: list[AnyPart]) -> AnyPart:
    arrays = {
        name: np.ascontiguousarray(np.concatenate([getattr(part, name) for part in group]))
        for name, value in vars(group[0]).items()
        if isinstance(value, np.ndarray)
    }
    return replace(group[0], **arrays)


@dataclass(frozen=True)
class Tubes:
    """Straight tubes of elliptic section between two planes; `join_swarms` makes swarms of many at once."""

    starts: Float64[np.ndarray, "tube 3"]
    ends: Float64[np.ndarray, "tube 3"]
    radii: Float64[np.ndarray, "tube 2"]  # across `ups` and the axis, and towards `ups`
    weights: Float64[np.ndarray, " tube"]
    ups: Float64[np.ndarray, "tube 3"]  # 0: as level as can be
    start_normals: Float64[np.ndarray, "tube 3"]  # 0: square to the axis
    end_normals: Float64[np.ndarray, "tube 3"]
    cores: Float64[np.ndarray, "tube 2"]
    tag: str = ""

    def scale(self, factor: float) -> Tubes:
        """As dense as `factor` says."""
        return replace(self, weights=self.weights * factor, cores=self.cores * np.array([1.0, factor]))

    def select(self, keep: Bool[np.ndarray, " tube"]) -> Tubes:
        """Those that `keep` says."""
        return replace(
            self, **{name: value[keep] for name, value in vars(self).items() if isinstance(value, np.ndarray)}
        )


def _pair(radii: np.ndarray | float, num: int) -> Float64[np.ndarray, "num 2"]:
    """One radius for all, one for each of `num` (n,), or both of each (n, 2), as both of each."""
    radii = np.asarray(radii, dtype=np.float64)
    return (radii if radii.ndim == 2 else radii.reshape(-1, 1)) * np.ones((num, 2))  # quicker than np.broadcast_to


def make_tubes(
    starts: np.ndarray,
    ends: np.ndarray,
    radii: np.ndarray,
    weights: np.ndarray | float,
    up: np.ndarray | None = None,
    start_normals: np.ndarray | None = None,
    end_normals: np.ndarray | None = None,
    core: tuple[float, float] = (0.0, 0.0),
    tag: str = "",
) -> Tubes:
    """Straight tubes from starts (n, 3) to ends; radii (n,) or (n, 2) for (across, towards up) of elliptic sections.

    `core`: share of the radius, and the weight that is added within it.
    """
    num = len(starts)
    return Tubes(
        starts,
        ends,
        _pair(radii, num),
        weights * np.ones(num),
        (0.0 if up is None else up) * np.ones((num, 3)),
        np.zeros((num, 3)) if start_normals is None else start_normals,
        np.zeros((num, 3)) if end_normals is None else end_normals,
        core * np.ones((num, 2)),
        tag,
    )


def _finish_tubes(tubes: Tubes) -> Swarm:
    starts, ends = tubes.starts, tubes.ends
    shapes, planes, corners = kernels.shape_tubes(
        starts, ends, tubes.radii, tubes.ups, tubes.start_normals, tubes.end_normals
    )
    return Swarm(shapes, 0.5 * (starts + ends), planes, corners, tubes.weights, tubes.cores, tag=tubes.tag)


def make_chain(
    points: np.ndarray,
    radii: np.ndarray | float,
    weight: float,
    up: np.ndarray | None = None,
    core: tuple[float, float] = (0.0, 0.0),
    tag: str = "",
) -> Tubes:
    """One tube through points (m, 3), its segments meeting in mitred planes; radii (m,) or (m, 2)."""
    points = np.asarray(points, dtype=np.float64)
    radii = _pair(radii, len(points))
    normals = kernels.mitre(points)
    between = 0.5 * (radii[1:] + radii[:-1])
    return make_tubes(points[:-1], points[1:], between, weight, up, normals[:-1], normals[1:], core, tag)


def make_bone(
    points: np.ndarray, radii: np.ndarray | float, up: np.ndarray | None = None, shell: float = 0.72
) -> list[Tubes]:
    """A bone: a tube of cortex, its core (`shell` of its radius) marrow."""
    return [make_chain(points, radii, CORTEX, up, (shell, MARROW - CORTEX))]


def make_balls(
    centers: np.ndarray,
    semi_axes: np.ndarray,
    weights: np.ndarray | float,
    *,
    turns: np.ndarray | None = None,
    soft: bool = True,
    host: str = "",
    tag: str = "",
) -> Swarm:
    """Ellipsoids at centers (n, 3) with semi_axes (n, 3) or (n,), turned by turns (n, 3, 3) where given."""
    centers = np.asarray(centers, dtype=np.float64)
    semi_axes = np.asarray(semi_axes, dtype=np.float64)
    semi_axes = np.broadcast_to(semi_axes[:, None] if semi_axes.ndim == 1 else semi_axes, (len(centers), 3))
    turns = np.broadcast_to(np.eye(3), (len(centers), 3, 3)) if turns is None else turns
    shapes = np.swapaxes(turns, 1, 2) / semi_axes[:, :, None]
    corners = centers[:, None] + np.einsum("nij,ncj->nci", turns, _SIGNS[None] * semi_axes[:, None])
    weights = np.broadcast_to(np.asarray(weights, dtype=np.float64), len(centers))
    num = len(centers)
    planes, cores = np.zeros((num, 0, 4)), np.zeros((num, 2))
    return Swarm(shapes, centers, planes, corners, weights.copy(), cores, soft=soft, host=host, tag=tag)


Part = Swarm | Tubes


def curve_through(points: list | np.ndarray, num: int) -> Float64[np.ndarray, "num 3"]:
    """A smooth curve (Catmull-Rom) through control points, in `num` points at equal steps of the parameter."""
    control = np.asarray(points, dtype=np.float64)
    return _blend(len(control), num) @ control


@lru_cache(maxsize=64)
def _blend(num_control: int, num: int) -> Float64[np.ndarray, "num control"]:
    """What each control point counts at each point of a Catmull-Rom curve, whose ends go on straight."""
    place = np.linspace(0, num_control - 1, num)
    index = np.minimum(place.astype(int), num_control - 2)
    t = place - index
    blend = np.zeros((num, num_control + 2))
    powers = np.stack([-t + 2 * t**2 - t**3, 2 - 5 * t**2 + 3 * t**3, t + 4 * t**2 - 3 * t**3, t**3 - t**2])
    for k in range(4):
        blend[np.arange(num), index + k] = 0.5 * powers[k]
    first, last = blend[:, :1], blend[:, -1:]  # the points before the first and after the last
    blend = blend[:, 1:-1]
    blend[:, :2] += first * [2, -1]
    blend[:, -2:] += last * [-1, 2]
    return blend


def pack_solids(solids: list[Solid]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Their shapes (quadric, 3, 3), centers (quadric, 3) and planes (plane, 4) in a row, and firsts (solid + 1, 2).

    `firsts` says where the quadrics and the planes of each begin.
    """
    shapes, centers, planes = (
        np.concatenate([getattr(solid, name) for solid in solids]) for name in ("shapes", "centers", "planes")
    )
    return shapes, centers, planes, np.cumsum([(0, 0)] + [(len(s.shapes), len(s.planes)) for s in solids], axis=0)


def outside_all(solids: list[Solid], points: Points) -> Bool[np.ndarray, " point"]:
    """Which points lie in none of the solids."""
    return kernels.find_outside(points, *pack_solids(solids))


def density_at(solids: list[Solid], swarms: list[Swarm], points: Points) -> Float64[np.ndarray, " point"]:
    """Attenuation per centimetre at points (n, 3), by membership alone: what the projector must integrate."""
    total = np.zeros(len(points))
    owner = np.full(len(points), "", dtype=object)
    # A stable sort: of two solids of one priority the first named wins, as in the projector.
    free = np.ones(len(points), dtype=bool)
    for solid in sorted(solids, key=lambda body: -body.priority):
        mine = free & solid.contains(points)
        total[mine], owner[mine] = solid.attenuation, solid.tag
        free &= ~mine
    for swarm in swarms:
        total += swarm.density(points) * ((owner == swarm.host) if swarm.host else 1.0)
    return total
