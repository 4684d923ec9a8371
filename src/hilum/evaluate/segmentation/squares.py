"""Views as the squares an encoder reads, by their rows in the cache, and masks laid on them."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from hilum.augment import check_pixels, resample
from hilum.cache import Cache
from hilum.config import CropConfig
from hilum.errors import UserError
from hilum.loader import copy_crops, place_crops
from hilum.model.image_encoder import Interpolation


def read_squares(
    cache: Cache,
    view_row: Int64[np.ndarray, " view"],
    *,
    size: int,
    mean: float,
    std: float,
    crop: CropConfig,
    interpolation: Interpolation = "bilinear",
) -> Float[Tensor, "view 1 {size} {size}"]:
    """Pixels of views as `augment.prepare` gives them in evaluation, bit for bit, in any order.

    Args:
        size: side of a square, in pixels.
        mean, std: that the encoder's pixels are normalised by; an encoder shown others sees nothing it knows.
        crop: center or squash.

    Raises:
        UserError: a random crop.
    """
    _check_crop(crop)
    views = cache.views[view_row]
    placed = place_crops(crop, views["height"], views["width"], np.zeros(len(view_row), np.uint64))
    canvas, within = copy_crops(cache, view_row, placed)
    pixels = torch.from_numpy(canvas)
    rectangle = torch.from_numpy(within.astype(np.float32))
    upright = torch.zeros(len(view_row), dtype=torch.bool)
    square = resample(pixels[:, 0], rectangle, upright, size, check_pixels(pixels), interpolation)
    return square.sub_(mean).mul_(1.0 / std)[:, None]


def square_masks(
    masks: Iterable[Bool[np.ndarray, "_ _"]], *, size: int, crop: CropConfig
) -> Bool[np.ndarray, "mask {size} {size}"]:
    """Masks of whole images, each of any resolution, on the squares of `read_squares`: set where at least half of a
    pixel is covered.

    Raises:
        UserError: a random crop.
    """
    _check_crop(crop)
    squares = []
    for mask in masks:
        height, width = (np.array([side]) for side in mask.shape)
        placed = torch.from_numpy(place_crops(crop, height, width, np.zeros(1, np.uint64)).astype(np.float32))
        shown = torch.from_numpy(mask.astype(np.uint8))[None]
        covered = resample(shown, placed, torch.zeros(1, dtype=torch.bool), size, 1.0)
        squares.append(covered[0].numpy() >= 0.5)
    return np.stack(squares) if squares else np.zeros((0, size, size), bool)


def _check_crop(crop: CropConfig) -> None:
    if crop.mode == "random":
        raise UserError("Evaluation shows each image the same way every time: crop.mode must be center or squash.")
