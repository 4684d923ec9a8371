"""Symile-MIMIC 1.0.0 (Saporta et al. 2024): an X-ray, an ECG and up to 50 laboratory values of 11,622 admissions.

Four tables (train, val, val_retrieval, test) and the arrays data_npy/SPLIT/NAME_SPLIT.npy of the same rows (P 4.1). An
admission is a study; its X-ray and ECG are rows of arrays (`imaging/array_row.py`, `study.py`). Rows of arrays are
found by the admissions that hadm_id_SPLIT.npy names, not by their position in the table.

The retrieval tables hold ten rows for each query (label_hadm_id): the admission itself (label 1), and nine others whose
X-rays are to be told from its own. They are no studies of their own. A query of validation or test keeps them as
`extra_candidates`, rows of cxr_val.npy or cxr_test.npy with ";" between, its own first.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from hilum.errors import UserError
from hilum.imaging.array_row import name_row
from hilum.sources.apart import refuse_shared
from hilum.sources.archive import (
    ADVICE,
    Reading,
    check_unique,
    compare_counts,
    find_folder,
    find_table,
    read_findings,
    read_numbers,
    read_table,
)
from hilum.sources.symile_labs import LABS
from hilum.study import ECG_LEADS, ECG_RATE

FINDINGS = ("Atelectasis", "Cardiomegaly", "Edema", "Lung Opacity", "No Finding", "Pleural Effusion")
ARRAYS = "data_npy"
# Split -> the table of its studies, the table of its queries (and the folders of their arrays).
TABLES = {"train": ("train", None), "val": ("val", "val_retrieval"), "test": ("test", "test")}
PUBLISHED = {
    "training admissions": 10_000,
    "validation admissions": 750,
    "test queries": 464,
    "test rows": 4_640,
}  # P 4.1
CHECKED = ("ecg", "labs_percentiles", "labs_missingness")  # how the names of arrays begin that have a row an admission
# Recordings are 10 s at 500 Hz with the leads in MIMIC-IV-ECG's order, one minimum and maximum of each scaled to -1 and
# 1, so that their unit is lost (P 1.3); every reader of ECGs scales them anew.
RATE, LEADS = "500", "I II III aVR aVF aVL V1 V2 V3 V4 V5 V6"


def read(root: Path, *, quick: bool = False) -> Reading:
    """Read the four tables and the arrays' admissions below `root`; `quick` changes nothing."""
    arrays = find_folder(root, ARRAYS, depth=1)
    if arrays is None:
        raise UserError(
            f"{root} has no folder {ARRAYS}, in it or one folder below: it holds the X-rays and ECGs. Download it into "
            "that folder, or give the folder that holds it."
        )
    reading = Reading(pl.DataFrame())
    parts = [_read_split(root, arrays, split, *tables) for split, tables in TABLES.items()]
    images = pl.concat(parts, how="diagonal_relaxed")
    refuse_shared(images, f"{root}: train.csv, val.csv and test.csv")
    reading.images = images
    reading.counts = compare_counts(_count(images, arrays), PUBLISHED)
    reading.notes.append(
        "X-rays are read back from normalised floats to 8-bit grey, exactly where they were 8 bits before; rows of "
        "test.csv that are only candidates of a query are no studies."
    )
    reading.cache_settings = ("--short-side", "320")
    return reading


def _count(images: pl.DataFrame, arrays: Path) -> dict[str, int]:
    """What PUBLISHED has, of this download."""
    train, val, test = (int((images["split"] == split).sum()) for split in TABLES)
    found = {"training admissions": train, "validation admissions": val, "test queries": test}
    return found | {"test rows": len(_load(arrays, "test", "hadm_id"))}


def _read_split(root: Path, arrays: Path, split: str, name: str, retrieval: str | None) -> pl.DataFrame:
    table, file = _read_rows(root, name)
    if name == retrieval:
        table = table.filter(pl.col("label") == "1")
    check_unique(table, ["hadm_id"], file)
    row_of = _find_rows(arrays, name)
    lacking = [admission for admission in table["hadm_id"] if admission not in row_of]
    if lacking:
        raise UserError(
            f"{file} and {arrays / name / f'hadm_id_{name}.npy'} are not of one release: {len(lacking):,} admissions "
            f"of the table have no row in the arrays. {ADVICE}"
        )
    row = [row_of[admission] for admission in table["hadm_id"]]
    values = pl.DataFrame(read_numbers(table, file, list(LABS)))
    _check_order(values, row, arrays, name, file)
    folder = (arrays / name).relative_to(root).as_posix()
    images = table.select(
        row="_row",
        study="hadm_id",
        patient="subject_id",
        split=pl.lit(split),
        kind=pl.lit("frontal"),
        path=pl.Series([name_row(f"{folder}/cxr_{name}.npy", place) for place in row]),
        signals=pl.Series([[{"path": name_row(f"{folder}/ecg_{name}.npy", place), "kind": "ecg"}] for place in row]),
        labs=list_labs(values),
        **{ECG_RATE: pl.lit(RATE), ECG_LEADS: pl.lit(LEADS)},
    ).hstack(read_findings(table, file, FINDINGS))
    if retrieval is None:
        return images
    return images.with_columns(extra_candidates=_list_candidates(table["hadm_id"], row_of, root, retrieval, file))


