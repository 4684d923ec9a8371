"""Branching vessels that fill a lung: from the hilum, each branch heads for the middle of the lung it will supply."""

from __future__ import annotations

import numpy as np

from hilum.phantom.bodies import LUNG, SOFT, Part, Tubes, make_rng, make_tubes, outside_all
from hilum.phantom.growth import Growth
from hilum.phantom.shape import CENTER_Z, LEAN

_THINNEST = 0.07  # centimetres: the radius of an end vessel


def grow_trees(
    roots: np.ndarray, targets: np.ndarray, weight: float, scales: np.ndarray, rngs: list[np.random.Generator]
) -> tuple[Tubes, np.ndarray]:
    """Tubes of trees from roots (tree, 3) whose ends share out targets (tree, n, 3), n a power of two; each one's tree.

    Each level halves every branch's targets across their longest extent; a branch reaches part of the way to the centre
    of its own targets, and is as thick as Murray's law says (radius^2.7 adds up). `scales` (tree, n) stretch radii by
    target, averaged over what a branch supplies. Each tree draws from its own generator.
    """

    def jitter(amount: float, lengths: np.ndarray) -> np.ndarray:
        shape = len(lengths) // len(rngs), 3
        return np.concatenate([rng.normal(0, amount, shape) for rng in rngs]) * lengths[:, None]

    groups, starts = targets, roots
    begins, ends, radii = [], [], []
    while True:
        num, size = groups.shape[:2]
        goals = starts + (groups.mean(1) - starts) * (0.30 if size > 32 else 0.45)
        goals = goals + jitter(0.05, _measure(goals - starts))
        if size == 1:
            goals = starts + (groups[:, 0] - starts) * 0.9
        bow = 0.5 * (starts + goals) + jitter(0.07, _measure(goals - starts))
        radius = _THINNEST * size ** (1 / 2.7) * scales.mean(1)
        begins += [starts, bow]
        ends += [bow, goals]
        radii += [radius, radius * 0.9]
        if size == 1:
            break
        longest = np.argmax(groups.std(1), axis=1)
        rows = np.arange(num)[:, None]
        order = np.argsort(groups[rows[:, 0], :, longest], axis=1)
        groups = groups[rows, order].reshape(num * 2, size // 2, 3)
        scales = scales[rows, order].reshape(num * 2, size // 2)
        starts = np.repeat(goals, 2, axis=0)
    begin, end = np.concatenate(begins), np.concatenate(ends)
    real = _measure(end - begin) > 0.02
    tree = np.concatenate([np.repeat(np.arange(len(roots)), len(part) // len(roots)) for part in radii])
    return make_tubes(begin[real], end[real], np.concatenate(radii)[real], weight), tree[real]


def fill_lungs(growth: Growth, key: int) -> list[Part]:
    """Arteries and veins of both lungs, the same for a person (`key`) on every day.

    They are grown where a healthy lung would be, move with a lung that collapses, and end where there is no air.
    """
    shape, hilum = growth.shape, growth.hilum_height
    rngs = [make_rng("vessels", key, lung.sign + 1) for lung in shape.lungs.values()]
    parts: list[Part] = []
    for num, root in ((256, (4.4, 0.9, 0.0)), (128, (3.4, 0.2, -2.8))):
        roots, targets, scales = [], [], []
        for lung, rng in zip(shape.lungs.values(), rngs, strict=True):
            middle, size = np.array([lung.sign * shape.lobe_center, 0.3, CENTER_Z]), shape.lung_size
            fallen, small = shape.collapsed(lung) if lung.collapse > 0 else (middle, size)
            points = fallen + growth.scatter_healthy(lung.sign, num, rng) * small
            points[:, 1] += LEAN * (points[:, 2] - fallen[2])
            low = np.clip((points[:, 2] - 0.35 * shape.apex) / (0.3 * shape.apex), -1, 1)
            targets.append(points)
            scales.append(lung.vessel_scale * (1 - 0.42 * (0.45 - lung.upward) * low))
            roots.append((lung.sign * root[0] + 0.8 * lung.shift, root[1], hilum + root[2]))
        tubes, tree = grow_trees(np.array(roots), np.array(targets), SOFT - LUNG, np.array(scales), rngs)
        middles = 0.5 * (tubes.starts + tubes.ends)
        keep = outside_all(growth.organs, middles)
        for index, side in enumerate(shape.lungs):
            keep &= (tree != index) | growth.lungs[f"{side} lung"].contains(middles)
        parts.append(tubes.select(keep))
    return parts


def _measure(vectors: np.ndarray) -> np.ndarray:
    """Lengths of rows."""
    return np.sqrt(np.einsum("ni,ni->n", vectors, vectors))
