"""Both ways between a cached image and its source: points, boxes, lengths and maps, by the affine of its record.

Points are (row, column) in pixel centres: the first pixel's centre is (0, 0). Boxes are (top, left, bottom, right) in
pixel edges, as archives write them: the first pixel lies between 0 and 1, so an edge is half a pixel more than a
centre.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from scipy import ndimage

Affine = Float[np.ndarray, "6"]


def map_to_source(affine: Affine, points: Float[np.ndarray, "point 2"]) -> Float[np.ndarray, "point 2"]:
    """Points of the cached image as points of its source."""
    matrix, offset = _split(affine)
    return points @ matrix.T + offset


def map_from_source(affine: Affine, points: Float[np.ndarray, "point 2"]) -> Float[np.ndarray, "point 2"]:
    """Points of the source as points of the cached image, which may lie outside of it."""
    matrix, offset = _split(affine)
    return (points - offset) @ np.linalg.inv(matrix).T


def map_boxes_to_source(affine: Affine, boxes: Float[np.ndarray, "box 4"]) -> Float[np.ndarray, "box 4"]:
    """Boxes of the cached image as boxes of its source."""
    return _map_corners(boxes, lambda points: map_to_source(affine, points))


def map_boxes_from_source(
    affine: Affine, boxes: Float[np.ndarray, "box 4"], size: tuple[int, int] | None = None
) -> Float[np.ndarray, "box 4"]:
    """Boxes of the source as boxes of the cached image, cut at its borders where `size` (height, width) is given."""
    mapped = _map_corners(boxes, lambda points: map_from_source(affine, points))
    return mapped if size is None else np.clip(mapped, 0, [*size, *size])


def measure_spacing(affine: Affine, spacing_mm: tuple[float, float]) -> tuple[float, float]:
    """Millimetres between rows and between columns of the cached image, from those of its source."""
    steps = _split(affine)[0] * np.asarray(spacing_mm, dtype=np.float64)[:, None]
    down, across = np.linalg.norm(steps, axis=0)
    return float(down), float(across)


def map_heat_to_source(
    affine: Affine, heat: Float[np.ndarray, "height width"], size: tuple[int, int]
) -> Float[np.ndarray, "source_height source_width"]:
    """A map over the cached image at the pixels of its source, of `size`; 0 where the cached image shows nothing of it.

    Interpolated linearly between the cached image's pixel centres.
    """
    matrix, offset = _split(affine)
    back = np.linalg.inv(matrix)
    mapped = ndimage.affine_transform(
        heat.astype(np.float64), back, -back @ offset, output_shape=size, order=1, mode="grid-constant"
    )
    return mapped.astype(heat.dtype)


def _split(affine: Affine) -> tuple[Float[np.ndarray, "2 2"], Float[np.ndarray, "2"]]:
    a, b, c, d, e, f = affine.astype(np.float64)
    return np.array([[a, b], [d, e]]), np.array([c, f])


def _map_corners(boxes: Float[np.ndarray, "box 4"], move) -> Float[np.ndarray, "box 4"]:
    one, other = move(boxes[:, :2] - 0.5) + 0.5, move(boxes[:, 2:] - 0.5) + 0.5
    return np.concatenate([np.minimum(one, other), np.maximum(one, other)], axis=1)  # a mirrored box is one too
