"""EMBED open release (Jeong et al. 2023): exams in Atlanta over years, with findings, pathology and boxes (L 4.4).

Two tables, full or reduced: `metadata` has a row for each file, `clinical` one for each finding of an exam. They are
joined by accession number and side; a finding of side B, or without one, is of both breasts. Boxes (ROI_coords: ymin,
xmin, ymax, xmax) are drawn in images and name no finding: they are findings of kind "region".

Years to cancer count from an exam to the first pathology of severity 0 or 1 (invasive, in situ) on that side, at it or
later; the last follow-up is the patient's last exam or pathology. Nothing trained on EMBED may be published without
permission, embeddings included.
"""

from __future__ import annotations

import re
from pathlib import Path

import polars as pl

from hilum.errors import UserError
from hilum.sources.archive import (
    Reading,
    check_header,
    check_unique,
    choose_paths,
    compare_counts,
    find_table,
    read_cells,
    read_table,
    read_times,
)
from hilum.sources.cells import Cells
from hilum.sources.embed_codes import (
    ASSESSMENTS,
    DISTRIBUTIONS,
    MARGINS,
    MASS_DENSITIES,
    MORPHOLOGIES,
    SHAPE_KINDS,
    SHAPES,
)
from hilum.sources.mammograms import (
    CACHE_SETTINGS,
    DENSITY_OF_NUMBER,
    attach_breasts,
    describe_cells,
    name_view,
    pick_agreed,
    pick_worst,
    read_sides,
)
from hilum.wording import say_count

CLINICAL, METADATA = "EMBED_OpenData_clinical*.csv", "EMBED_OpenData_metadata*.csv"
PUBLISHED = {
    **{"rows of clinical": 81_776, "columns of clinical": 21},
    **{"rows of metadata": 480_323, "columns of metadata": 29},
}
_CLINICAL = ("empi_anon", "acc_anon", "study_date_anon", "tissueden", "asses", "numfind", "side")
_CLINICAL_OPTIONAL = (
    *("massshape", "massmargin", "massdens", "calcfind", "calcdistri", "bside", "procdate_anon", "path_severity"),
    *("size", "location", "depth", "age_at_study", "GENDER_DESC", "RACE_DESC", "ETHNIC_GROUP_DESC", "desc"),
)
_METADATA = ("anon_dicom_path", "empi_anon", "acc_anon", "FinalImageType", "ImageLateralityFinal", "ViewPosition")
_METADATA_OPTIONAL = ("study_date_anon", "spot_mag", "ROI_coords", "Manufacturer", "ManufacturerModelName")
_CANCER, _BENIGN = (0, 1), (2, 3, 4, 5)  # path_severity; 6 is no disease of the breast
_DATES = ("study_date_anon", "procdate_anon")
_DAYS = 365.25
_SECONDS = 86_400
_MALE = "5"  # of tissueden
# Codes that say something, and what else stands there that says nothing.
_CODES = {"asses": {*ASSESSMENTS, "X"}, "tissueden": {*DENSITY_OF_NUMBER, _MALE}}


def read(root: Path, *, spot: bool = False, synthetic: bool = False, quick: bool = False) -> Reading:
    """Read both tables below `root`; `quick` changes nothing.

    `spot` and `synthetic` also take spot and magnification views, and 2D images computed from tomosyntheses.
    """
    files = [find_table(root, name, needed="it holds exams, findings or files") for name in (CLINICAL, METADATA)]
    clinical_file, metadata_file = (file for file in files if file is not None)
    clinical, metadata = _read_clinical(clinical_file), _read_metadata(metadata_file, root)
    found = {"rows of clinical": len(clinical), "rows of metadata": len(metadata)}
    is_reduced = "_reduced" in clinical_file.name
    if is_reduced:
        found["columns of clinical"] = len(check_header(clinical_file, _CLINICAL))
        found["columns of metadata"] = len(check_header(metadata_file, _METADATA))
    published = {name: number for name, number in PUBLISHED.items() if is_reduced or name.startswith("rows")}
    reading = Reading(pl.DataFrame(), counts=compare_counts(found, published))
    metadata = _choose_images(metadata, spot, synthetic, reading.notes)
    reading.images = _describe_images(metadata, clinical)
    listed = _list_regions(metadata), _list_findings(clinical)
    findings = pl.concat([table for table in listed if len(table)] or [listed[1]], how="diagonal")
    findings = findings.join(metadata.select("study").unique(), on="study", how="semi", maintain_order="left")
    reading.images = attach_breasts(reading.images, _list_breasts(clinical), findings)
    reading.warnings += _list_unknown_codes(clinical)
    lacking = metadata.join(clinical, on="study", how="anti")["study"].n_unique()
    if lacking:
        reading.notes.append(
            f"{lacking:,} exams have images and no row of findings: nothing is known of their breasts."
        )
    reading.notes += [note for note in [describe_cells(reading.images)] if note]
    reading.warnings.append(
        "EMBED's agreement forbids publishing models, weights or embeddings trained on any part of it without "
        "permission."
    )
    taken = [kind for kind, is_taken in (("spot", spot), ("synthetic", synthetic)) if is_taken]
    reading.cache_settings = (*CACHE_SETTINGS, *(("--take", *taken) if taken else ()))
    return reading


