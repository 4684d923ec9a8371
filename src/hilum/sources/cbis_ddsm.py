"""CBIS-DDSM (Lee et al. 2017): scanned films with the descriptors, pathology and masks of their findings (L 4.3).

Four tables, masses and calcifications, training and test, one row for each finding in each view. Some cells end in
line breaks; the tables of calcifications call a column "breast density" that the others call "breast_density". A
patient is one exam, and may be in both sets with different splits: such a patient is in the test, all images.

The tables name images by paths that the usual download does not have; they are found by the first folder of these.
The files call themselves secondary captures.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import polars as pl

from hilum.breasts import choose_worst
from hilum.errors import UserError
from hilum.sources.archive import ADVICE, Reading, compare_counts, find_table, read_cells, read_table, sample
from hilum.sources.mammograms import (
    CACHE_SETTINGS,
    DENSITY_OF_NUMBER,
    attach_breasts,
    describe_cells,
    name_view,
    read_sides,
    translate,
)

SETS = ("mass", "calc")
PUBLISHED = {"cases of calcifications": 753, "cases of masses": 891}
_PATHOLOGIES = {"malignant": "malignant", "benign": "benign", "benign_without_callback": "benign without callback"}
_SHAPES = {"LOBULATED": "lobular"}
# Words for a shape that are no shapes -> kind of finding.
_KINDS = {
    "architectural distortion": "architectural distortion",
    "asymmetric breast tissue": "asymmetry",
    "focal asymmetric density": "focal asymmetry",
    "lymph node": "lymph node",
}
_MARGINS = {"ILL_DEFINED": "indistinct"}
_MORPHOLOGIES = {
    "ROUND_AND_REGULAR": "round",
    "EGGSHELL": "rim",
    "LUCENT_CENTER": "lucent-centred",
    "LUCENT_CENTERED": "lucent-centred",
    "LARGE_RODLIKE": "large rod-like",
    "FINE_LINEAR_BRANCHING": "fine linear or branching",
}
_DISTRIBUTIONS = {"DIFFUSELY_SCATTERED": "diffuse", "CLUSTERED": "grouped"}
_COLUMNS = {
    "patient": "patient_id",
    "side": "left or right breast",
    "view": "image view",
    "finding": "abnormality id",
    "type": "abnormality type",
    "assessment": "assessment",
    "pathology": "pathology",
    "subtlety": "subtlety",
    "image": "image file path",
    "mask": "ROI mask file path",
}
_DESCRIPTORS = {
    "mass": {"shape": "mass shape", "margin": "mass margins"},
    "calc": {"morphology": "calc type", "distribution": "calc distribution"},
}
_DENSITY = ("breast density", "breast_density")


def read(root: Path, *, own_splits: bool = False, quick: bool = False) -> Reading:
    """Read the four tables below `root`; `quick` changes nothing. `own_splits` leaves the official split out."""
    rows = pl.concat(
        [_read_set(root, kind, split) for kind in SETS for split in ("train", "test")], how="diagonal"
    ).with_columns(pl.col("study").alias("patient"))
    rows = rows.with_columns(**_find_files(root, rows))
    is_test = (pl.col("split") == "test").any().over("patient")
    moved = rows.filter(is_test & (pl.col("split") == "train"))
    reading = Reading(pl.DataFrame(), counts=compare_counts(_count(rows), PUBLISHED))
    if len(moved) and not own_splits:
        reading.notes.append(
            f"{moved['patient'].n_unique():,} patients are in training of one set and in the test of the other: all "
            f"their images are in the test ({moved['path'].n_unique():,} more than published)."
        )
    split = None if own_splits else pl.when(is_test).then(pl.lit("test")).otherwise(pl.lit(None))
    images = rows.select(
        row="_row",
        study="study",
        patient="patient",
        split=pl.lit(None, pl.String) if split is None else split,
        path="path",
        position="view",
        kind=name_view("view"),
        laterality="side",
    ).unique("path", keep="first", maintain_order=True)
    findings = pl.DataFrame(list(_list_findings(rows)), infer_schema_length=None)
    reading.images = attach_breasts(images, _list_breasts(rows), findings)
    reading.notes += [note for note in [describe_cells(images)] if note]
    reading.cache_settings = (*CACHE_SETTINGS, "--take", "secondary")
    if not own_splits:
        reading.cache_settings += ("--fractions", "0.9", "0.1", "0")
    return reading


def _read_set(root: Path, kind: str, split: str) -> pl.DataFrame:
    """Cells without blank space around them, by the names of _COLUMNS and _DESCRIPTORS."""
    pattern = f"{kind}_case_description_{split}_set.csv"
    file = find_table(root, pattern, needed="it holds findings, their pathology and files")
    assert file is not None
    described = _DESCRIPTORS[kind]
    table = read_table(file, [*_COLUMNS.values(), *described.values()], _DENSITY, filled=("patient_id",))
    density = next((name for name in _DENSITY if name in table.columns), None)
    if density is None:
        raise UserError(f"{file} has no column '{_DENSITY[0]}' nor '{_DENSITY[1]}'. {ADVICE}")
    cells = read_cells(
        table, file, pathology="pathology", assessment="assessment", density=density,
        side=_COLUMNS["side"],
    )  # fmt: skip
    text = {name: pl.col(column).str.strip_chars() for name, column in {**_COLUMNS, **described}.items()}
    # Breasts without a density are called 0 in some rows.
    densities = cells.read_integer("density", 0, 4).cast(pl.String)
    return table.select(
        "_row",
        **{
            name: cell.cast(pl.String) for name, cell in text.items() if name not in ("side", "pathology", "assessment")
        },
        side=read_sides(cells, "side"),
        set=pl.lit(kind),
        split=pl.lit(split),
        study=text["patient"],
        density=densities.replace_strict(DENSITY_OF_NUMBER, default=None, return_dtype=pl.String),
        assessment=cells.read_integer("assessment", 0, 6).cast(pl.Int8),
        pathology=cells.read_word("pathology", _PATHOLOGIES, "MALIGNANT, BENIGN or BENIGN_WITHOUT_CALLBACK"),
    ).drop("patient")


def _find_files(root: Path, rows: pl.DataFrame) -> dict[str, pl.Series]:
    """Paths of images and masks from `root`: as published where a sample of them exists, else by their folder."""
    published = rows["image"].str.replace_all(r"[\r\n]", "")
    masks = rows["mask"].str.replace_all(r"[\r\n]", "")
    for prefix in ("", "CBIS-DDSM/"):
        if any((root / f"{prefix}{path}").is_file() for path in sample(published.drop_nulls())):
            return {"path": prefix + published, "mask": prefix + masks}
    found = {
        folder.name: folder
        for depth in ("", "*/", "*/*/")
        for folder in sorted(root.glob(f"{depth}*-*_P_*"))
        if folder.is_dir()
    }
    if not found:
        return {"path": published, "mask": masks}
    files = {name: _pick_files(root, folder) for name, folder in found.items()}

    def place(paths: pl.Series, part: int) -> pl.Series:
        names = [PurePosixPath(path or "").parts[:1] for path in paths]
        return pl.Series([files[name[0]][part] if name and name[0] in files else None for name in names])

    images = place(published, 0)
    return {
        "path": pl.select(pl.coalesce(images.cast(pl.String), published)).to_series(),
        "mask": place(masks, 1).cast(pl.String),
    }


def _pick_files(root: Path, folder: Path) -> tuple[str | None, str | None]:
    """A folder's image, and its mask as far as the name of a folder within says which file that is."""
    inside = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".dcm", ".png"))
    masks = [path for path in inside if "roi mask" in str(path.relative_to(folder)).lower()]
    names = [path.relative_to(root).as_posix() for path in (*inside[:1], *masks[:1])]
    return (names[0] if inside else None, names[-1] if masks else None)


