"""Toy screening exams: four views of two breasts each, of which much is known, and a run that learned from texts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
from PIL import Image

from hilum.breasts import BREAST, BREAST_FINDINGS, BREASTS, FINDING
from hilum.cache import Cache
from hilum.cache.writer import build_cache
from hilum.config import AugmentConfig, RunConfig
from hilum.recipes import build_recipe
from hilum.study import build_studies, write_studies
from hilum.training.pretrain import pretrain
from toy_mammograms import draw_breast

NUM = 20
BOX = (62.0, 19.0, 102.0, 59.0)  # of the disc, in pixels of the source
VIEWS = [("left", "cc"), ("right", "cc"), ("left", "mlo"), ("right", "mlo")]  # sides take turns


def describe(study: int) -> dict:
    """A study whose left breast has a mass, seen and drawn in the MLO alone, where the number is odd, and a cancer the
    sooner the higher the number; the right is healthy."""
    has = study % 2
    blank = dict.fromkeys(BREAST.to_schema())
    said = {"density": "abcd"[study % 4], "assessment_source": "breast"}
    labels = [{"name": "mass", "state": has}]
    left = blank | said | {"laterality": "left", "assessment": (1, 4, 0, 5)[study % 4], "cancer": has, "labels": labels}
    right = blank | {"laterality": "right", "assessment": 2, "labels": [{"name": "mass", "state": 0}]}
    left |= {"years_to_last_followup": 6.0, "years_to_cancer": 4.5 - study % 5 if has else None}
    right |= {"years_to_last_followup": 6.0}
    mass = dict.fromkeys(FINDING.to_schema()) | {"laterality": "left", "kind": "mass", "path": f"{study}-2.png"}
    mass |= dict(zip(("top", "left", "bottom", "right"), BOX, strict=True))
    return {BREASTS: [left, right], BREAST_FINDINGS: [mass] if has else []}


def make_exams(folder: Path) -> Cache:
    """Twenty studies of four views: ten to train on, five and five to validate and test."""
    rng, rows = np.random.default_rng(0), []
    folder.mkdir(parents=True, exist_ok=True)
    for study in range(NUM):
        views = []
        for place, (side, view) in enumerate(VIEWS):
            kind = 5 + 6 * (place == 2 and study % 2)  # a pale or a dense disc
            Image.fromarray(draw_breast(kind, view, rng)).save(folder / f"{study}-{place}.png")
            views.append({"path": f"{study}-{place}.png", "kind": view, "position": view.upper(), "laterality": side})
        split = ("train", "train", "val", "test")[study // 5]
        rows.append({"dataset": "toy", "study": f"s{study:02d}", "patient": f"p{study}", "split": split})
        rows[-1] |= {"sex": "FM"[study % 2], "extra_fold": str(study // 2 % 4)}
        rows[-1]["extra_site"] = "1" if study % 5 < 3 else "2"
        rows[-1] |= {"root": str(folder), "views": views, **describe(study)}
    write_studies(build_studies(rows), folder / "studies.parquet")
    build_cache(
        folder / "studies.parquet", folder / "cache", workers=0, short_side=64, bits=8, policy="voi-1", progress=False
    )
    return Cache.open(folder / "cache")


def pretrain_exams(cache: Cache) -> Path:
    """A run of mv_clip, which learned from texts for two steps."""
    texts = cache.path.parent / "texts.parquet"
    table = cache.table()
    said = [f"there is {'a' if i % 2 else 'no'} mass." for i in range(len(table))]  # of the left: words of prompts
    sides = ("left", "right")
    rows = [(one, side, f"{side}: {text}") for one, text in zip(table["study"], said, strict=True) for side in sides]
    pl.DataFrame(rows, schema=["study", "laterality", "text"], orient="row").with_columns(
        dataset=pl.lit("toy")
    ).write_parquet(texts)
    config = build_recipe("mv_clip", "hilum", "nano")
    assert config.text_encoder is not None
    model = replace(config.text_encoder.language_model, width=32, depth=1, heads=2, hidden=64)
    config = replace(
        config,
        encoder=replace(config.encoder, backbone="test_byobnet", image_height=96, image_width=64, projection=32),
        text_encoder=replace(config.text_encoder, language_model=model, width=32, projection=32, length=16),
        data=replace(config.data, views_per_step=12, augment=AugmentConfig(jitter_probability=0.0)),
        optim=replace(config.optim, steps=2),
        run=RunConfig(precision="32-true"),
    )
    pretrain(config, cache.path, cache.path.parent / "run", texts=texts)
    return cache.path.parent / "run"
