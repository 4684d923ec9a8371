"""The breast's inner loops: scalar code that numba compiles to machine code, which is kept on disk.

Only + - * / sqrt, in one order (no fastmath, no threads): the same numbers on every machine. Along a ray a field is
linear between two samples, and what is made of it (a threshold, a thin sheet) is integrated exactly over that piece; so
sheets far thinner than a step neither vanish nor alias.
"""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt
from typing import no_type_check

import numpy as np
from numba import njit
from numba.core.dispatcher import Dispatcher

_inner = njit(error_model="numpy", inline="always")
_F = np.float32


def _kernel(function: Callable) -> Dispatcher:
    """Compile on the first call; the code is kept beside this file or in the user's cache folder, if numba can."""
    try:
        return njit(cache=True, error_model="numpy")(function)
    except RuntimeError:  # what numba raises if it can write in neither
        return njit(error_model="numpy")(function)


@_inner
@no_type_check
def _look_up(tile, x, y, z):
    """Trilinear interpolation in a periodic tile (64, 64, 64); coordinates in voxels."""
    i, j, k = int(np.floor(x)), int(np.floor(y)), int(np.floor(z))
    x, y, z = x - _F(i), y - _F(j), z - _F(k)
    i, j, k = i & 63, j & 63, k & 63
    p, q, r = (i + 1) & 63, (j + 1) & 63, (k + 1) & 63
    a = tile[i, j, k] + (tile[i, j, r] - tile[i, j, k]) * z
    b = tile[i, q, k] + (tile[i, q, r] - tile[i, q, k]) * z
    c = tile[p, j, k] + (tile[p, j, r] - tile[p, j, k]) * z
    d = tile[p, q, k] + (tile[p, q, r] - tile[p, q, k]) * z
    a, c = a + (b - a) * y, c + (d - c) * y
    return a + (c - a) * x


@_inner
@no_type_check
def _mean_clip(first, last):
    """Mean of clip(s, 0, 1) for s from `first` to `last`, evenly."""
    if abs(last - first) < _F(1e-4):
        return min(max(_F(0.5) * (first + last), _F(0.0)), _F(1.0))
    low = _F(0.5) * min(max(first, _F(0.0)), _F(1.0)) ** 2 + max(first - _F(1.0), _F(0.0))
    high = _F(0.5) * min(max(last, _F(0.0)), _F(1.0)) ** 2 + max(last - _F(1.0), _F(0.0))
    return (high - low) / (last - first)


@_inner
@no_type_check
def _mean_sheet(first, last, half):
    """Share of the values from `first` to `last` that lie within `half` of 0."""
    if abs(last - first) < _F(1e-4):
        return max(_F(1.0) - abs(first) / (_F(2.0) * half), _F(0.0))
    return (min(max(last, -half), half) - min(max(first, -half), half)) / (last - first)


@_kernel
@no_type_check
def measure_distance(outline, corner, step, distance):
    """Signed distance (mm, inside positive) of each grid point to an outline, whose last point joins its first.

    outline (point, 2) of (u, v), its joining edge left of the grid and no part of the distance; point (row, col) is
    at (corner[0] + col step, corner[1] - row step).
    """
    for row in range(distance.shape[0]):
        v = corner[1] - row * step
        for col in range(distance.shape[1]):
            u = corner[0] + col * step
            best, inside = 1e18, False
            for i in range(len(outline) - 1):
                du, dv = outline[i + 1, 0] - outline[i, 0], outline[i + 1, 1] - outline[i, 1]
                share = ((u - outline[i, 0]) * du + (v - outline[i, 1]) * dv) / (du * du + dv * dv)
                share = min(max(share, 0.0), 1.0)
                across, along = u - outline[i, 0] - share * du, v - outline[i, 1] - share * dv
                best = min(best, across * across + along * along)
                # From inside, a line to the right crosses the outline an odd number of times; the joining edge is left.
                if (outline[i, 1] > v) != (outline[i + 1, 1] > v) and outline[i, 0] + (v - outline[i, 1]) * du / dv > u:
                    inside = not inside
            distance[row, col] = sqrt(best) if inside else -sqrt(best)


