"""From packed crops to what the encoder sees: resample, flip, distort, jitter, normalise; a batch at a time, on its
device.

Crop and resize are one separable linear map: rows by a sparse matrix, then columns by another, each row of which holds
the few taps of a triangle filter widened when shrinking (the antialiased bilinear resize of torchvision and of
`torch.nn.functional.interpolate(antialias=True)`, at sub-pixel rectangles too). A flip is the column matrix upside
down, one from top to bottom the row matrix; the scale of the integers goes into the row matrix. `embedding_bag` is the
sparse product: several times as fast as dense matrices on a processor, and each output is summed in the order of its
taps, so a view's pixels are the same bits in whatever batch it comes.

Random numbers are keyed by (purpose, seed, study, draw, view), see `keyed_random.py`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32, Int64, Integer, UInt64
from torch import Tensor

from .batch import StudyBatch
from .config import AugmentConfig
from .distort import bend, blur, draw_distortions, draw_fields, erase, move
from .errors import UserError
from .keyed_random import draw_uniform, make_keys

_CHUNK = 8  # views at a time on a processor: what lies between two steps stays in its cache


def prepare(
    batch: StudyBatch,
    *,
    size: int | tuple[int, int],
    mean: float,
    std: float,
    augment: AugmentConfig | None = None,
    seed: int = 0,
    device: torch.device | str | None = None,
    interpolation: Literal["bilinear", "bicubic"] = "bilinear",
) -> StudyBatch:
    """The batch with pixels (view 1 height width), float32: mean 0 and standard deviation 1 over the training images.

    Args:
        batch: as the loader makes it; each view's `crop` rectangle becomes the whole image.
        size: side of the square, or height and width, in pixels.
        mean, std: of the cache's training pixels, on the scale 0..1 (`cache.mean`, `cache.std`).
        augment: random changes; None in evaluation.
        seed: of the run; with the studies' keys and draws it fixes every random number.
        device: where to work and leave the result (default: where the batch is). A batch still on the host saves the
            device a stop, for random numbers are drawn there.
        interpolation: how pixels are resampled; bicubic for public encoders that were trained so.

    Raises:
        UserError: pixels that are not the uint8 or uint16 of a cache, such as those of a batch prepared before.
    """
    full_scale = check_pixels(batch.pixels)
    height, width = (size, size) if isinstance(size, int) else size
    distortions = fields = None
    if augment is None:
        change = torch.zeros(batch.num_views, 5)
        change[:, 1:3] = 1.0
    else:
        change = torch.from_numpy(draw_changes(batch, augment, seed))
        if augment.affine_probability or augment.blur_probability or augment.erase_probability:
            keys = {name: _make_view_keys(name, batch, seed) for name in ("affine", "blur", "erase")}
            distortions = draw_distortions(augment, keys)
        if augment.elastic_probability:
            fields = draw_fields(augment, _make_view_keys("elastic", batch, seed), height, width)
    if device is not None:
        batch = batch.to(device)
    change = change.to(batch.pixels.device, non_blocking=True)
    distortions = None if distortions is None else distortions.to(batch.pixels.device)
    fields = None if fields is None else fields.to(batch.pixels.device)
    prepared = torch.empty(batch.num_views, 1, height, width, device=batch.pixels.device)
    step = _CHUNK if prepared.device.type == "cpu" else max(batch.num_views, 1)
    for first in range(0, batch.num_views, step):
        part = slice(first, first + step)
        flip, brightness, contrast, contrast_first, turned = change[part].unbind(1)
        upside_down = turned > 0.5 if augment is not None and augment.vertical_flip_probability else None
        pixels = resample(
            batch.pixels[part, 0], batch.crop[part], flip > 0.5, (height, width), full_scale, interpolation, upside_down
        )
        if distortions is not None:
            pixels = move(pixels, distortions.affine[part])
        if augment is not None and fields is not None:
            pixels = bend(pixels, fields[part], augment.elastic_alpha, augment.elastic_sigma)
        if augment is not None and augment.jitter_probability > 0:
            pixels = jitter(pixels, brightness, contrast, contrast_first > 0.5)
        if distortions is not None:
            pixels = blur(pixels, distortions.blur[part])
        torch.mul(pixels.sub_(mean), 1.0 / std, out=prepared[part, 0])
        if distortions is not None:
            prepared[part, 0] = erase(prepared[part, 0], distortions.erased[part])
    crop = torch.tensor([0.0, 0.0, height, width], device=prepared.device).expand(batch.num_views, 4)
    return replace(batch, pixels=prepared, crop=crop)


def check_pixels(pixels: Tensor) -> float:
    """The largest value of the pixels' type, or a UserError where pixels are not a cache's."""
    if pixels.dtype == torch.uint8:
        return 255.0
    if pixels.dtype == torch.uint16:
        return 65535.0
    low, high = (float(pixels.min()), float(pixels.max())) if pixels.numel() else (0.0, 0.0)
    raise UserError(
        f"Pixels must be the uint8 (0..255) or uint16 (0..65535) of a cache; found {pixels.dtype} from {low:.3g} to "
        f"{high:.3g}. Were they normalised before? Pass what the loader gives, once."
    )


def draw_changes(batch: StudyBatch, augment: AugmentConfig, seed: int) -> Float32[np.ndarray, "view 5"]:
    """For each view: flip (0 or 1), brightness factor, contrast factor, contrast first, upside down (0 or 1)."""
    owner = batch.study.cpu().numpy()
    study, draw = batch.key.cpu().numpy()[owner], batch.draw.cpu().numpy()[owner]
    view = batch.view_index().cpu().numpy()
    together = np.zeros_like(view) if augment.flip_whole_study else view
    flip = draw_uniform(make_keys("flip", seed, study, draw, together), 1)[:, 0] < augment.flip_probability
    turned = draw_uniform(make_keys("vertical_flip", seed, study, draw, together), 1)[:, 0]
    random = draw_uniform(make_keys("jitter", seed, study, draw, view), 4)
    changed = random[:, 0] < augment.jitter_probability
    factors = [
        np.where(changed, max(0.0, 1 - spread) + random[:, column] * (1 + spread - max(0.0, 1 - spread)), 1.0)
        for column, spread in ((1, augment.brightness), (2, augment.contrast))
    ]
    upside_down = turned < augment.vertical_flip_probability
    return np.stack([flip, *factors, random[:, 3] < 0.5, upside_down], axis=1).astype(np.float32)


def _make_view_keys(purpose: str, batch: StudyBatch, seed: int) -> UInt64[np.ndarray, " view"]:
    owner = batch.study.cpu().numpy()
    study, draw = batch.key.cpu().numpy()[owner], batch.draw.cpu().numpy()[owner]
    return make_keys(purpose, seed, study, draw, batch.view_index().cpu().numpy())


def jitter(
    pixels: Float[Tensor, "view height width"],
    brightness: Float[Tensor, " view"],
    contrast: Float[Tensor, " view"],
    contrast_first: Tensor,
) -> Float[Tensor, "view height width"]:
    """torchvision's brightness and contrast on grey pixels in 0..1, in place; both clamp, and come in either order.

    Brightness multiplies; contrast blends with the mean of the image. A factor of 1 leaves the bits as they are.
    """
    before = torch.where(contrast_first, 1.0, brightness)[:, None, None]
    after = torch.where(contrast_first, brightness, 1.0)[:, None, None]
    contrast = contrast[:, None, None]
    pixels = pixels.mul_(before).clamp_(0, 1)
    # In two steps: the sum of a row, and of rows, never depends on the number of views or of threads.
    grey = pixels.mean(2, keepdim=True).mean(1, keepdim=True)
    pixels = pixels.mul_(contrast).add_((1 - contrast) * grey).clamp_(0, 1)
    return pixels.mul_(after).clamp_(0, 1)


def resample(
    pixels: Integer[Tensor, "view height width"],
    crop: Float[Tensor, "view 4"],
    flip: Tensor,
    size: int | tuple[int, int],
    full_scale: float,
    interpolation: Literal["bilinear", "bicubic"] = "bilinear",
    upside_down: Tensor | None = None,
) -> Float[Tensor, "view out_height out_width"]:
    """Each view's crop rectangle as a square of `size` px, or an image of (height, width) px.

    Values are divided by `full_scale`; a view is mirrored where `flip`, from top to bottom where `upside_down`.
    """
    height, width = pixels.shape[1:]
    num_rows, num_columns = (size, size) if isinstance(size, int) else size
    rows, row_weights = compute_taps(crop[:, 0], crop[:, 2], num_rows, height, interpolation)
    columns, column_weights = compute_taps(crop[:, 1], crop[:, 3], num_columns, width, interpolation)
    row_weights = row_weights / full_scale
    columns = torch.where(flip[:, None, None], columns.flip(1), columns)
    column_weights = torch.where(flip[:, None, None], column_weights.flip(1), column_weights)
    if upside_down is not None:
        rows = torch.where(upside_down[:, None, None], rows.flip(1), rows)
        row_weights = torch.where(upside_down[:, None, None], row_weights.flip(1), row_weights)
    turned = pixels.transpose(1, 2).contiguous().float()
    resampled = apply_taps(apply_taps(turned, columns, column_weights).transpose(1, 2), rows, row_weights)
    # A cubic overshoots at edges; integer pixels, which public encoders were trained on, cannot.
    return resampled.clamp_(0, 1) if interpolation == "bicubic" else resampled


def compute_taps(
    start: Float[Tensor, " view"],
    length: Float[Tensor, " view"],
    size: int,
    limit: int,
    interpolation: Literal["bilinear", "bicubic"] = "bilinear",
) -> tuple[Int64[Tensor, "view {size} tap"], Float[Tensor, "view {size} tap"]]:
    """Which of `limit` input pixels each of `size` outputs sums, with what weights (that add up to 1), along one side.

    Output i is centred at start + (i + 1/2) length / size; the filter is a triangle of half-width max(length / size, 1)
    pixels, or Keys' cubic (1981, a = -1/2) of twice that, cut at the pixels the rectangle touches.
    """
    start, length = start.double(), length.double()
    scale = (length / size)[:, None, None]
    unit = scale.clamp(min=1.0)
    reach = 2 * unit if interpolation == "bicubic" else unit
    center = start[:, None, None] + (torch.arange(size, device=start.device)[None, :, None] + 0.5) * scale
    num_taps = int(2 * reach.max().ceil()) + 1 if len(start) else 1
    tap = (center - reach + 0.5).floor().long() + torch.arange(num_taps, device=start.device)
    low, high = start.floor().long()[:, None, None], (start + length - 1e-6).ceil().long()[:, None, None]
    distance = (tap + 0.5 - center).abs() / unit
    weight = weigh_cubic(distance) if interpolation == "bicubic" else (1 - distance).clamp(min=0)
    weight = weight * ((tap >= low) & (tap < high))
    weight = weight / weight.sum(2, keepdim=True)
    return tap.clamp(0, limit - 1), weight.float()


def weigh_cubic(distance: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Keys' cubic convolution kernel (1981, eq. 4 with a = -1/2) at distances >= 0; nothing from 2 on."""
    near = (1.5 * distance - 2.5) * distance**2 + 1
    far = ((2.5 - 0.5 * distance) * distance - 4) * distance + 2
    return torch.where(distance < 1, near, torch.where(distance < 2, far, 0.0))


def apply_taps(
    images: Float[Tensor, "view line point"],
    taps: Int64[Tensor, "view out tap"],
    weights: Float[Tensor, "view out tap"],
) -> Float[Tensor, "view out point"]:
    """Each output line is the weighted sum of the input lines its taps name."""
    num_views, num_lines, num_points = images.shape
    lines = taps + torch.arange(num_views, device=taps.device)[:, None, None] * num_lines
    summed = F.embedding_bag(
        lines.flatten(0, 1),
        images.reshape(-1, num_points).contiguous(),  # strided rows go another way through torch, to other bits
        per_sample_weights=weights.flatten(0, 1),
        mode="sum",
    )
    return summed.view(num_views, -1, num_points)
