"""One phantom archive, by the road of any archive, for all evidence on it; another phantom gets another folder."""

from __future__ import annotations

from pathlib import Path

from hilum.cache import Cache
from hilum.cache.writer import build_cache
from hilum.identifiers import Naming
from hilum.phantom.archive import write_archive
from hilum.phantom.freeze import hash_settings
from hilum.sources.table import ingest_table

NUM_STUDIES, IMAGE_SIZE, SHORT_SIDE = 4000, 144, 128
FRACTIONS = {"train": 0.6, "val": 0.1, "test": 0.3}
WORK = Path("runs/evidence") / f"phantom-{hash_settings()[:8]}"


def prepare_cache() -> Cache:
    """Write, ingest and cache what is missing."""
    WORK.mkdir(parents=True, exist_ok=True)
    write_archive(WORK / "archive", NUM_STUDIES, size=IMAGE_SIZE, workers=2)
    table = WORK / "phantom.parquet"
    if not table.exists():
        ingest_table(WORK / "archive" / "studies.csv", table, dataset="phantom", naming=Naming(keep_ids=True))
    build_cache(table, WORK / "cache", workers=2, short_side=SHORT_SIDE, split_fractions=FRACTIONS)
    return Cache.open(WORK / "cache")
