"""Frozen vectors as a table that anything can open: `hilum embed`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from hilum.atomic import open_atomic
from hilum.cache import Cache
from hilum.errors import UserError
from hilum.model.heads import Representation

from .features import Precision, embed_cache

# Names of columns of vectors.
_COLUMNS: dict[Representation, str] = {
    "class": "class_token",
    "mean": "mean",
    "max": "max",
    "both": "class_token_and_mean",
    "2x2": "regions_2x2",
    "4x4": "regions_4x4",
}


def write_embeddings(
    encoder: Path | str,
    data: Path,
    out: Path,
    *,
    representations: Sequence[Representation] | None = None,
    batch_views: int = 256,
    precision: Precision = "auto",
) -> None:
    """A Parquet file with one row per image: archive, study, patient group, split, kind and position of the view, its
    path, and one column of vectors for each of the `representations`: by default those of class token, mean and max
    that the encoder offers."""
    cache = Cache.open(data)
    if representations is not None and not representations:
        raise UserError(f"--representation names nothing to write; choose from {', '.join(_COLUMNS)}.")
    grid = max((int(name[0]) for name in representations or () if name in ("2x2", "4x4")), default=None)
    features = embed_cache(cache, encoder, batch_views=batch_views, grid=grid, precision=precision)
    if representations is None:
        representations = [name for name in features.representations if name in ("class", "mean", "max")]
    table = cache.table().select("dataset", "study", "group", "split", "views").explode("views").unnest("views")
    rows = table.select("dataset", "study", "group", "split", "path", "kind", "position", "laterality")[
        features.view_row
    ]
    vectors = {_COLUMNS[name]: features.read(name) for name in representations}
    frame = rows.with_columns(
        pl.Series(name, array, dtype=pl.Array(pl.Float32, array.shape[1])) for name, array in vectors.items()
    )
    with open_atomic(out) as file:
        frame.write_parquet(file, metadata={"hilum_features": json.dumps(features.made_by)})
