"""VinDr-Mammo 1.0.0 (Nguyen et al. 2023): 5,000 exams of four views with BI-RADS, density and boxes (L 4.1).

No table says whose an exam is: each counts as a patient of its own. The findings are exhaustive for what is not
benign, so that a breast without one has none. One exam is labelled L-CC, L-CC, R-CC, R-MLO.
"""

from __future__ import annotations

import ast
from functools import lru_cache, partial
from pathlib import Path

import polars as pl

from hilum.errors import UserError
from hilum.sources.archive import (
    ADVICE,
    Reading,
    check_unique,
    choose_paths,
    compare_counts,
    find_table,
    read_cells,
    read_table,
)
from hilum.sources.mammograms import (
    CACHE_SETTINGS,
    attach_breasts,
    describe_cells,
    name_view,
    nest_labels,
    read_sides,
)

IMAGES, FINDINGS = "breast-level_annotations.csv", "finding_annotations.csv"
NO_FINDING = "No Finding"
# Published word -> kind of finding (`breasts.FINDING_KINDS`).
KINDS = {
    "Mass": "mass",
    "Suspicious Calcification": "calcification",
    "Focal Asymmetry": "focal asymmetry",
    "Architectural Distortion": "architectural distortion",
    "Asymmetry": "asymmetry",
    "Skin Thickening": "skin thickening",
    "Suspicious Lymph Node": "lymph node",
    "Nipple Retraction": "nipple retraction",
    "Global Asymmetry": "global asymmetry",
    "Skin Retraction": "skin retraction",
}
# Images in training and test, boxes in training and test.
_OF_FINDINGS = {
    "Mass": (894, 219, 989, 237),
    "Suspicious Calcification": (337, 105, 428, 115),
    "Focal Asymmetry": (216, 52, 216, 53),
    "Architectural Distortion": (95, 24, 95, 24),
    "Asymmetry": (76, 20, 77, 20),
    "Skin Thickening": (43, 12, 45, 12),
    "Suspicious Lymph Node": (43, 10, 46, 11),
    "Nipple Retraction": (30, 7, 30, 7),
    "Global Asymmetry": (20, 6, 20, 6),
    "Skin Retraction": (15, 2, 15, 3),
}
PUBLISHED = {
    **{"images": 20_000, "exams": 5_000, "training images": 16_000, "test images": 4_000},
    **{"rows of findings": 20_486, "rows of several findings": 174},
    # What the task mammo-clip-rows of `hilum probe` is made of (L 3.2).
    **{"training rows of findings": 16_391, "test rows of findings": 4_095},
    **{"training images, rows with and without Mass": 153, "test images, rows with and without Mass": 42},
    "training images, rows with and without Suspicious Calcification": 114,
    "test images, rows with and without Suspicious Calcification": 42,
    **{"training images, No Finding": 14_589, "test images, No Finding": 3_643},
    **{f"training images, {name}": numbers[0] for name, numbers in _OF_FINDINGS.items()},
    **{f"test images, {name}": numbers[1] for name, numbers in _OF_FINDINGS.items()},
    **{f"training boxes, {name}": numbers[2] for name, numbers in _OF_FINDINGS.items()},
    **{f"test boxes, {name}": numbers[3] for name, numbers in _OF_FINDINGS.items()},
    **{f"training images, BI-RADS {n}": v for n, v in enumerate((10_724, 3_742, 744, 610, 180), start=1)},
    **{f"test images, BI-RADS {n}": v for n, v in enumerate((2_682, 934, 186, 152, 46), start=1)},
    **{f"training images, density {n}": v for n, v in zip("ABCD", (80, 1_528, 12_232, 2_160), strict=True)},
    **{f"test images, density {n}": v for n, v in zip("ABCD", (20, 380, 3_060, 540), strict=True)},
}


