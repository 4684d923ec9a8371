"""Findings as changes of the body: some change its shape before it is built, some add bodies to it.

Severity runs from 0 (barely there) to 1 and scales size and density together, so that there is no step at which a
finding becomes easy. Sizes are in centimetres, densities per centimetre.
"""

from __future__ import annotations

import numpy as np

from hilum.phantom import bodies
from hilum.phantom.bodies import make_balls, make_chain, make_ellipsoid, make_rng, make_tubes, rotation
from hilum.phantom.growth import Growth
from hilum.phantom.plan import Lesion, Zone
from hilum.phantom.shape import MASS, PLAQUE, SIDES, Shape
from hilum.phantom.skeleton import rib_curve, vertebra_height


def _sides(lesion: Lesion) -> list[str]:
    """The sides a lesion is on; one that names no side gets one from its key."""
    if lesion.side in SIDES:
        return [lesion.side]
    if lesion.side == "both":
        return list(SIDES)
    return [list(SIDES)[lesion.key % 2]]


def reshape(shape: Shape, lesion: Lesion, index: int) -> None:
    """Change the numbers of a chest for one lesion, `index` in its plan."""
    rng, severity = make_rng("reshape", lesion.key), lesion.severity
    tag = f"lesion {index}"
    lungs = [shape.lungs[side] for side in _sides(lesion)]
    match lesion.finding, lesion.kind:
        case "Cardiomegaly", _:
            shape.heart *= 1.06 + 0.30 * severity
            shape.mediastinum *= 1 + 0.12 * severity
        case "Enlarged Cardiomediastinum", "aorta":
            shape.aorta *= 1.15 + 0.5 * severity
            shape.unfolding += 0.3 + 0.8 * severity
        case "Enlarged Cardiomediastinum", _:
            shape.mediastinum *= 1.3 + 0.8 * severity
        case "Edema", _:
            for lung in shape.lungs.values():
                lung.vessel_scale *= 1.10 + 0.35 * severity
                lung.upward = min(lung.upward + 0.2 + 0.4 * severity, 1.0)
                lung.density += 0.002 + 0.014 * severity
        case "Pleural Effusion", kind if kind != "loculated":
            for lung in lungs:
                lung.fluid = lung.dome - 10.0 + 14.0 * severity
                lung.fluid_tag = tag
        case "Atelectasis", kind:
            lobar = kind == "lobar"
            for lung in lungs:
                lung.dome += (0.8 + 2.4 * severity) if lobar else (0.2 + 0.8 * severity)
            pull = sum(lung.sign for lung in lungs) * severity * (1.5 if lobar else 0.2)
            for lung in shape.lungs.values():
                lung.shift += pull
        case "Pneumothorax", _:
            for lung in lungs:
                lung.collapse, lung.collapse_tag = 0.16 + 0.44 * severity, tag
            for lung in shape.lungs.values():
                lung.shift -= sum(hurt.sign for hurt in lungs) * max(severity - 0.5, 0) * 2.4
        case "Fracture", "vertebra":
            shape.wedges[int(rng.integers(5, 12))] = 0.4 + 0.4 * severity
        case "Fracture", kind if kind != "clavicle":
            first = {"upper": 2, "middle": 4, "lower": 6}.get(lesion.zone, 4) + int(rng.integers(0, 2))
            for lung in lungs:
                for rib in range(first, first + 2 + int(severity > 0.35) + int(severity > 0.65)):
                    shape.rib_breaks[lung.sign, rib] = (
                        rng.uniform(0.3, 0.75),
                        (0.8 + 1.1 * severity) * rng.uniform(0.8, 1.2),
                    )


