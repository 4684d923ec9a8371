"""Branching vessels that fill a lung: from the hilum, each branch heads for the middle of the lung it will supply."""

from __future__ import annotations

import math

import numpy as np

from hilum.phantom.bodies import Part, make_tubes

_LEVELS = 8  # 256 ends for one tree
_THINNEST = 0.07  # centimetres: the radius of an end vessel


def grow_tree(
    root: np.ndarray, targets: np.ndarray, weight: float, scale: np.ndarray, rng: np.random.Generator
) -> list[Part]:
    """Tubes of a tree from root (3,) whose ends share out targets (n, 3), n a power of two.

    Each level halves every branch's targets across their longest extent; a branch reaches part of the way to the centre
    of its own targets, and is as thick as Murray's law says (radius^2.7 adds up). `scale` (n,) stretches radii by
    target, averaged over what a branch supplies.
    """
    groups, scales = targets[None], scale[None]
    starts = root[None]
    swarms = []
    while True:
        num, size = groups.shape[:2]
        reach = 0.30 if size > 32 else 0.45
        ends = starts + (groups.mean(1) - starts) * reach
        ends = ends + rng.normal(0, 0.05, ends.shape) * np.linalg.norm(ends - starts, axis=1, keepdims=True)
        if size == 1:
            ends = starts + (groups[:, 0] - starts) * 0.9
        radius = _THINNEST * size ** (1 / 2.7) * scales.mean(1)
        bow = 0.5 * (starts + ends) + rng.normal(0, 0.07, ends.shape) * np.linalg.norm(
            ends - starts, axis=1, keepdims=True
        )
        for begin, end, thin in ((starts, bow, 1.0), (bow, ends, 0.9)):
            real = np.linalg.norm(end - begin, axis=1) > 0.02
            swarms.append(make_tubes(begin[real], end[real], radius[real] * thin, weight))
        if size == 1:
            return swarms
        longest = np.argmax(groups.std(1), axis=1)
        order = np.argsort(np.take_along_axis(groups, longest[:, None, None], axis=2)[:, :, 0], axis=1)
        groups = np.take_along_axis(groups, order[:, :, None], axis=1).reshape(num * 2, size // 2, 3)
        scales = np.take_along_axis(scales, order, axis=1).reshape(num * 2, size // 2)
        starts = np.repeat(ends, 2, axis=0)


def num_ends(share: float = 1.0) -> int:
    """Ends of a tree: a power of two, about `share` of a full one."""
    return 2 ** max(round(_LEVELS + math.log2(share)), 3)
