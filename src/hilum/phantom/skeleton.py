"""Bones: twelve pairs of ribs, the spine, sternum, clavicles, shoulder blades, upper arms."""

from __future__ import annotations

import numpy as np

from hilum.phantom.bodies import CORTEX, MARROW, Part, curve_through, make_balls, make_bone, make_chain, make_tubes
from hilum.phantom.plan import Projection
from hilum.phantom.shape import Shape

NUM_RIBS = 12
_Y = np.array([0, 1.0, 0])
# Of ribs 1 to 12: how far round the chest the bony part reaches (share of half a turn), and how far it descends (cm).
_REACH = (0.80, 0.82, 0.83, 0.83, 0.82, 0.80, 0.78, 0.75, 0.71, 0.64, 0.45, 0.30)
_DESCENT = (3.0, 5.2, 7.0, 8.4, 9.4, 10.0, 10.3, 10.2, 9.6, 8.2, 5.0, 2.8)


def vertebra_height(shape: Shape, index: np.ndarray) -> np.ndarray:
    """z of the middle of vertebra `index` (0 = T1)."""
    return shape.apex - 0.6 - 2.42 * shape.scale * index


def rib_curve(shape: Shape, sign: int, index: int, rng: np.random.Generator) -> np.ndarray:
    """Points (m, 3) along the bony part of rib `index` (0 = first), from the spine forwards."""
    top = float(vertebra_height(shape, np.array([index]))[0]) + 0.4 + rng.normal(0, 0.08)
    reach = np.pi * (_REACH[index] + rng.normal(0, 0.008))
    angle = np.linspace(0.10 * np.pi, reach, 15)
    along = (1 - np.cos(angle)) / 2
    descent = _DESCENT[index] * shape.scale * (1 + rng.normal(0, 0.04))
    z = top + 0.5 - descent * (along - along[0]) ** 1.05 / 0.85
    round_wall = shape.wall(sign, angle, np.minimum(z, shape.apex - 0.4), outward=0.45)
    round_wall[:, 2] = z
    head = shape.spine(np.array([top]))[0]
    neck = head + np.array([sign * 1.9, 0.8, 0.2])
    return curve_through(np.concatenate([neck[None], round_wall]), 22)


def build_ribs(shape: Shape, rng: np.random.Generator) -> list[Part]:
    """All ribs as hollow flat bones; broken ones step aside where they are broken. Cartilage calcifies with age."""
    swarms = []
    for sign in (-1, 1):
        for index in range(NUM_RIBS):
            points = rib_curve(shape, sign, index, rng)
            height = 0.62 * shape.scale * (0.85 if index in (0, 10, 11) else 1.0) * rng.normal(1, 0.05)
            radii = np.stack([np.full(len(points), 0.30), np.full(len(points), height)], axis=1)
            pieces = [points]
            if (sign, index) in shape.rib_breaks:
                where, step = shape.rib_breaks[sign, index]
                cut = int(np.clip(where * len(points), 3, len(points) - 4))
                tail = points[cut:].copy()
                fade = np.linspace(1, 0.35, len(tail))[:, None]
                outward = tail[0] - np.array([0, tail[0][1] * 0.5, tail[0][2]])
                outward /= np.linalg.norm(outward)
                gap = (tail[1] - tail[0]) * min(abs(step), 1) * 0.45
                tail += fade * (outward * step * 0.5 + np.array([0, 0, -1.0]) * step) + gap * fade
                pieces = [points[: cut + 1], tail]
            start = 0
            for piece in pieces:
                swarms += make_bone(piece, radii[start : start + len(piece)][: len(piece)], shell=0.74)
                start = len(points) - len(pieces[-1])
            if 0 < index < 8 and shape.age > 35:
                end = points[-1]
                tip = np.array([end[0] * 0.45, end[1] - 0.6, end[2] + (1.5 if index > 3 else 0.2)])
                weight = 0.05 * min((shape.age - 35) / 30, 1) * rng.uniform(0.1, 1)
                swarms.append(make_chain(curve_through([end, 0.5 * (end + tip) - [0, 0.2, 0.7], tip], 6), 0.45, weight))
    return [swarm.scale(shape.bone) for swarm in swarms]


def build_spine(shape: Shape, rng: np.random.Generator) -> list[Part]:
    """Vertebrae from C6 to L2: body with endplates, pedicles, transverse and spinous processes."""
    index = np.arange(-2, 14)
    z = vertebra_height(shape, index)
    size = shape.scale * (0.82 + 0.022 * (index + 2))[:, None]
    middle = shape.spine(z)
    axis = shape.spine(z + 0.5) - shape.spine(z - 0.5)
    half = 0.98 * shape.scale * (0.9 + 0.012 * index)[:, None]
    lost = np.array([shape.wedges.get(int(number), 0.0) for number in index])[:, None]
    # A wedge: the upper endplate tips forwards and sinks.
    tipped = axis + np.array([0, -0.75, 0]) * lost
    tipped /= np.linalg.norm(tipped, axis=1, keepdims=True)
    bottom, top = middle - axis * half, middle + axis * half * (1 - lost)
    across = np.array([1.65, 1.45]) * size
    plate = axis * 0.085
    parts = [
        make_tubes(bottom, top, across, MARROW * 1.1, _Y, axis, tipped),
        make_tubes(bottom - plate, bottom + plate, across * 1.04, 0.24, _Y, axis, axis),
        make_tubes(top - plate, top + plate, across * 1.04, 0.24, _Y, tipped, tipped),
    ]
    for sign in (-1, 1):
        base = middle + np.array([sign * 1.0, 1.2, 0.2]) * size
        arch = base + np.array([0, 1.4, 0]) * size
        for shrink, weight in ((1.0, 0.14), (0.6, -0.10)):
            parts.append(make_tubes(base, arch, np.array([[0.34, 0.5]]) * size * shrink, weight))
        parts.append(make_tubes(arch, arch + np.array([sign * 1.7, 0.3, 0.1]) * size, 0.36 * size[:, 0], 0.12))
    back = middle + np.array([0, 2.6, -0.1]) * size
    drop = np.where((index > 2) & (index < 10), -1.9, -0.8)
    point = back + np.stack([rng.normal(0, 0.06, len(index)), 2.2 * size[:, 0], drop], axis=1)
    parts.append(make_tubes(back, point, np.array([[0.24, 0.5]]) * size, 0.09))
    return [part.scale(shape.bone) for part in parts]