def grow_lesions(growth: Growth, lesion: Lesion, index: int) -> tuple[str, ...]:
    """Add the bodies of one lesion; returns the tags whose shadow is its mask (empty: it has no extent of its own)."""
    rng, severity, tag = make_rng("lesion", lesion.key), lesion.severity, f"lesion {index}"
    match lesion.finding, lesion.kind:
        case "Cardiomegaly", _:
            return ("heart",)
        case "Enlarged Cardiomediastinum", kind:
            return ("aorta",) if kind == "aorta" else ("mediastinum", "aorta")
        case "Edema", _:
            _add_edema(growth, severity, rng, tag)
        case "Pneumothorax", _:
            return (tag, tag + " line")
        case "Fracture", kind:
            _mark_fracture(growth, lesion, rng, tag)
        case "Support Devices", _:
            pass  # devices.py builds them with this tag
        case "Pleural Effusion", kind if kind != "loculated":
            pass
        case _:
            for side in _sides(lesion):
                match lesion.finding:
                    case "Consolidation":
                        _add_cloud(
                            growth,
                            side,
                            lesion.zone,
                            rng,
                            tag,
                            2.6 + 2.8 * severity,
                            0.08 + 0.18 * severity,
                            30,
                            0.55,
                        )
                    case "Pneumonia":
                        for _ in range(1 + int(rng.random() < 0.5)):
                            _add_cloud(
                                growth,
                                side,
                                lesion.zone,
                                rng,
                                tag,
                                2.4 + 2.6 * severity,
                                0.08 + 0.15 * severity,
                                34,
                                0.75,
                            )
                    case "Lung Opacity":
                        for _ in range(int(rng.integers(2, 5))):
                            _add_cloud(
                                growth,
                                side,
                                lesion.zone,
                                rng,
                                tag,
                                2.0 + 2.2 * severity,
                                0.04 + 0.09 * severity,
                                16,
                                0.9,
                            )
                    case "Lung Lesion":
                        for _ in range(1 if lesion.kind == "mass" else int(rng.integers(1, 4))):
                            _add_nodule(growth, side, lesion, rng, tag)
                    case "Atelectasis":
                        _add_atelectasis(growth, side, lesion, rng, tag)
                    case "Pleural Effusion":
                        _add_lens(
                            growth, side, rng, tag, 1.2 + 2.2 * severity, 3.5 + 2.5 * severity, bodies.SOFT, (0.05, 0.6)
                        )
                    case "Pleural Other":
                        _add_pleural_other(growth, side, lesion, rng, tag)
    return (tag,)


def _add_cloud(
    growth: Growth,
    side: str,
    zone: Zone,
    rng: np.random.Generator,
    tag: str,
    radius: float,
    density: float,
    num: int,
    spread: float,
) -> None:
    """An ill-defined opacity: soft balls around one place, only where the lung is aerated."""
    center = growth.find_place(side, zone, rng, inset=0.88)
    offset = rng.normal(0, 1, (num, 3))
    offset *= (radius * spread * rng.random(num) ** 0.5 / np.linalg.norm(offset, axis=1))[:, None] * [1.0, 1.0, 1.1]
    size = radius * rng.uniform(0.25, 0.75, num)
    weight = density * rng.uniform(0.4, 1.2, num) * 9.0 / num
    semi = size[:, None] * rng.uniform(0.7, 1.3, (num, 3))
    growth.swarms.append(make_balls(center + offset, semi, weight, host=f"{side} lung", tag=tag))


def _add_edema(growth: Growth, severity: float, rng: np.random.Generator, tag: str) -> None:
    """Haze around the hila and at the bases, and short horizontal septal lines at the lower edges."""
    shape = growth.shape
    for side, sign in SIDES.items():
        host = f"{side} lung"
        root = np.array([sign * 5.0, 1.0, growth.hilum_height - 2.0])
        num = 18
        center = root + rng.normal(0, (2.0, 2.6, 3.6), (num, 3))
        weight = (0.009 + 0.027 * severity) * rng.uniform(0.4, 1.3, num)
        growth.swarms.append(make_balls(center, rng.uniform(1.6, 4.2, num), weight, host=host, tag=tag))
        lines = 6 + int(24 * severity)
        z = rng.uniform(shape.lungs[side].dome - 2, 0.35 * shape.apex, lines)
        angle = rng.uniform(0.25, 0.85, lines) * np.pi
        outer = shape.wall(sign, angle, z, outward=-0.15)
        inner = outer + (np.array([sign * 4.0, 0, 0]) - outer * [1, 1, 0]) * 0.17 + rng.normal(0, 0.1, (lines, 3))
        growth.swarms.append(make_tubes(inner, outer, np.full(lines, 0.055), 0.10 + 0.14 * severity, tag=tag))


