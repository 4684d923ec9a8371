"""What index.json, studies.npy and views.npy hold, from the final study table and the records of the shards."""

from __future__ import annotations

import hashlib
from fractions import Fraction
from math import sqrt
from typing import Any

import numpy as np
import polars as pl

from hilum.identifiers import hash_study
from hilum.vocabulary import LATERALITIES, SPLITS, VIEW_KINDS

from .reader import BREAST_DTYPE, STUDY_DTYPE, VIEW_DTYPE
from .shard import BreastRecord, ImageRecord


def make_study_records(table: pl.DataFrame) -> tuple[np.ndarray, list[str]]:
    """STUDY_DTYPE records of the final table, and the names of its archives in the order they are counted."""
    datasets = sorted(set(table["dataset"]))
    records: Any = np.zeros(len(table), STUDY_DTYPE)
    records["patient"] = table["group"].rank("dense").to_numpy() - 1
    records["dataset"] = np.searchsorted(datasets, table["dataset"].to_list())
    records["split"] = [SPLITS.index(split) if split in SPLITS else -1 for split in table["split"]]
    records["num_views"] = table["views"].list.len().to_numpy()
    records["first_view"] = np.cumsum(records["num_views"]) - records["num_views"]
    records["key"] = [hash_study(dataset, study) for dataset, study in table.select("dataset", "study").iter_rows()]
    return records, datasets


def make_view_records(kept: pl.DataFrame, images: list[ImageRecord], shard: np.ndarray, bits: int) -> np.ndarray:
    """VIEW_DTYPE records of the views that were kept."""
    records: Any = np.zeros(len(images), VIEW_DTYPE)
    records["study"] = kept["row"].rank("dense").to_numpy() - 1
    records["view_kind"] = [VIEW_KINDS.index(kind) for kind in kept["kind"]]
    records["laterality"] = [LATERALITIES.index(side) for side in kept["laterality"]]
    records["shard"] = shard
    records["dtype"] = 0 if bits == 8 else 1
    for name in ("height", "width", "offset", "affine"):
        records[name] = [getattr(image, name) for image in images]
    records["content_hash"] = [np.frombuffer(bytes.fromhex(image.content_hash), np.uint8) for image in images]
    return records


def make_breast_records(breasts: list[BreastRecord]) -> np.ndarray:
    """BREAST_DTYPE records of the views that were kept."""
    records: Any = np.zeros(len(breasts), BREAST_DTYPE)
    records["spacing_mm"] = [breast.spacing_mm or (np.nan, np.nan) for breast in breasts]
    records["area"] = [breast.area for breast in breasts]
    return records


def measure_pixels(images: list[ImageRecord], bits: int) -> tuple[float, float]:
    """Mean and standard deviation of all pixels of the images on the scale 0..1, from exact integer sums."""
    num = sum(image.height * image.width for image in images)
    total, squares = sum(image.sum for image in images), sum(image.sum_of_squares for image in images)
    full = 2**bits - 1
    return float(Fraction(total, num * full)), sqrt(Fraction(num * squares - total**2, (num * full) ** 2))


def hash_table(table: pl.DataFrame) -> str:
    """sha256 of a study table's content, wherever its files lie and whatever wrote the Parquet."""
    digest = hashlib.sha256()
    for part in table.drop("root").iter_slices(10_000):
        digest.update(part.write_ndjson().encode())
    return digest.hexdigest()