def _read_clinical(file: Path) -> pl.DataFrame:
    """A row for each finding and side: B and blank are both sides."""
    table = read_table(file, _CLINICAL, _CLINICAL_OPTIONAL, filled=("empi_anon", "acc_anon"))
    table = table.with_columns(
        pl.lit(None, pl.String).alias(name) for name in _CLINICAL_OPTIONAL if name not in table.columns
    )
    dates = read_times(_complete_dates(table), file, _DATES)
    cells = read_cells(
        table, file, severity="path_severity", age="age_at_study", size="size", number="numfind", side="side",
        biopsied="bside",
    )  # fmt: skip
    table = table.with_columns(
        *(date.alias(name) for date, name in zip(dates, ("exam", "biopsy"), strict=True)),
        study=_clean("acc_anon"),
        patient=_clean("empi_anon"),
        severity=cells.read_integer("severity", 0, 6).cast(pl.Int8),
        age=cells.read_number("age"),
        size_mm=cells.read_number("size"),
        number=cells.read_integer("number").cast(pl.String),
        assessment=_clean("asses").str.to_uppercase().replace_strict(ASSESSMENTS, default=None, return_dtype=pl.Int8),
        density=_clean("tissueden").replace_strict(DENSITY_OF_NUMBER, default=None, return_dtype=pl.String),
        is_male=_clean("tissueden") == _MALE,
    )
    return table.with_columns(laterality=_list_sides(cells, "side"), biopsied=_list_sides(cells, "biopsied")).explode(
        "laterality"
    )


def _list_unknown_codes(clinical: pl.DataFrame) -> list[str]:
    """What is said of codes that the legend does not have: their cells count as blank."""
    said = []
    for column, known in _CODES.items():
        codes = clinical.unique("_row").select(code=_clean(column).str.to_uppercase()).drop_nulls()
        unknown = codes.filter(~pl.col("code").is_in(known))["code"]
        if len(unknown):
            some = ", ".join(f"'{code}'" for code in unknown.unique().sort()[:3])
            said.append(
                f"Column '{column}' has {say_count(len(unknown), 'cell')} of a code that is not in EMBED's legend "
                f"({some}): taken as not known. Expected one of {', '.join(sorted(known))}."
            )
    return said


def _complete_dates(table: pl.DataFrame) -> pl.DataFrame:
    """Dates with a time of day, as `read_times` takes them."""
    return table.with_columns(
        pl.when(pl.col(name).str.strip_chars().str.len_chars() == 10)
        .then(pl.col(name).str.strip_chars() + " 00:00:00")
        .otherwise(name)
        .alias(name)
        for name in _DATES
    )


def _list_sides(cells: Cells, target: str) -> pl.Series:
    lists = {"left": ["left"], "right": ["right"]}
    sides = read_sides(cells, target, both=True)
    return pl.Series([lists.get(side, ["left", "right"]) for side in sides], dtype=pl.List(pl.String))


def _clean(column: str) -> pl.Expr:
    return pl.col(column).str.strip_chars().str.replace(r"^(\d+)\.0$", "${1}").replace("", None)


