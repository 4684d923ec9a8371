"""A chest being built: where lesions, devices and mimics find their place and leave their bodies."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from hilum.phantom.bodies import Part, Solid, outside_all
from hilum.phantom.plan import Projection, Zone
from hilum.phantom.shape import CENTER_Z, LEAN, Shape

_ZONES: dict[Zone, tuple[float, float]] = {
    "upper": (0.58, 0.90),
    "middle": (0.32, 0.58),
    "lower": (-0.12, 0.32),
    "none": (0.0, 0.85),
}


@dataclass
class Growth:
    """Normal organs to respect, and the bodies added so far."""

    shape: Shape
    organs: list[Solid]
    lungs: dict[str, Solid]  # "left lung" and "right lung": the aerated bodies
    solids: list[Solid] = field(default_factory=list)
    swarms: list[Part] = field(default_factory=list)
    posed: dict[Projection, list[Part]] = field(default_factory=dict)
    clavicle_breaks: dict[int, float] = field(default_factory=dict)  # sign -> step

    @property
    def hilum_height(self) -> float:
        """z of the lung roots."""
        return 0.635 * self.shape.apex - 2.6

    def scatter(self, body: Solid, num: int, rng: np.random.Generator, inset: float = 1.0) -> np.ndarray:
        """`num` points (num, 3) spread evenly in a body and outside the organs."""
        found = np.zeros((0, 3))
        back = np.linalg.inv(body.shapes[-1])
        for _ in range(40):
            points = rng.uniform(-1, 1, (num * 3 + 30, 3))
            points = points[(points**2).sum(1) <= inset**2] @ back.T + body.centers[-1]
            points = points[body.contains(points)]
            points = points[outside_all(self.organs, points)]
            found = np.concatenate([found, points])
            if len(found) >= num:
                return found[:num]
        # Next to no air is left on this side: what was found, repeated, or the middle of the body.
        spare = found if len(found) else body.centers[-1:]
        return spare[np.arange(num) % len(spare)]

    def scatter_healthy(self, sign: int, num: int, rng: np.random.Generator) -> np.ndarray:
        """`num` points (num, 3) of a lung before any lesion, in units of its ellipsoid: a person keeps them."""
        shape = self.shape
        while True:  # once in some thousand people none of the first points is within the lung
            points = rng.uniform(-1, 1, (num * 6 + 30, 3))
            points = points[(points**2).sum(1) < 0.88]
            places = np.array([sign * shape.lobe_center, 0.3, CENTER_Z]) + points * shape.lung_size
            aired = (sign * places[:, 0] > 1.2) & (places[:, 2] > -5.0 - 0.35 * places[:, 1])
            for center, semi in (((1.6, -2.0, 5.0), (6.5, 5.0, 6.0)), ((sign * 6.3, -1.7, -9.0), (7.2, 8.7, 9.5))):
                aired &= (((places / shape.scale - center) / semi) ** 2).sum(1) > 1
            if aired.any():
                return points[aired][np.arange(num) % aired.sum()]

    def find_healthy_place(self, side: str, rng: np.random.Generator) -> np.ndarray:
        """A point (3,) of a lung, the same whatever the lesions."""
        shape, sign = self.shape, self.shape.lungs[side].sign
        place = self.scatter_healthy(sign, 1, rng)[0] * shape.lung_size
        return place + np.array([sign * shape.lobe_center, 0.3 + LEAN * place[2], CENTER_Z])

    def find_place(self, side: str, zone: Zone, rng: np.random.Generator, inset: float = 0.9) -> np.ndarray:
        """A point (3,) of aerated lung in a zone (thirds of the lung's height)."""
        low, high = (share * self.shape.apex for share in _ZONES[zone])
        points = self.scatter(self.lungs[f"{side} lung"], 96, rng, inset)
        inside = points[(points[:, 2] >= low) & (points[:, 2] < high)]
        return (inside if len(inside) else points)[0]
