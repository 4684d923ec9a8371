"""The archive in pictures: studies side by side, views per study, view kinds, findings by state."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from hilum.cache import Cache
from hilum.labels import FINDINGS
from hilum.study import UNDECIDED, read_studies
from hilum.vocabulary import LATERALITIES, VIEW_KINDS

from .blocks import Block, Picture, Section, Table, Tile
from .breast_section import describe_breasts, describe_notices
from .figures import PALETTE, WIDE, draw_figure, encode_png, encode_svg, plot_bars
from .look_section import describe_look


def build_archive_section(cache: Cache, num_pictures: int = 24) -> tuple[Section, list[Tile]]:
    """What is in a cache: counts, pictures of whole studies, distributions of views and findings."""
    table = cache.table()
    blocks = [
        Block(
            text=[
                f"Archives: {', '.join(cache.datasets)}. Image policy {cache.policy}; grey mean {cache.mean:.4f}, "
                f"standard deviation {cache.std:.4f} over the training images."
            ]
        ),
        Block("Studies", pictures=_picture_studies(cache, num_pictures), caption="Whole studies, views side by side."),
        _describe_views(table),
        *describe_look(cache),
        *_describe_patients(table),
        *describe_breasts(table),
        *_describe_rejected(cache.path / "rejected.parquet"),
        *describe_notices(cache.path / "notices.parquet"),
    ]
    return Section("archive", "The archive", blocks), _count(table)


def build_table_section(path: Path) -> tuple[Section, list[Tile]]:
    """What is in a study table that has no cache yet: counts and distributions, no picture."""
    table = read_studies(path)
    archives = ", ".join(table["dataset"].unique().sort())
    blocks = [
        Block(text=[f"Study table {path.name}. Archives: {archives}. `hilum cache` reads the images."]),
        _describe_views(table),
        *_describe_patients(table),
        *describe_breasts(table),
    ]
    return Section(f"table-{path.stem}", f"The study table {path.name}", blocks), _count(table)


def _count(table: pl.DataFrame) -> list[Tile]:
    num_views = table["views"].list.len()
    return [
        Tile(f"{len(table):,}", "studies"),
        Tile(f"{num_views.sum():,}", "images"),
        Tile(f"{table['group'].n_unique():,}", "patients"),
        Tile(f"{(num_views > 1).mean():.0%}", "of studies have two or more views"),
    ]


def _describe_patients(table: pl.DataFrame) -> list[Block]:
    """Splits, and the findings that anything is stated of."""
    stated = [name for name in FINDINGS if table[name].is_not_null().any()]
    if not stated:
        return [_tabulate_splits(table)]
    caption = "Raw states; blank is not mentioned" + (", or not known." if UNDECIDED in table.columns else ".")
    return [_tabulate_splits(table), Block("Findings", figures=[_plot_findings(table, stated)], caption=caption)]


def _picture_studies(cache: Cache, num_pictures: int) -> list[Picture]:
    # Multi-view studies first: they are what Hilum is about. The choice depends on nothing random.
    order = np.argsort(-cache.studies["num_views"].clip(max=3), kind="stable")
    num_multi = num_pictures // 3
    chosen = np.concatenate([order[:num_multi], order[num_multi:][-num_pictures:]])
    pictures: list[Picture] = []
    framed = "frame" in cache.index
    for number, row in enumerate(chosen, start=1):
        first, count = int(cache.studies["first_view"][row]), int(cache.studies["num_views"][row])
        for view in range(first, first + count):
            kind = VIEW_KINDS[int(cache.views["view_kind"][view])]
            side = f" {LATERALITIES[int(cache.views['laterality'][view])]}" if framed else ""
            pictures.append(Picture(encode_png(_shrink(cache.image(view), framed)), f"study {number}: {kind}{side}"))
        if len(pictures) >= num_pictures:
            break
    return pictures[:num_pictures]


def _shrink(image: np.ndarray, whole: bool, side: int = 160) -> np.ndarray:
    """The central square of an image at `side` pixels, or all of it in such a square."""
    from PIL import Image

    grey = (image >> 8).astype(np.uint8) if image.dtype == np.uint16 else np.asarray(image)
    if whole:
        small = Image.fromarray(grey)
        small.thumbnail((side, side), Image.Resampling.BOX)
        square = np.zeros((side, side), np.uint8)
        square[: small.height, : small.width] = np.asarray(small)
        return square
    edge = min(grey.shape)
    top, left = (grey.shape[0] - edge) // 2, (grey.shape[1] - edge) // 2
    square = Image.fromarray(np.ascontiguousarray(grey[top : top + edge, left : left + edge]))
    return np.asarray(square.resize((side, side), Image.Resampling.BILINEAR))


def _describe_views(table: pl.DataFrame) -> Block:
    num_views = table["views"].list.len().clip(upper_bound=4).to_numpy()
    per_study = np.bincount(num_views.astype(np.int64), minlength=5)[1:]
    with draw_figure(height=1.6) as (figure, axis):
        plot_bars(axis, ["1 view", "2 views", "3 views", "4 or more"], per_study.tolist())
        axis.set_xlabel("studies")
        views = encode_svg(figure, "Views per study")
    kinds = table["views"].explode().struct.field("kind")
    shown = {kind: int((kinds == kind).sum()) for kind in VIEW_KINDS if (kinds == kind).any()}
    with draw_figure(height=1.6) as (figure, axis):
        plot_bars(axis, list(shown), list(shown.values()), PALETTE[2])
        axis.set_xlabel("images")
        figures = [views, encode_svg(figure, "Kinds of view")]
    return Block(figures=figures, caption="Views per study, and kinds of view.")


def _plot_findings(table: pl.DataFrame, findings: list[str]) -> str:
    states = {"present": 1, "uncertain": -1, "absent": 0}
    with draw_figure(WIDE, 0.22 * len(findings) + 0.9) as (figure, axis):
        places = np.arange(len(findings))[::-1]
        left = np.zeros(len(findings))
        for color, (name, state) in zip((PALETTE[1], PALETTE[4], PALETTE[5]), states.items(), strict=True):
            share = np.array([(table[finding] == state).sum() for finding in findings]) / len(table)
            axis.barh(places, share, left=left, height=0.7, color=color, label=name)
            left += share
        axis.barh(places, 1 - left, left=left, height=0.7, color="#eeeeee", label="not mentioned")
        axis.set_yticks(places, findings)
        axis.set_xlabel("share of studies")
        axis.grid(axis="y", visible=False)
        figure.legend(ncols=4, loc="outside upper center", columnspacing=1.2)
        return encode_svg(figure, "Raw states of the findings")


def _tabulate_splits(table: pl.DataFrame) -> Block:
    counts = table.group_by("split").agg(
        pl.col("group").n_unique().alias("patients"),
        pl.len().alias("studies"),
        pl.col("views").list.len().sum().alias("images"),
    )
    order = {"train": 0, "val": 1, "test": 2}
    rows = sorted(counts.iter_rows(), key=lambda row: order.get(row[0], 3))
    return Block(
        "Splits, by patient",
        table=Table(
            ["split", "patients", "studies", "images"],
            [[row[0] or "none"] + [f"{n:,}" for n in row[1:]] for row in rows],
        ),
    )


def _describe_rejected(path: Path) -> list[Block]:
    if not path.exists():
        return []
    rejected = pl.read_parquet(path)
    if rejected.is_empty():
        return [Block("Rejected files", text=["None."])]
    reasons = rejected.group_by("reason").len().sort("len", descending=True).head(10)
    return [
        Block(
            "Rejected files",
            table=Table(["reason", "files"], [[reason, f"{count:,}"] for reason, count in reasons.iter_rows()]),
        )
    ]
