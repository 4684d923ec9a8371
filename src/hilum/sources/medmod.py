"""MedMod (Elsharief et al. 2025): intensive-care stays of MIMIC-IV with an X-ray, 25 phenotypes and mortality (P 4.3).

MedMod's extraction writes all_stays.csv and phenotype_labels.csv. The latter names no stay: its rows are those of the
former in ascending order of stay_id, which is *not* the order of all_stays.csv. Joined by row position, as is done
elsewhere, most stays get another's labels; here stays are put in that order first.

A stay gets the earliest image of its patient between the earlier of intime and admittime and the later of outtime and
dischtime, of any view, which no earlier stay took. There is no official split: `hilum cache` draws one by patient.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from hilum.errors import UserError
from hilum.sources.archive import (
    ADVICE,
    Reading,
    check_header,
    check_unique,
    choose_paths,
    find_table,
    name_kinds,
    name_labels,
    read_cells,
    read_flags,
    read_table,
    read_times,
)
from hilum.sources.cells import SEXES
from hilum.sources.hours import give_images
from hilum.sources.mimic_cxr import METADATA, read_metadata

STAYS, PHENOTYPES = "all_stays.csv", "phenotype_labels.csv"
NUM_PHENOTYPES = 25
MORTALITY = ("mortality_inunit", "mortality", "mortality_inhospital")
_TIMES = ["intime", "admittime", "outtime", "dischtime"]


def read(root: Path, *, symile: Path | None = None, quick: bool = False) -> Reading:
    """Read both tables and MIMIC-CXR-JPG's metadata below `root`; `quick` changes nothing.

    Patients of Symile-MIMIC's training (`symile`: the folder of its train.csv) are left out, all their admissions.
    """
    reading = Reading(pl.DataFrame())
    stays, file = _read_stays(root)
    stays = stays.hstack(_read_phenotypes(root, stays, file, reading).get_columns())
    stays = _leave_out_symile(stays, symile, reading)
    metadata = find_table(root, METADATA, needed="it lists X-rays (MIMIC-CXR-JPG)")
    assert metadata is not None
    images = read_metadata(metadata).rename({"image": "event"}).drop("row", "study")
    given = give_images(stays.rename({"study": "stay"}), images).rename({"stay": "study"}).sort("row")
    reading.notes.append(
        f"Of {len(stays):,} stays {len(given):,} have an X-ray. There is no official split: `hilum cache` draws one by "
        "patient."
    )
    reading.cache_settings = ("--fractions", "0.7", "0.1", "0.2")
    home = metadata.parent.relative_to(root).as_posix()
    path = given["file"] + ".jpg"
    reading.images = given.with_columns(
        kind=name_kinds(given["position"]), path=choose_paths(root, [path if home == "." else f"{home}/" + path, path])
    ).drop("begin", "end", "event", "second", "file")
    return reading


def _read_stays(root: Path) -> tuple[pl.DataFrame, Path]:
    """Stays in ascending order of their id."""
    file = find_table(root, STAYS, needed="it lists stays")
    assert file is not None
    keys = ["subject_id", "hadm_id", "stay_id"]
    table = read_table(file, [*keys, *_TIMES, *MORTALITY], ["age", "gender"], filled=[*keys, "intime", "admittime"])
    check_unique(table, ["stay_id"], file)
    cells = read_cells(table, file, age="age", sex="gender")
    times = pl.DataFrame(read_times(table, file, _TIMES))
    stay = table["stay_id"].str.strip_chars().str.strip_suffix(".0")
    if not stay.str.contains(r"^\d+$").all():
        raise UserError(f"{file}: column 'stay_id' has cells that are no whole numbers. {ADVICE}")
    stays = table.select(
        row="_row",
        study=stay,
        patient=pl.col("subject_id").str.strip_chars().str.strip_suffix(".0"),
        age=cells.read_age(),
        sex=cells.read_word("sex", SEXES, "F or M"),
        begin=times.select(pl.min_horizontal("intime", "admittime")).to_series(),
        end=times.select(pl.max_horizontal("outtime", "dischtime")).to_series(),
    ).hstack(name_labels("mortality", read_flags(table, file, MORTALITY)))
    return stays.sort(pl.col("study").cast(pl.Int64)), file


def _read_phenotypes(root: Path, stays: pl.DataFrame, stays_file: Path, reading: Reading) -> pl.DataFrame:
    """Columns extra_phenotype:NAME, row for row the stays."""
    file = find_table(root, PHENOTYPES, needed="it holds the phenotypes of the stays")
    assert file is not None
    names = [name for name in check_header(file, []) if name not in ("", "stay_id")]
    if len(names) != NUM_PHENOTYPES:
        raise UserError(f"{file} has {len(names)} phenotypes, expected {NUM_PHENOTYPES}. {ADVICE}")
    table = read_table(file, names, ["stay_id"])
    if "stay_id" in table.columns:  # some extractions keep it
        table = table.with_columns(pl.col("stay_id").str.strip_chars().str.strip_suffix(".0"))
        lacking = stays.filter(~pl.col("study").is_in(table["stay_id"].to_list()))
        if len(lacking) or table["stay_id"].is_duplicated().any():
            raise UserError(
                f"{file} has no row for {len(lacking):,} of {len(stays):,} stays of {stays_file}, or several for one. "
                "Extract both again."
            )
        table = stays.select(stay_id="study").join(table, on="stay_id", how="left", maintain_order="left")
    elif len(table) != len(stays):
        raise UserError(
            f"{file} has {len(table):,} rows and {stays_file} {len(stays):,}: they belong together row by row, in the "
            "order of stay_id, so that these cannot be of one extraction. Extract both again."
        )
    else:
        by_position = stays.select(place=pl.int_range(pl.len()), row="row").sort("row")
        elsewhere = by_position.filter(pl.col("place") != pl.int_range(pl.len()))
        if len(elsewhere):
            reading.notes.append(
                f"{file.name} is in the order of stay_id and {stays_file.name} is not: joined by row position, "
                f"{len(elsewhere):,} of {len(stays):,} stays would have had another's phenotypes."
            )
    return pl.DataFrame(name_labels("phenotype", read_flags(table, file, names)))


def _leave_out_symile(stays: pl.DataFrame, symile: Path | None, reading: Reading) -> pl.DataFrame:
    if symile is None:
        reading.warnings.append(
            "Patients of Symile-MIMIC are in. An encoder that saw them in pretraining cannot be tested on them: give "
            "the folder of Symile's train.csv with --symile to leave those of its training out."
        )
        return stays
    file = find_table(symile, "train.csv", needed="it lists the patients of Symile-MIMIC's training")
    assert file is not None
    seen = read_table(file, ["subject_id", "hadm_id"], filled=["subject_id"])["subject_id"]
    seen = seen.str.strip_chars().str.strip_suffix(".0").unique()
    kept = stays.filter(~pl.col("patient").is_in(seen.to_list()))
    reading.notes.append(
        f"{len(stays) - len(kept):,} stays of {stays['patient'].n_unique() - kept['patient'].n_unique():,} patients "
        "are left out, who are in Symile-MIMIC's training: all their stays, not only the admissions it holds."
    )
    return kept
