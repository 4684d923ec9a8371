"""CheXpert Plus (Chambon et al. 2024): one row an image, with the report and its sections; labels in JSON files.

`patient_report_date_order` is no date, and users found it not to be in the order of dates: studies get no day.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import polars as pl

from hilum.errors import UserError
from hilum.labels import FINDINGS, RAW_STATES
from hilum.sources.archive import ADVICE, Reading, choose_paths, find_table, read_cells, read_table
from hilum.sources.cells import SEXES, SPLIT_NAMES
from hilum.sources.chexpert import refuse_paths
from hilum.sources.columns import SECTION_PREFIX

Labels = Literal["auto", "impression", "findings", "report", "none"]
TABLE, LABELS = "df_chexpert_plus_*.csv", "{}_fixed.json"
# Column -> section. The accession number and whole narrative (which begins with a date) stay behind.
SECTIONS = {
    "section_findings": "findings",
    "section_impression": "impression",
    "section_clinical_history": "history",
    "section_history": "history",
    "section_comparison": "comparison",
    "section_technique": "technique",
    "section_procedure_comments": "technique",
    "section_summary": "summary",
}
_PATH = r"(?:train|valid|test)/patient\d+/study\d+/view\d+_(?:frontal|lateral)\.\w+"


def read(root: Path, *, labels: Labels = "auto", own_splits: bool = False, quick: bool = False) -> Reading:
    """Read the table and the labels of one JSON file; with `quick` no report text is kept.

    `labels` says which text the labels were read from. "auto": impression, as CheXpert's own labels were, else the
    report, else findings, whichever file is there.
    """
    reading = Reading(pl.DataFrame())
    file = find_table(root, TABLE, needed="it lists images, patients and reports")
    assert file is not None
    columns = ["path_to_image", "frontal_lateral", "ap_pa", "deid_patient_id", "age", "sex", "split"]
    sections = [] if quick else list(SECTIONS)
    table = read_table(file, columns, ["path_to_dcm", "report", *sections], filled=["path_to_image", "deid_patient_id"])
    tail = table["path_to_image"].str.extract(rf"({_PATH})\s*$", 1)
    refuse_paths(table, tail, file, "path_to_image")
    cells = read_cells(
        table,
        file,
        kind="frontal_lateral",
        view="ap_pa",
        age="age",
        sex="sex",
        split="split",
        patient="deid_patient_id",
    )
    split = cells.read_word("split", SPLIT_NAMES, "train or valid")
    images = table.select(
        row="_row",
        study=tail.str.extract(r"(patient\d+/study\d+)", 1),
        patient=cells.read_text("patient"),
        kind=cells.read_word("kind", {"frontal": "frontal", "lateral": "lateral"}, "Frontal or Lateral"),
        position=cells.read_text("view").fill_null(""),
        age=cells.read_age(),
        sex=cells.read_word("sex", SEXES, "Female, Male or Unknown"),
        split=pl.lit(None, pl.String) if own_splits else split,
        path=_place(table, tail, root),
    ).with_columns(kind=pl.col("kind").fill_null(tail.str.extract(r"_(frontal|lateral)\.", 1)))
    if not quick:
        images = images.with_columns(_read_sections(table))
    states = _read_labels(root, labels, reading)
    if states is not None:
        if lacking := tail.is_in(states["tail"].to_list()).not_().sum():
            reading.notes.append(f"{lacking:,} images have no line of labels: their findings are blank.")
        images = images.with_columns(tail=tail).join(states, on="tail", how="left", maintain_order="left").drop("tail")
    reading.images = images
    return reading


def _place(table: pl.DataFrame, tail: pl.Series, root: Path) -> pl.Series:
    """Images come as PNG, as CheXpert's JPEG of old, and as DICOM."""
    png = tail.str.replace(r"\.\w+$", ".png")
    layouts = [prefix + name for prefix in ("PNG/", "") for name in (png, tail)]
    layouts += [f"CheXpert-v1.0{size}/" + tail for size in ("", "-small")]
    if "path_to_dcm" in table.columns:
        dicom = table["path_to_dcm"].str.strip_chars().fill_null(tail.str.replace(r"\.\w+$", ".dcm"))
        layouts += [prefix + dicom for prefix in ("DICOM/", "")]
    return choose_paths(root, [paths.alias("path") for paths in layouts])


def _read_sections(table: pl.DataFrame) -> list[pl.Expr]:
    """Sections as columns; where a study has none, its whole report."""
    known = {name: section for name, section in SECTIONS.items() if name in table.columns}
    texts = {
        section: pl.concat_str(
            [_blank(table[name]) for name, wanted in known.items() if wanted == section],
            separator="\n",
            ignore_nulls=True,
        )
        for section in dict.fromkeys(known.values())
    }
    read = [
        pl.when(text != "").then(text).alias(f"{SECTION_PREFIX}{section}")  # of nothing but nulls concat_str makes ""
        for section, text in texts.items()
    ]
    if "report" in table.columns:
        nothing = pl.all_horizontal(pl.lit(_blank(table[name])).is_null() for name in known) if known else pl.lit(True)
        read.append(pl.when(nothing).then(pl.lit(_blank(table["report"]))).alias(f"{SECTION_PREFIX}report"))
    return read


def _blank(texts: pl.Series) -> pl.Series:
    texts = texts.str.strip_chars()
    return texts.set(texts.is_in(["", "nan"]), None)


def _read_labels(root: Path, labels: Labels, reading: Reading) -> pl.DataFrame | None:
    """tail (path of the image) and 14 states; None without labels."""
    if labels == "none":
        return None
    tried = ("impression", "report", "findings") if labels == "auto" else (labels,)
    found = [(name, path) for name in tried if (path := find_table(root, LABELS.format(name))) is not None]
    if not found and labels != "auto":
        find_table(root, LABELS.format(labels), needed=f"it holds the findings read from the {labels}")
    if not found:
        reading.warnings.append(f"There is no {LABELS.format('impression')}: all findings are blank.")
        return None
    name, path = found[0]
    reading.notes.append(f"Findings are those of {path.name}, read from the {name}.")
    states = _read_states(path)
    doubled = states.filter(pl.col("tail").is_duplicated())
    if len(doubled):
        raise UserError(f"{path}: image {doubled['tail'][0]} stands in several lines ({len(doubled):,}). {ADVICE}")
    return states


def _read_states(path: Path) -> pl.DataFrame:
    rows = []
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                said = json.loads(line)
                tail = said["path_to_image"]
                states = [None if (state := said[name]) is None or state != state else state for name in FINDINGS]
            except (ValueError, TypeError, KeyError) as error:
                raise UserError(
                    f"{path}, line {number}: expected one JSON object with path_to_image and the 14 findings, found "
                    f"'{line.strip()[:60]}' ({type(error).__name__}: {error}). {ADVICE}"
                ) from None
            for finding, state in zip(FINDINGS, states, strict=True):
                if state is not None and state not in RAW_STATES:
                    raise UserError(
                        f"{path}, line {number}: '{finding}' has {state!r}, expected 1 (present), 0 (absent), "
                        f"-1 (uncertain) or null (not mentioned). {ADVICE}"
                    )
            rows.append((tail, *states))
    frame = pl.DataFrame(rows, schema={"tail": pl.String, **dict.fromkeys(FINDINGS, pl.Float64)}, orient="row")
    return frame.with_columns(pl.col("tail").str.extract(rf"({_PATH})\s*$", 1), pl.col(FINDINGS).cast(pl.Int8))
