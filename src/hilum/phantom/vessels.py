"""Branching vessels that fill a lung: from the hilum, each branch heads for the middle of the lung it will supply."""

from __future__ import annotations

import numpy as np

from hilum.phantom.bodies import LUNG, SOFT, Part, Tubes, join_tubes, make_rng, make_tubes, outside_all
from hilum.phantom.growth import Growth
from hilum.phantom.shape import CENTER_Z, LEAN

_THINNEST = 0.07  # centimetres: the radius of an end vessel


def grow_tree(
    root: np.ndarray, targets: np.ndarray, weight: float, scale: np.ndarray, rng: np.random.Generator
) -> Tubes:
    """Tubes of a tree from root (3,) whose ends share out targets (n, 3), n a power of two.

    Each level halves every branch's targets across their longest extent; a branch reaches part of the way to the centre
    of its own targets, and is as thick as Murray's law says (radius^2.7 adds up). `scale` (n,) stretches radii by
    target, averaged over what a branch supplies.
    """
    groups, scales = targets[None], scale[None]
    starts = root[None]
    begins, ends, radii = [], [], []
    while True:
        num, size = groups.shape[:2]
        goals = starts + (groups.mean(1) - starts) * (0.30 if size > 32 else 0.45)
        goals = goals + rng.normal(0, 0.05, goals.shape) * np.linalg.norm(goals - starts, axis=1, keepdims=True)
        if size == 1:
            goals = starts + (groups[:, 0] - starts) * 0.9
        bow = 0.5 * (starts + goals)
        bow = bow + rng.normal(0, 0.07, goals.shape) * np.linalg.norm(goals - starts, axis=1, keepdims=True)
        radius = _THINNEST * size ** (1 / 2.7) * scales.mean(1)
        begins += [starts, bow]
        ends += [bow, goals]
        radii += [radius, radius * 0.9]
        if size == 1:
            break
        longest = np.argmax(groups.std(1), axis=1)
        order = np.argsort(np.take_along_axis(groups, longest[:, None, None], axis=2)[:, :, 0], axis=1)
        groups = np.take_along_axis(groups, order[:, :, None], axis=1).reshape(num * 2, size // 2, 3)
        scales = np.take_along_axis(scales, order, axis=1).reshape(num * 2, size // 2)
        starts = np.repeat(goals, 2, axis=0)
    begin, end = np.concatenate(begins), np.concatenate(ends)
    real = np.linalg.norm(end - begin, axis=1) > 0.02
    return make_tubes(begin[real], end[real], np.concatenate(radii)[real], weight)


def fill_lungs(growth: Growth, key: int) -> list[Part]:
    """Arteries and veins of both lungs, the same for a person (`key`) on every day.

    They are grown where a healthy lung would be, move with a lung that collapses, and end where there is no air.
    """
    shape, hilum = growth.shape, growth.hilum_height
    parts = []
    for side, lung in shape.lungs.items():
        rng = make_rng("vessels", key, lung.sign + 1)
        middle, size = np.array([lung.sign * shape.lobe_center, 0.3, CENTER_Z]), shape.lung_size
        for num, root in ((256, (4.4, 0.9, 0.0)), (128, (3.4, 0.2, -2.8))):
            points = growth.scatter_healthy(lung.sign, num, rng)
            fallen, small = shape.collapsed(lung) if lung.collapse > 0 else (middle, size)
            targets = fallen + points * small
            targets[:, 1] += LEAN * (targets[:, 2] - fallen[2])
            low = np.clip((targets[:, 2] - 0.35 * shape.apex) / (0.3 * shape.apex), -1, 1)
            scale = lung.vessel_scale * (1 - 0.42 * (0.45 - lung.upward) * low)
            start = np.array([lung.sign * root[0] + 0.8 * lung.shift, root[1], hilum + root[2]])
            tree = grow_tree(start, targets, SOFT - LUNG, scale, rng)
            parts.append(tree.select(growth.lungs[f"{side} lung"].contains(0.5 * (tree.starts + tree.ends))))
    tubes = join_tubes(parts)
    return [tubes.select(outside_all(growth.organs, 0.5 * (tubes.starts + tubes.ends)))]
