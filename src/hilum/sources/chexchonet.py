"""CheXchoNet 1.0.0 (Bhave et al. 2024): 71,589 X-rays of 24,689 patients with what echocardiography found.

Labels of the heart (severe left ventricular hypertrophy, dilated left ventricle, either of them) and of devices and
transplants are the group `echo`; the measurements behind them are kept as extra_ivsd, extra_lvpwd and extra_lvidd
(thickness of septum and posterior wall, and inner diameter, in diastole, as the table has them). Every image is a
study. There is no official split; splits are by patient_id, of whom many have several images.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from hilum.sources.archive import (
    Reading,
    check_unique,
    choose_paths,
    compare_counts,
    find_table,
    name_labels,
    read_cells,
    read_flags,
    read_numbers,
    read_table,
)
from hilum.sources.cells import SEXES

TABLE = "metadata.csv"
PUBLISHED = {"images": 71_589, "patients": 24_689}
LABELS = ("composite_slvh_dlv", "slvh", "dlv", "heart_transplant", "lung_transplant", "pacemaker_or_icd")
MEASURES = ("ivsd", "lvpwd", "lvidd")


def read(root: Path, *, quick: bool = False) -> Reading:
    """Read the table below `root`; `quick` changes nothing. A blank label stays unknown."""
    reading = Reading(pl.DataFrame())
    file = find_table(root, TABLE, needed="it lists images, patients and labels")
    assert file is not None
    keys = ["patient_id", "cxr_filename"]
    table = read_table(file, [*keys, "cxr_time_offset", "age", "sex", *MEASURES, *LABELS], filled=keys)
    check_unique(table, ["cxr_filename"], file)
    cells = read_cells(table, file, age="age", sex="sex", day="cxr_time_offset")
    name = table["cxr_filename"].str.strip_chars()
    measures = [number.cast(pl.String).alias(f"extra_{number.name}") for number in read_numbers(table, file, MEASURES)]
    flags = read_flags(table, file, LABELS)
    frame = table.select(
        row="_row",
        study=name,
        patient=pl.col("patient_id").str.strip_chars(),
        when=cells.read_days(),
        path=choose_paths(root, ["images/" + name, name]),
        kind=pl.lit("frontal"),
        age=cells.read_age(),
        sex=cells.read_word("sex", SEXES, "F or M"),
    )
    reading.images = frame.hstack([*measures, *name_labels("echo", flags)])
    found = {"images": len(frame), "patients": frame["patient"].n_unique()}
    reading.counts = compare_counts(found, PUBLISHED)
    blank = {flag.name: flag.null_count() for flag in flags if flag.null_count()}
    if blank:
        counts = ", ".join(f"{name} {number:,}" for name, number in blank.items())
        reading.notes.append(f"Labels that are blank stay unknown, they are no negatives: {counts}.")
    reading.notes.append("cxr_time_offset is taken for days. There is no official split: `hilum cache` draws one.")
    reading.cache_settings = ("--fractions", "0.72", "0.08", "0.2")
    return reading
