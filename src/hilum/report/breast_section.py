"""Breasts in the archive's section: their views, assessments, densities, cancers and findings."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from hilum.breasts import BREAST, BREAST_FINDINGS, BREASTS, tabulate_breasts

from .blocks import Block, Table

_SPLITS = ("train", "val", "test")


def describe_breasts(table: pl.DataFrame) -> list[Block]:
    """Tables of what is known of breasts; nothing of a study table without them."""
    if BREASTS not in table.columns:
        return []
    breasts = tabulate_breasts(table)
    blocks = [_tabulate_views(breasts), _tabulate_values(breasts), _tabulate_findings(table, breasts)]
    return [block for block in blocks if block is not None]


def describe_notices(path: Path) -> list[Block]:
    """What is odd about mammograms that were taken; nothing where nothing is."""
    if not path.exists():
        return []
    notices = pl.read_parquet(path)
    if notices.is_empty():
        return []
    counts = notices.group_by("notice").len().sort("len", "notice", descending=[True, False]).head(10)
    rows = [[notice, f"{count:,}"] for notice, count in counts.iter_rows()]
    return [Block("Images to look at", table=Table(["what", "images"], rows))]


def _tabulate_views(breasts: pl.DataFrame) -> Block:
    num_cc, num_mlo = pl.col("cc").list.len(), pl.col("mlo").list.len()
    kinds = {
        "with CC and MLO": (num_cc > 0) & (num_mlo > 0),
        "with CC only": (num_cc > 0) & (num_mlo == 0),
        "with MLO only": (num_cc == 0) & (num_mlo > 0),
        "with neither": (num_cc == 0) & (num_mlo == 0),
        "with several images of one of them": (num_cc > 1) | (num_mlo > 1),
        "with other views": pl.col("others").list.len() > 0,
    }
    counts = breasts.select(pl.col("split"), **kinds)
    names = [name for name in kinds if counts[name].any()]
    return Block(
        "Breasts", table=_count_by_split(counts, [("breasts", pl.lit(True)), *((n, pl.col(n)) for n in names)])
    )


def _tabulate_values(breasts: pl.DataFrame) -> Block | None:
    """BI-RADS, density and cancer, and follow-up."""
    rows = [(f"BI-RADS {number}", pl.col("assessment") == number) for number in range(7)]
    rows += [(f"density {letter}", pl.col("density") == letter) for letter in "abcd"]
    rows += [("cancer", pl.col("cancer") == 1), ("no cancer", pl.col("cancer") == 0), ("implant", pl.col("implant"))]
    rows += [
        # Full years, as the risk task counts them: a cancer after exactly 5 comes later.
        ("cancer within 5 years", pl.col("years_to_cancer") < 5),
        (
            "followed for 5 years without",
            (pl.col("years_to_cancer") >= 5)
            | (pl.col("years_to_cancer").is_null() & (pl.col("years_to_last_followup") >= 5)),
        ),
    ]
    return _keep(Block("What is known of breasts", table=_count_by_split(breasts, rows, empty=False)))


def _tabulate_findings(table: pl.DataFrame, breasts: pl.DataFrame) -> Block | None:
    """Labels of breasts by state, and boxes by kind of finding."""
    fixed = {"dataset", "study", "patient", "group", "day", "split", "cc", "mlo", "others", *BREAST.to_schema()}
    labels = [name for name in breasts.columns if name not in fixed]
    boxes: dict[str, int] = {}
    kinds: dict[str, int] = {}
    if BREAST_FINDINGS in table.columns:
        findings = table[BREAST_FINDINGS].explode().drop_nulls().struct.unnest()
        kinds = dict(findings.group_by("kind").len().iter_rows())
        boxes = dict(findings.filter(pl.col("top").is_not_null()).group_by("kind").len().iter_rows())
    rows = [
        [
            name,
            *(f"{int((breasts[name] == state).sum()):,}" if name in labels else "" for state in (1, 0)),
            f"{kinds.get(name, 0):,}",
            f"{boxes.get(name, 0):,}",
        ]
        for name in sorted({*labels, *kinds})
    ]
    columns = ["finding or label", "breasts with", "breasts without", "findings", "boxes"]
    caption = "A breast that is counted neither with nor without is not known."
    return Block("Findings of breasts", table=Table(columns, rows), caption=caption) if rows else None


def _count_by_split(table: pl.DataFrame, rows: list[tuple[str, pl.Expr]], empty: bool = True) -> Table:
    """How many rows of `table` are so, by split; rows without any are left out where `empty` is false."""
    splits = [split for split in _SPLITS if (table["split"] == split).any()]
    parts = {"all": table, **{split: table.filter(pl.col("split") == split) for split in splits}}
    counted = []
    for name, such in rows:
        counts = [len(part.filter(such.fill_null(False))) for part in parts.values()]
        if empty or counts[0]:
            counted.append([name, *(f"{count:,}" for count in counts)])
    return Table(["", *parts], counted)


def _keep(block: Block) -> Block | None:
    return block if block.table is not None and block.table.rows else None
