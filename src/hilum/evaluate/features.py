"""Frozen features: an encoder runs over every image once, and everything after reads two vectors of each."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
import torch
from jaxtyping import Float, Float32, Int64
from rich.console import Console
from rich.progress import Progress
from torch import Tensor

from hilum.atomic import open_atomic
from hilum.augment import prepare
from hilum.batch import StudyBatch
from hilum.cache import Cache
from hilum.config import CropConfig, DataConfig, load_config
from hilum.errors import UserError
from hilum.launch import choose_precision
from hilum.loader import iterate_studies
from hilum.model.encoder import Encoder
from hilum.model.weights import find_folder, find_weights, load_encoder, read_header
from hilum.side_table import read_side_table, write_side_table

from .result import FEATURE_CODE, hash_code, hash_parts

Representation = Literal["class", "mean", "both"]
Precision = Literal["auto", "bf16-mixed", "32-true"]


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


def read_data_settings(path: Path) -> DataConfig:
    """How a run's studies are shown: `.shown` of every image in evaluation, and at most `.max_views` of a study.

    They are in the config.json of a run folder; of a fine-tuned encoder, or weights without their folder, in the
    header of the weights. Where neither says: the centre, and all views.
    """
    config = find_folder(path) / "config.json"
    if config.is_file():
        return load_config(config).data
    about = read_header(find_weights(path))[1]
    return DataConfig(max_views=about.get("max_views"), evaluation_crop=about.get("crop", "center"))


def check_policy(cache: Cache, about: dict[str, Any]) -> None:
    """Refuse pixels made by another intensity policy than the encoder's; size and depth may differ."""
    trained, found = about["image_policy"].split("/")[0], cache.policy.split("/")[0]
    if trained != found:
        raise UserError(
            f"{cache.path}: its pixels were made by policy {found}, the encoder was trained on {trained}: its features "
            f"would mean nothing. Build the cache with `--policy {trained}`."
        )


def hash_weights(encoder: torch.nn.Module) -> str:
    """Digest of all parameters and buffers, names and shapes included."""
    state = sorted(encoder.state_dict().items())
    return hash_parts(part for name, value in state for part in (name, value.detach().float().cpu().numpy()))


def embed_cache(
    cache: Cache,
    encoder: Encoder | Path,
    *,
    crop: CropConfig | None = None,
    batch_views: int = 256,
    max_views: int | None = None,
    precision: Precision = "auto",
    progress: bool = True,
    title: str = "features",
) -> ViewFeatures:
    """Features of every view of the cache, made once: a second call reads them from the cache's side table.

    Args:
        encoder: a run folder, a weights.safetensors, or an encoder on the device it is to run on. It sees each view
            unmasked, at its own image size, normalised as in its training (by the cache's mean and std if not read
            from a file).
        crop: center or squash; where not given, that of the run's settings, or center.
        batch_views: views at a time.
        max_views: at most this many views of a study, always the same; where not given, as many as in the run's
            settings, or all.
        precision: auto is bfloat16 autocast where the processor or GPU computes in it.
        progress, title: show a bar of this name where nothing is stored yet.

    Raises:
        UserError: the cache keeps smaller images than the encoder reads, or others than it was trained on.
    """
    mean, std = cache.mean, cache.std
    if isinstance(encoder, Path):
        settings = read_data_settings(encoder)
        crop, max_views = crop or settings.shown, max_views or settings.max_views
        encoder, about = load_encoder(find_weights(encoder))
        check_policy(cache, about)
        encoder = encoder.to("cuda" if torch.cuda.is_available() else "cpu")
        mean, std = about["mean"], about["std"]
    crop = crop or CropConfig(mode="center")
    size = encoder.config.image_size
    cache.check_encoder(encoder.config)
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
    prepared = (prepare(batch, size=size, mean=mean, std=std, device=device) for batch in batches)
    return embed_batches(cache, prepared, encode, made_by, title if progress else None)


def encode_views(
    encoder: Encoder, batch: StudyBatch, precision: str
) -> tuple[Float[Tensor, "view dim"], Float[Tensor, "view dim"]]:
    """Class token and mean of patch tokens of prepared views, in 32 bit, whatever they are computed in."""
    with torch.autocast(batch.pixels.device.type, torch.bfloat16, enabled=precision == "bf16-mixed"):
        tokens = encoder.encode(batch.pixels, batch.view_kind).tokens.float()
    return tokens[:, 0], tokens[:, 1:].mean(dim=1)


def embed_batches(
    cache: Cache,
    batches: Iterable[StudyBatch],
    encode: Callable[[StudyBatch], tuple[Tensor, Tensor]],
    made_by: dict[str, Any],
    title: str | None,
) -> ViewFeatures:
    """Class token and mean of every view of the prepared batches, unless the cache's side tables hold them already.

    `batches` are only drawn if they do not; `title` names the progress bar, None shows none.
    """
    made_by = {**made_by, "code": hash_code(FEATURE_CODE)}
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


def write_embeddings(
    encoder: Path, data: Path, out: Path, *, batch_views: int = 256, precision: Precision = "auto"
) -> None:
    """A Parquet file with one row per image: archive, study, patient group, split, kind and position of the view, its
    path, and the two vectors `class_token` and `mean`."""
    cache = Cache.open(data)
    features = embed_cache(cache, encoder, batch_views=batch_views, precision=precision)
    table = cache.table().select("dataset", "study", "group", "split", "views").explode("views").unnest("views")
    rows = table.select("dataset", "study", "group", "split", "path", "kind", "position", "laterality")[
        features.view_row
    ]
    vectors = {"class_token": features.class_token, "mean": features.mean}
    frame = rows.with_columns(
        pl.Series(name, array, dtype=pl.Array(pl.Float32, array.shape[1])) for name, array in vectors.items()
    )
    with open_atomic(out) as file:
        frame.write_parquet(file, metadata={"hilum_features": json.dumps(features.made_by)})
