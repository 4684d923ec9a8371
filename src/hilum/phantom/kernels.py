"""The phantom's inner loops: scalar code that numba compiles to machine code, which is kept on disk.

A pixel is p = (1, col, row); its ray is source + t (basis p), and reaches the detector at t = 1. For a quadric
|A (x - c)| <= 1 three functions of p say all: `toward` . p = A (source - c) . A basis p, the square p S p =
|A basis p|^2, and the discriminant p D p, positive where the ray hits. The chord is t = (-toward +- sqrt(discriminant))
/ square. On one row they are polynomials in col, and so is the edge of the shadow: loops visit only what is hit.

Operations are IEEE doubles in one order (no fastmath, no threads): the same numbers on every machine. numba compiles a
function as it stands, so arguments have no annotations and nothing is wrapped (@no_type_check); `rays` are always
(source (3,), basis (3, 3), its inverse), `quadrics` what `_see` returns.
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil, copysign, floor, sqrt
from typing import no_type_check

import numpy as np
from numba import njit
from numba.core.dispatcher import Dispatcher

_RAYS = "Tuple((f8[::1], f8[:,::1], f8[:,::1]))"
_inner = njit(error_model="numpy")


def _kernel(signature: str) -> Callable[[Callable], Dispatcher]:
    """Compile on import; the code is kept beside this file, else in the user's cache folder, else not at all."""

    def build(function: Callable) -> Dispatcher:
        try:
            return njit(signature, cache=True, error_model="numpy")(function)
        except RuntimeError:  # what numba raises if it can write in neither
            return njit(signature, error_model="numpy")(function)

    return build


@_inner
@no_type_check
def _see(shapes, centers, rays):
    """toward (body, 3), square and discriminant (body, 3, 3) of quadrics |shapes (x - centers)| <= 1.

    shapes (body, k, 3), centers (body, 3); k = 2 makes endless cylinders.
    """
    source, basis, _ = rays
    num = len(shapes)
    toward, square, discriminant = np.zeros((num, 3)), np.zeros((num, 3, 3)), np.empty((num, 3, 3))
    slope = np.empty(3)
    for body in range(num):
        distance = 0.0
        for k in range(shapes.shape[1]):
            offset = 0.0
            slope[:] = 0.0
            for i in range(3):
                offset += shapes[body, k, i] * (source[i] - centers[body, i])
                for j in range(3):
                    slope[j] += shapes[body, k, i] * basis[i, j]
            distance += offset * offset
            for i in range(3):
                toward[body, i] += offset * slope[i]
                for j in range(3):
                    square[body, i, j] += slope[i] * slope[j]
        for i in range(3):
            for j in range(3):
                discriminant[body, i, j] = toward[body, i] * toward[body, j] - (distance - 1) * square[body, i, j]
    return toward, square, discriminant


@_inner
@no_type_check
def _slice(quadrics, body, row):
    """toward, square and discriminant of a body on a row: their coefficients as polynomials in col."""
    toward, square, discriminant = quadrics[0][body], quadrics[1][body], quadrics[2][body]
    return (
        (toward[0] + row * toward[2], toward[1]),
        (
            square[0, 0] + row * (2 * square[0, 2] + row * square[2, 2]),
            2 * (square[0, 1] + row * square[1, 2]),
            square[1, 1],
        ),
        (
            discriminant[0, 0] + row * (2 * discriminant[0, 2] + row * discriminant[2, 2]),
            2 * (discriminant[0, 1] + row * discriminant[1, 2]),
            discriminant[1, 1],
        ),
    )


@_inner
@no_type_check
def _narrow(discriminant, left, right):
    """The columns of left <= col < right where a discriminant on a row may be positive."""
    c, b, a = discriminant
    root = b * b - 4 * a * c
    if a >= 0 or left >= right:
        return left, right
    if root <= 0:
        return left, left
    # The form of the quadratic formula that subtracts no near numbers.
    half = -0.5 * (b + copysign(sqrt(root), b))
    first, last = ceil(min(half / a, c / half)), floor(max(half / a, c / half)) + 1
    left = int(max(float(left), min(first, float(right))))
    return left, int(max(float(left), min(last, float(right))))


@_inner
@no_type_check
def _cross(toward, square, discriminant, col):
    """Middle and half length of the chord of a sliced quadric, and 1 - (nearest approach)^2 (negative: missed)."""
    share = 1 / (square[0] + col * (square[1] + col * square[2]))
    inside = share * (discriminant[0] + col * (discriminant[1] + col * discriminant[2]))
    return -share * (toward[0] + col * toward[1]), sqrt(max(inside, 0.0) * share), inside


