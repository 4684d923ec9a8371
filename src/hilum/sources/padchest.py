"""PadChest (Bustos et al. 2020): one table of 160,861 images with projections, labels and Spanish reports.

Reports are stems without accents ("sin hallazg patolog"). A patient's age is the year of the study less that of birth.
"""

from __future__ import annotations

import ast
from collections.abc import Collection
from pathlib import Path

import polars as pl

from hilum.errors import UserError
from hilum.labels import FINDINGS, LabelMap, read_label_map
from hilum.sources.archive import (
    ADVICE,
    Reading,
    choose_paths,
    describe_undecided,
    find_table,
    name_kinds,
    read_cells,
    read_table,
    state_cells,
)
from hilum.sources.cells import SEXES
from hilum.sources.padchest_map import NO_LABEL, Conflict, read_published_map
from hilum.study import UNDECIDED

TABLE = "PADCHEST_chest_x_ray_images_labels_160K*.csv"
_KEYS = ["ImageID", "StudyID", "PatientID"]
_FACTS = ["ImageDir", "StudyDate_DICOM", "PatientBirth", "PatientSex_DICOM", "Projection", "Report", "MethodLabel"]


def read(
    root: Path, *, label_map: Path | None = None, conflict: Conflict | None = None, quick: bool = False
) -> Reading:
    """Read the table below `root`; `quick` changes nothing, as it is all there is.

    Findings are by Hilum's own map, or by a published `label_map`, in which of two rows of a label the one of
    `conflict` counts.
    """
    if conflict and label_map is None:
        raise UserError("--conflict chooses between rows of a published map: name its file with --label-map.")
    published = read_published_map(label_map, conflict) if label_map else None
    reading = Reading(pl.DataFrame())
    file = find_table(root, TABLE, needed="it lists images, studies, labels and reports")
    assert file is not None
    table = read_table(file, [*_KEYS, *_FACTS, "Labels"], ["Manufacturer_DICOM"], filled=_KEYS)
    cells = read_cells(
        table,
        file,
        date="StudyDate_DICOM",
        sex="PatientSex_DICOM",
        view="Projection",
        labelled_by="MethodLabel",
        labels="Labels",
        report="Report",
        manufacturer="Manufacturer_DICOM",
        folder="ImageDir",
    )
    position = cells.read_text("view", blanks=("", "nan")).fill_null("")
    born = table["PatientBirth"].str.extract(r"^\s*(\d{4})(?:\.0*)?\s*$", 1).cast(pl.Float64)
    taken = table["StudyDate_DICOM"].str.extract(r"^\s*(\d{4})", 1).cast(pl.Float64)
    report = cells.read_text("report", blanks=("", "nan"))
    raw = cells.read_text("labels", blanks=("", "nan"))
    manufacturer = cells.read_text("manufacturer")
    reading.images = table.select(
        row="_row",
        study="StudyID",
        patient="PatientID",
        when=cells.read_days(),
        path=_place(table["ImageID"].str.strip_chars(), cells.read_text("folder"), root),
        position=position,
        kind=name_kinds(position),
        age=(taken - born),
        sex=cells.read_word("sex", SEXES, "F, M or O"),
        section_report=report,
        extra_language=pl.when(pl.lit(report).is_not_null()).then(pl.lit("es")),
        extra_labels=raw,
        extra_labelled_by=cells.read_text("labelled_by"),
        extra_manufacturer=manufacturer,
    ).hstack(state_findings(raw, file, published).get_columns())
    reading.notes.append(_describe_published(reading.images) if published else describe_undecided(reading.images))
    return reading


def state_findings(labels: pl.Series, file: Path, published: LabelMap | None = None) -> pl.DataFrame:
    """Raw states of findings, from cells like "['pneumonia', ' cardiomegaly']", and what Hilum's own map leaves open.

    A published map leaves nothing open: what it does not name is blank, of studies without labels too, which makes
    the paper's targets under its policy (M 1.4: blank -> 0).
    """
    try:
        if published is None:
            return state_cells(labels, ast.literal_eval, read_label_map("padchest"))
        words = published.decisions
        named = state_cells(
            labels, lambda cell: [_name_label(label, words) for label in ast.literal_eval(cell)], published
        )
        return named.drop(UNDECIDED)
    except (ValueError, SyntaxError) as error:
        raise UserError(f"{file}: column 'Labels' has a cell that is no list of labels ({error}). {ADVICE}") from None


def _name_label(label: str, known: Collection[str]) -> str:
    return NO_LABEL if not label.strip() and NO_LABEL in known else label


def _describe_published(images: pl.DataFrame) -> str:
    studies = images.unique("study")
    others = pl.any_horizontal((pl.col(name) == 1).fill_null(False) for name in FINDINGS if name != "No Finding")
    normal = studies.filter(pl.col("No Finding") == 1)
    return (
        f"Findings are those of the map given, and no blank is unknown. Of {len(normal):,} studies with No Finding "
        f"{normal.filter(others).height:,} have another finding too; Hilum's own map leaves none such."
    )


def _place(image: pl.Series, folder: pl.Series, root: Path) -> pl.Series:
    """Images lie in folders numbered as ImageDir, unless all were unpacked into one."""
    numbered = folder.fill_null("") + "/" + image
    layouts = [numbered, image, "images/" + numbered, "images/" + image]
    return choose_paths(root, [paths.str.strip_prefix("/").alias("path") for paths in layouts])