@_kernel
@no_type_check
def march(thickness, corner, step, pose, body, rotations, web, clouds, envelope, islands, pulls, num_steps, parts):
    """Fill parts (2, row, col) with millimetres of glandular tissue and of septa along each ray.

    thickness (row, col) of what lies between the skins, mm; pose (a, b, k, o, my, mz, ny, nz) and body (depth, radius,
    tail) as in `shape`; rotations (3, 3, 3) from millimetres to voxels of coarse web, fine web and clouds; envelope:
    see `tissue`; islands (island, 5): x, y, z, radius, amount; pulls (pull, 5): x, y, z, radius, amount.
    """
    a, b, k, o, my, mz, ny, nz = pose
    depth, radius, tail = body
    level, slope, hump, falloff, skirt, lobules, cloud, sheet, fine_sheet, bias, crisp = envelope
    for row in range(thickness.shape[0]):
        v = _F(corner[1] - row * step)
        m = v / b
        for col in range(thickness.shape[1]):
            t = thickness[row, col]
            if t <= _F(0.0):
                continue
            u = _F(corner[0] + col * step)
            base = (u + o) / a
            square = _F(1.0) - (base / depth) ** 2 - (m / radius) ** 2
            h = sqrt(radius * radius * max(square, _F(0.0)) + tail * tail)
            gland, septa = _F(0.0), _F(0.0)
            before, before_coarse, before_fine = _F(0.0), _F(0.0), _F(0.0)
            for number in range(num_steps + 1):
                n = h * (_F(2.0) * _F(number) / _F(num_steps) - _F(1.0))
                x, y, z = base + k * n / a, m * my + n * ny, m * mz + n * nz
                for pull in range(len(pulls)):
                    dx, dy, dz = x - pulls[pull, 0], y - pulls[pull, 1], z - pulls[pull, 2]
                    near = _F(1.0) - (dx * dx + dy * dy + dz * dz) / (pulls[pull, 3] * pulls[pull, 3])
                    if near > _F(0.0):
                        grown = pulls[pull, 4] * near * near
                        x, y, z = x + dx * grown, y + dy * grown, z + dz * grown
                q = x / depth
                coarse = _look_up(
                    web,
                    rotations[0, 0, 0] * x + rotations[0, 0, 1] * y + rotations[0, 0, 2] * z,
                    rotations[0, 1, 0] * x + rotations[0, 1, 1] * y + rotations[0, 1, 2] * z,
                    rotations[0, 2, 0] * x + rotations[0, 2, 1] * y + rotations[0, 2, 2] * z,
                )
                fine = _look_up(
                    web,
                    rotations[1, 0, 0] * x + rotations[1, 0, 1] * y + rotations[1, 0, 2] * z,
                    rotations[1, 1, 0] * x + rotations[1, 1, 1] * y + rotations[1, 1, 2] * z,
                    rotations[1, 2, 0] * x + rotations[1, 2, 1] * y + rotations[1, 2, 2] * z,
                )
                cloudy = _look_up(
                    clouds,
                    rotations[2, 0, 0] * x + rotations[2, 0, 1] * y + rotations[2, 0, 2] * z,
                    rotations[2, 1, 0] * x + rotations[2, 1, 1] * y + rotations[2, 1, 2] * z,
                    rotations[2, 2, 0] * x + rotations[2, 2, 1] * y + rotations[2, 2, 2] * z,
                )
                # Relative distance from the axis of the breast, 1 on the skin of the uncompressed body.
                rim = radius * radius * max(_F(1.0) - q * q, _F(0.05))
                r2 = (y * y + z * z) / rim
                value = level - falloff * r2 - hump * (q - slope) ** 2 - skirt * max(q - _F(0.88), _F(0.0))
                value += bias * (y + z) / radius  # more of it up and out
                value += cloud * cloudy - lobules * (abs(coarse) + _F(0.5) * abs(fine))
                for island in range(len(islands)):
                    dx, dy, dz = x - islands[island, 0], y - islands[island, 1], z - islands[island, 2]
                    near = _F(1.0) - (dx * dx + dy * dy + dz * dz) / (islands[island, 3] * islands[island, 3])
                    if near > _F(0.0):
                        value += islands[island, 4] * near
                value = _F(0.5) + crisp * (value - _F(0.5))
                thick = min(max(_F(1.0) + _F(0.55) * cloudy, _F(0.25)), _F(2.5))
                if number:
                    amount = _mean_clip(before, value)
                    gland += amount
                    septa += (_F(1.0) - amount) * (
                        _mean_sheet(before_coarse, coarse, thick * sheet)
                        + _mean_sheet(before_fine, fine, thick * fine_sheet)
                    )
                before, before_coarse, before_fine = value, coarse, fine
            parts[0, row, col] = gland * t / _F(num_steps)
            parts[1, row, col] = septa * t / _F(num_steps)