def _read_rows(root: Path, name: str) -> tuple[pl.DataFrame, Path]:
    file = find_table(root, f"{name}.csv", needed="it lists admissions")
    assert file is not None
    labels = ["label_hadm_id", "label"] if name in ("test", "val_retrieval") else []
    keys = ["subject_id", "hadm_id", *labels]
    table = read_table(file, [*keys, *FINDINGS, *LABS], filled=keys)
    # pandas writes whole numbers of a column with gaps as 24000001.0.
    return table.with_columns(pl.col(keys).str.strip_chars().str.strip_suffix(".0")), file


def _find_rows(arrays: Path, name: str) -> dict[str, int]:
    """Admission -> its row in the arrays: of a query its own, not that of a copy of it among candidates."""
    admission = _load(arrays, name, "hadm_id").astype(np.int64).astype(str)
    for stem in CHECKED:
        if (found := len(_load(arrays, name, stem))) != len(admission):
            file = arrays / name / f"{stem}_{name}.npy"
            raise UserError(f"{file} has {found:,} rows, hadm_id_{name}.npy {len(admission):,}. {ADVICE}")
    rows = dict(zip(admission.tolist(), range(len(admission)), strict=True))
    if name == "test":
        own = np.flatnonzero(np.asarray(_load(arrays, name, "label")) == 1)
        rows |= dict(zip(admission[own].tolist(), own.tolist(), strict=True))
    return rows


def _load(arrays: Path, name: str, stem: str) -> np.ndarray:
    path = arrays / name / f"{stem}_{name}.npy"
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise UserError(f"{path} is missing: download {ARRAYS} completely.") from None
    except (ValueError, EOFError, OSError) as error:
        raise UserError(f"{path} is not a readable array ({error}). {ADVICE}") from None


def _check_order(values: pl.DataFrame, row: list[int], arrays: Path, name: str, file: Path) -> None:
    """The arrays say of the same admissions as the table which values were observed."""
    observed = np.asarray(_load(arrays, name, "labs_missingness"))[row] != 0
    stated = values.select(pl.all().is_not_null()).to_numpy()
    if observed.shape != stated.shape or (observed != stated).any():
        wrong = "another number of values" if observed.shape != stated.shape else "other values observed"
        raise UserError(
            f"{arrays / name / f'labs_missingness_{name}.npy'} has {wrong} than {file}: array and table are not of one "
            f"release, or their rows do not belong together. {ADVICE}"
        )


def list_labs(values: pl.DataFrame) -> pl.Series:
    """The values that are there as lists of (name, value, unit) for the study table."""
    entries = [
        pl.when(pl.col(item).is_not_null()).then(
            pl.struct(name=pl.lit(item), value=pl.col(item), unit=pl.lit(None, dtype=pl.String))
        )
        for item in values.columns
    ]
    return values.select(pl.concat_list(entries).list.drop_nulls()).to_series()


def _list_candidates(queries: pl.Series, row_of: dict[str, int], root: Path, retrieval: str, own: Path) -> pl.Series:
    """For each query the rows of its candidates, its own first."""
    table, file = _read_rows(root, retrieval)
    known = table["hadm_id"].is_in(list(row_of))
    if not known.all():
        row = table["_row"][known.not_().arg_true()[0]]
        raise UserError(f"{file}, row {row}: the candidate is no admission of {own.name}. {ADVICE}")
    grouped = table.sort("label", descending=True, maintain_order=True).group_by("label_hadm_id", maintain_order=True)
    listed = grouped.agg(pl.col("hadm_id"), positives=(pl.col("label") == "1").sum())
    candidates = {query: names for query, names, _ in listed.iter_rows()}
    for query, names, positives in listed.iter_rows():
        if positives != 1 or names[0] != query:
            row = table["_row"][(table["label_hadm_id"] == query).arg_true()[0]]
            raise UserError(
                f"{file}: the query of row {row} has {positives} rows with label 1, expected one, its own. {ADVICE}"
            )
    lists = [candidates.get(query) for query in queries]
    return pl.Series(
        [None if names is None else ";".join(str(row_of[name]) for name in names) for names in lists], dtype=pl.String
    )
