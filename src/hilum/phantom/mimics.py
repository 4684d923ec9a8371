"""What is on a chest film and is no finding: granulomas, nipples, skin folds, clothing, monitor leads, old scars."""

from __future__ import annotations

import numpy as np

from hilum.phantom import bodies
from hilum.phantom.bodies import make_balls, make_chain, make_ellipsoid, make_rng, make_tubes
from hilum.phantom.growth import Growth
from hilum.phantom.plan import StudyPlan
from hilum.phantom.shape import SIDES, SKIN


def add_mimics(growth: Growth, plan: StudyPlan) -> None:
    """Add unlabelled structures: those of the person on every study, those of the day on this one."""
    _add_person(growth, make_rng("mimics of the person", plan.person.key))
    _add_day(growth, make_rng("mimics of the day", plan.key), portable="AP" in plan.projections)


def _add_person(growth: Growth, rng: np.random.Generator) -> None:
    shape = growth.shape
    for _ in range(rng.poisson(0.5)):
        side = str(rng.choice(list(SIDES)))
        place = growth.find_healthy_place(side, rng)
        growth.swarms.append(make_balls(place[None], rng.uniform(0.15, 0.4, 1), rng.uniform(0.25, 0.6), soft=False))
    for sign in SIDES.values():  # nodes at the hilum, a nipple
        if rng.random() < 0.3:
            place = np.array([sign * 4.3, 0.8, growth.hilum_height]) + rng.normal(0, 0.6, (3, 3))
            growth.swarms.append(make_balls(place, rng.uniform(0.15, 0.35, 3), 0.3, soft=False))
    if rng.random() < 0.35:
        front = (
            shape.wall(1, np.array([np.pi]), np.array([0.3 * shape.apex]))[0, 1]
            - (7.0 if shape.female else 4.5)
            - 0.4 * shape.fat
        )
        size = rng.uniform(0.4, 0.6)
        for sign in SIDES.values():
            place = np.array([sign * rng.normal(9.0, 0.7), front, 0.24 * shape.apex + rng.normal(0, 0.8)])
            growth.solids.append(make_ellipsoid(bodies.SOFT, SKIN + 1, place, (size, 0.6, size)))
    if shape.age > 60 and rng.random() < 0.5:  # calcium of the arch
        turn = np.linspace(0.3, 2.2, 7)
        arch = 0.635 * shape.apex + 0.4
        ring = np.stack(
            [2.0 + 1.5 * shape.aorta * np.sin(turn), 1.5 + 0 * turn, arch + 1.5 * shape.aorta * np.cos(turn)], axis=1
        )
        growth.swarms.append(make_chain(ring, np.array([[0.5, 0.06]] * 7), rng.uniform(0.1, 0.35)))
    for _ in range(rng.poisson(0.5)):  # an old scar
        side = str(rng.choice(list(SIDES)))
        place = growth.find_healthy_place(side, rng)
        end = place + rng.normal(0, 1, 3) * [1.8, 1.2, 0.6]
        growth.swarms.append(make_tubes(place[None], end[None], np.array([0.08]), 0.12))
    if rng.random() < 0.15:  # an old healed rib: a thick place without a step
        sign, z = int(rng.choice([-1, 1])), rng.uniform(0.2, 0.7) * shape.apex
        spot = shape.wall(sign, np.array([rng.uniform(0.3, 0.7) * np.pi]), np.array([z]), outward=0.4)
        growth.swarms.append(make_balls(spot, np.array([[0.5, 0.9, 0.8]]), 0.2))


def _add_day(growth: Growth, rng: np.random.Generator, portable: bool) -> None:
    shape = growth.shape
    back = shape.half_depth + 2.4
    for _ in range(rng.poisson(0.5 if portable else 0.06)):  # a fold of skin or sheet: a long edge over the lung
        sign = rng.choice([-1, 1])
        x = sign * rng.uniform(5, 12)
        path = np.array(
            [
                (x, back, 0.85 * shape.apex),
                (x + rng.normal(0, 1), back, 0.4 * shape.apex),
                (x + sign * rng.uniform(0, 3), back, -3),
            ]
        )
        growth.swarms.append(
            make_chain(
                bodies.curve_through(path, 10),
                np.array([[rng.uniform(0.25, 0.7), 0.5]] * 10),
                0.07,
                up=np.array([0, 1.0, 0]),
            )
        )
    for _ in range(rng.poisson(1.6 if portable else 0.02)):  # monitor leads on the skin
        start = np.array([rng.uniform(-13, 13), -back - 1, rng.uniform(0.0, 0.9) * shape.apex])
        growth.swarms.append(make_chain(np.array([start, start - [0, 0.25, 0]]), rng.uniform(0.5, 0.8), 0.9))
        course = [
            start,
            start + rng.normal(0, 4, 3) * [1, 0, 1],
            start + rng.normal(0, 7, 3) * [1, 0, 1],
            start * [1.2, 1, 0] + [0, 0, -12.0],
        ]
        growth.swarms.append(make_chain(bodies.curve_through(course, 24), 0.09, rng.uniform(0.6, 1.8)))
    if rng.random() < 0.10:  # buttons, a necklace clasp
        place = np.array([rng.normal(0, 5), -back - 0.5, rng.uniform(0, 1.0) * shape.apex])
        growth.swarms.append(
            make_chain(np.array([place, place - [0, 0.2, 0]]), rng.uniform(0.3, 0.6), rng.uniform(0.3, 1.5))
        )
