"""Breasts and findings in a user's own table: columns recognised beside one of laterality, and what their cells mean.

A row is an image, or a finding of one: an image with several findings stands in several rows. What is said of a breast
must be the same in all its rows, but for labels, cancer and implant, which are present where one row says so.
"""

from __future__ import annotations

import ast
import re

import polars as pl

from hilum.breasts import DENSITIES, FINDING_KINDS
from hilum.errors import UserError
from hilum.sources.breast_names import BREAST_NAMES, BREAST_PREFIX
from hilum.sources.cells import Cells
from hilum.sources.mammograms import attach_breasts, nest_labels, pick_agreed
from hilum.sources.vindr_mammo import KINDS
from hilum.wording import say_count

_ASSESSMENTS = {
    f"{prefix}{number}{suffix}": str(number)
    for number in range(7)
    for prefix in ("", "bi-rads ", "birads ", "birads", "bi-rads")
    for suffix in ("", ".0", *(("a", "b", "c") if number == 4 else ()))
}
_DENSITIES = {name: letter for letter in DENSITIES for name in (letter, f"density {letter}", f"acr {letter}")}
_DENSITIES |= {f"{number}{zero}": letter for number, letter in enumerate(DENSITIES, 1) for zero in ("", ".0")}
_YES = {"1": "1", "1.0": "1", "true": "1", "yes": "1", "0": "0", "0.0": "0", "false": "0", "no": "0"}
_CANCERS = _YES | {"malignant": "1", "benign": "0", "cancer": "1"}
_PATHOLOGIES = {name: name.replace("_", " ") for name in ("malignant", "benign", "benign_without_callback")}
_PATHOLOGIES["benign without callback"] = "benign without callback"
_NONE = ("no finding", "no findings", "none", "normal", "negative")
_KINDS = {
    **{kind: kind for kind in FINDING_KINDS},
    **{word.lower(): kind for word, kind in KINDS.items()},
    **dict.fromkeys(("masses", "nodule", "tumor", "tumour"), "mass"),
    **dict.fromkeys(("calcifications", "calc", "calcs", "microcalcification", "microcalcifications"), "calcification"),
    **dict.fromkeys(("distortion", "architectural distortions"), "architectural distortion"),
    **dict.fromkeys(("lymph nodes", "node"), "lymph node"),
}
_BOX = {"top": "ymin", "left": "xmin", "bottom": "ymax", "right": "xmax"}
_WORDS = ("shape", "margin", "morphology", "distribution")


def read_breasts(cells: Cells, images: pl.DataFrame, notes: list[str]) -> pl.DataFrame:
    """The images with the breasts and findings that the table's columns name; as they are where it names none.

    Raises UserError for a cell that means nothing, with its row, and where no image has a side.
    """
    labels = [target for target in cells.columns if target.startswith(BREAST_PREFIX)]
    chosen = [*(target for target in BREAST_NAMES if target in cells.columns), *labels]
    if not chosen:
        return images
    places = images.select("row", "study", "laterality", "path")
    sided = places.filter(pl.col("laterality").is_in(("left", "right")))
    if sided.is_empty():
        raise UserError(
            f"{cells.source}: column '{cells.columns[chosen[0]].name}' ({chosen[0]}) is of a breast, but no image has "
            "a side. Name the column of sides: --columns laterality=COLUMN."
        )
    if len(sided) < len(places):
        notes.append(
            f"{say_count(len(places) - len(sided), 'image')} without a side: nothing is known of their breasts."
        )
    rows = pl.DataFrame({"row": cells.rows})
    breasts = _read_breasts(cells, rows, labels, sided, notes)
    findings = _read_findings(cells, rows, sided) if (set(BREAST_NAMES) - _OF_BREAST) & set(chosen) else None
    return attach_breasts(images, breasts, findings)


_OF_BREAST = {"assessment", "density", "implant", "cancer", "years_to_cancer", "years_to_last_followup"}


