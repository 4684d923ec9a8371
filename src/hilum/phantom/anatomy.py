"""A study's chest as bodies: normal anatomy in the shape that the person, the pose and the lesions give it."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from hilum.phantom import bodies
from hilum.phantom.bodies import (
    Solid,
    Swarm,
    curve_through,
    join_swarms,
    make_balls,
    make_ellipsoid,
    make_rng,
    make_rods,
    rotation,
)
from hilum.phantom.devices import add_devices
from hilum.phantom.lesions import Growth, grow_lesions, reshape
from hilum.phantom.mimics import add_mimics
from hilum.phantom.plan import Projection, StudyPlan
from hilum.phantom.shape import AIRWAY, LUNG, MUSCLE, PLEURAL, SKIN, SOLID_ORGAN, Shape, draw_shape
from hilum.phantom.skeleton import build_girdle, build_ribs, build_spine, build_sternum, shoulder
from hilum.phantom.vessels import fill_lungs


@dataclass(frozen=True)
class Chest:
    """The bodies of one study; `posed` holds what moves between views (arms, shoulder blades)."""

    key: int
    shape: Shape
    solids: tuple[Solid, ...]
    swarms: tuple[Swarm, ...]
    posed: dict[Projection, tuple[tuple[Solid, ...], tuple[Swarm, ...]]]
    lesion_tags: tuple[tuple[str, ...], ...]  # for each lesion of the plan, the tags that show it
    _merged: dict = field(default_factory=dict, compare=False)

    def solids_of(self, projection: Projection) -> list[Solid]:
        """All solids of one view, the highest priority first."""
        return sorted(self.solids + self.posed[projection][0], key=lambda solid: -solid.priority)

    def swarms_of(self, projection: Projection) -> list[Swarm]:
        if projection not in self._merged:
            self._merged[projection] = join_swarms([*self.swarms, *self.posed[projection][1]])
        return self._merged[projection]


@lru_cache(maxsize=4)
def build_chest(plan: StudyPlan) -> Chest:
    """The chest of a study, the same for all of its views; the last few are kept."""
    shape = draw_shape(plan)
    for index, lesion in enumerate(plan.lesions):
        reshape(shape, lesion, index)
    person = make_rng("anatomy", plan.person.key)
    organs = _build_mediastinum(shape) + _build_abdomen(shape, make_rng("abdomen", plan.key))
    lungs = _build_lungs(shape)
    growth = Growth(shape, organs, {solid.tag: solid for solid in lungs if solid.tag in SIDES_TAGS})
    tags = [grow_lesions(growth, lesion, index) for index, lesion in enumerate(plan.lesions)]
    add_devices(growth, plan.lesions)
    add_mimics(growth, plan)
    solids = organs + lungs + growth.solids + _build_trunk(shape, person)
    swarms = build_ribs(shape, make_rng("ribs", plan.person.key)) + build_spine(
        shape, make_rng("spine", plan.person.key)
    )
    swarms += build_sternum(shape) + fill_lungs(growth, plan.person.key) + _build_lobules(shape, plan) + growth.swarms
    girdle = make_rng("girdle", plan.person.key)
    state = girdle.bit_generator.state
    posed = {}
    for projection in plan.projections:
        girdle.bit_generator.state = state
        bones = build_girdle(shape, projection, girdle, growth.clavicle_breaks)
        posed[projection] = (
            tuple(_build_arms(shape, projection)),
            tuple(join_swarms(bones + growth.posed.get(projection, []))),
        )
    return Chest(plan.key, shape, tuple(solids), tuple(join_swarms(swarms)), posed, tuple(tags))


SIDES_TAGS = ("right lung", "left lung")


def _build_lungs(shape: Shape) -> list[Solid]:
    """Each lung, and what else fills its pleural cavity: free fluid below, air around a collapsed lung."""
    solids = []
    for side, lung in shape.lungs.items():
        cavity = shape.cavity(side)
        inner = Solid(lung.density, LUNG, cavity.shapes, cavity.centers, cavity.planes, tag=f"{side} lung")
        if lung.fluid is not None:
            # The lung's lower face is round, so the fluid below climbs along the wall: the meniscus.
            height = max(13.0, 0.5 * (shape.apex + 5.0 - lung.fluid))  # over the apex, where it must cut nothing
            wide = (height / 13.0) ** 0.5  # keeps the curve of the base
            middle = (lung.sign * (shape.lobe_center - 0.2), -3.0, lung.fluid + height)
            lean = shape.half_width - shape.lobe_center
            round_base = make_ellipsoid(0.0, LUNG, middle, (wide * lean * 1.55, wide * shape.half_depth * 1.36, height))
            inner = inner.meet(round_base)
            fluid = Solid(
                lung.fluid_density, PLEURAL + 1, cavity.shapes, cavity.centers, cavity.planes, tag=lung.fluid_tag
            )
            solids.append(fluid.clip(((0, 0, 1.0), lung.fluid + 10.0)))
        if lung.collapse > 0:
            # The lung falls from the apex and the side wall towards its root; air is left around it.
            center, size = shape.collapsed(lung)
            shrunk = make_ellipsoid(0.0, LUNG, center, size, lean=0.12)
            inner = inner.meet(shrunk)
            # Its pleura, seen edge on, is the white line.
            line = make_ellipsoid(
                bodies.SOFT, LUNG - 1, center, size + 0.07, lean=0.12, tag=lung.collapse_tag + " line"
            ).meet(cavity)
            solids.append(line)
            solids.append(
                Solid(bodies.AIR, PLEURAL, cavity.shapes, cavity.centers, cavity.planes, tag=lung.collapse_tag)
            )
        elif lung.fluid is not None:
            solids.append(Solid(lung.density, PLEURAL, cavity.shapes, cavity.centers, cavity.planes))
        solids.append(inner)
    return solids


def _build_mediastinum(shape: Shape) -> list[Solid]:
    """Heart, great vessels, hila, trachea; at scale 1 the heart is 0.452 of the thorax wide."""
    s, h, soft = shape.scale, shape.heart * shape.scale, bodies.SOFT
    tall = h**0.75 * shape.scale**0.25
    base = min(shape.lungs["left"].dome, shape.lungs["right"].dome) + 0.9
    shift = 0.5 * sum(lung.shift for lung in shape.lungs.values())
    turn = rotation(roll=0.55 + shape.heart_turn, yaw=-0.45)

    def chamber(x: float, y: float, z: float, semi: tuple[float, float, float], turned: bool = False) -> Solid:
        center = (h * x + shift, h * y - 0.2, base + tall * z)
        return make_ellipsoid(
            soft, SOLID_ORGAN, center, np.array(semi) * (h, h, tall), turn if turned else None, tag="heart"
        )

    chambers = [
        chamber(3.3, -2.2, 3.3, (5.7, 4.0, 4.0), turned=True),  # left ventricle
        chamber(-0.9, -1.4, 4.6, (3.2, 3.3, 4.3)),  # right atrium
        chamber(1.6, -4.4, 3.2, (4.4, 3.2, 3.9)),  # right ventricle
        chamber(0.6, 1.7, 6.6, (3.7, 2.7, 3.0)),  # left atrium
        chamber(2.3, -2.6, 8.0, (2.4, 2.5, 3.3)),  # outflow and pulmonary trunk
        chamber(2.9, -2.4, 5.6, (3.5, 3.3, 4.2), turned=True),  # and what joins it to the ventricle
    ]
    a, u, w = shape.aorta, shape.unfolding, shape.mediastinum
    arch = 0.635 * shape.apex
    top = base + tall * 9.0
    back = shape.spine(np.array([arch - 4, 6.0, -2.0]))[:, 1] - 2.2 * s
    bow = 0.9 * u
    aorta = [
        (0.2, -2.4, top - 2.5), (-1.6 - 0.6 * u, -2.6, 0.5 * (top + arch) - 0.5), (-0.6, -1.8, arch + 0.4 + 0.5 * u),
        (1.4, 0.2, arch + 1.2 + 0.7 * u),
        (2.4 + 0.4 * u, 2.0, arch + 0.3 + 0.5 * u), (2.5 + 0.5 * u, back[0], arch - 3.0),
        (2.0 + bow, back[1], 6.0), (0.7, back[2], -2.0), (0.5, back[2], -9.0),
    ]  # fmt: skip
    path = curve_through(np.array(aorta) + np.array([shift, 0, 0]), 10)
    solids = chambers + make_rods(soft, SOLID_ORGAN, path, np.linspace(1.65, 1.2, 10) * a, tag="aorta")
    veins = np.array([(-2.1 * w, -0.9, top - 2), (-2.3 * w, -0.6, arch), (-2.2 * w, -0.4, arch + 3.5)]) + [shift, 0, 0]
    solids += make_rods(soft, SOLID_ORGAN, veins, 1.05 * s)
    hilum = top - 0.2
    for lung in shape.lungs.values():
        sign = lung.sign
        raise_ = 0.9 if sign > 0 else 0.0
        path = np.array(
            [
                (sign * 1.0, -0.4, hilum + raise_),
                (sign * 3.3, 0.4, hilum + raise_),
                (sign * 4.5, 0.9, hilum - 1.6 + raise_),
                (sign * 5.0, 1.4, hilum - 4.2 + raise_),
            ]
        )
        radii = np.array([1.15, 1.05, 0.85, 0.6]) * s * lung.vessel_scale**0.7
        solids += make_rods(soft, SOLID_ORGAN, path + [0.8 * lung.shift + shift * 0.2, 0, 0], radii)
    solids.append(
        make_ellipsoid(
            soft, SOLID_ORGAN, (shift * 0.7, 0.6, arch + 3.0), (2.5 * w * s, 3.0 * s, 7.5), lean=0.1, tag="mediastinum"
        )
    )
    solids.append(make_ellipsoid(soft, SOLID_ORGAN, (0.4 + shift, 1.6, arch - 6.5), (1.9 * w * s, 3.6 * s, 9.5)))
    column = shape.spine(np.linspace(shape.apex + 5, -14, 4))
    solids += make_rods(soft, SOLID_ORGAN, column, 2.25 * s)
    # Fat in the angles between heart and diaphragm.
    solids.append(
        make_ellipsoid(
            bodies.FAT, SOLID_ORGAN - 1, (6.2 * h + shift, -4.8, base - 0.8), (2.6 * s, 2.4, 1.5 + 0.4 * shape.fat)
        )
    )
    solids.append(
        make_ellipsoid(
            bodies.FAT, SOLID_ORGAN - 1, (-4.2 * s + shift, -4.6, base - 0.4), (1.8 * s, 2.2, 1.3 + 0.25 * shape.fat)
        )
    )
    carina = arch - 1.8
    airway = np.array(
        [(0.1, 1.2, shape.apex + 8.0), (0.1, 1.6, shape.apex), (0.2, 1.6, arch + 2.5), (0.0, 1.4, carina)]
    )
    airway[:, 1] += 0.06 * (airway[:, 2] - arch)
    airway[2:, 0] += 0.7 * shift - 0.35 * shape.unfolding
    solids += make_rods(bodies.AIR, AIRWAY, airway, 0.88 * s, tag="trachea")
    for sign, drop, out in ((-1, 3.2, 3.4), (1, 2.9, 4.4)):
        start = airway[-1] + [sign * 0.3, 0, 0.6]
        solids += make_rods(
            bodies.AIR,
            AIRWAY,
            np.array([start, start + [sign * out * 0.7, 0.1, -drop * 0.8], start + [sign * out, 0.5, -drop * 1.5]]),
            0.6 * s,
        )
    return solids


def _build_abdomen(shape: Shape, rng: np.random.Generator) -> list[Solid]:
    """Diaphragm domes, liver below the right, stomach and bowel gas below the left; gas differs from day to day."""
    solids = []
    s = shape.scale
    for side, lung in shape.lungs.items():
        semi = np.array([shape.half_width * 0.545, shape.half_depth * 0.99, 9.5])
        center = np.array([lung.sign * (shape.half_width * 0.475), -1.7, lung.dome - semi[2]])
        turn = rotation(pitch=0.10)
        density = bodies.LIVER if side == "right" else bodies.SOFT
        solids.append(make_ellipsoid(density, SOLID_ORGAN - 0.5, center, semi, turn, tag=f"{side} dome"))
    # Between the domes the diaphragm's tendon carries the heart.
    low = min(lung.dome for lung in shape.lungs.values())
    solids.append(make_ellipsoid(bodies.SOFT, SOLID_ORGAN - 0.5, (1.4 * s, -0.9, low - 5.4), (7.8 * s, 8.0 * s, 6.9)))
    dome = shape.lungs["left"].dome
    if rng.random() < 0.8:
        wide, high = rng.uniform(1.2, 3.4), rng.uniform(0.6, 1.7)
        solids.append(
            make_ellipsoid(
                bodies.AIR, AIRWAY, (5.2 * s + rng.normal(0, 0.8), -1.0, dome - 1.0 - high), (wide, wide * 0.9, high)
            )
        )
    for _ in range(rng.poisson(2.5)):
        place = (rng.uniform(-1, 9), rng.uniform(-7, 1), dome - rng.uniform(3.5, 9))
        solids.append(make_ellipsoid(0.03, AIRWAY, place, rng.uniform(0.6, 1.7, 3)))
    return solids


def _build_trunk(shape: Shape, rng: np.random.Generator) -> list[Solid]:
    """Chest wall, neck and breasts: muscle inside, fat under the skin."""
    s, fat = shape.scale, shape.fat
    solids = []
    breadth, depth = shape.half_width + 2.1 * s, shape.half_depth + 2.5 * s
    for attenuation, priority, more in ((bodies.SOFT, MUSCLE, 0.0), (bodies.FAT, SKIN, fat)):
        solids += [
            make_ellipsoid(attenuation, priority, (0, 0.9, -1), (breadth + more, depth + more * 0.9, 34), lean=0.05),
            make_ellipsoid(
                attenuation,
                priority,
                (0, 2.4, 0.80 * shape.apex),
                (shape.half_width * 1.12 + 1.0 + more, 5.0 + more * 0.7, 7.2 * s),
                lean=0.1,
            ),
            make_ellipsoid(
                attenuation, priority, (0, 2.8, shape.apex + 9), (5.4 * s + 0.4 * more, 6.0 + 0.4 * more, 22), lean=-0.1
            ),
        ]
    shoulders = (8.0 * s, 4.6 + 0.4 * fat, 6.5 * s)
    solids.append(make_ellipsoid(0.5 * (bodies.SOFT + bodies.FAT), SKIN, (0, 2.6, shape.apex + 3), shoulders, lean=0.1))
    # Breasts and chest muscles: leaning, so that their upper part sinks into the wall and only the lower edge shows.
    size = rng.uniform(0.75, 1.25) * (1 + 0.08 * fat)

    def front(x: float, z: float) -> float:
        return (
            0.9 + 0.05 * (z + 1) - (depth + 0.9 * fat) * np.sqrt(1 - ((z + 1) / 34) ** 2 - (x / (breadth + fat)) ** 2)
        )

    level = 0.28 * shape.apex - 1.2 * size
    for sign in (-1, 1):
        if shape.female:
            place = (sign * (7.6 + 0.6 * size) * s, front(7.6 * s, level) + 1.6, level)
            semi = np.array([6.6, 3.6 * size**0.6, 6.4]) * s * size**0.4
            solids.append(make_ellipsoid(bodies.FAT * 0.97, SKIN - 1, place, semi, lean=0.28))
        else:
            place = (sign * 7.5 * s, front(7.5 * s, 0.5 * shape.apex) + 2.2, 0.50 * shape.apex)
            solids.append(make_ellipsoid(bodies.FAT, SKIN - 1, place, np.array([8.0, 2.9, 7.5]) * s, lean=0.12))
    return solids


def _build_arms(shape: Shape, projection: Projection) -> list[Solid]:
    solids = []
    s = shape.scale
    for sign in (-1, 1):
        joint = shoulder(shape, sign, projection)
        reach = {"PA": (10.0, 1.0, -30.0), "AP": (4.0, 0.5, -36.0), "LATERAL": (1.5, -17.0, 10.0)}[projection]
        elbow = joint + np.array([sign * reach[0], reach[1], reach[2]])
        cap = np.array([4.6, 4.4, 5.2]) * s * (0.75 if projection == "LATERAL" else 1.0) + 0.6 * shape.fat
        solids.append(make_ellipsoid(0.5 * (bodies.SOFT + bodies.FAT), SKIN, joint - [sign * 0.8, 0, 0.6], cap))
        for attenuation, priority, more in ((bodies.SOFT, MUSCLE, 0.0), (bodies.FAT, SKIN, 0.6 * shape.fat)):
            solids += make_rods(
                attenuation, priority, np.array([joint, elbow]), (3.0 if projection == "LATERAL" else 3.6) * s + more
            )
    return solids


def _build_lobules(shape: Shape, plan: StudyPlan) -> list[Swarm]:
    """Fat lobules, muscle bundles and uneven lung: soft balls of many sizes, denser or looser than where they lie."""
    rng = make_rng("lobules", plan.person.key)
    num = 420
    size = 0.35 * (rng.random(num) * (1 - 0.10) + 0.10) ** -0.9
    z = rng.uniform(-12, shape.apex + 4, num)
    angle = rng.uniform(0, 2 * np.pi, num)
    where = shape.wall(1, angle, np.minimum(z, shape.apex - 2), outward=0.8)
    where[:, 2] = z
    where[:, 0] *= np.sign(rng.uniform(-1, 1, num))
    weight = 0.034 * rng.normal(0, 1, num) * (0.5 / size) ** 0.35
    stretch = np.stack([rng.uniform(0.7, 1.8, num), rng.uniform(0.6, 1.0, num), rng.uniform(0.6, 1.2, num)], axis=1)
    return [make_balls(where, size[:, None] * stretch, weight)]
