"""The tuberculosis sets of Montgomery County and Shenzhen (Jaeger et al. 2014): 138 and 662 frontal images.

The file names say it all: CHNCXR_0001_0.png is of Shenzhen, patient 1, normal; MCUCXR_0104_1.png of Montgomery, patient
104, tuberculosis. Where shenzhen_metadata.csv and montgomery_metadata.csv are there they add age and sex, and are held
against the names. Task `extra_tb`: tuberculosis against normal. There is no official split.
"""

from __future__ import annotations

import re
from pathlib import Path

import polars as pl

from hilum.errors import UserError
from hilum.sources.archive import (
    Reading,
    check_unique,
    compare_counts,
    find_table,
    read_cells,
    read_table,
)
from hilum.sources.cells import SEXES
from hilum.sources.layout import RASTER_SUFFIXES

NAME = re.compile(r"(CHNCXR|MCUCXR)_(\d{4})_([01])")
SETS = {"CHNCXR": "tb-shenzhen", "MCUCXR": "tb-montgomery"}
PUBLISHED = {"tb-shenzhen": 662, "tb-montgomery": 138}  # images
TABLES = ("shenzhen_metadata.csv", "montgomery_metadata.csv")
_NOT_IMAGES = ("mask", "clinical")  # in folders of lung masks and of readings, whose files have the same names


def read(root: Path, *, quick: bool = False) -> Reading:
    """Read the names of images anywhere below `root`, and the tables; `quick` changes nothing."""
    reading = Reading(pl.DataFrame())
    rows = []
    for path in sorted(root.rglob("*")):
        named = NAME.fullmatch(path.stem)
        folders = path.relative_to(root).parent.as_posix().lower()
        if named and path.suffix.lower() in RASTER_SUFFIXES and not any(word in folders for word in _NOT_IMAGES):
            rows.append(
                (path.stem, SETS[named[1]], f"{named[1]}_{named[2]}", named[3], path.relative_to(root).as_posix())
            )
    if not rows:
        raise UserError(
            f"{root} has no image called CHNCXR_0001_0.png (Shenzhen) or MCUCXR_0001_0.png (Montgomery), in it or in "
            "any folder below. Unpack the download there, or give the folder that holds it."
        )
    names = ("study", "dataset", "patient", "tb", "path")
    images = pl.DataFrame(rows, schema=dict.fromkeys(names, pl.String), orient="row")
    doubled = images.filter(pl.col("study").is_duplicated())
    if len(doubled):
        raise UserError(
            f"{root} holds {doubled['study'][0]} twice, as {doubled['path'][0]} and {doubled['path'][1]}: give the "
            "folder of one download."
        )
    images = images.with_columns(
        kind=pl.lit("frontal"),
        extra_tb=pl.col("tb").replace_strict({"0": "normal", "1": "tuberculosis"}, return_dtype=pl.String),
    )
    facts = [_read_facts(path) for name in TABLES if (path := find_table(root, name)) is not None]
    if facts:
        images = images.join(pl.concat(facts), on="study", how="left", maintain_order="left")
        _hold_against(images, reading)
    found = {name: int((images["dataset"] == name).sum()) for name in PUBLISHED}
    published = {name: number for name, number in PUBLISHED.items() if found[name]}  # either may be there alone
    reading.counts = compare_counts(found, published)
    reading.images = images.drop("tb", "findings", strict=False)
    reading.notes.append("There is no official split: `hilum cache` draws one by patient.")
    reading.cache_settings = ("--fractions", "0.68", "0.12", "0.2")
    return reading


def _read_facts(file: Path) -> pl.DataFrame:
    table = read_table(file, ["study_id", "sex", "age", "findings"], filled=["study_id"])
    check_unique(table, ["study_id"], file)
    cells = read_cells(table, file, age="age", sex="sex", findings="findings")
    return table.select(
        study=pl.col("study_id").str.strip_chars().str.replace(r"\.\w+$", ""),
        age=cells.read_age(),
        sex=cells.read_word("sex", SEXES, "Male or Female"),
        findings=cells.read_text("findings"),
    )


def _hold_against(images: pl.DataFrame, reading: Reading) -> None:
    normal = pl.col("findings").str.to_lowercase().str.strip_chars() == "normal"
    other = images.filter(pl.col("findings").is_not_null() & (normal != (pl.col("tb") == "0")))
    if len(other):
        reading.warnings.append(
            f"The tables call {len(other):,} images otherwise than their names do, the first {other['study'][0]}: the "
            "names count."
        )
