"""Further changes of a view in training: turned, shifted and sheared, bent, blurred, in part erased (P 2.6, L 1.8).

Every view is changed by numbers of its own, the same in whatever batch it comes. Geometry is that of torchvision's
RandomAffine (bilinear), GaussianBlur of 5 pixels and RandomErasing, whose rectangles always fit at the areas allowed;
bending is that of Simard, Steinkraus and Platt (2003): white noise, smoothed and scaled.
"""

from __future__ import annotations

import math
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

    # whether, angle (radians), shift down and right (shares of the side), zoom, shear right and down (radians)
    affine: Float32[Tensor, "view 7"]
    blur: Float32[Tensor, "view 2"]  # whether, deviation (pixels)
    erased: Float32[Tensor, "view 5"]  # whether, top, left, height, width (shares of the side)

    def to(self, device: torch.device) -> Distortions:
        return Distortions(*(column.to(device, non_blocking=True) for column in self))


def draw_distortions(augment: AugmentConfig, keys: dict[str, UInt64[np.ndarray, " view"]]) -> Distortions:
    """Numbers for each view; `keys` are of the purposes affine, blur and erase."""
    affine, blur, erase = (draw_uniform(keys[name], num) for name, num in (("affine", 7), ("blur", 5), ("erase", 5)))
    either_way = 2 * affine[:, 1:] - 1
    angle, shear = np.deg2rad(augment.rotation), np.deg2rad(augment.shear)
    reach = np.array([angle, augment.shift, augment.shift, augment.zoom, shear, shear], np.float32)
    moves = either_way * reach + np.array([0, 0, 0, 1, 0, 0], np.float32)
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
    pixels: Float[Tensor, "view height width"], affine: Float32[Tensor, "view 7"]
) -> Float[Tensor, "view height width"]:
    """Each chosen view sheared and turned about its centre, scaled, then shifted; black comes in from outside."""
    chosen = affine[:, 0] > 0.5
    if not bool(chosen.any()):
        return pixels
    _, angle, down, right, zoom, slant, slope = affine[chosen].unbind(1)
    # The inverse of the turn after both shears, as torchvision has them; without shear a turn's, to the bit.
    down_down, right_down = (angle - slope).cos() / slope.cos(), (angle - slope).sin() / slope.cos()
    down_right, right_right = down_down * slant.tan() + angle.sin(), angle.cos() - right_down * slant.tan()
    right_right, down_down = right_right / zoom, down_down / zoom
    height, width = pixels.shape[1:]
    # From where it lands back to where it was, in units of half a side, as grid_sample has them: of images that are
    # not square, half a height is another length than half a width.
    across, along = -2 * right, -2 * down
    from_rows, from_columns = down_right / zoom * (height / width), right_down / zoom * (width / height)
    back = torch.stack([
        torch.stack([right_right, from_rows, right_right * across + from_rows * along], dim=1),
        torch.stack([-from_columns, down_down, -from_columns * across + down_down * along], dim=1),
    ], dim=1)  # fmt: skip
    grid = F.affine_grid(back, [len(back), 1, height, width], align_corners=False)
    moved = F.grid_sample(pixels[chosen][:, None], grid, padding_mode="zeros", align_corners=False)
    return pixels.index_put((chosen,), moved[:, 0])


def draw_fields(
    augment: AugmentConfig, keys: UInt64[np.ndarray, " view"], height: int, width: int
) -> Float32[Tensor, "view 2 knot_row knot_column"]:
    """White noise that moves pixels right and down, at knots half a deviation apart; zeros for a view that is spared.

    `keys` are of the purpose elastic.
    """
    rows, columns = (len(_place_knots(side, augment.elastic_sigma)) for side in (height, width))
    fields = np.zeros((len(keys), 2 * rows * columns), np.float32)
    chosen = draw_uniform(keys, 1)[:, 0] < augment.elastic_probability
    fields[chosen] = 2 * draw_uniform(keys[chosen], 1 + 2 * rows * columns)[:, 1:] - 1
    return torch.from_numpy(fields.reshape(-1, 2, rows, columns))


def bend(
    pixels: Float[Tensor, "view height width"],
    fields: Float32[Tensor, "view 2 knot_row knot_column"],
    alpha: float,
    sigma: float,
) -> Float[Tensor, "view height width"]:
    """Each chosen view moved pixel by pixel by its noise, smoothed and times `alpha`; black comes in from outside."""
    chosen = fields.flatten(1).any(dim=1)
    if not bool(chosen.any()):
        return pixels
    down, across = (_weigh_knots(side, sigma).to(pixels) for side in pixels.shape[1:])
    height, width = pixels.shape[1:]
    still = F.affine_grid(torch.eye(2, 3, device=pixels.device)[None], [1, 1, height, width], align_corners=False)
    units = torch.tensor([2 * alpha / width, 2 * alpha / height], device=pixels.device)
    bent = pixels.clone()
    for view in chosen.nonzero()[:, 0].tolist():  # one at a time: a product's bits may depend on the batch
        moved = (down @ fields[view] @ across.T).permute(1, 2, 0) * units
        bent[view] = F.grid_sample(pixels[view][None, None], still + moved, align_corners=False)[0, 0]
    return bent


def _place_knots(side: int, sigma: float) -> Float32[Tensor, " knot"]:
    """Half a deviation apart, up to four deviations beyond the edges: what is further moves nothing."""
    return torch.arange(-4 * sigma, side + 4.5 * sigma, sigma / 2)


def _weigh_knots(side: int, sigma: float) -> Float32[Tensor, "{side} knot"]:
    """The Gaussian at each pixel of each knot, times the root of the distance of knots in both directions: what is
    smoothed varies as much as if there were noise at every pixel."""
    distance = torch.arange(side)[:, None] + 0.5 - _place_knots(side, sigma)
    return (-0.5 * (distance / sigma) ** 2).exp() * math.sqrt(sigma / 2) / (sigma * math.sqrt(2 * math.pi))


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
