"""CXLSeg 1.0.0 (Indeewara et al. 2023): 243,324 frontal images of MIMIC-CXR with lung masks, which a model made.

CXLSeg-split.csv names image, study, subject and split; beside <dicom>.jpg lies its mask <dicom>-mask.jpg. Every image
is a study of its own, so that it has one mask (`masks.py`).
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from hilum.sources.apart import refuse_shared
from hilum.sources.archive import (
    Reading,
    check_unique,
    choose_paths,
    compare_counts,
    find_table,
    read_cells,
    read_table,
)
from hilum.sources.cells import SPLIT_NAMES

TABLE = "CXLSeg-split.csv"
PUBLISHED = {"images": 243_324}


def read(root: Path, *, own_splits: bool = False, quick: bool = False) -> Reading:
    """Read the table below `root`; `quick` changes nothing."""
    reading = Reading(pl.DataFrame())
    file = find_table(root, TABLE, needed="it lists images, subjects and splits")
    assert file is not None
    keys = ["dicom_id", "subject_id", "study_id"]
    table = read_table(file, [*keys, "split"], filled=keys)
    check_unique(table, ["dicom_id"], file)
    # Ids with or without the letters of MIMIC's folders.
    ids = table.select(
        pl.col("dicom_id").str.strip_chars(),
        subject=pl.col("subject_id").str.strip_chars().str.strip_prefix("p"),
        study=pl.col("study_id").str.strip_chars().str.strip_prefix("s"),
    )
    layouts = ids.select(
        plain=pl.format("files/{}/{}/{}", "subject", "study", "dicom_id"),
        lettered=pl.format("files/p{}/s{}/{}", "subject", "study", "dicom_id"),
        mimic=pl.format("files/p{}/p{}/s{}/{}", pl.col("subject").str.slice(0, 2), "subject", "study", "dicom_id"),
    )
    path = choose_paths(root, [stem + ".jpg" for stem in layouts.get_columns()])
    split = read_cells(table, file, split="split").read_word("split", SPLIT_NAMES, "train, validate or test")
    images = table.select(
        row="_row",
        study="dicom_id",
        patient=ids["subject"],
        split=pl.lit(None, pl.String) if own_splits else split,
        path=path,
        kind=pl.lit("frontal"),
        extra_mask=path.str.replace(r"\.jpg$", "-mask.jpg"),
    )
    if not own_splits:
        refuse_shared(images, str(file))
    reading.images = images
    reading.counts = compare_counts({"images": len(images)}, PUBLISHED)
    reading.warnings.append("The masks are the output of a model: agreement with them is no measure of truth.")
    return reading