@_kernel
@no_type_check
def draw_tubes(ends, corner, step, total):
    """Add tubes to `total` (row, col): ends (tube, 6) of u, v, u, v (mm), radius (mm) and weight per mm of chord.

    A tube thinner than a pixel is drawn a pixel thick with as much in it.
    """
    rows, cols = total.shape
    for tube in range(len(ends)):
        u, v, du, dv = ends[tube, 0], ends[tube, 1], ends[tube, 2] - ends[tube, 0], ends[tube, 3] - ends[tube, 1]
        true, weight = ends[tube, 4], ends[tube, 5]
        wide = max(true, 0.75 * step)
        weight *= (true / wide) ** 2
        length = du * du + dv * dv
        if length <= 0.0:
            continue
        left = int((min(u, u + du) - wide - corner[0]) / step)
        right = int((max(u, u + du) + wide - corner[0]) / step) + 2
        top = int((corner[1] - max(v, v + dv) - wide) / step)
        bottom = int((corner[1] - min(v, v + dv) + wide) / step) + 2
        for row in range(max(top, 0), min(bottom, rows)):
            y = corner[1] - row * step - v
            for col in range(max(left, 0), min(right, cols)):
                x = corner[0] + col * step - u
                share = (x * du + y * dv) / length
                if share < 0.0 or share >= 1.0:
                    continue
                square = wide * wide - (x - share * du) ** 2 - (y - share * dv) ** 2
                if square > 0.0:
                    total[row, col] += weight * 2.0 * sqrt(square)


@_kernel
@no_type_check
def draw_balls(balls, corner, step, total):
    """Add ellipsoids to `total`: balls (ball, 7) of u, v, two radii and the angle's cosine and sine in the plane, and
    weight at the centre. One smaller than a pixel is drawn a pixel wide with as much in it."""
    rows, cols = total.shape
    for ball in range(len(balls)):
        u, v, first, second, cosine, sine, weight = balls[ball]
        wide, narrow = max(first, 0.75 * step), max(second, 0.75 * step)
        weight *= first * second / (wide * narrow)
        reach = max(wide, narrow)
        left, right = int((u - reach - corner[0]) / step), int((u + reach - corner[0]) / step) + 2
        top, bottom = int((corner[1] - v - reach) / step), int((corner[1] - v + reach) / step) + 2
        for row in range(max(top, 0), min(bottom, rows)):
            y = corner[1] - row * step - v
            for col in range(max(left, 0), min(right, cols)):
                x = corner[0] + col * step - u
                square = 1.0 - ((x * cosine + y * sine) / wide) ** 2 - ((y * cosine - x * sine) / narrow) ** 2
                if square > 0.0:
                    total[row, col] += weight * sqrt(square)


@_kernel
@no_type_check
def draw_star(center, axes, radii, bumps, soft, corner, step, window, total):
    """Add millimetres of one star-shaped body: radius along a direction d = 1 / |d / radii| (1 + sum of bumps).

    center (u, v); axes (3, 3): rows are u, v, w in the body's own frame; bumps (bump, 5): direction, width (1 - cosine)
    and height; soft: millimetres over which its edge fades; window (top, bottom, left, right) in pixels.
    """
    reach = radii.max() * 1.6 + soft
    depth_step = max(reach / 24.0, 0.25)
    num = int(reach / depth_step) + 1
    for row in range(window[0], window[1]):
        v = corner[1] - row * step - center[1]
        for col in range(window[2], window[3]):
            u = corner[0] + col * step - center[0]
            if u * u + v * v > reach * reach:
                continue
            length = 0.0
            for number in range(-num, num + 1):
                w = number * depth_step
                x = axes[0, 0] * u + axes[1, 0] * v + axes[2, 0] * w
                y = axes[0, 1] * u + axes[1, 1] * v + axes[2, 1] * w
                z = axes[0, 2] * u + axes[1, 2] * v + axes[2, 2] * w
                distance = sqrt(x * x + y * y + z * z) + 1e-9
                flat = sqrt((x / radii[0]) ** 2 + (y / radii[1]) ** 2 + (z / radii[2]) ** 2) + 1e-9
                if flat > 1.7 + soft / radii.min():
                    continue
                grown = 1.0
                for bump in range(len(bumps)):
                    away = 1.0 - (x * bumps[bump, 0] + y * bumps[bump, 1] + z * bumps[bump, 2]) / distance
                    if away < bumps[bump, 3]:
                        near = 1.0 - away / bumps[bump, 3]
                        grown += bumps[bump, 4] * near * near
                inside = (grown / flat - 1.0) * distance / soft + 0.5
                length += min(max(inside, 0.0), 1.0)
            total[row, col] += length * depth_step
