"""Frozen features: an encoder runs over every image once, and everything after reads a few vectors of each."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Float16, Float32, Int64
from rich.console import Console
from rich.progress import Progress
from torch import Tensor

from hilum.batch import StudyBatch
from hilum.cache import Cache
from hilum.cache.side_table import read_side_table, write_side_table
from hilum.checksums import hash_parts, hash_weights
from hilum.config import CropConfig
from hilum.errors import UserError
from hilum.model.heads import NUM_VECTORS, Representation, merge_regions
from hilum.model.image_encoder import ImageEncoder
from hilum.training.launch import choose_precision

from .result import FEATURE_CODE, hash_code
from .tokens import MAX_TOKEN_NUMBERS, cut_pixels, read_or_make_tokens
from .viewing import Viewing, view_cache

Precision = Literal["auto", "bf16-mixed", "32-true"]
NO_CAP = 2**15  # views of a study; where a run's settings cap them and all are needed
Read = Representation | Literal["tokens"]  # tokens: a set of vectors, for heads that attend

# Regions are kept unasked where a probe of them is quick and small: numbers a view, and numbers in all (256 MiB, of
# which a probe needs some ten times).
MAX_DIMS, MAX_NUMBERS = 4096, 2**26


@dataclass(frozen=True)
class ViewFeatures:
    """Frozen vectors of the views of a cache, and what made them."""

    class_token: Float32[np.ndarray, "view class_dim"]  # after the final norm; of width 0 where there is none (pixels)
    mean: Float32[np.ndarray, "view mean_dim"]  # mean of the patch tokens after the final norm
    regions: Float32[np.ndarray, "view cell dim"]  # their means in 4 x 4 or 2 x 2 regions; no cell where not kept
    study: Int64[np.ndarray, " view"]  # row of the study in the cache, ascending
    view_kind: Int64[np.ndarray, " view"]
    view_row: Int64[np.ndarray, " view"]  # row of the image in the cache
    made_by: dict[str, Any]  # weights (their hash), crop, image_size, max_views, cache (its digest), ...
    largest: Float32[np.ndarray, "view max_dim"] | None = None  # of the patch tokens, of width 0 where it is not read
    tokens: Float16[np.ndarray, "view token dim"] | None = None  # the patch tokens, where asked for and not too many
    mirrored: ViewFeatures | None = None  # of the training studies' views mirrored left to right, where asked for

    @property
    def representations(self) -> tuple[Representation, ...]:
        """What can be read: of pixels only the mean, which is the pixels; of networks without class token no such; of
        convolutional encoders the largest of the tokens too."""
        whole: tuple[Representation, ...] = ("class", "mean", "both") if self.class_token.shape[1] else ("mean",)
        if self.largest is not None and self.largest.shape[1]:
            whole = (*whole, "max")
        regions: tuple[Representation, ...] = ("2x2", "4x4")
        return (*whole, *(name for name in regions if NUM_VECTORS[name] <= self.regions.shape[1]))

    def take(self, keep: Bool[np.ndarray, " view"]) -> ViewFeatures:
        """The features of some of the views, and all that there are of mirrored ones."""
        names = [entry.name for entry in fields(self) if entry.name not in ("made_by", "mirrored")]
        arrays = {name: getattr(self, name) for name in names}
        return replace(self, **{name: None if array is None else array[keep] for name, array in arrays.items()})

    def read_tokens(self) -> Float[np.ndarray, "view token dim"]:
        """Vectors of places in each view: its patch tokens, or what stands for them: means of regions, patches of
        pixels.

        Raises:
            UserError: there are neither tokens nor regions.
        """
        if self.tokens is not None:
            return self.tokens
        if self.made_by["weights"] == "pixels":
            return cut_pixels(self.mean)
        if not self.regions.shape[1]:
            raise UserError("These features were made without tokens and without regions: nothing to attend to.")
        return self.regions

    def read(self, representation: Representation) -> Float32[np.ndarray, "view dim"]:
        """The vectors to probe: class token, mean of patch tokens, both, their largest, or regions side by side (M 7.3
        F).

        Raises:
            UserError: it is none of `representations`.
        """
        if representation not in self.representations:
            raise UserError(
                f"These features were made without '{representation}'; they offer {', '.join(self.representations)}."
            )
        match representation:
            case "class":
                return self.class_token
            case "mean":
                return self.mean
            case "max":
                assert self.largest is not None, "it is offered"
                return self.largest
            case "both":
                return np.concatenate([self.class_token, self.mean], axis=1)
            case _:
                regions = torch.from_numpy(self.regions)
                if NUM_VECTORS[representation] < regions.shape[1]:
                    regions = merge_regions(regions)
                return regions.flatten(1).numpy()


def choose_grid(width: int, num_views: int) -> int:
    """Regions a side that are kept for an encoder of this width: 4, or 2, or 0 where even those are too much."""
    for side in (4, 2):
        if side**2 * width <= MAX_DIMS and side**2 * width * num_views <= MAX_NUMBERS:
            return side
    return 0


def embed_cache(
    cache: Cache,
    encoder: ImageEncoder | Path | str,
    *,
    crop: CropConfig | None = None,
    batch_views: int = 256,
    max_views: int | None = None,
    grid: int | None = None,
    keep_tokens: bool = False,
    keep_mirrored: bool = False,
    precision: Precision = "auto",
    progress: bool = True,
    title: str = "features",
) -> ViewFeatures:
    """Features of every view of the cache, made once: a second call reads them from the cache's side table.

    Args:
        encoder: a run folder, a weights.safetensors, the name of a public encoder (`towers/catalogue.py`), or an
            encoder on the device it is to run on. It sees each view unmasked, at its own image size, normalised as in
            its training (by the cache's mean and std if neither public nor read from a file).
        crop: center or squash; where not given, that of the run's settings or of the public encoder, or center.
        batch_views: views at a time.
        max_views: at most this many views of a study, always the same; where not given, as many as in the run's
            settings, or all.
        grid: regions a side whose means are kept too: 4, 2 or 0; where not given, see `choose_grid`.
        keep_tokens: keep the patch tokens too, where they are not too many (`tokens.MAX_TOKEN_NUMBERS`), else regions.
        keep_mirrored: make those of the training studies' views mirrored left to right, too.
        precision: auto is bfloat16 autocast where the processor or GPU computes in it.
        progress, title: show a bar of this name where nothing is stored yet.

    Raises:
        UserError: the cache keeps smaller images than the encoder reads, or others than it was trained on; or images
            that the encoder refuses, by their names.
    """
    viewing = view_cache(cache, encoder, crop, max_views, choose_precision(precision))
    num_views, width = count_views(cache, viewing.max_views), viewing.encoder.width
    fits = keep_tokens and num_views * viewing.encoder.count_patches() * width <= MAX_TOKEN_NUMBERS
    if viewing.encoder.find_grid(viewing.encoder.count_patches()) is None:
        grid = 0  # tokens that are no places have no regions
    elif grid is None:
        # Regions that stand for tokens may be as many numbers as tokens.
        sides = (side for side in (4, 2) if num_views * side**2 * width <= MAX_TOKEN_NUMBERS)
        grid = next(sides, 0) if keep_tokens and not fits else choose_grid(width, num_views)
    made_by, shown = _describe(viewing, grid), title if progress else None
    encode = partial(viewing.encode, grid=grid)
    features = embed_batches(cache, viewing.show(batch_views), encode, made_by, shown)
    if keep_mirrored:
        batches = viewing.show(batch_views, cache.rows("train"), mirrored=True)
        shown = None if shown is None else f"{shown}, mirrored"
        mirrored = embed_batches(cache, batches, encode, {**made_by, "mirrored": "training views"}, shown)
        features = replace(features, mirrored=mirrored, made_by={**features.made_by, "mirrored": "training views"})
    if not fits:
        return features
    tokens = read_or_make_tokens(cache, viewing.show(batch_views), viewing.encode_patches, made_by, shown)
    return replace(features, tokens=tokens, made_by={**features.made_by, "num_tokens": tokens.shape[1]})


def _describe(viewing: Viewing, grid: int) -> dict[str, Any]:
    """What features depend on beside the cache."""
    return {
        "weights": hash_weights(viewing.encoder),
        "config": hash_parts([str(viewing.encoder.config)]),
        "crop": viewing.crop.mode,
        "image_size": viewing.encoder.image_size,
        "max_views": viewing.max_views,
        "grid": grid,
        "precision": viewing.precision,
        "mean": viewing.mean,
        "std": viewing.std,
        **viewing.encoder.record,
    }


def count_views(cache: Cache, max_views: int | None, split: str | None = None) -> int:
    """Views of a cache or of one of its splits that are shown, at most `max_views` of a study."""
    return int(np.minimum(cache.studies["num_views"][cache.rows(split)], max_views or 2**31).sum())


def embed_batches(
    cache: Cache,
    batches: Iterable[StudyBatch],
    encode: Callable[[StudyBatch], tuple[Tensor, Tensor, Tensor, Tensor]],
    made_by: dict[str, Any],
    title: str | None,
) -> ViewFeatures:
    """Class token, mean, largest and regions of every view of the prepared batches, unless a side table holds them.

    `batches` are only drawn if they do not; `title` names the progress bar, None shows none.
    """
    made_by = {**made_by, "code": hash_code(FEATURE_CODE)}
    stored: dict[str, Any] | None = read_side_table(cache, "features", made_by)
    if stored is None:
        parts = []
        num_views = count_views(cache, made_by["max_views"], "train" if "mirrored" in made_by else None)
        with Progress(console=Console(stderr=True), disable=title is None) as bar, torch.inference_mode():
            task = bar.add_task(title or "", total=num_views)
            for batch in batches:
                study = batch.row[batch.study]
                found = (*encode(batch), study, batch.view_kind, batch.view_row)
                parts.append([part.cpu().numpy() for part in found])
                bar.advance(task, batch.num_views)
        names = ("class_token", "mean", "largest", "regions", "study", "view_kind", "view_row")
        stored = {name: np.concatenate(part) for name, part in zip(names, zip(*parts, strict=True), strict=True)}
        write_side_table(cache, "features", stored, made_by)
    return ViewFeatures(**stored, made_by={**made_by, "cache": cache.digest})
