"""Exact line integrals of a chest along the rays of a cone beam: no voxels, no steps.

Every ray is a straight line from a point source to the centre of a pixel; t is the distance from the source in centimetres. A
convex body meets it in one interval. Solids are laid down from the highest priority to the lowest: each adds its attenuation
times the length that nothing before it had covered (Beer-Lambert, mu integrated along the ray).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32

from hilum.phantom.anatomy import Chest
from hilum.phantom.bodies import Solid, Swarm, make_rng, rotation
from hilum.phantom.plan import Projection

Grid = Float32[np.ndarray, "row col"]
_NEVER = np.float32(1e6)  # an empty interval is [_NEVER, -_NEVER]


@dataclass(frozen=True)
class Beam:
    """Source and detector: the ray of pixel (row, col) ends at corner + col * right + row * down."""

    source: np.ndarray  # (3,) centimetres
    corner: np.ndarray
    right: np.ndarray  # one pixel along a row
    down: np.ndarray
    size: int

    def directions(self) -> Float32[np.ndarray, "3 row col"]:
        steps = np.arange(self.size)
        target = (
            (self.corner - self.source)[:, None, None]
            + self.right[:, None, None] * steps[None, None, :]
            + self.down[:, None, None] * steps[None, :, None]
        )
        return (target / np.sqrt((target**2).sum(0))).astype(np.float32)

    def locate(self, points: np.ndarray) -> np.ndarray:
        """Pixel (col, row) where the shadows of points (..., 3) fall."""
        basis = np.stack([self.right, self.down, self.corner - self.source], axis=1)
        found = (points - self.source) @ np.linalg.inv(basis).T
        return found[..., :2] / found[..., 2:]


def aim_beam(chest: Chest, projection: Projection, size: int) -> Beam:
    """The beam of one view: PA at 1.8 m, AP portable at 1.0 to 1.3 m, lateral at 1.8 m with the left side to the detector.

    The patient's right is at the image's left in frontal views; a lateral faces right. Pose (a turn of a few degrees) and
    centring differ from view to view.
    """
    rng = make_rng("beam", chest.key, ("PA", "AP", "LATERAL").index(projection))
    shape = chest.shape
    distance = {"PA": 180.0, "AP": rng.uniform(100, 130), "LATERAL": 180.0}[projection]
    spread = 1.0 if projection != "AP" else 1.8
    turn = rotation(*(np.radians(rng.normal(0, (2.2, 1.6, 1.2))) * spread))
    field = rng.uniform(0.97, 1.1) * (2.0 * shape.half_width + 12.5)
    behind = shape.half_depth + 5.0 if projection != "LATERAL" else shape.half_width + 6.5
    field *= distance / (distance - behind)
    if projection == "LATERAL":
        ahead, right = np.array([1.0, 0, 0]), np.array([0, -1.0, 0])
    else:
        ahead, right = np.array([0, -1.0 if projection == "PA" else 1.0, 0]), np.array([1.0, 0, 0])
    down = np.array([0, 0, -1.0])
    aim = np.array([0.0, 0.8, 0.37 * shape.apex - 0.5]) + rng.normal(0, (0.7, 0.7, 1.1)) * spread
    source = aim - ahead * (distance - behind)
    middle = aim + ahead * behind
    pixel = field / size
    corner = middle - (right + down) * pixel * (size - 1) / 2
    pivot = np.array([0.0, 1.0, aim[2]])
    source, corner = ((point - pivot) @ turn.T + pivot for point in (source, corner))
    return Beam(source, corner, turn @ right * pixel, turn @ down * pixel, size)


def _window(beam: Beam, corners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First and one-past-last (col, row) of the pixels around projected corners (n, 8, 3)."""
    place = beam.locate(corners)
    low = np.clip(np.floor(place.min(1)), 0, beam.size).astype(np.int64)
    high = np.clip(np.ceil(place.max(1)) + 1, 0, beam.size).astype(np.int64)
    return low, np.maximum(high, low)