def _read_breasts(
    cells: Cells, rows: pl.DataFrame, labels: list[str], sided: pl.DataFrame, notes: list[str]
) -> pl.DataFrame:
    said = rows.with_columns(
        cells.read_word("assessment", _ASSESSMENTS, "BI-RADS 0 to 6").cast(pl.Int8).alias("assessment"),
        cells.read_word("density", _DENSITIES, "A to D or 1 to 4").alias("density"),
        (cells.read_word("implant", _YES, "1, 0, yes, no or blank") == "1").alias("implant"),
        cells.read_word("cancer", _CANCERS, "1, 0, malignant, benign or blank").cast(pl.Int8).alias("cancer"),
        *(cells.read_years(name).alias(name) for name in ("years_to_cancer", "years_to_last_followup")),
        *(cells.read_word(name, _YES, "1, 0 or blank").cast(pl.Int8).alias(name) for name in labels),
    )
    agreed = ("assessment", "density", "years_to_cancer", "years_to_last_followup")
    groups = sided.join(said, on="row", how="left", maintain_order="left").group_by(
        "study", "laterality", maintain_order=True
    )
    for name in agreed:
        mixed = int((groups.agg(pl.col(name).drop_nulls().n_unique())[name] > 1).sum())
        if mixed:
            notes.append(f"{say_count(mixed, 'breast')} whose rows disagree on {name}: it is left blank.")
    breasts = groups.agg(
        *(pick_agreed(name).alias(name) for name in agreed), pl.col("implant", "cancer", *labels).max()
    )
    states = {name.removeprefix(BREAST_PREFIX).replace("_", " "): pl.col(name) for name in labels}
    nested = nest_labels(states) if states else pl.lit([], pl.List(pl.Struct({"name": pl.String, "state": pl.Int8})))
    source = pl.when(pl.col("assessment").is_not_null()).then(pl.lit("breast"))
    return breasts.with_columns(labels=nested, assessment_source=source).drop(labels)


def _read_findings(cells: Cells, rows: pl.DataFrame, sided: pl.DataFrame) -> pl.DataFrame:
    """A finding for each word of a row, and a region for a box without a word."""
    kinds = [_name_kinds(cell, cells.source, row) for cell, row in zip(_get_text(cells), cells.rows, strict=True)]
    said = rows.with_columns(
        pl.Series("kind", kinds, dtype=pl.List(pl.String)),
        cells.read_text("finding_id").alias("finding"),
        cells.read_word("finding_assessment", _ASSESSMENTS, "BI-RADS 0 to 6").cast(pl.Int8).alias("assessment"),
        cells.read_word("pathology", _PATHOLOGIES, "malignant, benign or blank").alias("pathology"),
        cells.read_text("mass_density").str.to_lowercase().alias("density"),
        cells.read_text("mask").alias("mask"),
        cells.read_number("size_mm").alias("size_mm"),
        *(cells.read_number(target).alias(side) for side, target in _BOX.items()),
        *(_clean_words(cells.read_text(name)).alias(name) for name in _WORDS),
    )
    boxed = pl.col("top").is_not_null()
    said = said.with_columns(
        kind=pl.when((pl.col("kind").list.len() == 0) & boxed).then(pl.lit(["region"])).otherwise("kind")
    ).explode("kind")
    found = sided.join(said.filter(pl.col("kind").is_not_null()), on="row", how="inner", maintain_order="left")
    return found.drop("row")


def _get_text(cells: Cells) -> list[str | None]:
    return cells.read_text("finding_kind", blanks=("", "nan")).to_list()


def _name_kinds(cell: str | None, source: str, row: int) -> list[str]:
    """Kinds of finding that a cell names: a word, several joined by ";", or a list like "['Mass']"."""
    if not cell:
        return []
    try:
        words = [str(word) for word in ast.literal_eval(cell)] if cell.startswith("[") else cell.split(";")
    except (ValueError, SyntaxError):
        words = [cell]
    plain = [re.sub(r"[\s_]+", " ", word).strip().lower() for word in words]
    unknown = [word for word in plain if word not in _KINDS and word not in _NONE]
    if unknown:
        raise UserError(
            f"{source}, row {row}: '{unknown[0][:40]}' is no kind of finding Hilum knows: {', '.join(FINDING_KINDS)}. "
            "Call it other, or leave the column out with --columns finding_kind="
        )
    return [_KINDS[word] for word in plain if word not in _NONE]


def _clean_words(text: pl.Series) -> pl.Series:
    return text.str.to_lowercase().str.replace_all("_", " ").str.replace_all(r"\s*;\s*", ";")
