"""Exact line integrals of a chest along the rays of a cone beam: no voxels, no steps.

Every ray is a straight line from a point source to the centre of a pixel, a share t of the way; shares become
centimetres at the end. A convex body meets it in one interval. Solids are laid down from the highest priority to the
lowest: each adds its attenuation times the length that nothing before it had covered (Beer-Lambert: mu integrated
along the ray). Bodies of swarms add theirs wherever they are.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Float64

from hilum.phantom import kernels
from hilum.phantom.anatomy import Chest
from hilum.phantom.bodies import Solid, Swarm, find_corners, make_balls, make_rng, pack_solids, rotation
from hilum.phantom.plan import Projection

Image = Float64[np.ndarray, "row col"]
_NO_BALLS = make_balls(np.zeros((0, 3)), np.zeros(0), 0.0)


@dataclass(frozen=True)
class Beam:
    """Source and detector: the ray of pixel (row, col) ends at corner + col * right + row * down."""

    source: np.ndarray  # (3,) centimetres
    corner: np.ndarray
    right: np.ndarray  # one pixel along a row
    down: np.ndarray
    size: int

    @property
    def basis(self) -> Float64[np.ndarray, "3 3"]:
        """Columns: the ray of pixel (0, 0), its change from column to column, and from row to row."""
        return np.stack([self.corner - self.source, self.right, self.down], axis=1)

    def lengths(self) -> Float64[np.ndarray, "row col"]:
        """Centimetres from the source to each pixel."""
        steps = np.arange(self.size)
        first, right, down = self.basis.T @ self.basis  # |first + col right + row down|^2, multiplied out
        along, across = first[0] + steps * (2 * first[1] + steps * right[1]), steps * (2 * first[2] + steps * down[2])
        return np.sqrt(along + across[:, None] + 2 * right[2] * steps * steps[:, None])


def aim_beam(chest: Chest, projection: Projection, size: int) -> Beam:
    """The beam of one view: PA 1.8 m, AP portable 1.0 to 1.3 m, lateral 1.8 m with the left side to the detector.

    The patient's right is at the image's left in frontal views; a lateral faces right. Pose (a turn of a few degrees)
    and centring differ from view to view.
    """
    rng = make_rng("beam", chest.key, ("PA", "AP", "LATERAL").index(projection))
    shape = chest.shape
    distance = {"PA": 180.0, "AP": rng.uniform(100, 130), "LATERAL": 180.0}[projection]
    spread = 1.0 if projection != "AP" else 1.8
    turn = rotation(*(np.radians(rng.normal(0, (3.5, 2.5, 2.2))) * spread))
    field = rng.uniform(0.94, 1.12) * (2.0 * shape.half_width + (9.5 if projection != "LATERAL" else 10.5))
    behind = shape.half_depth + 5.0 if projection != "LATERAL" else shape.half_width + 6.5
    field *= distance / (distance - behind)
    if projection == "LATERAL":
        ahead, right = np.array([1.0, 0, 0]), np.array([0, -1.0, 0])
    else:
        ahead, right = np.array([0, -1.0 if projection == "PA" else 1.0, 0]), np.array([1.0, 0, 0])
    down = np.array([0, 0, -1.0])
    aim = np.array([0.0, 0.8, 0.37 * shape.apex - 0.5]) + rng.normal(0, (1.2, 1.2, 1.6)) * spread
    source = aim - ahead * (distance - behind)
    middle = aim + ahead * behind
    pixel = field / size
    corner = middle - (right + down) * pixel * (size - 1) / 2
    pivot = np.array([0.0, 1.0, aim[2]])
    source, corner = ((point - pivot) @ turn.T + pivot for point in (source, corner))
    return Beam(source, corner, turn @ right * pixel, turn @ down * pixel, size)


def _pack_solids(solids: list[Solid], hosted: list[Swarm], places: dict[str, int]) -> tuple[tuple, tuple]:
    """Solids and the balls that count in them as `kernels.lay_solids` takes them."""
    assert all(swarm.soft for swarm in hosted), "what has a host is soft"
    guests = [[swarm for swarm in hosted if swarm.host == solid.tag] for solid in solids]
    packed = (
        *pack_solids(solids),
        find_corners(solids),
        np.array([solid.attenuation for solid in solids]),
        np.array([places.get(solid.tag, -1) for solid in solids]),
        np.cumsum([0, *(sum(map(len, some)) for some in guests)]),
    )
    balls = [swarm for some in guests for swarm in some] or [_NO_BALLS]
    packed_balls = (
        *(
            np.concatenate([getattr(swarm, name) for swarm in balls])
            for name in ("shapes", "centers", "corners", "weights")
        ),
        np.concatenate([np.full(len(swarm), places.get(swarm.tag, -1)) for swarm in balls]),
    )
    return packed, packed_balls


def _project(chest: Chest, projection: Projection, size: int, tags: tuple[str, ...]) -> tuple[Image, dict[str, Image]]:
    """The whole line integral, and what bodies of each tag add to it (solids: their length in cm)."""
    beam = aim_beam(chest, projection, size)
    rays = beam.source, beam.basis, np.linalg.inv(beam.basis)
    places = {tag: place for place, tag in enumerate(tags)}
    total, parts = np.zeros((size, size)), np.zeros((len(tags), size, size))
    swarms = chest.swarms_of(projection)
    hosted = [swarm for swarm in swarms if swarm.host]
    kernels.lay_solids(*_pack_solids(chest.solids_of(projection), hosted, places), rays, total, parts)
    for swarm in swarms:
        if not swarm.host:
            share = np.zeros((size, size)) if swarm.tag in places else total
            small = swarm.shapes, swarm.centers, swarm.planes, swarm.corners, swarm.weights, swarm.cores, swarm.soft
            kernels.splat(*small, rays, share)
            if swarm.tag in places:
                total += share
                parts[places[swarm.tag]] += np.abs(share)
    lengths = beam.lengths()
    return total * lengths, {tag: parts[place] * lengths for tag, place in places.items()}


def project_chest(chest: Chest, projection: Projection, size: int) -> Float32[np.ndarray, "row col"]:
    """Line integrals (size, size), dimensionless: the sum of attenuation times length along each ray."""
    return _project(chest, projection, size, tags=())[0].astype(np.float32)


def project_masks(chest: Chest, projection: Projection, size: int) -> dict[str, Bool[np.ndarray, "row col"]]:
    """Where "heart", "left lung", "right lung" and "lesion 0", "lesion 1", ... (index into the plan) fall on the image.

    A lung is where its aerated path is over 3 mm, the heart where it is over 2 mm; a lesion is where it adds at least a
    tenth of its own maximum. A lesion that scales normal anatomy (an enlarged heart) has the mask of that anatomy.
    """
    limits = {"heart": 0.2, "left lung": 0.3, "right lung": 0.3}
    tags = {*limits, *(tag for tags in chest.lesion_tags for tag in tags)}
    parts = _project(chest, projection, size, tuple(sorted(tags)))[1]
    masks = {name: parts[name] > limit for name, limit in limits.items()}
    for index, stands_for in enumerate(chest.lesion_tags):
        part = sum((parts[tag] for tag in stands_for), np.zeros((size, size)))
        masks[f"lesion {index}"] = part > max(0.1 * float(part.max()), 1e-3)
    return masks
