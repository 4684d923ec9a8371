"""RSNA Screening Mammography Breast Cancer Detection (Kaggle 2022): 54,706 images of 11,913 patients (L 4.2).

Every patient is one exam. Cancer, biopsy and invasiveness are of the breast. Two sites differ in what they recorded
(density is site 1's alone), in machines and in pictures: results are to be read by site (`extra_site`). test.csv has no
labels and is not read. There is no official split.
"""

from __future__ import annotations

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
    read_flags,
    read_table,
)
from hilum.sources.mammograms import (
    CACHE_SETTINGS,
    attach_breasts,
    describe_cells,
    name_view,
    nest_labels,
    pick_agreed,
    read_sides,
)

FLAGS = ("cancer", "biopsy", "invasive", "implant", "difficult_negative_case")
COLUMNS = ("site_id", "patient_id", "image_id", "laterality", "view", "age", "BIRADS", "density", "machine_id", *FLAGS)
VIEWS = {"MLO": 27_903, "CC": 26_765, "AT": 19, "LM": 10, "ML": 8, "LMO": 1}
PUBLISHED = {
    **{"images": 54_706, "patients": 11_913, "breasts": 23_826, "machines": 10},
    **{"images, cancer": 1_158, "breasts, cancer": 492, "patients, cancer": 486, "images, biopsy": 2_969},
    **{"images, invasive": 818, "images, difficult_negative_case": 7_705, "images, implant": 1_477},
    **{f"images, {view}": number for view, number in VIEWS.items()},
    **{"breast views of several images": 6_522, "images without age": 37, "images without BIRADS": 28_420},
    **{"images of site 1 with density": 29_470, "images of site 1": 29_519, "images of site 2": 25_187},
    "images of site 2 with density": 0,
}


def read(root: Path, *, quick: bool = False) -> Reading:
    """Read train.csv below `root`; `quick` changes nothing."""
    file = find_table(root, "train.csv", needed="it holds the images and their labels")
    assert file is not None
    table = read_table(file, COLUMNS, filled=("patient_id", "image_id"))
    check_unique(table, ["image_id"], file)
    cells = read_cells(table, file, age="age", birads="BIRADS", density="density", side="laterality")
    table = table.select(
        "_row",
        *(pl.col(name).str.strip_chars() for name in ("site_id", "patient_id", "image_id", "machine_id")),
        side=read_sides(cells, "side"),
        view=pl.col("view").str.strip_chars().str.to_uppercase(),
        kind=name_view("view"),
        age=cells.read_number("age"),
        assessment=cells.read_integer("birads", 0, 6).cast(pl.Int8),
        density=cells.read_word("density", {letter: letter for letter in "abcd"}, "A, B, C, D or blank"),
    ).hstack([flag.cast(pl.Int8) for flag in read_flags(table, file, FLAGS)])
    _check_breasts(table, file)
    layouts = [
        table.select(pl.format(f"{pattern}.{kind}", "patient_id", "image_id")).to_series()
        for pattern in ("train_images/{}/{}", "{}/{}", "train_images/{}_{}", "{}_{}")
        for kind in ("dcm", "png")
    ]
    frame = table.select(
        row="_row",
        study="patient_id",
        patient="patient_id",
        path=choose_paths(root, layouts),
        position="view",
        kind="kind",
        laterality="side",
        age="age",
        extra_site="site_id",
        extra_scanner="machine_id",
    )
    reading = Reading(attach_breasts(frame, _list_breasts(table)), counts=compare_counts(_count(table), PUBLISHED))
    reading.notes += [note for note in [describe_cells(frame)] if note]
    reading.notes += [f"Missing of {len(table):,} images: {_describe_missing(table)}."]
    reading.warnings.append(
        "The sites recorded different things, on different machines: what is missing tells the site, and so does the "
        "picture. Read results by site (they are shown by extra_site), and never feed what is missing."
    )
    reading.cache_settings = CACHE_SETTINGS
    return reading


def _check_breasts(table: pl.DataFrame, file: Path) -> None:
    said = table.group_by("patient_id", "side", maintain_order=True).agg(pl.col("cancer", "biopsy").n_unique())
    mixed = said.filter((pl.col("cancer") > 1) | (pl.col("biopsy") > 1))
    if len(mixed):
        raise UserError(f"{file}: images of one breast disagree on cancer or biopsy ({len(mixed):,} breasts). {ADVICE}")


def _list_breasts(table: pl.DataFrame) -> pl.DataFrame:
    """A row for each breast. BIRADS is 0, 1 or 2 of the breast's screening; biopsies are all known."""
    breasts = (
        table.filter(pl.col("side") != "unknown")
        .group_by(study="patient_id", laterality="side", maintain_order=True)
        .agg(
            pick_agreed("assessment").alias("assessment"),
            pick_agreed("density").alias("density"),
            pl.col("implant", "cancer", "biopsy", "invasive", "difficult_negative_case").max(),
        )
    )
    labels = nest_labels({name: pl.col(name) for name in ("biopsy", "invasive", "difficult_negative_case")})
    return breasts.select(
        *("study", "laterality", "assessment", "density", "cancer"),
        assessment_source=pl.when(pl.col("assessment").is_not_null()).then(pl.lit("breast")),
        implant=pl.col("implant") == 1,
        labels=labels,
    )


def _describe_missing(table: pl.DataFrame) -> str:
    parts = []
    for (site,), part in table.partition_by("site_id", as_dict=True, maintain_order=True).items():
        missing = [f"{name} {part[column].null_count():,}" for name, column in _MEASURED.items()]
        parts.append(f"site {site} {', '.join(missing)}")
    return "; ".join(parts)


_MEASURED = {"age": "age", "BIRADS": "assessment", "density": "density"}


def _count(table: pl.DataFrame) -> dict[str, int]:
    """What PUBLISHED has, of this table."""
    cancers = table.filter(pl.col("cancer") == 1)
    cells = table.group_by("patient_id", "side", "view").len()
    counts = {
        "images": len(table),
        "patients": table["patient_id"].n_unique(),
        "breasts": table.select("patient_id", "side").n_unique(),
        "machines": table["machine_id"].n_unique(),
        "breasts, cancer": cancers.select("patient_id", "side").n_unique(),
        "patients, cancer": cancers["patient_id"].n_unique(),
        "breast views of several images": int((cells["len"] > 1).sum()),
        "images without age": table["age"].null_count(),
        "images without BIRADS": table["assessment"].null_count(),
    }
    counts |= {f"images, {flag}": int(table[flag].sum()) for flag in FLAGS}
    counts |= {f"images, {view}": count for view, count in table.group_by("view").len().iter_rows()}
    for (site,), part in table.partition_by("site_id", as_dict=True).items():
        counts[f"images of site {site}"] = len(part)
        counts[f"images of site {site} with density"] = part["density"].count()
    return counts
