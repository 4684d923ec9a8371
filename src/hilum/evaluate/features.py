"""Frozen features: an encoder runs over every image once, and everything after reads two vectors of each."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64
from rich.console import Console
from rich.progress import Progress
from torch import Tensor

from hilum.augment import prepare
from hilum.batch import StudyBatch
from hilum.cache import Cache
from hilum.config import CropConfig
from hilum.launch import choose_precision
from hilum.loader import iterate_studies
from hilum.model.encoder import Encoder
from hilum.side_table import read_side_table, write_side_table

from .result import hash_parts

Representation = Literal["class", "mean", "both"]
Precision = Literal["auto", "bf16-mixed", "32-true"]
CENTER = CropConfig(mode="center")


@dataclass(frozen=True)
class ViewFeatures:
    """Frozen vectors of the views of a cache, and what made them."""

    class_token: Float32[np.ndarray, "view dim"]  # after the final norm; of width 0 where there is none (pixels)
    mean: Float32[np.ndarray, "view mean_dim"]  # mean of the patch tokens after the final norm
    study: Int64[np.ndarray, " view"]  # row of the study in the cache, ascending
    view_kind: Int64[np.ndarray, " view"]
    view_row: Int64[np.ndarray, " view"]  # row of the image in the cache
    made_by: dict[str, Any]  # weights (their hash), crop, image_size, max_views, cache (its digest), ...

    def read(self, representation: Representation) -> Float32[np.ndarray, "view dim"]:
        """The vectors to probe: class token, mean of patch tokens, or both side by side (M 7.3 F)."""
        if representation == "both":
            return np.concatenate([self.class_token, self.mean], axis=1)
        return self.class_token if representation == "class" else self.mean


def hash_weights(encoder: torch.nn.Module) -> str:
    """Digest of all parameters and buffers, names and shapes included."""
    state = sorted(encoder.state_dict().items())
    return hash_parts(part for name, value in state for part in (name, value.detach().float().cpu().numpy()))


def embed_cache(
    cache: Cache,
    encoder: Encoder,
    *,
    crop: CropConfig = CENTER,
    batch_views: int = 256,
    max_views: int | None = None,
    precision: Precision = "auto",
    mean: float | None = None,
    std: float | None = None,
    progress: bool = True,
    title: str = "features",
) -> ViewFeatures:
    """Features of every view of the cache, made once: a second call reads them from the cache's side table.

    Args:
        encoder: on the device it is to run on; it sees each view unmasked, at its own image size.
        crop: center or squash.
        batch_views: views at a time.
        max_views: at most this many views of a study, always the same; None: all.
        precision: auto is bfloat16 autocast where the processor or GPU computes in it.
        mean, std: normalisation the encoder was trained with; the cache's own where not given.
        progress, title: show a bar of this name where nothing is stored yet.

    Raises:
        UserError: the cache keeps images smaller than the encoder reads.
    """
    size = encoder.config.image_size
    cache.check_size(size)
    mean, std = cache.mean if mean is None else mean, cache.std if std is None else std
    chosen = choose_precision(precision)
    made_by = {
        "weights": hash_weights(encoder),
        "config": hash_parts([str(encoder.config)]),
        "crop": crop.mode,
        "image_size": size,
        "max_views": max_views,
        "precision": chosen,
        "mean": mean,
        "std": std,
    }

    def encode(batch: StudyBatch) -> tuple[Tensor, Tensor]:
        return encode_views(encoder, batch, chosen)

    device = next(encoder.parameters()).device
    batches = iterate_studies(cache, cache.rows(), views_per_batch=batch_views, crop=crop, max_views=max_views)
    prepared = (prepare(batch.to(device), size=size, mean=mean, std=std) for batch in batches)
    return _embed(cache, prepared, encode, made_by, title if progress else None)


def embed_pixels(
    cache: Cache, *, side: int = 32, crop: CropConfig = CENTER, max_views: int | None = None, progress: bool = True
) -> ViewFeatures:
    """The images themselves at `side` x `side` pixels, as if they were features: what no learning at all can tell.

    They are the `mean`; there is no class token (`read("both")` is the pixels, too).
    """
    made_by = {"weights": "pixels", "crop": crop.mode, "image_size": side, "max_views": max_views}

    def encode(batch: StudyBatch) -> tuple[Tensor, Tensor]:
        return batch.pixels.new_zeros(batch.num_views, 0), batch.pixels.flatten(1)

    batches = iterate_studies(cache, cache.rows(), views_per_batch=1024, crop=crop, max_views=max_views)
    prepared = (prepare(batch, size=side, mean=cache.mean, std=cache.std) for batch in batches)
    return _embed(cache, prepared, encode, made_by, "pixels" if progress else None)


def encode_views(
    encoder: Encoder, batch: StudyBatch, precision: str
) -> tuple[Float[Tensor, "view dim"], Float[Tensor, "view dim"]]:
    """Class token and mean of patch tokens of prepared views, in 32 bit, whatever they are computed in."""
    with torch.autocast(batch.pixels.device.type, torch.bfloat16, enabled=precision == "bf16-mixed"):
        tokens = encoder.encode(batch.pixels, batch.view_kind).tokens.float()
    return tokens[:, 0], tokens[:, 1:].mean(dim=1)


def _embed(
    cache: Cache,
    batches: Iterable[StudyBatch],
    encode: Callable[[StudyBatch], tuple[Tensor, Tensor]],
    made_by: dict[str, Any],
    title: str | None,
) -> ViewFeatures:
    stored = read_side_table(cache, "features", made_by)
    if stored is None:
        parts = []
        num_views = int(np.minimum(cache.studies["num_views"], made_by["max_views"] or 2**31).sum())
        with Progress(console=Console(stderr=True), disable=title is None) as bar, torch.inference_mode():
            task = bar.add_task(title or "", total=num_views)
            for batch in batches:
                class_token, mean = encode(batch)
                study = batch.row[batch.study]
                parts.append(
                    [part.cpu().numpy() for part in (class_token, mean, study, batch.view_kind, batch.view_row)]
                )
                bar.advance(task, batch.num_views)
        names = ("class_token", "mean", "study", "view_kind", "view_row")
        stored = {name: np.concatenate(part) for name, part in zip(names, zip(*parts, strict=True), strict=True)}
        write_side_table(cache, "features", stored, made_by)
    return ViewFeatures(**stored, made_by={**made_by, "cache": cache.digest})
