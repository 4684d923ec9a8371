"""What the readers of mammography archives share: sides and views, breasts and findings beside the images."""

from __future__ import annotations

import re
from collections.abc import Mapping

import polars as pl

from hilum.breasts import BREAST, BREAST_FINDINGS, BREASTS, FINDING, choose_worst
from hilum.sources.cells import Cells

SIDES = {"l": "left", "left": "left", "r": "right", "right": "right"}
CACHE_SETTINGS = ("--policy", "mammo-auto-1", "--bits", "16")
DENSITY_OF_NUMBER = {"1": "a", "2": "b", "3": "c", "4": "d"}


def read_sides(cells: Cells, target: str, *, both: bool = False) -> pl.Series:
    """left, right (with `both` also both), and unknown where blank, of cells like L, R, LEFT, Right.

    Raises UserError for another word, with its row.
    """
    words = SIDES | (dict.fromkeys(("b", "both", "bilateral"), "both") if both else {})
    return cells.read_word(target, words, f"L, R, left, right{', B' if both else ''} or blank").fill_null("unknown")


def name_view(column: str) -> pl.Expr:
    """cc, mlo or unknown: ML, LM, LMO, AT and the others are neither."""
    text = pl.col(column).str.strip_chars().str.to_uppercase()
    return text.replace_strict({"CC": "cc", "MLO": "mlo"}, default="unknown", return_dtype=pl.String)


def attach_breasts(
    images: pl.DataFrame, breasts: pl.DataFrame | None = None, findings: pl.DataFrame | None = None
) -> pl.DataFrame:
    """The images with what is known of their study's breasts, from tables with `study` and fields of BREAST or FINDING.

    Entries keep the tables' order; fields that a table leaves out are null.
    """
    for column, kind, table in ((BREASTS, BREAST, breasts), (BREAST_FINDINGS, FINDING, findings)):
        if table is None:
            continue
        fields = [
            (pl.col(name).cast(dtype) if name in table.columns else pl.lit(None, dtype)).alias(name)
            for name, dtype in kind.to_schema().items()
        ]
        unknown = set(table.columns) - {"study", *kind.to_schema()}
        assert not unknown, f"no fields of {column}: {unknown}"
        nested = table.select("study", pl.struct(fields).alias(column))
        lists = nested.group_by("study", maintain_order=True).agg(pl.col(column))
        images = images.join(lists, on="study", how="left", maintain_order="left")
        images = images.with_columns(pl.col(column).fill_null([]).cast(pl.List(kind)))
    return images


def nest_labels(labels: Mapping[str, pl.Expr]) -> pl.Expr:
    """The `labels` of a breast: name -> 1, 0 or null; those that are null are left out."""
    entries = [
        pl.when(state.is_not_null()).then(pl.struct(name=pl.lit(name), state=state.cast(pl.Int8)))
        for name, state in labels.items()
    ]
    return pl.concat_list(entries).list.drop_nulls()


def pick_worst(column: str) -> pl.Expr:
    """Within a group: the worst of several assessments."""
    return pl.col(column).map_batches(
        lambda values: pl.Series([choose_worst(values.to_list())], dtype=pl.Int8), returns_scalar=True
    )


def pick_agreed(column: str) -> pl.Expr:
    """Within a group: the value where all that is not null agrees, else null."""
    values = pl.col(column).drop_nulls().unique()
    return pl.when(values.len() == 1).then(values.first())


def translate(cell: str | None, words: Mapping[str, str], separator: str = "-") -> list[str]:
    """The parts of a cell in other words; parts nobody listed in lower case with blanks."""
    if not cell or cell.strip().upper() in ("", "N/A", "NA", "NAN"):
        return []
    parts = [part.strip() for part in re.split(separator, cell) if part.strip()]
    return [words.get(part.upper(), part.lower().replace("_", " ")) for part in parts]


def describe_cells(images: pl.DataFrame) -> str | None:
    """A note on breasts with several images of one view, or without one of the two; `images` as IMAGE_SCHEMA."""
    sided = images.filter(pl.col("laterality").is_in(("left", "right")))
    cells = sided.filter(pl.col("kind") != "unknown").group_by("study", "laterality", "kind").len()
    several = int((cells["len"] > 1).sum())
    breasts = sided.select("study", "laterality").unique()
    both = cells.group_by("study", "laterality").len().filter(pl.col("len") == 2)
    lacking = len(breasts) - len(both)
    parts = [f"{several:,} hold several images of one view"] if several else []
    parts += [f"{lacking:,} lack a CC or an MLO view"] if lacking else []
    return f"Of {len(breasts):,} breasts, {' and '.join(parts)}: every image is kept." if parts else None
