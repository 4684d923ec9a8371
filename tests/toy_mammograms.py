"""Tiny mammography archives: four views a study, a blob for what the text of a breast says, cached by the real code."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
from PIL import Image

from hilum.cache import Cache
from hilum.cache.writer import build_cache
from hilum.study import build_studies, write_studies

WHERE, SIZES, SHADES = ("upper", "lower"), ("small", "medium", "large"), ("dense", "pale")
NUM_KINDS = len(WHERE) * len(SIZES) * len(SHADES)


def draw_breast(kind: int, view: str, rng: np.random.Generator, shape: tuple[int, int] = (112, 70)) -> np.ndarray:
    """A grey image with a disc whose place, size and shade are those of the kind; MLO and CC are shifted apart."""
    where, size, shade = kind % 2, kind // 2 % 3, kind // 6 % 2
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    centre = (28 + 54 * where, 27 + 12 * (view == "mlo"))
    disc = np.hypot(rows - centre[0], columns - centre[1]) < (7, 13, 20)[size]
    return (60 + rng.normal(0, 6, shape) + disc * (80, 170)[shade]).clip(0, 255).astype(np.uint8)


def describe_kind(kind: int) -> str:
    return f"A {SIZES[kind // 2 % 3]} {SHADES[kind // 6 % 2]} mass in the {WHERE[kind % 2]} breast."


def write_breasts(
    root: Path, kinds: list[tuple[int, int]], *, num_validation: int = 0, seed: int = 0
) -> tuple[Path, Path]:
    """Images, study table and table of texts; `kinds` are those of the left and right breast of each study.

    The last `num_validation` studies are for validation, the others for training.
    """
    rng = np.random.default_rng(seed)
    root.mkdir(parents=True, exist_ok=True)
    rows, texts = [], []
    for study, both in enumerate(kinds):
        views = []
        for side, kind in zip(("left", "right"), both, strict=True):
            for view in ("cc", "mlo"):
                path = f"{study:03d}-{side}-{view}.png"
                Image.fromarray(draw_breast(kind, view, rng)).save(root / path)
                views.append({"path": path, "kind": view, "position": view.upper(), "laterality": side})
            texts.append({
                "dataset": "toy", "study": f"s{study}", "laterality": side, "text": describe_kind(kind),
                "facts": [WHERE[kind % 2], SIZES[kind // 2 % 3], SHADES[kind // 6 % 2]], "single_view": kind == 0,
            })  # fmt: skip
        rows.append({
            "dataset": "toy", "study": f"s{study}", "patient": f"p{study}", "root": str(root), "views": views,
            "split": "train" if study < len(kinds) - num_validation else "val",
        })  # fmt: skip
    write_studies(build_studies(rows), root / "studies.parquet")
    pl.DataFrame(texts).write_parquet(root / "texts.parquet")
    return root / "studies.parquet", root / "texts.parquet"


def make_breasts(folder: Path, kinds: list[tuple[int, int]], **how) -> tuple[Cache, Path]:
    """The cache of such an archive, and the table of its texts."""
    table, texts = write_breasts(folder / "archive", kinds, **how)
    build_cache(table, folder / "cache", workers=0, short_side=64, bits=8, policy="voi-1", progress=False)
    return Cache.open(folder / "cache"), texts
