"""What is odd about mammograms that were taken nevertheless: for the user to look at, and for the report."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import polars as pl

from .shard import BreastRecord

_NUM_NAMED = 6  # kinds of notice in a message


def list_notices(kept: pl.DataFrame, breasts: Sequence[BreastRecord]) -> pl.DataFrame:
    """dataset, study, path and notice; `kept` has the views of the study table, one for each of `breasts`."""
    names = ("dataset", "study", "path", "kind", "laterality")
    rows = [
        (dataset, study, path, notice)
        for (dataset, study, path, kind, side), breast in zip(kept.select(names).iter_rows(), breasts, strict=True)
        for notice in _describe_breast(kind, side, breast)
    ]
    return pl.DataFrame(rows, dict.fromkeys(("dataset", "study", "path", "notice"), pl.String), orient="row")


def _describe_breast(kind: str, side: str, breast: BreastRecord) -> Iterator[str]:
    """What the table says of a view against what its file does, and what was seen of its pixels.

    A left breast's chest wall is at the left of an image as it is taken, a right one's at the right (L 4.6-5).
    """
    if breast.fault:
        yield f"the whole frame is kept: {breast.fault}"
    elif side in ("left", "right") and breast.chest_wall != side:
        yield f"{side} breast with its chest wall at the {breast.chest_wall}: stored mirrored, or of the other breast"
    if "unknown" not in (breast.laterality, side) and breast.laterality != side:
        yield f"{side} breast in the table, {breast.laterality} in the file's header; the table counts"
    if "unknown" not in (breast.kind, kind) and breast.kind != kind:
        yield f"{kind} in the table, {breast.kind} in the file's header; the table counts"
    if breast.implant:
        yield "implant, as the file's header says"


def describe_notices(out: Path, notices: pl.DataFrame) -> str:
    """For the user: kinds of notice with their numbers; "" where there is none."""
    if notices.is_empty():
        return ""
    reasons = notices.group_by("notice").agg(pl.len(), pl.col("path").first()).sort(-pl.col("len").cast(int), "notice")
    lines = [f"  {count:,}: {path}: {notice}" for notice, count, path in reasons.head(_NUM_NAMED).iter_rows()]
    if len(reasons) > _NUM_NAMED:
        lines.append(f"  and {len(reasons) - _NUM_NAMED:,} other kinds")
    number = notices["path"].n_unique()
    return f"\n{number:,} images to look at, all in {out / 'notices.parquet'}:\n" + "\n".join(lines)