@_inner
@no_type_check
def _aim(planes, rays):
    """ahead (plane,) and speed (plane, 3): a ray is in the half-space n . x <= d where t speed . p <= ahead."""
    source, basis, _ = rays
    ahead, speed = planes[:, 3].copy(), np.zeros((len(planes), 3))
    for plane in range(len(planes)):
        for i in range(3):
            ahead[plane] -= planes[plane, i] * source[i]
            for j in range(3):
                speed[plane, j] += planes[plane, i] * basis[i, j]
    return ahead, speed


@_inner
@no_type_check
def _clip(half_spaces, plane, row, col, entry, exit_):
    """The part of entry <= t <= exit in a half-space of `_aim`."""
    ahead, speed = half_spaces[0][plane], half_spaces[1][plane]
    rate = speed[0] + col * speed[1] + row * speed[2]
    return (entry, min(exit_, ahead / rate)) if rate >= 0 else (max(entry, ahead / rate), exit_)


@_inner
@no_type_check
def _bound(corners, rays, size):
    """Left, top, right and bottom (the last two exclusive) of the pixels around a box of corners (8, 3)."""
    source, _, inverse = rays
    left, top, right, bottom = float(size), float(size), 0.0, 0.0
    for corner in range(8):
        depth, col, row = 0.0, 0.0, 0.0
        for i in range(3):
            part = corners[corner, i] - source[i]
            depth += inverse[0, i] * part
            col += inverse[1, i] * part
            row += inverse[2, i] * part
        left, top = min(left, floor(col / depth)), min(top, floor(row / depth))
        right, bottom = max(right, ceil(col / depth) + 1), max(bottom, ceil(row / depth) + 1)
    return int(max(left, 0.0)), int(max(top, 0.0)), int(min(right, float(size))), int(min(bottom, float(size)))


@_inner
@no_type_check
def _cross_product(a, b):
    return a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]


@_inner
@no_type_check
def _unit(x, y, z):
    length = sqrt(x * x + y * y + z * z)
    return x / length, y / length, z / length


@_kernel("f8[:,::1](f8[:,:])")
@no_type_check
def mitre(points):
    """Unit normals (m, 3) of the planes where the segments of a chain of points (m, 3) meet: half-way between them."""
    num = len(points)
    normals = np.zeros((num, 3))
    for i in range(num - 1):
        step = points[i + 1] - points[i]
        x, y, z = _unit(step[0], step[1], step[2])
        for end in (i, i + 1):
            normals[end, 0] += x
            normals[end, 1] += y
            normals[end, 2] += z
    for i in range(num):
        normals[i, 0], normals[i, 1], normals[i, 2] = _unit(normals[i, 0], normals[i, 1], normals[i, 2])
    return normals


@_kernel("Tuple((f8[:,:,::1], f8[:,:,::1], f8[:,:,::1]))(f8[:,:], f8[:,:], f8[:,:], f8[:,:], f8[:,:], f8[:,:])")
@no_type_check
def shape_tubes(starts, ends, radii, ups, start_normals, end_normals):
    """shapes (tube, 2, 3), planes (tube, 2, 4) and corners (tube, 8, 3), as a swarm has them, of `bodies.Tubes`.

    Where `ups` is 0 it is upwards, or for an upright tube to the back; where a normal is 0 it is the tube's axis.
    """
    num = len(starts)
    shapes, planes, corners = np.empty((num, 2, 3)), np.empty((num, 2, 4)), np.empty((num, 8, 3))
    for tube in range(num):
        start, end, up = starts[tube], ends[tube], (ups[tube, 0], ups[tube, 1], ups[tube, 2])
        axis = _unit(end[0] - start[0], end[1] - start[1], end[2] - start[2])
        if up == (0.0, 0.0, 0.0):
            up = (0.0, 0.0, 1.0) if abs(axis[2]) < 0.9 else (0.0, 1.0, 0.0)
        across = _cross_product(up, axis)
        across = _unit(across[0], across[1], across[2])
        upwards = _cross_product(axis, across)
        wide, high = radii[tube, 0], radii[tube, 1]
        spare = 0.7 * max(wide, high)
        low, top = start_normals[tube], end_normals[tube]
        square_low, square_top = not np.any(low), not np.any(top)
        planes[tube, :, 3] = 0.0
        for i in range(3):
            shapes[tube, 0, i], shapes[tube, 1, i] = across[i] / wide, upwards[i] / high
            planes[tube, 0, i] = -axis[i] if square_low else -low[i]
            planes[tube, 1, i] = axis[i] if square_top else top[i]
            planes[tube, 0, 3] += planes[tube, 0, i] * start[i]
            planes[tube, 1, 3] += planes[tube, 1, i] * end[i]
            for corner in range(8):
                middle = end[i] + spare * axis[i] if corner & 4 else start[i] - spare * axis[i]
                side = wide * across[i] if corner & 2 else -wide * across[i]
                corners[tube, corner, i] = middle + side + (high * upwards[i] if corner & 1 else -high * upwards[i])
    return shapes, planes, corners