def build_sternum(shape: Shape) -> list[Part]:
    """Manubrium and body, a flat bone in front of the heart."""
    levels = np.array([0.80, 0.66, 0.63, 0.45, 0.27]) * shape.apex
    front = shape.wall(1, np.full(5, np.pi), levels, outward=0.7)
    front[:, 0] = 0
    widths = np.array([2.6, 1.9, 1.6, 1.8, 1.2]) * shape.scale
    radii = np.stack([widths, np.full(5, 0.5)], axis=1)
    bones = make_bone(front, radii, up=_Y, shell=0.8)
    return [bone.scale(shape.bone * 0.7) for bone in bones]


def shoulder(shape: Shape, sign: int, projection: Projection) -> np.ndarray:
    """The middle of the shoulder joint (3,): rolled forward for PA, back at the sides for AP, up for a lateral."""
    out = shape.half_width + 3.6 * shape.scale
    lift = {"PA": 0.80, "AP": 0.80, "LATERAL": 1.06}[projection] * shape.apex
    if projection == "LATERAL":
        return np.array([sign * (out - 2.5), 0.0, lift])
    return np.array([sign * out, 2.0 if projection == "PA" else 4.0, lift])


def build_girdle(
    shape: Shape, projection: Projection, rng: np.random.Generator, breaks: dict[int, float]
) -> list[Part]:
    """Clavicles, shoulder blades, upper arms, which move between views; `breaks`: sign of x -> step of a clavicle."""
    swarms = []
    s = shape.scale
    for sign in (-1, 1):
        joint = shoulder(shape, sign, projection)
        inner = shape.wall(1, np.array([np.pi]), np.array([0.84 * shape.apex]), outward=0.4)[0] * [0, 1, 1] + [
            sign * 2.0,
            0,
            0,
        ]
        outer = joint + np.array([-sign * 1.2, 0.5, 2.2 * s])
        lift = rng.normal(0.9, 0.5) if projection == "PA" else rng.normal(1.8, 0.6)
        course = [
            inner,
            inner * 0.66 + outer * 0.34 + [0, -1.4, lift * 0.3],
            inner * 0.3 + outer * 0.7 + [0, 0.3, 0.5 * lift],
            outer,
        ]
        path, thick = curve_through(course, 14), np.linspace(0.68, 0.55, 14) * s
        step = breaks.get(sign, 0.0)
        if step:
            outer_part = path[7:] + np.array([-sign * 0.3, 0, -1.0]) * step * np.linspace(1, 0.5, 7)[:, None]
            swarms += make_bone(outer_part, thick[7:], shell=0.74)
            path, thick = path[:8], thick[:8]
        swarms += make_bone(path, thick, shell=0.74)
        # The blade: thin, wide at the top; drawn aside in PA, over the lung in AP, seen on edge in a lateral.
        aside = {"PA": 12.6, "AP": 10.2, "LATERAL": 10.5}[projection] * s
        low, high = (0.33, 0.80) if projection != "LATERAL" else (0.42, 0.9)
        levels = np.linspace(high, low, 8) * shape.apex
        out = aside + np.linspace(0, 1.0, 8) + (0.5 if projection == "PA" else 0)
        back = shape.half_depth * 0.80 + 0.9 + 0.10 * levels - (1.6 if projection == "LATERAL" else 0.0)
        blade = np.stack([sign * out, back - 0.28 * np.abs(out - 9), levels], axis=1)
        widths = np.array([2.9, 3.9, 3.7, 3.1, 2.5, 1.9, 1.3, 0.7]) * s
        swarms.append(
            make_chain(
                blade, np.stack([widths, np.full(8, 0.22)], axis=1), 0.24 if projection != "LATERAL" else 0.07, up=_Y
            )
        )
        edge = blade + np.stack([sign * widths, -0.25 * widths, 0 * widths], axis=1)
        swarms += make_bone(edge, (0.38 if projection != "LATERAL" else 0.25) * s, shell=0.75)
        acromion = joint + np.array([-sign * 0.2, 1.6, 2.4 * s])
        root = blade[1] + np.array([-sign * widths[1], 0.4, 0])
        swarms += make_bone(
            curve_through([root, 0.5 * (root + acromion) + [0, 1.2, 0.3], acromion], 8), np.array([[0.35, 0.6]] * 8) * s
        )
        reach = {"PA": (8.5, 1.0, -28.0), "AP": (3.0, 0.5, -28.0), "LATERAL": (1.5, -15.0, 9.0)}[projection]
        elbow = joint + np.array([sign * reach[0], reach[1], reach[2]])
        neck = joint + (elbow - joint) * 0.03
        swarms += make_bone(
            np.array([neck, joint + (elbow - joint) * 0.3, elbow]), np.array([1.6, 1.2, 1.05]) * s, shell=0.75
        )
        for radius, weight in ((2.25, CORTEX * 0.6), (2.05, MARROW - CORTEX * 0.6)):
            swarms.append(make_balls(joint[None], np.array([radius * s]), weight, soft=False))
    return [swarm.scale(shape.bone) for swarm in swarms]
