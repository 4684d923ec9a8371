"""The phantom that alignments are compared on: 12,000 studies, and variants whose training studies are spoilt.

Trials were made on the first 4,000 studies, whose patients therefore only train here. Splits are drawn once; variants
change views of training studies and nothing else, so all are probed on the same validation and test studies.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl

from hilum.cache import Cache
from hilum.cache.writer import build_cache
from hilum.identifiers import Naming
from hilum.keyed_random import draw_order
from hilum.phantom.archive import write_archive
from hilum.phantom.freeze import hash_settings
from hilum.sources.table import ingest_table
from hilum.study import read_studies, write_studies

NUM_STUDIES, NUM_TRIED, IMAGE_SIZE, SHORT_SIDE = 12_000, 4_000, 144, 128
FRACTIONS = {"train": 0.5, "val": 0.15, "test": 0.35}
WORK = Path("runs/evidence") / f"alignment-{hash_settings()[:8]}"

Archive = Literal["clean", "wrong 5 %", "wrong 20 %", "one view"]
ARCHIVES: tuple[Archive, ...] = ("clean", "wrong 5 %", "wrong 20 %", "one view")
_SHARES: dict[Archive, float] = {"wrong 5 %": 0.05, "wrong 20 %": 0.20}


def prepare_caches() -> None:
    """Write, ingest and cache what is missing."""
    WORK.mkdir(parents=True, exist_ok=True)
    write_archive(WORK / "archive", NUM_STUDIES, size=IMAGE_SIZE, workers=2)
    table = WORK / "phantom.parquet"
    if not table.exists():
        ingested = WORK / "ingested.parquet"
        # An institution is an archive here, as MIMIC-CXR and PadChest are of one hospital each.
        ingest_table(
            WORK / "archive" / "studies.csv",
            ingested,
            columns={"dataset": "institution"},
            naming=Naming(keep_ids=True, id_space=""),
        )
        studies = read_studies(ingested)
        first = pl.read_csv(WORK / "archive" / "studies.csv", infer_schema=False)["study"].head(NUM_TRIED)
        tried = studies.filter(pl.col("study").is_in(first.implode()))["patient"].unique()
        splits = pl.when(pl.col("patient").is_in(tried.implode())).then(pl.lit("train"))
        write_studies(studies.with_columns(split=splits), table)
    for archive in ARCHIVES:
        if archive != "clean":
            table = WORK / f"{name_archive(archive)}.parquet"
            if not table.exists():
                clean = read_studies(WORK / name_archive("clean") / "studies.parquet")
                write_studies(spoil(clean, archive), table)
        build_cache(table, WORK / name_archive(archive), workers=2, short_side=SHORT_SIDE, split_fractions=FRACTIONS)


def open_cache(archive: Archive) -> Cache:
    return Cache.open(WORK / name_archive(archive))


def name_archive(archive: Archive) -> str:
    """Its folder."""
    return f"cache-{archive.replace(' %', '').replace(' ', '-')}"


def spoil(studies: pl.DataFrame, archive: Archive) -> pl.DataFrame:
    """The table with views of its training studies dealt to other patients' studies, or all but one of each left out.

    wrong: of the given share of the studies with a frontal and a lateral view, the laterals go round by one.
    """
    if archive == "one view":
        keep = draw_order("one view", 0, num=len(studies)) % studies["views"].list.len().to_numpy()
        one = pl.concat_list(pl.col("views").list.get(pl.lit(pl.Series(keep))))
        return studies.with_columns(views=pl.when(pl.col("split") == "train").then(one).otherwise("views"))
    rows = studies["views"].to_list()
    laterals = [[place for place, view in enumerate(views) if view["kind"] == "lateral"] for views in rows]
    frontal = [any(view["kind"] == "frontal" for view in views) for views in rows]
    paired = np.flatnonzero(
        [
            split == "train" and has and bool(at)
            for split, has, at in zip(studies["split"], frontal, laterals, strict=True)
        ]
    )
    chosen = paired[draw_order("wrong view", 0, num=len(paired))[: round(_SHARES[archive] * len(paired))]].tolist()
    taken = [rows[study][laterals[study][0]] for study in chosen]
    for study, view in zip(chosen, [*taken[1:], taken[0]], strict=True):
        rows[study] = [view if place == laterals[study][0] else one for place, one in enumerate(rows[study])]
    return studies.with_columns(views=pl.Series(rows, dtype=studies.schema["views"]))
