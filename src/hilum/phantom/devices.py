"""Support devices: tubes, lines, pacemakers, ports, drains and wires of surgery."""

from __future__ import annotations

import numpy as np

from hilum.phantom import bodies
from hilum.phantom.bodies import make_balls, make_chain, make_rng
from hilum.phantom.growth import Growth
from hilum.phantom.lesions import add_wire
from hilum.phantom.plan import Lesion
from hilum.phantom.shape import SIDES


def add_devices(growth: Growth, lesions: tuple[Lesion, ...]) -> None:
    """Add every support device of a plan; the tag is the lesion's index, as for all lesions."""
    for index, lesion in enumerate(lesions):
        if lesion.finding == "Support Devices":
            _add_device(growth, lesion, f"lesion {index}")


def _add_device(growth: Growth, lesion: Lesion, tag: str) -> None:
    rng, shape = make_rng("device", lesion.key), growth.shape
    sign = SIDES.get(lesion.side, 1 if lesion.kind == "pacemaker" else -1)
    apex, arch = shape.apex, 0.635 * shape.apex
    front = shape.wall(1, np.array([np.pi]), np.array([0.75 * apex]), outward=1.4)[0, 1]
    dome = shape.lungs["left"].dome

    def jitter(points: list, amount: float = 0.3) -> np.ndarray:
        return np.array(points, dtype=np.float64) + rng.normal(0, amount, (len(points), 3))

    match lesion.kind:
        case "tube":
            tip = arch + rng.uniform(0.0, 4.5)
            path = np.array([(0.3, 1.0, apex + 9), (0.2, 1.6, apex + 1), (0.1, 1.6, tip)])
            path[:, 1] += 0.06 * (path[:, 2] - arch)
            growth.swarms.append(make_chain(path, 0.52, 0.10, tag=tag))
            growth.swarms.append(make_chain(path, 0.40, -0.10, tag=tag))
            growth.swarms.append(make_chain(path + [0.3, 0.3, 0], 0.11, 1.7, tag=tag))
        case "line":
            depth = arch - rng.uniform(1.0, 6.0)
            if rng.random() < 0.5:
                entry = [(sign * 4.0, -1.0, apex + 6), (sign * 3.0, -0.5, apex + 1)]
            else:
                entry = [(sign * 13.0, -1.0, apex - 4), (sign * 7.0, -2.5, apex - 2.5)]
            cross = [] if sign < 0 else [(0.5, -1.5, arch + 3.2)]
            add_wire(growth, jitter([*entry, *cross, (-2.1, -0.8, arch + 1.5), (-2.2, -0.9, depth)]), 0.14, 1.3, tag)
        case "gastric":
            course = [
                (0.2, 1.5, apex + 9),
                (0.3, 3.0, apex),
                (0.6, 3.2, arch),
                (0.8, 3.0, 4.0),
                (1.6, 1.5, dome - 1),
                (4.8, -0.5, dome - 4.5),
                (6.5, -1.5, dome - 7.5),
            ]
            add_wire(growth, jitter(course, 0.2), 0.17, 0.9, tag)
        case "drain":
            level = rng.uniform(0.1, 0.5) * apex
            entry = shape.wall(sign, np.array([0.5 * np.pi]), np.array([level]), outward=4.0)[0]
            end = np.array([sign * shape.lobe_center * 1.1, rng.uniform(-2, 5), rng.uniform(0.55, 0.85) * apex])
            course = bodies.curve_through(
                jitter([entry, entry * [0.72, 1, 1] + [0, 0, 1.0], 0.5 * (entry + end) + [sign * 1.0, 0, 0], end], 0.4),
                26,
            )
            growth.swarms.append(make_chain(course, 0.36, 0.14, tag=tag))
            growth.swarms.append(make_chain(course + [0.0, 0.2, 0.15], 0.10, 1.6, tag=tag))
        case "port":
            pocket = np.array([sign * rng.uniform(6.5, 9.0), front + 0.5, rng.uniform(0.66, 0.76) * apex])
            growth.swarms.append(make_chain(np.array([pocket, pocket + [0, -0.9, 0]]), 1.25, 0.35, tag=tag))
            growth.swarms.append(make_chain(np.array([pocket, pocket + [0, -0.8, 0]]), 0.7, 0.9, tag=tag))
            rise = pocket * [0.75, 1, 0] + [0, 1.0, apex - 0.5]
            add_wire(
                growth,
                jitter([pocket, rise, (sign * 2.6, -0.8, apex - 2.5), (-2.1, -0.8, arch), (-2.2, -1.0, arch - 4)], 0.2),
                0.11,
                0.8,
                tag,
            )
        case "pacemaker":
            pocket = np.array([sign * rng.uniform(8.5, 11.0), front + 0.6, rng.uniform(0.68, 0.8) * apex])
            growth.swarms.append(
                make_chain(np.array([pocket, pocket + [0, -0.75, 0]]), np.array([[2.5, 2.1]] * 2), 1.5, tag=tag)
            )
            growth.swarms.append(
                make_chain(np.array([pocket + [0, 0, 2.2], pocket + [-sign * 1.6, -0.3, 2.3]]), 0.5, 0.8, tag=tag)
            )
            heart = shape.heart * shape.scale
            for end in [(2.6 * heart, -5.0, dome + 2.0), (-1.8 * heart, -3.0, dome + 6.0)][
                : 1 + int(rng.random() < 0.7)
            ]:
                course = [
                    pocket + [0, 0, 2.2],
                    (sign * 6.0, -1.5, apex - 2.2),
                    (-0.5 - 1.2 * (sign < 0), -1.2, arch + 3),
                    (-2.2, -1.0, arch - 1),
                    (-2.2, -2.0, dome + 4.5),
                    end,
                ]
                course = bodies.curve_through(jitter(course, 0.2), 36)
                growth.swarms.append(make_chain(course, 0.09, 2.2, tag=tag))
                growth.swarms.append(make_chain(course[-3:], 0.14, 2.6, tag=tag))
        case _:  # wires of a sternotomy, and now and then clips
            for level in np.linspace(0.28, 0.78, 6) * apex + rng.normal(0, 0.2, 6):
                spot = shape.wall(1, np.array([np.pi]), np.array([level]), outward=1.2)[0] * [0, 1, 1]
                turn = np.linspace(0, 2 * np.pi, 15)
                ring = spot + np.stack([1.1 * np.sin(turn), 0.55 * np.cos(turn), 0.25 * np.sin(turn * 2 + 1)], axis=1)
                growth.swarms.append(make_chain(ring[:-1], 0.06, 3.4, tag=tag))
            if rng.random() < 0.6:
                clips = jitter([(2.0, -3, arch - 4 - k) for k in range(5)], 0.5)
                growth.swarms.append(make_balls(clips, np.array([[0.06, 0.25, 0.1]] * 5), 4.0, soft=False, tag=tag))