def read(root: Path, *, own_splits: bool = False, quick: bool = False) -> Reading:
    """Read both tables below `root`; `quick` changes nothing. `own_splits` leaves the official test out."""
    images, findings = _read_images(root), _read_findings(root)
    strange = findings.join(images, on="image", how="anti")
    if len(strange):
        raise UserError(f"{FINDINGS} names image {strange['image'][0]}, which is not in {IMAGES}. {ADVICE}")
    names = images.select("study", "image")
    layouts = [
        names.select(pl.format(f"{{}}{{}}/{{}}.{kind}", pl.lit(folder), "study", "image")).to_series()
        for folder in ("images/", "")
        for kind in ("dicom", "dcm", "png", "jpg")
    ]
    images = images.with_columns(path=choose_paths(root, layouts))
    frame = images.select(
        row="_row",
        study="study",
        patient=pl.format("exam:{}", "study"),
        split=pl.when(pl.col("split") == "test").then(pl.lit(None if own_splits else "test")),
        path="path",
        position="view",
        kind=name_view("view"),
        laterality="laterality",
    )
    listed = _list_findings(findings, images)
    frame = attach_breasts(frame, _list_breasts(images, listed), listed.drop("image"))
    reading = Reading(frame, counts=compare_counts(_count(images, findings), PUBLISHED))
    reading.warnings.append(
        "VinDr-Mammo says of no exam whose it is: each counts as a patient of its own. Copies of an image on both "
        "sides of a split stop an evaluation."
    )
    reading.notes += [note for note in [describe_cells(frame)] if note]
    reading.cache_settings = CACHE_SETTINGS
    if not own_splits:
        reading.notes.append(
            "The official test is the test split; `hilum cache --fractions 0.9 0.1 0` draws validation from the others."
        )
        reading.cache_settings += ("--fractions", "0.9", "0.1", "0")
    return reading


def _read_images(root: Path) -> pl.DataFrame:
    """_row, study, image, laterality, view, split, assessment and density, one row per image."""
    file = find_table(root, IMAGES, needed="it holds the images with their BI-RADS and density")
    assert file is not None
    columns = ("study_id", "image_id", "laterality", "view_position", "breast_birads", "breast_density", "split")
    table = read_table(file, columns, filled=("study_id", "image_id", "split", "laterality"))
    check_unique(table, ["image_id"], file)
    cells = read_cells(table, file, birads="breast_birads", density="breast_density", split="split", side="laterality")
    assessments = {f"bi-rads {number}": str(number) for number in range(7)}
    densities = {f"density {letter}": letter for letter in "abcd"}
    table = table.select(
        "_row",
        study=pl.col("study_id").str.strip_chars(),
        image=pl.col("image_id").str.strip_chars(),
        laterality=read_sides(cells, "side"),
        view="view_position",
        split=cells.read_word("split", {"training": "training", "test": "test"}, "training or test"),
        assessment=cells.read_word("birads", assessments, "BI-RADS 0 to BI-RADS 6").cast(pl.Int8),
        density=cells.read_word("density", densities, "DENSITY A to DENSITY D"),
    )
    for name in ("assessment", "density"):
        said = table.group_by("study", "laterality", maintain_order=True).agg(pl.col(name).drop_nulls().n_unique())
        mixed = said.filter(pl.col(name) > 1)
        if len(mixed):
            raise UserError(f"{file}: exam {mixed['study'][0]} has a breast of two values of {name}. {ADVICE}")
    return table


def _read_findings(root: Path) -> pl.DataFrame:
    """image, row (of the image's rows, from 0), words (list), assessment and the box in pixels, one per row."""
    file = find_table(root, FINDINGS, needed="it holds the findings and their boxes")
    assert file is not None
    sides = {"top": "ymin", "left": "xmin", "bottom": "ymax", "right": "xmax"}
    table = read_table(file, ("image_id", "finding_categories", "finding_birads", *sides.values()))
    cells = read_cells(table, file, birads="finding_birads", **sides)
    read_cell = lru_cache(partial(_read_words, file=file))  # 20,000 cells of a few kinds
    words = [read_cell(cell) for cell in table["finding_categories"]]
    if unknown := {word for some in words for word in some} - {*KINDS, NO_FINDING}:
        raise UserError(f"{file}: '{min(unknown)}' is no finding of VinDr-Mammo. {ADVICE}")
    assessments = {f"bi-rads {number}": str(number) for number in range(7)}
    return table.select(
        image=pl.col("image_id").str.strip_chars(),
        row=pl.int_range(pl.len()).over(pl.col("image_id").str.strip_chars()),
        words=pl.Series(words, dtype=pl.List(pl.String)),
        assessment=cells.read_word("birads", assessments, "BI-RADS 0 to BI-RADS 6, or blank").cast(pl.Int8),
        **{side: cells.read_number(side) for side in sides},
    )


