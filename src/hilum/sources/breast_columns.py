"""Breasts and findings in a user's own table: columns recognised beside one of laterality, and what their cells mean.

A row is an image, or a finding of one: an image with several findings stands in several rows. What is said of a breast
must be the same in all its rows, but for labels, cancer and implant, which are present where one row says so.

A kind of finding is absent only where the table says so: in a breast of which every row says "no finding", or, where
the user states that the table lists all findings, in every breast that it does not name it of.
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


def read_breasts(
    cells: Cells, images: pl.DataFrame, owners: pl.DataFrame, notes: list[str], *, is_complete: bool = False
) -> pl.DataFrame:
    """The images with the breasts and findings that the table's columns name; as they are where it names none.

    `owners`: row and study of every row, those too whose image is not among `images`. `is_complete`: the table lists
    every finding. Raises UserError for a cell that means nothing, with its row, and where no image has a side.
    """
    if is_complete and "finding_kind" not in cells.columns:
        raise UserError(
            f"--findings-complete has no effect: {cells.source} has no column of findings beside one of sides. Name "
            "them: --columns finding_kind=COLUMN laterality=COLUMN."
        )
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
    kinds = _read_kinds(cells)
    stated = _state_kinds(kinds, owners, sided, notes, is_complete=is_complete)
    breasts = _read_breasts(cells, rows, labels, sided, stated, notes)
    findings = _read_findings(cells, kinds, sided) if (set(BREAST_NAMES) - _OF_BREAST) & set(chosen) else None
    return attach_breasts(images, breasts, findings)


_TIMES = tuple(f"{unit}_to_{what}" for unit in ("years", "days") for what in ("cancer", "last_followup"))
_OF_BREAST = {"assessment", "density", "implant", "cancer", *_TIMES}


def _read_breasts(
    cells: Cells, rows: pl.DataFrame, labels: list[str], sided: pl.DataFrame, stated: pl.DataFrame, notes: list[str]
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
    breasts = breasts.join(stated, on=["study", "laterality"], how="left", maintain_order="left")
    kinds = [name for name in stated.columns if name in FINDING_KINDS]
    states = {name: pl.col(name) for name in kinds}
    for label in labels:  # a column of its own counts before what findings say
        name = label.removeprefix(BREAST_PREFIX).replace("_", " ")
        states[name] = pl.coalesce(label, name) if name in kinds else pl.col(label)
    nested = nest_labels(states) if states else pl.lit([], pl.List(pl.Struct({"name": pl.String, "state": pl.Int8})))
    source = pl.when(pl.col("assessment").is_not_null()).then(pl.lit("breast"))
    return breasts.with_columns(labels=nested, assessment_source=source).drop(labels, kinds)


def _read_kinds(cells: Cells) -> pl.DataFrame:
    """Of each row: `kind` (a list), whether the one word it has is `suspicious`, whether it `is_none` ("no finding") or
    `is_boxed` (has a box)."""
    named = [_name_kinds(cell, cells.source, row) for cell, row in zip(_get_text(cells), cells.rows, strict=True)]
    return pl.DataFrame({"row": cells.rows, "kind": pl.Series(named, dtype=pl.List(pl.String))}).with_columns(
        suspicious=pl.when(_get_text(cells).str.contains(r"(?i)^\W*suspicious\b[^;,]*$")).then(True),
        is_none=(pl.col("kind").list.len() == 0) & _get_text(cells).is_not_null(),
        is_boxed=cells.read_number("ymin").is_not_null(),
    )


def _state_kinds(
    kinds: pl.DataFrame, owners: pl.DataFrame, sided: pl.DataFrame, notes: list[str], *, is_complete: bool
) -> pl.DataFrame:
    """study, laterality and, of every kind of finding that the table names, 0 where it is known to be absent and, if
    the table lists every finding, 1 where it is present; else null.

    What a row says that belongs to no breast (its image is missing or has no side) may be of either of its study's:
    these then have no absences.
    """
    words = kinds["kind"].explode().drop_nulls().unique(maintain_order=True).to_list()
    words = [word for word in words if word not in ("region", "other")]
    told = (pl.col("kind").list.len() > 0) | pl.col("is_boxed")
    astray = kinds.filter(told).join(sided, on="row", how="anti").join(owners, on="row")["study"].unique()
    nameless = pl.col("is_boxed") & (pl.col("kind").list.len() == 0)  # of any kind
    breasts = sided.join(kinds, on="row", maintain_order="left").group_by("study", "laterality", maintain_order=True)
    breasts = breasts.agg(
        pl.col("kind").list.explode(keep_nulls=False, empty_as_null=False).unique(),
        is_none=pl.col("is_none").all(),
        is_boxed=nameless.any(),
    )
    is_known = pl.lit(True) if is_complete else pl.col("is_none")
    breasts = breasts.with_columns(is_known=is_known & ~pl.col("is_boxed") & ~pl.col("study").is_in(astray.implode()))
    num_known = int(breasts["is_known"].sum())
    if words and is_complete:
        notes.append(
            f"The table lists all findings, as you state: what no row names of {', '.join(words)} is absent "
            f"({say_count(num_known, 'breast')} of {len(breasts):,})."
        )
    elif words:
        notes.append(
            f"{say_count(num_known, 'breast')} of {len(breasts):,} with 'no finding' in every row: {', '.join(words)} "
            "absent there. What other breasts' rows do not name is unknown; if the table lists every finding, say so: "
            "--findings-complete."
        )
    return breasts.select(
        "study",
        "laterality",
        *(
            pl.when(pl.col("is_known") & ~pl.col("kind").list.contains(word)).then(0)
            .when(pl.col("is_known") & pl.lit(is_complete)).then(1)
            .cast(pl.Int8).alias(word)
            for word in words
        ),
    )  # fmt: skip


def _read_findings(cells: Cells, kinds: pl.DataFrame, sided: pl.DataFrame) -> pl.DataFrame:
    """A finding for each word of a row, and a region for a box without a word."""
    said = kinds.select("row", "kind", "suspicious", "is_boxed").with_columns(
        cells.read_text("finding_id").alias("finding"),
        cells.read_word("finding_assessment", _ASSESSMENTS, "BI-RADS 0 to 6").cast(pl.Int8).alias("assessment"),
        cells.read_word("pathology", _PATHOLOGIES, "malignant, benign or blank").alias("pathology"),
        cells.read_text("mass_density").str.to_lowercase().alias("density"),
        cells.read_text("mask").alias("mask"),
        cells.read_number("size_mm").alias("size_mm"),
        *(cells.read_number(target).alias(side) for side, target in _BOX.items()),
        *(_clean_words(cells.read_text(name)).alias(name) for name in _WORDS),
    )
    region = (pl.col("kind").list.len() == 0) & pl.col("is_boxed")
    said = said.with_columns(kind=pl.when(region).then(pl.lit(["region"])).otherwise("kind")).explode("kind")
    found = sided.join(said.filter(pl.col("kind").is_not_null()), on="row", how="inner", maintain_order="left")
    return found.drop("row", "is_boxed")


def _get_text(cells: Cells) -> pl.Series:
    return cells.read_text("finding_kind", blanks=("", "nan"))


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
