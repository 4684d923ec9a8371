"""Text-conditioned heat maps: how alike each token before pooling is to prompts, drawn over the image (L 6, P1 14).

A token after the last norm goes through the projection as the pooled vector does, and is compared with the prompts like
an image. Where tokens are places of the network's map, the map is that of their logits. Where they are not (256 learned
sums of places, reading A; a resampler's queries), a place gets the mean over tokens, weighted by how much each reads it
(`project_back`).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor

from hilum.cache import Cache
from hilum.config import CropConfig
from hilum.loader import place_crops
from hilum.model.conv_encoder import ConvEncoder
from hilum.model.feature_tokens import project_back

from .similarity import compare_prompts


class Prompted(NamedTuple):
    """Vectors of the prompts of one target, and the run's scale."""

    present: Float[Tensor, "present dim"]
    absent: Float[Tensor, "absent dim"]
    scale: float


@torch.inference_mode()
def map_prompts(
    encoder: ConvEncoder, pixels: Float[Tensor, "view 1 height width"], asked: dict[str, Prompted], *, mixed: bool
) -> dict[str, Float32[np.ndarray, "view row column"]]:
    """The map of each target over the places of the network's map, in logits.

    Args:
        encoder: in evaluation mode.
        pixels: prepared views.
        asked: by target.
        mixed: compute in bfloat16 where that is possible.
    """
    with torch.autocast(pixels.device.type, torch.bfloat16, enabled=mixed):
        feature_map = encoder.make_map(pixels)
        read = encoder.read_map(feature_map)
        shares = encoder.tokens.locate(feature_map.float())
    tokens = torch.nn.functional.linear(read.tokens.float(), encoder.project.weight, encoder.project.bias)
    return {
        name: project_back(compare_prompts(tokens, *one), shares.float(), read.grid).cpu().numpy()
        for name, one in asked.items()
    }


def spread_map(
    places: Float[np.ndarray, "row column"],
    rows: Float[np.ndarray, " row"],
    columns: Float[np.ndarray, " column"],
    size: tuple[int, int],
) -> Float[np.ndarray, "height width"]:
    """A map of places as pixels: linear between the places' centres, beyond the outermost as these are.

    Args:
        rows, columns: of the places' centres, in pixel centres, ascending.
        size: height and width in pixels.
    """
    down, across = _weigh(rows, size[0]), _weigh(columns, size[1])
    return down @ places.astype(np.float64) @ across.T


def place_on_cache(
    cache: Cache,
    view: int,
    crop: CropConfig,
    image_size: tuple[int, int],
    centres: tuple[Float[np.ndarray, " row"], Float[np.ndarray, " column"]],
) -> tuple[Float[np.ndarray, " row"], Float[np.ndarray, " column"]]:
    """Centres of places on an encoder's image as pixel centres of the cached image that it was shown a crop of."""
    record = cache.views[view]
    top, left, height, width = place_crops(
        crop, record["height"][None], record["width"][None], np.zeros(1, np.uint64)
    )[0].tolist()  # fmt: skip
    rows = top + (centres[0] + 0.5) * height / image_size[0] - 0.5
    return rows, left + (centres[1] + 0.5) * width / image_size[1] - 0.5


def _weigh(centres: Float[np.ndarray, " place"], length: int) -> Float[np.ndarray, "pixel place"]:
    """What each place counts at each pixel; a row adds up to 1."""
    pixels = np.arange(length)
    return np.stack([np.interp(pixels, centres, one) for one in np.eye(len(centres))], axis=1)
