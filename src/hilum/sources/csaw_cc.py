"""CSAW-CC (Dembrower et al. 2019; SND 2021-204-1): screening exams of women in Stockholm over years (L 4.5).

One row for each image. `rad_timing` says how long before the diagnosis an exam of a woman with cancer was: 1 less than
60 days (found at it), 2 60 to 729 days, 3 longer; blank for all others. Dates are years only, so that years to cancer
are whole: 0 at the exam that found it; 1, the middle, before an interval cancer; earlier exams add the years between.
What is left without an exam of timing 1 or 2 is known to be free of cancer for two years. Of women without cancer the
last exam is the last follow-up. Ages are two bands and no years.

Cancer of a breast is 1 where this exam found it, blank before an interval cancer (it may have been there), else 0.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from hilum.sources.archive import Reading, compare_counts, find_table, read_cells, read_flags, read_table
from hilum.sources.mammograms import CACHE_SETTINGS, attach_breasts, describe_cells, name_view, nest_labels, read_sides
from hilum.wording import say_count

TABLE = "CSAW-CC*.csv"
COLUMNS = (
    *("anon_patientid", "exam_year", "anon_filename", "imagelaterality", "viewposition", "rad_timing"),
    *("x_case", "x_cancer_laterality", "x_age"),
)
OPTIONAL = ("rad_recall", "rad_recall_type_left", "rad_recall_type_right", "libra_percentdensity")
PUBLISHED = {"images": 98_788}
_DETECTED, _INTERVAL, _BEFORE = 1, 2, 3  # values of rad_timing


def read(root: Path, *, quick: bool = False) -> Reading:
    """Read the table below `root`; `quick` changes nothing."""
    file = find_table(root, TABLE, needed="it holds the images, their exams and outcomes")
    assert file is not None
    table = read_table(file, COLUMNS, OPTIONAL, filled=("anon_patientid", "exam_year", "anon_filename"))
    cells = read_cells(
        table, file, year="exam_year", timing="rad_timing", side="imagelaterality",
        cancer_side="x_cancer_laterality",
    )  # fmt: skip
    table = table.hstack(
        [
            cells.read_integer("year").alias("year"),
            cells.read_number("timing").alias("timing"),
            *(flag.cast(pl.Int8).alias("case") for flag in read_flags(table, file, ["x_case"])),
        ]
    ).with_columns(
        patient=pl.col("anon_patientid").str.strip_chars(),
        study=pl.format("{} {}", pl.col("anon_patientid").str.strip_chars(), "year"),
        side=read_sides(cells, "side"),
        cancer_side=read_sides(cells, "cancer_side", both=True),
    )
    is_strange = pl.col("timing").is_not_null() & ~pl.col("timing").is_in((1.0, 2.0, 3.0))
    strange = table.filter(is_strange)
    table = table.with_columns(
        timing=pl.when(~is_strange).then(pl.col("timing").cast(pl.Int8)), is_untimed=is_strange.any().over("patient")
    )
    frame = table.select(
        row="_row",
        study="study",
        patient="patient",
        when=pl.col("year") * 365.25,
        path=_find_folder(root, table["anon_filename"]) + pl.col("anon_filename").str.strip_chars(),
        position="viewposition",
        kind=name_view("viewposition"),
        laterality="side",
        extra_age_band=pl.col("x_age").str.strip_chars(),
        extra_timing=pl.col("timing").cast(pl.String),
    )
    reading = Reading(
        attach_breasts(frame, _list_breasts(table)), counts=compare_counts({"images": len(table)}, PUBLISHED)
    )
    reading.notes += [note for note in [describe_cells(frame)] if note]
    if len(strange):
        found = ", ".join(f"{value:g}" for value in strange["timing"].unique().sort()[:3])
        women = say_count(strange["patient"].n_unique(), "woman", "women")
        reading.notes.append(
            f"{say_count(len(strange), 'row')} of {women} with another rad_timing than 1, 2, 3 and blank ({found}): of "
            "their breasts neither cancer nor years are known."
        )
    reading.warnings.append(
        "CSAW-CC took every woman with cancer and a sample of the others: rates of cancer in it are not those of "
        "screening."
    )
    reading.cache_settings = CACHE_SETTINGS
    return reading


def _find_folder(root: Path, names: pl.Series) -> str:
    """The folder below `root` that holds the images, with its slash; "" where they lie in the root or nowhere."""
    first = names[0].strip()
    folders = [path for path in sorted(root.iterdir()) if path.is_dir()]
    return next((f"{folder.name}/" for folder in folders if (folder / first).is_file()), "")


def _list_breasts(table: pl.DataFrame) -> pl.DataFrame:
    """A row for each breast of each exam, with what is known of the years after it."""
    timed = pl.col("timing").is_in((_DETECTED, _INTERVAL))
    diagnosed = pl.when(timed).then(pl.col("year") + (pl.col("timing") == _INTERVAL).cast(pl.Int64))
    table = table.with_columns(
        diagnosed=diagnosed.max().over("patient"),
        last=pl.col("year").max().over("patient"),
        of_cancer=(pl.col("case") == 1)
        & ((pl.col("cancer_side") == pl.col("side")) | (pl.col("cancer_side") == "both")),
    )
    to_cancer = (pl.col("diagnosed") - pl.col("year")).cast(pl.Float64)
    free = pl.when(pl.col("timing") == _BEFORE).then(to_cancer.clip(lower_bound=2.0)).otherwise(to_cancer)
    # Without a dated diagnosis two years are known to be free; of the other breast, the years until it.
    followed = pl.coalesce(free, pl.when(pl.col("case") == 1).then(2.0), pl.col("last") - pl.col("year"))
    found = (
        pl.when(pl.col("of_cancer") & (pl.col("timing") == _DETECTED))
        .then(1)
        .when(pl.col("of_cancer") & (pl.col("timing") == _INTERVAL))
        .then(None)
        .otherwise(0)
    )
    recalled = pl.col("rad_recall").cast(pl.Float64, strict=False) if "rad_recall" in table.columns else pl.lit(None)
    breasts = table.filter(pl.col("side") != "unknown").with_columns(
        cancer=found,
        years_to_cancer=pl.when("of_cancer").then(free),
        years_to_last_followup=followed.cast(pl.Float64),
        recall=recalled,
    )
    known = ("cancer", "years_to_cancer", "years_to_last_followup", "recall")
    breasts = breasts.with_columns(pl.when(~pl.col("is_untimed")).then(pl.col(known[:3])).name.keep())
    breasts = breasts.group_by("study", laterality="side", maintain_order=True).agg(pl.col(known).first())
    return breasts.with_columns(labels=nest_labels({"exam recalled": pl.col("recall")})).drop("recall")