@_kernel("b1[::1](f8[:,:], f8[:,:,::1], f8[:,::1], f8[:,::1], i8[:,::1])")
@no_type_check
def find_outside(points, shapes, centers, planes, firsts):
    """Which points (point, 3) lie in none of the solids, which are as `lay_solids` has them."""
    outside = np.ones(len(points), dtype=np.bool_)
    for point in range(len(points)):
        x, y, z = points[point]
        for solid in range(len(firsts) - 1):
            inside = True
            for quadric in range(firsts[solid, 0], firsts[solid + 1, 0]):
                center, square = centers[quadric], 0.0
                for k in range(3):
                    shape = shapes[quadric, k]
                    part = shape[0] * (x - center[0]) + shape[1] * (y - center[1]) + shape[2] * (z - center[2])
                    square += part * part
                inside &= square <= 1
                if not inside:
                    break
            if inside:
                for plane in range(firsts[solid, 1], firsts[solid + 1, 1]):
                    inside &= planes[plane, 0] * x + planes[plane, 1] * y + planes[plane, 2] * z <= planes[plane, 3]
                if inside:
                    outside[point] = False
                    break
    return outside


@_inner
@no_type_check
def cover(begins, ends, counts, col, first, last):
    """Cover first <= t <= last on the ray of a column; returns the length that was not covered before.

    What is covered are `counts` (col,) disjoint intervals, begins (slot, col) to ends (slot, col); what touches merges.
    """
    num, before, slot = counts[col], 0.0, 0
    while slot < num:
        begin, end = begins[slot, col], ends[slot, col]
        if begin <= last and end >= first:
            before += end - begin
            first, last = min(first, begin), max(last, end)
            num -= 1
            begins[slot, col], ends[slot, col] = begins[num, col], ends[num, col]
        else:
            slot += 1
    begins[num, col], ends[num, col] = first, last
    counts[col] = num + 1
    return last - first - before


@_inner
@no_type_check
def _integrate_ball(middle, half, inside, begin, end):
    """Integral of 1 - r^2 over the part of begin <= t <= end on the chord middle +- half of a ball."""
    begin, end = max(begin - middle, -half), min(end - middle, half)
    if end <= begin:
        return 0.0
    # 1 - r^2 = inside - square t^2, and it is 0 at t = half, so square = inside / half^2.
    return inside * (end - begin) * (1 - (end * end + end * begin + begin * begin) / (3 * half * half))


