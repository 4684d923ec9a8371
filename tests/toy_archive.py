"""Tiny archives of noise images, read, cached and loaded by the real code."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from hilum.cache import Cache
from hilum.cache.writer import build_cache
from hilum.study import build_studies, write_studies


def write_archive(
    root: Path,
    num_views: list[int],
    *,
    dataset: str = "toy",
    seed: int = 0,
    sides: tuple[int, int] = (64, 100),
    **columns,
) -> Path:
    """PNG files of random sides and content under `root`, and their study table; returns the table's path.

    `num_views` says how many views each study has; `columns` are lists with a value for each study.
    """
    rng = np.random.default_rng(seed)
    root.mkdir(parents=True, exist_ok=True)
    rows = []
    for study, count in enumerate(num_views):
        views = []
        for view in range(count):
            height, width = rng.integers(*sides, endpoint=True, size=2)
            coarse = rng.integers(0, 256, (8, 8), dtype=np.uint8)
            path = f"{dataset}-{study:03d}-{view}.png"
            Image.fromarray(coarse).resize((int(width), int(height))).save(root / path)
            kind = ("frontal", "lateral", "unknown")[min(view, 2)]
            views.append({"path": path, "kind": kind, "position": "", "laterality": "unknown"})
        row = {
            "dataset": dataset,
            "study": f"s{study:03d}",
            "patient": f"{dataset}-p{study // 2:03d}",
            "root": str(root),
        }
        rows.append({**row, **{name: values[study] for name, values in columns.items()}, "views": views})
    table = root / "studies.parquet"
    write_studies(build_studies(rows), table)
    return table


def make_cache(
    folder: Path, num_views: list[int], *, short_side: int = 64, bits: int = 8, policy: str = "voi-1", **archive
) -> Cache:
    """The cache of such an archive."""
    table = write_archive(folder / "archive", num_views, **archive)
    build_cache(table, folder / "cache", workers=0, short_side=short_side, bits=bits, policy=policy, progress=False)
    return Cache.open(folder / "cache")
