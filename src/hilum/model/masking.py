"""Which patches of a view the encoder sees, which it must predict, and patches as rows of pixels.

The noise behind a mask is keyed by (seed, study, draw, view of the study): any batch size, number of processes or
resumed run draws the same masks.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from hilum.batch import StudyBatch
from hilum.keyed_random import draw_uniform, make_keys


class Mask(NamedTuple):
    """Patch indices, row-major over the image, of the visible and the masked patches of each view.

    `visible` is ascending, so that a mask that hides nothing is the identity. `masked` is in a random order, so that
    its first columns are a random choice of what to predict.
    """

    visible: Int64[Tensor, "view visible"]
    masked: Int64[Tensor, "view masked"]

    def to(self, device: torch.device | str) -> Mask:
        return Mask(*(indices.to(device, non_blocking=True) for indices in self))


def make_no_mask(num_views: int) -> Mask:
    """Of encoders without patches: nothing is masked, and there is nothing to mask."""
    return Mask(*(torch.zeros(num_views, 0, dtype=torch.int64) for _ in range(2)))


def count_visible(num_patches: int, ratio: float) -> int:
    """floor(num_patches * (1 - ratio)), as if in exact decimals: 49, 19, 13 of 196 at 0.75, 0.90, 0.93."""
    return int(num_patches * (1 - ratio) + 1e-6)


def draw_masks(
    batch: StudyBatch,
    *,
    num_patches: int,
    ratio: float,
    sharing: Literal["none", "positions", "rows"] = "none",
    seed: int,
) -> Mask:
    """Draw a mask for every view, uniform over patches; call it before the batch leaves the host.

    sharing: none: every view by itself; positions: the views of a study share the order of all patches, so also what
        is predicted; rows: they have the same number of visible patches in every row of patches, at columns of their
        own (frontal and lateral view share height, not width).
    """
    study, view = batch.study.cpu().numpy(), batch.view_index().cpu().numpy()
    key, draw = batch.key.cpu().numpy()[study], batch.draw.cpu().numpy()[study]
    own_noise = draw_uniform(make_keys("mask", seed, key, draw, view), num_patches)
    if sharing == "none":
        noise = own_noise
    else:
        noise = draw_uniform(make_keys("mask of study", seed, key, draw), num_patches)
        if sharing == "rows":
            # Each view deals the study's numbers of a row to columns in its own order: what is below a threshold
            # differs by column and not in how many there are in the row.
            side = int(num_patches**0.5)
            columns = own_noise.reshape(-1, side, side).argsort(axis=2)
            noise = np.take_along_axis(noise.reshape(-1, side, side), columns, axis=2).reshape(-1, num_patches)
    order = torch.from_numpy(noise.argsort(axis=1, kind="stable"))
    visible, masked = order.split([num_visible := count_visible(num_patches, ratio), num_patches - num_visible], dim=1)
    return Mask(visible.sort(dim=1).values, masked.contiguous())


def take_patches(
    pixels: Float[Tensor, "view 1 height width"], patches: Int64[Tensor, "view patch"], patch_size: int
) -> Float[Tensor, "view patch pixel"]:
    """The chosen patches as rows of patch_size^2 pixels, row-major; nothing else of the image is copied."""
    num_views, _, height, width = pixels.shape
    across = width // patch_size
    grid = pixels.reshape(num_views, height // patch_size, patch_size, across, patch_size)
    views = torch.arange(num_views, device=pixels.device)[:, None]
    return grid[views, patches // across, :, patches % across, :].flatten(2)


def put_patches(
    pixels: Float[Tensor, "view 1 height width"],
    patches: Int64[Tensor, "view patch"],
    values: Float[Tensor, "view patch pixel"],
) -> Float[Tensor, "view 1 height width"]:
    """A copy of the images with the chosen patches replaced: the inverse of `take_patches`."""
    num_views, _, height, width = pixels.shape
    patch_size = int(values.shape[2] ** 0.5)
    across = width // patch_size
    grid = pixels.clone().reshape(num_views, height // patch_size, patch_size, across, patch_size)
    views = torch.arange(num_views, device=pixels.device)[:, None]
    grid[views, patches // across, :, patches % across, :] = values.unflatten(2, (patch_size, patch_size)).to(grid)
    return grid.reshape(pixels.shape)
