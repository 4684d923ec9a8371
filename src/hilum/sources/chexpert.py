"""CheXpert v1 (Irvin et al. 2019): train.csv, valid.csv, and the test set's labels where they are there.

Patients and studies are named by the paths; the tables say nothing of dates, and there are no reports.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from hilum.errors import UserError
from hilum.labels import FINDINGS
from hilum.sources.archive import (
    ADVICE,
    Reading,
    choose_paths,
    find_table,
    read_cells,
    read_findings,
    read_table,
)
from hilum.sources.cells import SEXES
from hilum.wording import say_count

# Split -> names of its table. The test set came later: as test.csv, as test_labels.csv of CheXlocalize, or as
# groundtruth.csv with one row per study.
TABLES = {"train": ("train.csv",), "val": ("valid.csv",), "test": ("test.csv", "test_labels.csv", "groundtruth.csv")}
_PREFIXES = ("", "CheXpert-v1.0", "CheXpert-v1.0-small", "CheXpert")
_PATH = r"(?:train|valid|test)/patient\d+/study\d+/view\d+_(?:frontal|lateral)\.\w+"
_FACTS = ["Sex", "Age", "Frontal/Lateral", "AP/PA"]
_KINDS = {"frontal": "frontal", "lateral": "lateral"}


def read(root: Path, *, own_splits: bool = False, quick: bool = False) -> Reading:
    """Read the tables below `root`; `quick` changes nothing, as they are all there is."""
    reading = Reading(pl.DataFrame())
    parts = []
    for split, names in TABLES.items():
        paths = [path for name in names if (path := find_table(root, name)) is not None]
        if not paths and split == "train":
            find_table(root, "train.csv", needed="it lists the studies for training")
        if not paths:
            reading.notes.append(f"There is no {' or '.join(names)}: no study is in the official {split} split.")
            continue
        part = _read_part(paths[0], root, reading).with_columns(split=pl.lit(None if own_splits else split, pl.String))
        parts.append(part)
    images = pl.concat(parts, how="diagonal_relaxed")
    layouts = [_join(images["home"], images["tail"]), *(_join(prefix, images["tail"]) for prefix in _PREFIXES)]
    reading.images = images.with_columns(path=choose_paths(root, layouts)).drop("home", "tail")
    return reading


def _join(folder: str | pl.Series, tail: pl.Series) -> pl.Series:
    return pl.select((pl.format("{}/{}", pl.lit(folder), tail)).str.strip_prefix("/")).to_series()


def _read_part(file: Path, root: Path, reading: Reading) -> pl.DataFrame:
    """One table; `home` is its own folder below `root`, `tail` an image's path as train/patient/study/view."""
    if file.name.startswith("groundtruth"):
        table = _list_study_images(read_table(file, ["Study"], FINDINGS, filled=["Study"]), file, root, reading)
    elif file.name.startswith("test"):
        table = read_table(file, ["Path"], [*_FACTS, *FINDINGS], filled=["Path"])
    else:
        table = read_table(file, ["Path", *_FACTS, *FINDINGS], filled=["Path"])
    if not set(FINDINGS) & set(table.columns):
        raise UserError(f"{file} has none of the 14 findings as a column. {ADVICE}")
    tail = table["Path"].str.extract(rf"({_PATH})\s*$", 1)
    refuse_paths(table, tail, file, "Path")
    cells = read_cells(table, file, kind="Frontal/Lateral", view="AP/PA", age="Age", sex="Sex")
    named = cells.read_word("kind", _KINDS, "Frontal or Lateral")
    age = cells.read_age()
    if (unknown := int((age == 0).sum())) > 0:
        # Nobody between 1 and 17 is in the archive, so that 0 is no newborn.
        reading.notes.append(f"Age 0 stands for not known: left blank in {say_count(unknown, 'image')} of {file.name}.")
    home = file.parent.relative_to(root).as_posix()
    return pl.DataFrame(
        [
            table["_row"].alias("row"),
            pl.Series("home", [home]).new_from_index(0, len(table)).replace(".", ""),
            tail.alias("tail"),
            tail.str.extract(r"(patient\d+/study\d+)", 1).alias("study"),
            tail.str.extract(r"(patient\d+)", 1).alias("patient"),
            named.fill_null(tail.str.extract(r"_(frontal|lateral)\.", 1)).alias("kind"),
            cells.read_text("view").fill_null("").alias("position"),
            age.set(age == 0, None).alias("age"),
            cells.read_word("sex", SEXES, "Female, Male or Unknown").alias("sex"),
            *read_findings(table, file, [name for name in FINDINGS if name in table.columns]),
        ]
    )


def refuse_paths(table: pl.DataFrame, tail: pl.Series, file: Path, column: str) -> None:
    """A UserError for the first path that names no patient, study and view."""
    if tail.null_count():
        place = tail.is_null().arg_true()[0]
        raise UserError(
            f"{file}, row {table['_row'][place]}: column '{column}' has '{table[column][place]}', expected a path like "
            f"train/patient00001/study1/view1_frontal.jpg; {say_count(tail.null_count(), 'such row')}. {ADVICE}"
        )


def _list_study_images(table: pl.DataFrame, file: Path, root: Path, reading: Reading) -> pl.DataFrame:
    """The rows of a table of studies, once for each image that the study's folder holds."""
    found: list[tuple[int, str]] = []
    for row, study in table.select("_row", "Study").iter_rows():
        tail = study[max(0, study.find("test/")) :]
        folders: Sequence[Path] = [root / prefix / tail for prefix in _PREFIXES] + [file.parent / tail]
        images = sorted({image.name for folder in folders for image in folder.glob("view*.*")})
        found.extend((row, f"{tail}/{image}") for image in images)
    if not found:
        raise UserError(
            f"{file} names studies, not images, and none of its {len(table):,} studies has a folder of images below "
            f"{root}: unpack the test set's images there, or move the table away."
        )
    if lacking := len(table) - len({row for row, _ in found}):
        reading.is_whole = False
        reading.warnings.append(
            f"{lacking:,} of {len(table):,} studies of {file.name} have no folder of images: left out."
        )
    images = pl.DataFrame(found, schema={"_row": table.schema["_row"], "Path": pl.String}, orient="row")
    return images.join(table.drop("Study"), on="_row", how="left", maintain_order="left")
