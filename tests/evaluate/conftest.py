"""The small archive of `shown.py`, its cache and an encoder, for the whole folder."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from shown import TINY, write_shown_archive
from toy_exams import make_exams, pretrain_exams

from hilum.cache import Cache
from hilum.cache.writer import build_cache
from hilum.model.encoder import Encoder
from hilum.phantom.archive import write_archive
from hilum.sources.table import ingest_table


@pytest.fixture(scope="session")
def shown_cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    folder = tmp_path_factory.mktemp("shown")
    table = write_shown_archive(folder / "archive", 240)
    build_cache(
        table,
        folder / "cache",
        workers=0,
        short_side=64,
        progress=False,
        split_fractions={"train": 0.45, "val": 0.25, "test": 0.3},
    )
    return Cache.open(folder / "cache")


@pytest.fixture(scope="session")
def encoder() -> Encoder:
    torch.manual_seed(0)
    return Encoder(TINY).eval()


@pytest.fixture(scope="session")
def phantom_with_masks(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Cache]:
    """A few studies of the phantom with their masks, and the cache of their images."""
    folder = tmp_path_factory.mktemp("phantom")
    write_archive(folder / "archive", 4, seed=3, size=96, masks=True, progress=False)
    ingest_table(folder / "archive" / "studies.csv", folder / "studies.parquet")
    build_cache(folder / "studies.parquet", folder / "cache", workers=0, short_side=64, progress=False)
    return folder / "archive", Cache.open(folder / "cache")


@pytest.fixture(scope="session")
def exam_cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    return make_exams(tmp_path_factory.mktemp("exams"))


@pytest.fixture(scope="session")
def exam_run(exam_cache: Cache) -> Path:
    return pretrain_exams(exam_cache)