@_kernel(
    "void(Tuple((f8[:,:,::1], f8[:,::1], f8[:,::1], i8[:,::1], f8[:,:,::1], f8[::1], i8[::1], i8[::1])),"
    f" Tuple((f8[:,:,::1], f8[:,::1], f8[:,:,::1], f8[::1], i8[::1])), {_RAYS}, f8[:,::1], f8[:,:,::1])"
)
@no_type_check
def lay_solids(solids, balls, rays, total, parts):
    """Lay solids down in their order, each adding to `total` (row, col) what none before it had covered.

    `solids`: shapes (quadric, 3, 3), centers (quadric, 3), planes (plane, 4), firsts (solid + 1, 2), its first quadric
    and plane, corners (solid, 8, 3) of a box around each, attenuations (solid,), tags (solid,), first_balls
    (solid + 1,). `balls`, which are soft and count only where their solid is and nothing before it: shapes, centers,
    corners, weights, tags. A tag is a row of `parts` (tag, row, col), to which solids add their length and balls what
    they add to `total`, or -1.
    """
    shapes, centers, planes, firsts, corners, attenuations, tags, first_balls = solids
    ball_shapes, ball_centers, ball_corners, ball_weights, ball_tags = balls
    size, num = len(total), len(tags)
    quadrics, half_spaces, ball_quadrics = (
        _see(shapes, centers, rays),
        _aim(planes, rays),
        _see(ball_shapes, ball_centers, rays),
    )
    entries, exits = np.empty(size), np.empty(size)
    begins, ends, counts = np.empty((num, size)), np.empty((num, size)), np.empty(size, dtype=np.int64)
    windows = [_bound(corners[solid], rays, size) for solid in range(num)]
    ball_windows = [_bound(ball_corners[ball], rays, size) for ball in range(len(ball_tags))]
    for row in range(size):
        counts[:] = 0
        for solid in range(num):
            left, top, right, bottom = windows[solid]
            if row < top or row >= bottom:
                continue
            for quadric in range(firsts[solid, 0], firsts[solid + 1, 0]):
                left, right = _narrow(_slice(quadrics, quadric, row)[2], left, right)
            entries[left:right], exits[left:right] = -np.inf, np.inf
            for quadric in range(firsts[solid, 0], firsts[solid + 1, 0]):
                toward, square, discriminant = _slice(quadrics, quadric, row)
                for col in range(left, right):
                    middle, half, _ = _cross(toward, square, discriminant, col)
                    entries[col], exits[col] = max(entries[col], middle - half), min(exits[col], middle + half)
            for plane in range(firsts[solid, 1], firsts[solid + 1, 1]):
                for col in range(left, right):
                    entries[col], exits[col] = _clip(half_spaces, plane, row, col, entries[col], exits[col])
            for ball in range(first_balls[solid], first_balls[solid + 1]):
                ball_left, top, ball_right, bottom = ball_windows[ball]
                if row < top or row >= bottom:
                    continue
                toward, square, discriminant = _slice(ball_quadrics, ball, row)
                first, last = _narrow(discriminant, max(left, ball_left), min(right, ball_right))
                for col in range(first, last):
                    middle, half, inside = _cross(toward, square, discriminant, col)
                    if inside <= 0 or exits[col] <= entries[col]:
                        continue
                    share = _integrate_ball(middle, half, inside, entries[col], exits[col])
                    for slot in range(counts[col]):
                        begin, end = max(entries[col], begins[slot, col]), min(exits[col], ends[slot, col])
                        share -= _integrate_ball(middle, half, inside, begin, end)
                    total[row, col] += ball_weights[ball] * share
                    if ball_tags[ball] >= 0:
                        parts[ball_tags[ball], row, col] += abs(ball_weights[ball] * share)
            for col in range(left, right):
                if exits[col] > entries[col]:
                    added = cover(begins, ends, counts, col, entries[col], exits[col])
                    total[row, col] += attenuations[solid] * added
                    if tags[solid] >= 0:
                        parts[tags[solid], row, col] += added


@_kernel(f"void(f8[:,:,::1], f8[:,::1], f8[:,:,::1], f8[:,:,::1], f8[::1], f8[:,::1], b1, {_RAYS}, f8[:,::1])")
@no_type_check
def splat(shapes, centers, planes, corners, weights, cores, soft, rays, total):
    """Add the bodies of a swarm to `total` (row, col): weight times chord, or soft, times the integral of 1 - r^2.

    shapes (body, 2 or 3, 3), centers (body, 3), planes (body, plane, 4), corners (body, 8, 3), weights (body,), cores
    (body, 2) are those of `bodies.Swarm`.
    """
    num_planes = planes.shape[1]
    quadrics, half_spaces = _see(shapes, centers, rays), _aim(planes.reshape(-1, 4), rays)
    for body in range(len(weights)):
        left, top, right, bottom = _bound(corners[body], rays, len(total))
        weight, core, more = weights[body], cores[body, 0] ** 2, cores[body, 1]
        for row in range(top, bottom):
            toward, square, discriminant = _slice(quadrics, body, row)
            first, last = _narrow(discriminant, left, right)
            for col in range(first, last):
                middle, half, inside = _cross(toward, square, discriminant, col)
                if inside <= 0:
                    continue
                if soft:
                    total[row, col] += weight * (4 / 3) * half * inside
                    continue
                begin, end = -np.inf, np.inf
                for plane in range(body * num_planes, (body + 1) * num_planes):
                    begin, end = _clip(half_spaces, plane, row, col, begin, end)
                begin, end = begin - middle, end - middle
                total[row, col] += weight * max(min(half, end) - max(-half, begin), 0.0)
                if inside > 1 - core:
                    half *= sqrt((inside - 1 + core) / inside)
                    total[row, col] += more * max(min(half, end) - max(-half, begin), 0.0)