def _read_metadata(file: Path, root: Path) -> pl.DataFrame:
    table = read_table(file, _METADATA, _METADATA_OPTIONAL, filled=("anon_dicom_path", "empi_anon", "acc_anon"))
    check_unique(table, ["anon_dicom_path"], file)
    table = table.with_columns(
        pl.lit(None, pl.String).alias(name) for name in _METADATA_OPTIONAL if name not in table.columns
    )
    named = table["anon_dicom_path"].str.strip_chars()
    inner = named.str.extract(r"(cohort_\d+/.*)$")
    if inner.null_count():
        raise UserError(f"{file}: {named.filter(inner.is_null())[0]} has no folder cohort_1 or cohort_2 in its path.")
    return table.with_columns(
        choose_paths(root, [inner, "images/" + inner]).alias("path"),
        study=_clean("acc_anon"),
        patient=_clean("empi_anon"),
        side=read_sides(read_cells(table, file, side="ImageLateralityFinal"), "side"),
    )


def _choose_images(metadata: pl.DataFrame, spot: bool, synthetic: bool, notes: list[str]) -> pl.DataFrame:
    """The 2D images of whole breasts, and what else was asked for."""
    kind = pl.col("FinalImageType").str.strip_chars().str.to_lowercase()
    parts = (
        ("spot or magnification views", _clean("spot_mag").is_in(("1", "True", "true")), spot, "--spot"),
        ("images computed from tomosyntheses", kind == "cview", synthetic, "--synthetic"),
        ("volumes or other kinds of image", ~kind.is_in(("2d", "cview")).fill_null(False), False, ""),
    )
    for what, chosen, is_taken, flag in parts:
        is_such = metadata.select(chosen.fill_null(False)).to_series()
        if is_such.any() and not is_taken:
            advice = f" ({flag} takes them)" if flag else ""
            notes.append(f"Left out: {int(is_such.sum()):,} {what}{advice}.")
            metadata = metadata.filter(~is_such)
    return metadata


def _describe_images(metadata: pl.DataFrame, clinical: pl.DataFrame) -> pl.DataFrame:
    """IMAGE_SCHEMA as far as EMBED knows it, one row per file."""
    people = clinical.group_by("study").agg(
        pick_agreed("age").alias("age"),
        pick_agreed("exam").alias("exam"),
        pl.when(pl.col("is_male").any()).then(pl.lit("M")).alias("male"),
        *(pick_agreed(name).alias(name) for name in ("GENDER_DESC", "RACE_DESC", "ETHNIC_GROUP_DESC", "desc")),
    )
    images = metadata.join(people, on="study", how="left", maintain_order="left")
    sex = pl.col("GENDER_DESC").str.to_lowercase().str.slice(0, 1)
    return images.select(
        row="_row",
        study="study",
        patient="patient",
        when=pl.col("exam") / _SECONDS,
        path="path",
        position=pl.col("ViewPosition").fill_null(""),
        kind=name_view("ViewPosition"),
        laterality="side",
        age="age",
        sex=pl.coalesce(sex.replace_strict({"f": "F", "m": "M"}, default=None, return_dtype=pl.String), "male"),
        extra_race="RACE_DESC",
        extra_ethnicity="ETHNIC_GROUP_DESC",
        extra_procedure="desc",
        extra_vendor="Manufacturer",
        extra_scanner="ManufacturerModelName",
    )


def _list_breasts(clinical: pl.DataFrame) -> pl.DataFrame:
    """A row for each breast of each exam: its worst assessment, density, pathology of the exam, years after it."""
    of_side = pl.col("biopsied").list.contains(pl.col("laterality"))
    severity = pl.when(of_side).then("severity")
    events = clinical.filter(of_side & pl.col("severity").is_in(_CANCER) & pl.col("biopsy").is_not_null())
    ends = clinical.group_by("patient").agg(end=pl.max_horizontal(pl.col("exam").max(), pl.col("biopsy").max()))
    breasts = clinical.group_by("study", "laterality", maintain_order=True).agg(
        pl.col("patient").first(),
        pl.col("exam").first(),
        pick_worst("assessment").alias("assessment"),
        pick_agreed("density").alias("density"),
        malignant=severity.is_in(_CANCER).any(),
        benign=severity.is_in(_BENIGN).any(),
    )
    # A row of one breast says nothing of the other, whose cancer may come all the same.
    sides = pl.DataFrame({"laterality": ["left", "right"]})
    exams = clinical.unique("study", maintain_order=True).select("study", "patient", "exam").join(sides, how="cross")
    others = exams.join(breasts, on=["study", "laterality"], how="anti")
    breasts = pl.concat([breasts, others], how="diagonal")
    dated = breasts.select("study", "laterality", "patient", "exam").join(
        events.select("patient", "laterality", "biopsy"), on=["patient", "laterality"]
    )
    dated = dated.filter(pl.col("biopsy") >= pl.col("exam")).group_by("study", "laterality").agg(pl.col("biopsy").min())
    breasts = breasts.join(dated, on=["study", "laterality"], how="left", maintain_order="left")
    breasts = breasts.join(ends, on="patient", how="left", maintain_order="left")
    year = _DAYS * _SECONDS
    return breasts.select(
        *("study", "laterality", "assessment", "density"),
        assessment_source=pl.when(pl.col("assessment").is_not_null()).then(pl.lit("finding")),
        cancer=pl.when("malignant").then(1).when("benign").then(0),
        years_to_cancer=(pl.col("biopsy") - pl.col("exam")) / year,
        years_to_last_followup=(pl.col("end") - pl.col("exam")) / year,
    )