def _add_nodule(growth: Growth, side: str, lesion: Lesion, rng: np.random.Generator, tag: str) -> None:
    """A round nodule or a lobed mass with spicules."""
    mass, severity = lesion.kind == "mass", lesion.severity
    radius = (2.2 + 2.0 * severity) if mass else (1.2 + 1.2 * severity)
    center = growth.find_place(side, lesion.zone, rng, inset=0.86)
    growth.solids.append(
        make_ellipsoid(
            bodies.SOFT * 0.97,
            MASS,
            center,
            radius * rng.uniform(0.85, 1.1, 3),
            rotation(*rng.normal(0, 1, 3)),
            tag=tag,
        )
    )
    for _ in range(5 if mass else 2):
        push = rng.normal(0, 1, 3)
        lobe = center + push / np.linalg.norm(push) * radius * 0.55
        growth.solids.append(make_ellipsoid(bodies.SOFT * 0.97, MASS, lobe, radius * rng.uniform(0.5, 0.7, 3), tag=tag))
    num = 14 if mass or rng.random() < 0.4 else 4
    out = rng.normal(0, 1, (num, 3))
    out /= np.linalg.norm(out, axis=1, keepdims=True)
    tips = center + out * (radius * rng.uniform(1.4, 2.1, num))[:, None]
    growth.swarms.append(make_tubes(center + out * radius * 0.8, tips, np.full(num, 0.06 + 0.03 * mass), 0.14, tag=tag))
    growth.swarms.append(
        make_balls(center[None], np.array([radius * 1.5]), 0.02 + 0.02 * severity, host=f"{side} lung", tag=tag)
    )


def _add_atelectasis(growth: Growth, side: str, lesion: Lesion, rng: np.random.Generator, tag: str) -> None:
    """Plates above the diaphragm, or a wedge of collapsed lobe against the mediastinum."""
    severity, host, sign = lesion.severity, f"{side} lung", SIDES[side]
    if lesion.kind == "lobar":
        upper = lesion.zone == "upper"
        base = np.array([sign * 4.2, 4.0, growth.shape.lungs[side].dome + 1.5])
        if upper:
            base = np.array([sign * 4.5, -1.0, 0.8 * growth.shape.apex])
        num = 26
        offset = rng.normal(0, 1, (num, 3)) * np.array([1.2, 2.0, 2.2]) * (0.7 + 0.5 * severity)
        weight = (0.018 + 0.045 * severity) * rng.uniform(0.5, 1.3, num)
        growth.swarms.append(make_balls(base + offset, rng.uniform(1.2, 2.8, num), weight, host=host, tag=tag))
        return
    for _ in range(1 + int(severity * 2.5)):
        center = growth.find_place(side, lesion.zone, rng, inset=0.8)
        if lesion.zone == "lower":
            center[2] = growth.shape.lungs[side].dome + rng.uniform(0.8, 4.0)
        turn = rotation(yaw=rng.normal(0, 0.5), pitch=rng.normal(0, 0.12), roll=rng.normal(sign * 0.15, 0.25))
        semi = np.array([2.4 + 2.4 * severity, 1.8 + 1.5 * severity, 0.28 + 0.22 * severity]) * rng.uniform(0.8, 1.2, 3)
        growth.swarms.append(
            make_balls(center[None], semi[None], 0.10 + 0.08 * severity, turns=turn[None], host=host, tag=tag)
        )


def _add_lens(
    growth: Growth,
    side: str,
    rng: np.random.Generator,
    tag: str,
    thick: float,
    wide: float,
    density: float,
    levels: tuple[float, float],
) -> None:
    """A lens-shaped body on the inside of the chest wall, within the pleural cavity."""
    sign = SIDES[side]
    z = np.array([rng.uniform(*levels) * growth.shape.apex])
    angle = np.array([rng.uniform(0.28, 0.62) * np.pi])
    spot = growth.shape.wall(sign, angle, z)[0]
    yaw = -sign * (angle[0] - 0.5 * np.pi)
    lens = make_ellipsoid(
        density, PLAQUE, spot, (thick, wide, wide * rng.uniform(0.8, 1.5)), rotation(yaw=-yaw), tag=tag
    )
    growth.solids.append(lens.meet(growth.shape.cavity(side)))


