"""Further changes of a view in training: turned and shifted, blurred, in part erased (P 2.6).

Every view is changed by numbers of its own, the same in whatever batch it comes. Geometry is that of torchvision's
RandomAffine (bilinear), GaussianBlur of 5 pixels and RandomErasing, whose rectangles always fit at the areas allowed.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32, UInt64
from torch import Tensor

from .config import AugmentConfig
from .keyed_random import draw_uniform

REACH = 2  # pixels of the blur to either side
ERASED_ASPECT = 3.3  # largest height over width of what is erased, or its inverse


class Distortions(NamedTuple):
    """What is done to each view; a view that is spared has 0 in the first column."""

    affine: Float32[Tensor, "view 5"]  # whether, angle (radians), shift down and right (shares of the side), zoom
    blur: Float32[Tensor, "view 2"]  # whether, deviation (pixels)
    erased: Float32[Tensor, "view 5"]  # whether, top, left, height, width (shares of the side)

    def to(self, device: torch.device) -> Distortions:
        return Distortions(*(column.to(device, non_blocking=True) for column in self))


def draw_distortions(augment: AugmentConfig, keys: dict[str, UInt64[np.ndarray, " view"]]) -> Distortions:
    """Numbers for each view; `keys` are of the purposes affine, blur and erase."""
    affine, blur, erase = (draw_uniform(keys[name], 5) for name in ("affine", "blur", "erase"))
    either_way = 2 * affine[:, 1:] - 1
    reach = np.array([np.deg2rad(augment.rotation), augment.shift, augment.shift, augment.zoom], np.float32)
    moves = either_way * reach + np.array([0, 0, 0, 1], np.float32)
    deviation = augment.min_blur + blur[:, 1] * (augment.max_blur - augment.min_blur)
    area = augment.min_erased + erase[:, 1] * (augment.max_erased - augment.min_erased)
    aspect = np.exp((2 * erase[:, 2] - 1) * np.log(ERASED_ASPECT))
    height, width = np.sqrt(area * aspect), np.sqrt(area / aspect)
    columns = (
        np.column_stack([affine[:, 0] < augment.affine_probability, moves]),
        np.column_stack([blur[:, 0] < augment.blur_probability, deviation]),
        np.column_stack([
            erase[:, 0] < augment.erase_probability,
            erase[:, 3] * (1 - height), erase[:, 4] * (1 - width), height, width,
        ]),
    )  # fmt: skip
    return Distortions(*(torch.from_numpy(column.astype(np.float32)) for column in columns))


def move(
    pixels: Float[Tensor, "view height width"], affine: Float32[Tensor, "view 5"]
) -> Float[Tensor, "view height width"]:
    """Each chosen view turned about its centre, scaled, then shifted; black comes in from outside."""
    chosen = affine[:, 0] > 0.5
    if not bool(chosen.any()):
        return pixels
    _, angle, down, right, zoom = affine[chosen].unbind(1)
    cos, sin = angle.cos() / zoom, angle.sin() / zoom
    height, width = pixels.shape[1:]
    # From where it lands back to where it was, in units of half a side, as grid_sample has them: of images that are
    # not square, half a height is another length than half a width.
    across, along = -2 * right, -2 * down
    from_rows, from_columns = sin * (height / width), sin * (width / height)
    back = torch.stack([
        torch.stack([cos, from_rows, cos * across + from_rows * along], dim=1),
        torch.stack([-from_columns, cos, -from_columns * across + cos * along], dim=1),
    ], dim=1)  # fmt: skip
    grid = F.affine_grid(back, [len(back), 1, height, width], align_corners=False)
    moved = F.grid_sample(pixels[chosen][:, None], grid, padding_mode="zeros", align_corners=False)
    return pixels.index_put((chosen,), moved[:, 0])


def blur(
    pixels: Float[Tensor, "view height width"], how: Float32[Tensor, "view 2"]
) -> Float[Tensor, "view height width"]:
    """Each chosen view convolved with its Gaussian, cut to 5 x 5 pixels; mirrored at the edges."""
    chosen = how[:, 0] > 0.5
    if not bool(chosen.any()):
        return pixels
    offset = torch.arange(-REACH, REACH + 1, device=pixels.device)
    kernel = (-0.5 * (offset / how[chosen, 1, None]) ** 2).exp()
    kernel = kernel / kernel.sum(dim=1, keepdim=True)
    blurred = pixels[chosen]
    for turn in (False, True):  # rows, then columns; sums in one order, whatever the batch
        turned = blurred.transpose(1, 2) if turn else blurred
        wide, side = F.pad(turned, (REACH, REACH), mode="reflect"), turned.shape[2]
        parts = [kernel[:, k, None, None] * wide[:, :, k : k + side] for k in range(2 * REACH + 1)]
        total = parts[0]
        for part in parts[1:]:
            total = total + part
        blurred = total.transpose(1, 2) if turn else total
    return pixels.index_put((chosen,), blurred)


def erase(
    pixels: Float[Tensor, "view height width"], erased: Float32[Tensor, "view 5"]
) -> Float[Tensor, "view height width"]:
    """Zero in each chosen view's rectangle: the mean grey, once pixels are normalised."""
    down, right = ((torch.arange(side, device=pixels.device) + 0.5) / side for side in pixels.shape[1:])
    chosen, top, left, height, width = (column[:, None] for column in erased.unbind(1))
    in_rows = (down >= top) & (down < top + height) & (chosen > 0.5)
    in_columns = (right >= left) & (right < left + width)
    return pixels.masked_fill(in_rows[:, :, None] & in_columns[:, None, :], 0.0)
