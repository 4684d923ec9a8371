"""A cache's images as one encoder sees them, and what it makes of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from hilum.augment import prepare
from hilum.batch import StudyBatch
from hilum.cache import Cache
from hilum.config import AugmentConfig, CropConfig
from hilum.loader import iterate_studies
from hilum.model.heads import merge_regions, pool_regions
from hilum.model.image_encoder import ImageEncoder
from hilum.model.towers.tower import Tower

from .subject import check_cache, find_subject, name_refused

_MIRROR = AugmentConfig(flip_probability=1.0, jitter_probability=0.0)  # and nothing else


@dataclass(frozen=True)
class Viewing:
    """A cache's images as one encoder sees them."""

    cache: Cache
    encoder: ImageEncoder
    crop: CropConfig
    max_views: int | None  # of a study
    mean: float
    std: float
    precision: str

    @property
    def is_mixed(self) -> bool:
        return self.precision == "bf16-mixed"

    def show(
        self, views_per_batch: int, rows: Int64[np.ndarray, " study"] | None = None, *, mirrored: bool = False
    ) -> Iterator[StudyBatch]:
        """Prepared batches of some studies, or of all; `mirrored` left to right, as training flips them."""
        encoder, device = self.encoder, next(self.encoder.parameters()).device
        for batch in iterate_studies(
            self.cache, self.cache.rows() if rows is None else rows,
            views_per_batch=encoder.limit_views(views_per_batch), crop=self.crop, max_views=self.max_views,
        ):  # fmt: skip
            yield prepare(
                batch, size=encoder.image_size, mean=self.mean, std=self.std, interpolation=encoder.interpolation,
                device=device, augment=_MIRROR if mirrored else None,
            )  # fmt: skip

    def encode(self, batch: StudyBatch, grid: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """See `encode_views`. Raises UserError for images that are refused, by their names."""
        with name_refused(self.cache, batch):
            return encode_views(self.encoder, batch, self.precision, grid)

    def encode_patches(self, batch: StudyBatch) -> Float[Tensor, "view token dim"]:
        """The patch tokens. Raises UserError for images that are refused, by their names."""
        with name_refused(self.cache, batch):
            return encode_tokens(self.encoder, batch, self.precision)[:, int(self.encoder.has_class_token) :]


def view_cache(
    cache: Cache, encoder: ImageEncoder | Path | str, crop: CropConfig | None, max_views: int | None, precision: str
) -> Viewing:
    """The encoder, and how it is shown a cache; see `embed_cache` for what is not given."""
    if isinstance(encoder, Path | str):
        subject = find_subject(encoder)
        encoder = subject.load_for(cache)
        settings = subject.read_settings(encoder)
        crop, max_views = crop or settings.shown, max_views or settings.max_views
        mean, std = subject.read_statistics(cache)
    else:
        mean, std = (0.0, 1.0) if isinstance(encoder, Tower) else (cache.mean, cache.std)
    check_cache(cache, encoder)
    return Viewing(cache, encoder, crop or CropConfig(mode=encoder.crop or "center"), max_views, mean, std, precision)


def encode_tokens(encoder: ImageEncoder, batch: StudyBatch, precision: str) -> Float[Tensor, "view token dim"]:
    """Class token and patch tokens of prepared views, in 32 bit whatever they are computed in."""
    with torch.autocast(batch.pixels.device.type, torch.bfloat16, enabled=precision == "bf16-mixed"):
        return encoder.encode(batch.pixels, batch.view_kind).tokens.float()


def encode_views(
    encoder: ImageEncoder, batch: StudyBatch, precision: str, grid: int
) -> tuple[
    Float[Tensor, "view class_dim"],
    Float[Tensor, "view dim"],
    Float[Tensor, "view max_dim"],
    Float[Tensor, "view cell dim"],
]:
    """Class token, mean of patch tokens, the largest of them, and their means in grid x grid regions, of prepared
    views.

    A class token that there is not, and a largest that is not read, have width 0. In 32 bit, whatever they are computed
    in.
    """
    tokens = encode_tokens(encoder, batch, precision)
    patches = tokens[:, int(encoder.has_class_token) :]
    if grid:
        regions = pool_regions(patches, 4, encoder.find_grid(patches.shape[1]))
        regions = merge_regions(regions) if grid == 2 else regions
    else:
        regions = tokens.new_zeros(len(tokens), 0, tokens.shape[2])
    none = tokens.new_zeros(len(tokens), 0)
    class_token = tokens[:, 0] if encoder.has_class_token else none
    largest = patches.amax(dim=1) if encoder.offers_max else none
    # A copy: a part of `tokens` would keep all of them for as long as it is kept.
    return class_token.clone(), patches.mean(dim=1), largest, regions
