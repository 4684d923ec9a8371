"""The breast phantom that MV-MLM and its ablations are compared on, as a table near VinDr-Mammo's, and its cache.

All exams of some thousand women, enriched six times: of training, validation and test breasts alike, so that what is
measured holds for such breasts and not for screening. An institution is an archive of its own. The table has what
VinDr-Mammo's has, findings of BI-RADS 3 or more with boxes on the views that the reader saw them on, and besides
descriptors (shape, margin, morphology, ...), masks, cancers, age and follow-up. The second exposure of a view is left
out.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from hilum.atomic import open_atomic
from hilum.cache import Cache
from hilum.cache.writer import build_cache
from hilum.identifiers import Naming
from hilum.phantom.breast.archive import write_archive
from hilum.phantom.breast.freeze import hash_breast
from hilum.phantom.breast.tables import VINDR_NAMES
from hilum.sources.table import ingest_table

NUM_WOMEN, ENRICHMENT = 2_400, 6.0
# Rows and columns: a pixel is 0.7 mm, at which local findings are still there (results/breast_phantom/places.json).
IMAGE_SHAPE = (384, 232)
FRACTIONS = {"train": 0.55, "val": 0.1, "test": 0.35}
HOME, ABROAD = "lakeside", "hillcrest"  # institutions
WORK = Path("runs/evidence") / f"mammograms-{hash_breast()[:8]}"
TABLE = WORK / "mammograms.parquet"
_LOWEST_BIRADS = 3  # of a finding that the table has
_VIEW = ["exam_id", "laterality", "view"]


def prepare_cache() -> None:
    """Write, ingest and cache what is missing."""
    WORK.mkdir(parents=True, exist_ok=True)
    if not TABLE.exists():  # even of a complete archive, what is in each image would be worked out again
        archive = WORK / "archive"
        write_archive(archive, NUM_WOMEN, size=IMAGE_SHAPE[0], workers=2, masks=True, enrichment=ENRICHMENT)
        joined = archive / "mammograms.csv"
        with open_atomic(joined) as file:
            join_tables(archive).write_csv(file)
        flags = {name: name for name in map(_name_flag, VINDR_NAMES)}
        ingest_table(
            joined, TABLE, columns={"dataset": "institution", **flags}, naming=Naming(keep_ids=True, id_space="")
        )
    build_cache(
        TABLE, WORK / "cache", workers=2, bits=16, policy="mammo-auto-1", frame=IMAGE_SHAPE, split_fractions=FRACTIONS
    )


def open_cache() -> Cache:
    return Cache.open(WORK / "cache")


def join_tables(archive: Path) -> pl.DataFrame:
    """A row for each finding in each image, and for each image without one, as `hilum ingest table` reads them."""
    first = pl.read_csv(archive / "images.csv", infer_schema=False).filter(pl.col("repeat") == "0")
    images = pl.read_csv(archive / "follow_up.csv", infer_schema=False).filter(
        pl.col("path").is_in(first["path"].implode())
    )
    found = pl.read_csv(archive / "findings.csv", infer_schema=False).filter(
        pl.col("finding_birads").cast(pl.Int8) >= _LOWEST_BIRADS
    )
    return images.join(_flag_kinds(found), on=_VIEW[:2], how="left", maintain_order="left").join(
        _place_findings(found), on=_VIEW, how="left", maintain_order="left"
    ).with_columns(pl.col(_name_flag(kind)).fill_null("0") for kind in VINDR_NAMES)  # fmt: skip


def _name_flag(kind: str) -> str:
    """Column that says whether a breast has such a finding; the table lists all, so that 0 is an absence."""
    return f"breast_{kind.replace(' ', '_')}"


def _flag_kinds(found: pl.DataFrame) -> pl.DataFrame:
    has = ((pl.col("kind") == kind).any().cast(pl.Int8).cast(pl.String).alias(_name_flag(kind)) for kind in VINDR_NAMES)
    return found.group_by(_VIEW[:2], maintain_order=True).agg(*has)


def _place_findings(found: pl.DataFrame) -> pl.DataFrame:
    """A row for each view that a finding was seen on, with its box and its mask there."""
    corners = ("xmin", "ymin", "xmax", "ymax")
    # The phantom's words that the ingest of tables does not take as they are.
    words = {"distribution": pl.col("distribution").str.replace("grouped/clustered", "grouped", literal=True)}
    words["morphology"] = pl.col("morphology").str.replace_many(
        ["coarse/popcorn", "rim/lucent-centred"], ["coarse", "rim"]
    )
    seen = found.with_columns(
        view=pl.col("views").str.split(";"), finding_id=pl.concat_str(pl.lit("f"), "finding"), **words
    ).explode("view")
    box, mask = (
        pl.when(pl.col("view") == "CC").then(pl.col(f"cc_{name}")).otherwise(pl.col(f"mlo_{name}"))
        for name in ("box", "mask")
    )
    box = box.str.split(" ")
    return seen.select(
        *_VIEW, "finding_id", "finding_birads", "shape", "margin", "mass_density", "morphology", "distribution",
        "size_mm", finding_kind="kind", mask=mask,
        **{name: box.list.get(i, null_on_oob=True) for i, name in enumerate(corners)},
    )  # fmt: skip