def _list_findings(clinical: pl.DataFrame) -> pl.DataFrame:
    """A finding for each mass (or what its shape calls it) and each calcification of a row; of the breast, no view."""
    rows = []
    for row in clinical.iter_rows(named=True):
        pathology = {**dict.fromkeys(_CANCER, "malignant"), **dict.fromkeys(_BENIGN, "benign")}.get(row["severity"])
        seen = {
            **{name: row[name] for name in ("study", "laterality", "assessment", "size_mm", "location", "depth")},
            "finding": row["number"],
            "pathology": pathology if row["laterality"] in row["biopsied"] else None,
            **dict.fromkeys(("shape", "margin", "density", "morphology", "distribution")),
        }
        codes = {name: _split_codes(row[name]) for name in ("massshape", "massmargin", "massdens", "calcfind")}
        codes["calcdistri"] = _split_codes(row["calcdistri"])
        shapes = [SHAPES[code] for code in codes["massshape"] if code in SHAPES]
        kinds = dict.fromkeys(SHAPE_KINDS[code] for code in codes["massshape"] if code in SHAPE_KINDS)
        if codes["massshape"] and not kinds:
            kinds = {"other": None}
        for kind in kinds:
            described = {"shape": _join(shapes), "margin": _join(MARGINS.get(code) for code in codes["massmargin"])}
            described["density"] = _join(MASS_DENSITIES.get(code) for code in codes["massdens"])
            rows.append(seen | {"kind": kind} | (described if kind == "mass" else {}))
        if codes["calcfind"] or codes["calcdistri"]:
            morphology = _join(MORPHOLOGIES.get(code) for code in codes["calcfind"])
            distribution = _join(DISTRIBUTIONS.get(code) for code in codes["calcdistri"])
            rows.append(seen | {"kind": "calcification", "morphology": morphology, "distribution": distribution})
    if not rows:
        return pl.DataFrame(schema={"study": pl.String, "laterality": pl.String, "kind": pl.String})
    return pl.DataFrame(rows, infer_schema_length=None)


def _split_codes(cell: str | None) -> list[str]:
    return [code for code in re.split(r"[,;\s]+", (cell or "").strip().upper()) if code and code != "NAN"]


def _join(words) -> str | None:
    return ";".join(dict.fromkeys(word for word in words if word)) or None


def _list_regions(metadata: pl.DataFrame) -> pl.DataFrame:
    """Boxes drawn in images: four numbers each, ymin, xmin, ymax, xmax."""
    boxed = metadata.filter(pl.col("ROI_coords").str.contains(r"\d"))
    boxed = boxed.filter(pl.col("side").is_in(("left", "right")))
    rows = []
    for study, side, path, cell in boxed.select("study", "side", "path", "ROI_coords").iter_rows():
        numbers = [float(number) for number in re.findall(r"-?\d+\.?\d*", cell)]
        for place in range(0, len(numbers) - 3, 4):
            top, left, bottom, right = numbers[place : place + 4]
            if bottom > top and right > left:
                rows.append((study, side, path, "region", top, left, bottom, right))
    names = ("study", "laterality", "path", "kind", "top", "left", "bottom", "right")
    types = {name: pl.String if place < 4 else pl.Float64 for place, name in enumerate(names)}
    return pl.DataFrame(rows, schema=types, orient="row")
