"""What stands beside every probe: the images themselves, and the encoder before it learned anything."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from hilum.augment import prepare
from hilum.batch import StudyBatch
from hilum.cache import Cache
from hilum.config import CropConfig
from hilum.loader import iterate_studies
from hilum.model.image_encoder import ImageEncoder

from .features import Precision, ViewFeatures, embed_batches, embed_cache


def embed_pixels(
    cache: Cache,
    *,
    side: int = 32,
    crop: CropConfig | None = None,
    max_views: int | None = None,
    progress: bool = True,
) -> ViewFeatures:
    """The images at `side` x `side` pixels as if they were features: what can be told without learning them.

    They are the `mean`; there is no class token and there are no regions.
    """
    crop = crop or CropConfig(mode="center")
    made_by = {"weights": "pixels", "crop": crop.mode, "image_size": side, "max_views": max_views}

    def encode(batch: StudyBatch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        pixels, num = batch.pixels, batch.num_views
        none = pixels.new_zeros(num, 0)
        return none, pixels.flatten(1), none, none[:, None]

    batches = iterate_studies(cache, cache.rows(), views_per_batch=1024, crop=crop, max_views=max_views)
    prepared = (prepare(batch, size=side, mean=cache.mean, std=cache.std) for batch in batches)
    return embed_batches(cache, prepared, encode, made_by, "pixels" if progress else None)


def embed_untrained(
    cache: Cache,
    build: Callable[[int], ImageEncoder],
    *,
    seed: int = 0,
    crop: CropConfig | None = None,
    batch_views: int = 256,
    max_views: int | None = None,
    grid: int | None = None,
    keep_tokens: bool = False,
    keep_mirrored: bool = False,
    precision: Precision = "auto",
    progress: bool = True,
) -> ViewFeatures:
    """The features of the network that `build` gives for a seed, which has learned nothing (`build_random`)."""
    encoder = build(seed).to("cuda" if torch.cuda.is_available() else "cpu")
    return embed_cache(
        cache,
        encoder,
        crop=crop,
        batch_views=batch_views,
        max_views=max_views,
        grid=grid,
        keep_tokens=keep_tokens,
        keep_mirrored=keep_mirrored,
        precision=precision,
        progress=progress,
        title="untrained",
    )