def _list_findings(rows: pl.DataFrame) -> Iterator[dict]:
    """A finding for each row; a shape that names another kind of finding is one of its own, of the same name."""
    for row in rows.rename({"side": "laterality"}).iter_rows(named=True):
        seen = {name: row[name] for name in ("study", "laterality", "path", "mask", "assessment", "pathology")}
        seen["finding"] = f"{row['set']} {row['finding']}"
        if row["set"] == "calc":
            morphology = translate(row["morphology"], _MORPHOLOGIES)
            distribution = translate(row["distribution"], _DISTRIBUTIONS)
            yield seen | {"kind": "calcification"} | _join(morphology=morphology, distribution=distribution)
            continue
        words = translate(row["shape"], _SHAPES)
        shapes, others = ([word for word in words if (word in _KINDS) == other] for other in (False, True))
        if shapes or not others:
            yield seen | {"kind": "mass"} | _join(shape=shapes, margin=translate(row["margin"], _MARGINS))
        for word in others:
            yield seen | {"kind": _KINDS[word]} | _join()


def _join(**words: list[str]) -> dict[str, str | None]:
    """Every descriptor, so that all rows have the same columns."""
    names = ("shape", "margin", "morphology", "distribution")
    return {name: ";".join(words.get(name, [])) or None for name in names}


def _list_breasts(rows: pl.DataFrame) -> pl.DataFrame:
    """A row for each breast: cancer where a finding is malignant, the worst assessment of its findings."""
    breasts = []
    sided = rows.rename({"side": "laterality"}).filter(pl.col("laterality") != "unknown")
    for (study, side), part in sided.partition_by("study", "laterality", as_dict=True, maintain_order=True).items():
        densities = part["density"].drop_nulls().unique().to_list()
        breasts.append(
            {
                "study": study,
                "laterality": side,
                "assessment": choose_worst(part["assessment"].to_list()),
                "assessment_source": "finding",
                "density": densities[0] if len(densities) == 1 else None,
                "cancer": int((part["pathology"] == "malignant").any()),
            }
        )
    return pl.DataFrame(breasts, infer_schema_length=None)


def _count(rows: pl.DataFrame) -> dict[str, int]:
    """What PUBLISHED has: patients in either table of a set are its cases."""
    cases = {name: rows.filter(pl.col("set") == kind)["patient"].n_unique() for kind, name in _CASES.items()}
    return {f"cases of {name}": number for name, number in cases.items()}


_CASES = {"calc": "calcifications", "mass": "masses"}