def _read_words(cell: str | None, file: Path) -> list[str]:
    try:
        return [str(word) for word in ast.literal_eval(cell or "")]
    except (ValueError, SyntaxError, TypeError):
        raise UserError(f"{file}: finding_categories has '{(cell or '')[:40]}', expected ['Mass']. {ADVICE}") from None


def _list_findings(findings: pl.DataFrame, images: pl.DataFrame) -> pl.DataFrame:
    """A row for each finding of each image: a box of two words is two findings."""
    listed = findings.explode("words").filter(pl.col("words") != NO_FINDING)
    listed = listed.join(images.select("image", "study", "laterality", "path"), on="image", maintain_order="left")
    return listed.select(
        *("study", "image", "path", "row", "assessment", "top", "left", "bottom", "right"),
        laterality="laterality",
        kind=pl.col("words").replace_strict(KINDS),
        suspicious=pl.when(pl.col("words").str.starts_with("Suspicious")).then(True),
    )


def _list_breasts(images: pl.DataFrame, listed: pl.DataFrame) -> pl.DataFrame:
    """A row for each breast, every kind of finding stated: present, or absent."""
    breasts = (
        images.filter(pl.col("laterality") != "unknown")
        .group_by("study", "laterality", maintain_order=True)
        .agg(pl.col("assessment", "density").drop_nulls().first())
    )
    found = listed.group_by("study", "laterality").agg(pl.col("kind").unique())
    breasts = breasts.join(found, on=["study", "laterality"], how="left", maintain_order="left")
    kinds = pl.col("kind").fill_null([])
    return breasts.with_columns(
        assessment_source=pl.when(pl.col("assessment").is_not_null()).then(pl.lit("breast")),
        labels=nest_labels({kind: kinds.list.contains(kind) for kind in KINDS.values()}),
    ).drop("kind")


def _count(images: pl.DataFrame, findings: pl.DataFrame) -> dict[str, int]:
    """What PUBLISHED has, of these tables."""
    counts = {
        "images": len(images),
        "exams": images["study"].n_unique(),
        "rows of findings": len(findings),
        "rows of several findings": int((findings["words"].list.len() > 1).sum()),
    }
    told = findings.join(images.select("image", "split"), on="image")
    rows = told.explode("words")
    for split in ("training", "test"):
        part, marked = images.filter(pl.col("split") == split), rows.filter(pl.col("split") == split)
        counts[f"{split} images"] = len(part)
        listed = told.filter(pl.col("split") == split)
        counts[f"{split} rows of findings"] = len(listed)
        for word in ("Mass", "Suspicious Calcification"):
            says = listed.group_by("image").agg(says=pl.col("words").list.contains(word).n_unique())
            counts[f"{split} images, rows with and without {word}"] = int((says["says"] == 2).sum())
        for number in range(1, 6):
            counts[f"{split} images, BI-RADS {number}"] = int((part["assessment"] == number).sum())
        for letter in "abcd":
            counts[f"{split} images, density {letter.upper()}"] = int((part["density"] == letter).sum())
        for word, count, boxes in (
            marked.group_by("words").agg(pl.col("image").n_unique(), pl.col("top").count()).iter_rows()
        ):
            counts[f"{split} images, {word}"] = count
            counts[f"{split} boxes, {word}"] = boxes
    return counts