def _add_pleural_other(growth: Growth, side: str, lesion: Lesion, rng: np.random.Generator, tag: str) -> None:
    """Thickened pleura along the wall or over the apex, or calcified plaques."""
    severity, sign, shape = lesion.severity, SIDES[side], growth.shape
    if lesion.kind == "plaque":
        for _ in range(2 + int(4 * severity)):
            z = np.array([rng.uniform(0.02, 0.6) * shape.apex])
            angle = np.array([rng.uniform(0.2, 0.85) * np.pi])
            spot = shape.wall(sign, angle, z)[0]
            turn = rotation(yaw=sign * (angle[0] - 0.5 * np.pi))
            semi = np.array([0.2 + 0.15 * severity, *rng.uniform(0.8, 1.4 + 1.1 * severity, 2)])
            growth.swarms.append(
                make_balls(
                    spot[None],
                    semi[None],
                    bodies.CALCIUM * (0.5 + 0.5 * severity),
                    turns=turn[None],
                    soft=False,
                    tag=tag,
                )
            )
        return
    if lesion.zone == "upper":
        cap = np.array([sign * shape.lobe_center, 0.3 + 0.12 * (shape.apex - 2), shape.apex - 0.2])
        growth.solids.append(
            make_ellipsoid(bodies.SOFT, PLAQUE, cap, (4.4, 4.4, 1.8 + 1.8 * severity), tag=tag).meet(shape.cavity(side))
        )
    for _ in range(2 + int(2 * severity)):
        _add_lens(growth, side, rng, tag, 1.2 + 1.3 * severity, rng.uniform(3.0, 5.5), bodies.SOFT, (0.0, 0.55))


def _mark_fracture(growth: Growth, lesion: Lesion, rng: np.random.Generator, tag: str) -> None:
    """What goes with a break: a clavicle's step, a little blood; an all but empty ball marks the place for the mask."""
    shape = growth.shape
    if lesion.kind == "clavicle":
        for side in _sides(lesion):
            growth.clavicle_breaks[SIDES[side]] = 1.4 + 1.8 * lesion.severity
            spot = np.array([SIDES[side] * 0.62 * shape.half_width, -3.0, 0.95 * shape.apex])
            growth.swarms.append(make_balls(spot[None], np.array([2.2]), 1e-3, tag=tag))
        return
    if lesion.kind == "vertebra":
        for index in shape.wedges:
            middle = shape.spine(vertebra_height(shape, np.array([index])))
            growth.swarms.append(make_balls(middle, np.array([1.7]), 1e-3, tag=tag))
        return
    for (sign, rib), (where, step) in shape.rib_breaks.items():
        if sign not in [SIDES[side] for side in _sides(lesion)]:
            continue
        points = rib_curve(shape, sign, rib, make_rng("callus", lesion.key, rib))
        spot = points[int(np.clip(where * len(points), 3, len(points) - 4))]
        # Blood under the pleura bulges into the lung beside the break.
        size = (2.0 + 1.6 * lesion.severity) * rng.uniform(0.8, 1.2, 3) * [1.0, 1.2, 1.5]
        host = f"{'left' if sign > 0 else 'right'} lung"
        growth.swarms.append(make_balls(spot[None], size[None], 0.18 + 0.12 * lesion.severity, host=host, tag=tag))
        growth.swarms.append(
            make_balls(spot[None], np.array([1.0]), 0.03 + 0.03 * min(step, 1) * rng.random(), tag=tag)
        )


def add_wire(growth: Growth, points: list | np.ndarray, radius: float, density: float, tag: str, num: int = 30) -> None:
    """A wire, catheter or tube wall through control points."""
    growth.swarms.append(make_chain(bodies.curve_through(points, num), radius, density, tag=tag))
