"""Exact line integrals of a chest along the rays of a cone beam: no voxels, no steps.

Every ray is a straight line from a point source to the centre of a pixel, a share t of the way; shares become
centimetres at the end. A convex body meets it in one interval. Solids are laid down from the highest priority to the
lowest: each adds its attenuation times the length that nothing before it had covered (Beer-Lambert: mu integrated
along the ray).

Because A (source + t (pixel - source) - c) is linear in row and column, a quadric costs a few array operations over
its shadow. Masks are avoided where arithmetic will do (adding _NEVER): it is several times faster in numpy.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float32

from hilum.phantom.anatomy import Chest
from hilum.phantom.bodies import Solid, Swarm, find_corners, make_rng, rotation
from hilum.phantom.plan import Projection

Region = tuple[slice, slice]
Grid = Float32[np.ndarray, "row col"]
_FAR = np.float32(-10), np.float32(10)  # t beyond any body
_BLOCK = 16384  # pixels measured at once: what stays in the processor's cache
_BOXES = np.array(
    [4, 7, 11, 16, 24, 36, 54, 80, 120, 180, 270, 405, 600, 900, 1400, 2100, 3200, 4800]
)  # sides of shadows' boxes
_NEVER = np.float32(1e4)  # added to what must not count: t itself is near 1


@dataclass(frozen=True)
class Beam:
    """Source and detector: the ray of pixel (row, col) ends at corner + col * right + row * down."""

    source: np.ndarray  # (3,) centimetres
    corner: np.ndarray
    right: np.ndarray  # one pixel along a row
    down: np.ndarray
    size: int

    def lengths(self) -> Float32[np.ndarray, "row col"]:
        """Centimetres from the source to each pixel."""
        steps = np.arange(self.size)
        first = self.corner - self.source
        ray = first[:, None, None] + self.right[:, None, None] * steps + self.down[:, None, None] * steps[:, None]
        return np.sqrt((ray**2).sum(0)).astype(np.float32)

    @cached_property
    def basis(self) -> np.ndarray:
        """Columns (3, 3): the ray of pixel (0, 0), its change from column to column, and from row to row."""
        return np.stack([self.corner - self.source, self.right, self.down], axis=1)

    @cached_property
    def _inverse(self) -> np.ndarray:
        return np.linalg.inv(self.basis)

    def locate(self, points: np.ndarray) -> np.ndarray:
        """Pixel (col, row) where the shadows of points (..., 3) fall."""
        found = (points - self.source) @ self._inverse.T
        return found[..., 1:] / found[..., :1]


def aim_beam(chest: Chest, projection: Projection, size: int) -> Beam:
    """The beam of one view: PA 1.8 m, AP portable 1.0 to 1.3 m, lateral 1.8 m with the left side to the detector.

    The patient's right is at the image's left in frontal views; a lateral faces right. Pose (a turn of a few degrees)
    and centring differ from view to view.
    """
    rng = make_rng("beam", chest.key, ("PA", "AP", "LATERAL").index(projection))
    shape = chest.shape
    distance = {"PA": 180.0, "AP": rng.uniform(100, 130), "LATERAL": 180.0}[projection]
    spread = 1.0 if projection != "AP" else 1.8
    turn = rotation(*(np.radians(rng.normal(0, (2.2, 1.6, 1.2))) * spread))
    field = rng.uniform(0.97, 1.1) * (2.0 * shape.half_width + (9.5 if projection != "LATERAL" else 10.5))
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
    place = beam.locate(np.ascontiguousarray(corners.swapaxes(0, 1)).reshape(-1, 3)).reshape(8, -1, 2)
    low = np.clip(np.floor(place.min(0)), 0, beam.size).astype(np.int32)
    high = np.clip(np.ceil(place.max(0)) + 1, 0, beam.size).astype(np.int32)
    return low, np.maximum(high, low)


def _fan(vectors: np.ndarray, basis: np.ndarray, region: Region) -> Float32[np.ndarray, "vector row col"]:
    """Products of vectors (k, 3) with the rays of a region."""
    rows, cols = (np.arange(part.start, part.stop) for part in region)
    first, right, down = (vectors @ basis).T[:, :, None]
    along = (first + right * cols).astype(np.float32)
    return along[:, None, :] + (down * rows).astype(np.float32)[:, :, None]


def _cross_quadric(shape: np.ndarray, offset: np.ndarray, basis: np.ndarray, region: Region) -> tuple[Grid, Grid, Grid]:
    """Middle and half length of the chord of |A (s + t d - c)| <= 1, and 1 - (nearest approach)^2 (negative: missed).

    `shape` is A, `offset` is A (s - c).
    """
    offset = offset.astype(np.float32)
    slope = _fan(shape, basis, region)
    square = np.einsum("krc,krc->rc", slope, slope)
    middle = slope[0] * -offset[0]
    middle -= slope[1] * offset[1]
    middle -= slope[2] * offset[2]
    middle /= square
    # The part of the offset across the ray, in units of the body: no cancellation, so float32 is enough.
    slope *= middle
    slope += offset[:, None, None]
    inside = 1 - np.einsum("krc,krc->rc", slope, slope)
    return middle, np.sqrt(np.maximum(inside, 0) / square), inside


def _cross_solid(solid: Solid, beam: Beam, region: Region) -> tuple[Grid, Grid]:
    """Entry and exit of every ray: the latest entry, the earliest exit; far apart and reversed if missed."""
    basis = beam.basis
    extent = tuple(part.stop - part.start for part in region)
    entry, exit_ = np.full(extent, -_NEVER, dtype=np.float32), np.full(extent, _NEVER, dtype=np.float32)
    for shape, center in zip(solid.shapes, solid.centers, strict=True):
        middle, half, _ = _cross_quadric(shape, shape @ (beam.source - center), basis, region)
        np.maximum(entry, middle - half, out=entry)
        np.minimum(exit_, middle + half, out=exit_)
    if len(solid.planes):
        speeds = _fan(solid.planes[:, :3], basis, region)
        for speed, ahead in zip(speeds, solid.planes[:, 3] - solid.planes[:, :3] @ beam.source, strict=True):
            _clip(entry, exit_, np.float32(ahead), speed)
    missed = (exit_ <= entry) * _NEVER
    entry += missed
    exit_ -= missed
    return entry, exit_


def _clip(entry: np.ndarray, exit_: np.ndarray, ahead: np.ndarray | np.float32, speed: np.ndarray) -> None:
    """Cut intervals at a plane, in place: leaving it where speed > 0, entering it where speed < 0."""
    # A plane along the ray is met far away, but not so far as to outdo _NEVER.
    at = np.minimum(np.maximum(ahead / (speed + (speed == 0) * np.float32(1e-12)), _FAR[0]), _FAR[1])
    leaving = (speed >= 0) * _NEVER
    np.maximum(entry, at - leaving, out=entry)
    np.minimum(exit_, at + (_NEVER - leaving), out=exit_)


class Coverage:
    """For every ray the disjoint intervals that solids laid so far cover, in as many slots as any ray needs."""

    def __init__(self, size: int) -> None:
        self.entries: list[Grid] = []  # _NEVER and above: empty
        self.exits: list[Grid] = []
        self.size = size

    def lay(self, entry: Grid, exit_: Grid, region: Region) -> Grid:
        """Cover [entry, exit_] too; returns the length that was not covered before."""
        hit = exit_ > entry
        first, last = entry.copy(), exit_.copy()
        before = np.zeros_like(entry)
        slots = [(begin[region], end[region]) for begin, end in zip(self.entries, self.exits, strict=True)]
        for begin, end in slots:
            touch = begin <= exit_
            touch &= end >= entry
            if not touch.any():
                continue
            taken = touch.astype(np.float32)
            before += taken * (end - begin)
            taken *= _NEVER
            spared = _NEVER - taken
            np.minimum(first, begin + spared, out=first)
            np.maximum(last, end - spared, out=last)
            begin += taken
            end -= taken
        added = (last - first - before) * hit
        for begin, end in slots:
            room = end < begin
            room &= hit
            if not room.any():
                continue
            full = (_NEVER - room * _NEVER) * np.float32(2)
            np.minimum(begin, first + full, out=begin)
            np.maximum(end, last - full, out=end)
            hit &= ~room
            if not hit.any():
                return added
        if hit.any():
            for grids, value, empty in ((self.entries, first, _NEVER), (self.exits, last, -_NEVER)):
                slot = np.full((self.size, self.size), empty, dtype=np.float32)
                np.copyto(slot[region], value, where=hit)
                grids.append(slot)
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
    region: Region
    taken: Coverage


def project_parts(chest: Chest, projection: Projection, size: int, split: bool = True) -> tuple[Grid, dict[str, Grid]]:
    """The whole line integral, and for each tag what bodies of that tag add to it (solids: their length in cm).

    Without `split` there are no parts, which is quicker.
    """
    beam = aim_beam(chest, projection, size)
    total = np.zeros((size, size), dtype=np.float32)
    parts: dict[str, Grid] = {}
    coverage, lungs = Coverage(size), {}
    hosts = {swarm.host for swarm in chest.swarms_of(projection) if swarm.host}
    solids = chest.solids_of(projection)
    windows = zip(*_window(beam, find_corners(solids)), strict=True)
    for solid, (low, high) in zip(solids, windows, strict=True):
        region = slice(low[1], high[1]), slice(low[0], high[0])
        if (high <= low).any():
            continue
        entry, exit_ = _cross_solid(solid, beam, region)
        if solid.tag in hosts:
            lungs[solid.tag] = _Lung(entry.copy(), exit_.copy(), region, coverage.copy())
        added = coverage.lay(entry, exit_, region)
        total[region] += np.float32(solid.attenuation) * added
        if solid.tag and split:
            parts.setdefault(solid.tag, np.zeros_like(total))[region] += added
    for swarm in chest.swarms_of(projection):
        share = np.zeros((size, size), dtype=np.float32)
        if swarm.host:
            if swarm.host in lungs:
                _add_hosted(swarm, beam, lungs[swarm.host], share)
        else:
            share = _splat(swarm, beam)
        total += share
        if swarm.tag and split:
            parts[swarm.tag] = parts.get(swarm.tag, 0) + np.abs(share)
    lengths = beam.lengths()
    return total * lengths, {tag: part * lengths for tag, part in parts.items()}


def _splat(swarm: Swarm, beam: Beam) -> Grid:
    """All bodies of a swarm: those with shadows of about one size are measured together, as a stack of boxes."""
    low, high = _window(beam, swarm.corners)
    extent = high - low
    seen = np.flatnonzero(extent.prod(1))
    num_rows = swarm.shapes.shape[1]
    # For its quadric's rows and its planes: the product with the ray of the box's corner, its change along and down.
    vectors = np.concatenate([swarm.shapes, swarm.planes[:, :, :3]], axis=1)
    fan = (vectors.reshape(-1, 3) @ beam.basis).reshape(vectors.shape)
    fan[:, :, 0] += fan[:, :, 1] * low[:, None, 0] + fan[:, :, 2] * low[:, None, 1]
    shift = np.einsum("nkl,nl->nk", swarm.shapes, beam.source - swarm.centers)
    ahead = swarm.planes[:, :, 3] - swarm.planes[:, :, :3] @ beam.source
    fan, constants = fan.astype(np.float32), np.concatenate([shift, ahead], axis=1).astype(np.float32)
    weights, cores = swarm.weights.astype(np.float32), swarm.cores.astype(np.float32)
    # Boxes may reach over the right and lower edge, into a margin that is cut off.
    sizes = _BOXES[np.searchsorted(_BOXES, extent)]
    canvas = np.int32(beam.size + sizes[seen].max(initial=0))
    total = np.zeros(canvas**2, dtype=np.float32)
    codes = sizes[seen, 0] * 10000 + sizes[seen, 1]
    for code in np.unique(codes):
        group = seen[codes == code]
        wide, tall = sizes[group[0]]
        steps = max(_BLOCK // int(wide * tall), 1)
        place = (np.arange(tall, dtype=np.int32)[:, None] * canvas + np.arange(wide, dtype=np.int32))[:, :, None]
        for some in (group[start : start + steps] for start in range(0, len(group), steps)):
            length = _measure_boxes(
                fan[some], constants[some], weights[some], cores[some], num_rows, int(wide), int(tall), swarm.soft
            )
            np.add.at(total, (place + (low[some, 1] * canvas + low[some, 0])).ravel(), length.ravel())
    return total.reshape(canvas, canvas)[: beam.size, : beam.size]


def _measure_boxes(
    fan: Float32[np.ndarray, "body rate 3"],
    constants: Float32[np.ndarray, "body rate"],
    weights: Float32[np.ndarray, " body"],
    cores: Float32[np.ndarray, "body 2"],
    num_rows: int,
    wide: int,
    tall: int,
    soft: bool,
) -> Float32[np.ndarray, "row col body"]:
    """Weight times chord (soft: times the integral of 1 - r^2) of each body on the rays of its box; see `_splat`."""
    # Bodies last, so that the innermost loops are long.
    first, right, down = np.ascontiguousarray(fan.transpose(2, 1, 0))[:, :, None]
    along = first + right * np.arange(wide, dtype=np.float32)[:, None]
    rates = along[:, None] + (down * np.arange(tall, dtype=np.float32)[:, None])[:, :, None]
    constants = np.ascontiguousarray(constants.T)
    slope, shift = rates[:num_rows], constants[:num_rows]
    square, middle = slope[0] * slope[0], slope[0] * shift[0]
    for part, offset in zip(slope[1:], shift[1:], strict=True):
        square += part * part
        middle += part * offset
    middle /= -square
    slope *= middle
    slope += shift[:, None, None]
    slope *= slope
    inside = 1 - slope[0]
    for part in slope[1:]:
        inside -= part
    np.maximum(inside, 0, out=inside)
    half = np.sqrt(inside / square)
    if len(rates) == num_rows:
        return half * (np.float32(4 / 3) * inside if soft else np.float32(2)) * weights
    assert not soft, "a soft swarm has no planes"
    begin, end = np.full_like(half, -_NEVER), np.full_like(half, _NEVER)
    for speed, ahead in zip(rates[num_rows:], constants[num_rows:], strict=True):
        _clip(begin, end, ahead, speed)
    begin -= middle
    end -= middle
    length = np.maximum(np.minimum(half, end) - np.maximum(-half, begin), 0)
    length *= weights
    if cores.any():
        inside -= 1 - cores[:, 0] ** 2
        np.maximum(inside, 0, out=inside)
        half = np.sqrt(inside / square)
        length += np.maximum(np.minimum(half, end) - np.maximum(-half, begin), 0) * cores[:, 1]
    return length


def _add_hosted(swarm: Swarm, beam: Beam, lung: _Lung, share: Grid) -> None:
    """Bodies that count only in aerated lung: their integral over the lung less that over what displaces it."""
    lows, highs = _window(beam, swarm.corners)
    top, left = lung.region[0].start, lung.region[1].start
    bottom, right = lung.region[0].stop, lung.region[1].stop
    basis = beam.basis
    for i in range(len(swarm)):
        rows = slice(max(lows[i, 1], top), min(highs[i, 1], bottom))
        cols = slice(max(lows[i, 0], left), min(highs[i, 0], right))
        if rows.start >= rows.stop or cols.start >= cols.stop:
            continue
        shape = swarm.shapes[i]
        middle, half, inside = _cross_quadric(shape, shape @ (beam.source - swarm.centers[i]), basis, (rows, cols))
        inner = slice(rows.start - top, rows.stop - top), slice(cols.start - left, cols.stop - left)
        entry, exit_ = lung.entry[inner], lung.exit[inner]
        length = _integrate(entry, exit_, middle, half, inside, swarm.soft)
        for slot_entry, slot_exit in zip(lung.taken.entries, lung.taken.exits, strict=True):
            begin, end = np.maximum(entry, slot_entry[rows, cols]), np.minimum(exit_, slot_exit[rows, cols])
            if (end > begin).any():
                length -= _integrate(begin, end, middle, half, inside, swarm.soft)
        share[rows, cols] += np.float32(swarm.weights[i]) * length


def _integrate(entry: Grid, exit_: Grid, middle: Grid, half: Grid, inside: Grid, soft: bool) -> Grid:
    """Integral of 1 (or, soft, of 1 - r^2) over the part of [entry, exit_] inside a ball's chord, middle +- half."""
    begin = np.minimum(np.maximum(entry - middle, -half), half)
    end = np.minimum(np.maximum(exit_ - middle, -half), half)
    length = end - begin
    kept = length > 0
    if not soft:
        return length * kept
    # 1 - r^2 = inside - slope^2 t^2, and it is 0 at t = half, so slope^2 = inside / half^2.
    cubic = length * (end * end + end * begin + begin * begin)
    return (inside * length - inside / np.maximum(3 * half * half, np.float32(1e-20)) * cubic) * kept


def project_chest(chest: Chest, projection: Projection, size: int) -> Grid:
    """Line integrals (size, size), dimensionless: the sum of attenuation times length along each ray."""
    return project_parts(chest, projection, size, split=False)[0]


def project_masks(chest: Chest, projection: Projection, size: int) -> dict[str, Bool[np.ndarray, "row col"]]:
    """Where "heart", "left lung", "right lung" and "lesion 0", "lesion 1", ... (index into the plan) fall on the image.

    A lung is where its aerated path is over 3 mm, the heart where it is over 2 mm; a lesion is where it adds at least a
    tenth of its own maximum. A lesion that scales normal anatomy (an enlarged heart) has the mask of that anatomy.
    """
    parts = project_parts(chest, projection, size)[1]
    masks = {name: parts[name] > limit for name, limit in (("heart", 0.2), ("left lung", 0.3), ("right lung", 0.3))}
    for index, stands_for in enumerate(chest.lesion_tags):
        part = sum((parts[tag] for tag in stands_for if tag in parts), np.zeros((size, size), dtype=np.float32))
        masks[f"lesion {index}"] = part > max(0.1 * float(part.max()), 1e-3)
    return masks