def _cross_quadric(
    rows: np.ndarray, offset: np.ndarray, direction: list[np.ndarray]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Middle and half length of the chord of |A (s + t d - c)| <= 1, and 1 - (nearest approach)^2 (negative: missed).

    `rows[k][l]` are A's entries and `offset[k]` those of A (s - c): numbers, or arrays along the rays.
    """
    slope = [sum(row[axis] * direction[axis] for axis in range(3)) for row in rows]
    square = sum(part * part for part in slope)
    middle = sum(part * shift for part, shift in zip(slope, offset, strict=True)) / square
    # The part of the offset across the ray, in units of the body: no cancellation, so float32 is enough.
    inside = 1.0 - sum((shift - part * middle) ** 2 for part, shift in zip(slope, offset, strict=True))
    return -middle, np.sqrt(np.maximum(inside, 0) / square), inside


def _cross_solid(solid: Solid, source: np.ndarray, direction: np.ndarray) -> tuple[Grid, Grid]:
    """Entry and exit of every ray: the latest of the entries, the earliest of the exits; [_NEVER, -_NEVER] if missed."""
    entry = exit_ = None
    for shape, center in zip(solid.shapes, solid.centers, strict=True):
        middle, half, _ = _cross_quadric(
            shape.astype(np.float32), (shape @ (source - center)).astype(np.float32), list(direction)
        )
        low, high = middle - half, middle + half
        entry = low if entry is None else np.maximum(entry, low)
        exit_ = high if exit_ is None else np.minimum(exit_, high)
    for plane in solid.planes:
        speed = sum(np.float32(plane[axis]) * direction[axis] for axis in range(3))
        at = np.float32(plane[3] - plane[:3] @ source) / np.where(speed == 0, np.float32(1e-12), speed)
        np.minimum(exit_, at, out=exit_, where=speed > 0)
        np.maximum(entry, at, out=entry, where=speed <= 0)
    missed = exit_ <= entry
    entry[missed], exit_[missed] = _NEVER, -_NEVER
    return entry, exit_


class Coverage:
    """For every ray the disjoint intervals that solids laid so far cover, in as many slots as any ray needs."""

    def __init__(self, size: int) -> None:
        self.entries: list[Grid] = []
        self.exits: list[Grid] = []
        self.size = size

    def lay(self, entry: Grid, exit_: Grid, region: tuple[slice, slice]) -> Grid:
        """Cover [entry, exit_] too; returns the length that was not covered before."""
        hit = exit_ > entry
        first, last = entry.copy(), exit_.copy()
        before = np.zeros_like(entry)
        live = []
        for slot_entry, slot_exit in zip(self.entries, self.exits, strict=True):
            begin, end = slot_entry[region], slot_exit[region]
            touch = (begin <= exit_) & (end >= entry)
            if touch.any():
                before += np.where(touch, end - begin, 0)
                np.minimum(first, begin, out=first, where=touch)
                np.maximum(last, end, out=last, where=touch)
                begin[touch], end[touch] = _NEVER, -_NEVER
            live.append((begin, end))
        added = np.where(hit, last - first - before, 0)
        for begin, end in live:
            room = hit & (end < begin)
            np.copyto(begin, first, where=room)
            np.copyto(end, last, where=room)
            hit &= ~room
            if not hit.any():
                return added
        if hit.any():
            for slots, value, empty in ((self.entries, first, _NEVER), (self.exits, last, -_NEVER)):
                slot = np.full((self.size, self.size), empty, dtype=np.float32)
                np.copyto(slot[region], value, where=hit)
                slots.append(slot)
        return added

    def copy(self) -> Coverage:
        other = Coverage(self.size)
        other.entries, other.exits = [slot.copy() for slot in self.entries], [slot.copy() for slot in self.exits]
        return other


@dataclass
class _Lung:
    """Where one aerated lung is on each ray: its interval, less what had been laid before it."""

    entry: Grid
    exit: Grid
    region: tuple[slice, slice]
    taken: Coverage


def project_parts(chest: Chest, projection: Projection, size: int) -> tuple[Grid, dict[str, Grid]]:
    """The whole line integral, and for each tag the part of it that bodies of that tag add (lungs: their length in cm)."""
    beam = aim_beam(chest, projection, size)
    direction = beam.directions()
    total = np.zeros((size, size), dtype=np.float32)
    parts: dict[str, Grid] = {}
    coverage, lungs = Coverage(size), {}
    hosts = {swarm.host for swarm in chest.swarms_of(projection) if swarm.host}
    for solid in chest.solids_of(projection):
        low, high = (corner[0] for corner in _window(beam, solid.corners()[None]))
        region = slice(low[1], high[1]), slice(low[0], high[0])
        if (high <= low).any():
            continue
        entry, exit_ = _cross_solid(solid, beam.source, direction[:, region[0], region[1]])
        if solid.tag in hosts:
            lungs[solid.tag] = _Lung(entry.copy(), exit_.copy(), region, coverage.copy())
        added = coverage.lay(entry, exit_, region)
        total[region] += np.float32(solid.attenuation) * added
        if solid.tag:
            parts.setdefault(solid.tag, np.zeros_like(total))[region] += added
    for swarm in chest.swarms_of(projection):
        share = np.zeros((size, size), dtype=np.float32)
        if swarm.host:
            if swarm.host in lungs:
                _add_hosted(swarm, beam, direction, lungs[swarm.host], share)
        else:
            share = _splat(swarm, beam, direction)
        total += share
        if swarm.tag:
            parts[swarm.tag] = parts.get(swarm.tag, 0) + np.abs(share)
    return total, parts


def _splat(swarm: Swarm, beam: Beam, direction: Float32[np.ndarray, "3 row col"]) -> Grid:
    """All bodies of a swarm at once, as one flat list of (body, pixel) pairs from the box around each body's shadow."""
    low, high = _window(beam, swarm.corners)
    width, height = (high - low).T
    counts = width * height
    size = beam.size
    starts = np.cumsum(counts) - counts
    local = np.arange(counts.sum()) - np.repeat(starts, counts)
    wide = np.repeat(width, counts)
    row = local // np.maximum(wide, 1)
    pixel = np.repeat(low[:, 1] * size + low[:, 0], counts) + row * size + (local - row * wide)
    ray = [direction[axis].ravel()[pixel] for axis in range(3)]

    def spread(values: np.ndarray) -> np.ndarray:
        return np.repeat(values.astype(np.float32), counts)

    shapes = swarm.shapes
    shift = np.einsum("nkl,nl->nk", shapes, beam.source - swarm.centers)
    rows = [[spread(shapes[:, k, axis]) for axis in range(3)] for k in range(shapes.shape[1])]
    middle, half, inside = _cross_quadric(rows, [spread(shift[:, k]) for k in range(shapes.shape[1])], ray)
    if swarm.planes.shape[1] == 0:
        length = 2 * half * (np.float32(2 / 3) * np.maximum(inside, 0) if swarm.soft else np.float32(1))
    else:
        assert not swarm.soft, "a soft swarm has no planes"
        entry, exit_ = middle - half, middle + half
        for k in range(swarm.planes.shape[1]):
            normal = swarm.planes[:, k, :3]
            ahead = spread(swarm.planes[:, k, 3] - normal @ beam.source)
            speed = sum(spread(normal[:, axis]) * ray[axis] for axis in range(3))
            at = ahead / np.where(speed == 0, np.float32(1e-12), speed)
            np.minimum(exit_, at, out=exit_, where=speed > 0)
            np.maximum(entry, at, out=entry, where=speed <= 0)
        length = np.maximum(exit_ - entry, 0)
    total = np.bincount(pixel, weights=length * spread(swarm.weights), minlength=size * size)
    return total.reshape(size, size).astype(np.float32)


def _add_hosted(swarm: Swarm, beam: Beam, direction: np.ndarray, lung: _Lung, share: Grid) -> None:
    """Bodies that count only in aerated lung: their integral over the lung's interval less that over what displaces it."""
    lows, highs = _window(beam, swarm.corners)
    top, left = lung.region[0].start, lung.region[1].start
    bottom, right = lung.region[0].stop, lung.region[1].stop
    for i in range(len(swarm)):
        rows = slice(max(lows[i, 1], top), min(highs[i, 1], bottom))
        cols = slice(max(lows[i, 0], left), min(highs[i, 0], right))
        if rows.start >= rows.stop or cols.start >= cols.stop:
            continue
        shape = swarm.shapes[i]
        offset = (shape @ (beam.source - swarm.centers[i])).astype(np.float32)
        middle, half, inside = _cross_quadric(shape.astype(np.float32), offset, list(direction[:, rows, cols]))
        inner = slice(rows.start - top, rows.stop - top), slice(cols.start - left, cols.stop - left)
        slope = np.maximum(inside, 0) / np.maximum(half, 1e-6) ** 2  # |A d|^2

        def integrate(entry: Grid, exit_: Grid, soft: bool = swarm.soft) -> Grid:
            begin, end = np.clip(entry - middle, -half, half), np.clip(exit_ - middle, -half, half)  # noqa: B023
            if not soft:
                return np.maximum(end - begin, 0)
            whole = inside * (end - begin) - slope * (end**3 - begin**3) / 3  # noqa: B023
            return np.where(end > begin, whole, 0)

        entry, exit_ = lung.entry[inner], lung.exit[inner]
        length = integrate(entry, exit_)
        for slot_entry, slot_exit in zip(lung.taken.entries, lung.taken.exits, strict=True):
            length -= integrate(np.maximum(entry, slot_entry[rows, cols]), np.minimum(exit_, slot_exit[rows, cols]))
        share[rows, cols] += np.float32(swarm.weights[i]) * np.where(inside > 0, length, 0)


def project_chest(chest: Chest, projection: Projection, size: int) -> Grid:
    """Line integrals (size, size), dimensionless: the sum of attenuation times length along each ray."""
    return project_parts(chest, projection, size)[0]


def project_masks(chest: Chest, projection: Projection, size: int) -> dict[str, Bool[np.ndarray, "row col"]]:
    """Where "heart", "left lung", "right lung" and "lesion 0", "lesion 1", ... (index into the plan) fall on the image.

    A lung is where its aerated path is over 3 mm, the heart where it is over 2 mm; a lesion is where it adds at least a tenth of its own
    maximum. A lesion that scales normal anatomy (an enlarged heart) has the mask of that anatomy.
    """
    parts = project_parts(chest, projection, size)[1]
    masks = {name: parts[name] > limit for name, limit in (("heart", 0.2), ("left lung", 0.3), ("right lung", 0.3))}
    for index, stands_for in enumerate(chest.lesion_tags):
        part = sum((parts[tag] for tag in stands_for if tag in parts), np.zeros((size, size), dtype=np.float32))
        masks[f"lesion {index}"] = part > max(0.1 * float(part.max()), 1e-3)
    return masks
