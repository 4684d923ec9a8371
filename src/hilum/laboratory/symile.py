"""Symile-MIMIC's files (P 4.1): tables with raw values and percentiles, and arrays with percentiles alone.

Its "missingness" is 1 where a value was observed. Where none was, its percentile arrays hold the mean percentile of the
training rows (`labs_means.json`); here such a slot is missing, whatever stands in it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl
from jaxtyping import Float64

from hilum.errors import UserError
from hilum.sources.table_file import read_table

from .table import LaboratoryTable, Scale
from .values import parse_values
from .vocabulary import read_vocabulary

SymileSplit = Literal["train", "val", "val_retrieval", "test"]
DATASET = "symile-mimic"


def read_symile_table(folder: Path, split: SymileSplit, scale: Scale = "raw") -> LaboratoryTable:
    """`<split>.csv`: raw values by itemid, or the percentiles beside them; each admission once, as study.

    The retrieval splits list an admission again as the candidate of others; only its first row counts.

    Raises:
        UserError: no such file, or without these columns.
    """
    file, vocabulary = folder / f"{split}.csv", read_vocabulary("symile")
    table, _, _ = read_table(file)
    items = [str(variable.itemid) for variable in vocabulary.variables]
    shares = [f"{item}_percentile" for item in items]
    missing = [name for name in ("subject_id", "hadm_id", *items, *shares) if name not in table.columns]
    if missing:
        raise UserError(f"{file}: has no column '{missing[0]}'; expected a table of Symile-MIMIC.")
    table = table.unique("hadm_id", keep="first", maintain_order=True)

    def read_columns(names: list[str]) -> Float64[np.ndarray, "row lab"]:
        columns = [parse_values(table[name], f"{file.name}, column '{name}'")[0] for name in names]
        return np.stack([column.fill_null(np.nan).to_numpy() for column in columns], axis=1)

    values = read_columns(items)
    if scale == "percentile":
        values = np.where(np.isnan(values), np.nan, read_columns(shares))
    return LaboratoryTable(
        vocabulary=vocabulary,
        dataset=DATASET,
        study=_to_ids(table["hadm_id"]),
        patient=_to_ids(table["subject_id"]),
        values=values,
        split=(_name_split(split),) * len(table),
        scale=scale,
    )


def read_symile_arrays(folder: Path, split: SymileSplit) -> LaboratoryTable:
    """`labs_percentiles_<split>.npy`, `labs_missingness_<split>.npy` and `hadm_id_<split>.npy`, row by row.

    Arrays name no patients: each admission counts as one, so take their splits as they are. The retrieval splits repeat
    admissions.

    Raises:
        UserError: a file is missing or damaged, shapes do not agree, or flags are not 0 and 1.
    """
    vocabulary = read_vocabulary("symile")
    share, flag, admission = (
        _load(folder / f"{name}_{split}.npy") for name in ("labs_percentiles", "labs_missingness", "hadm_id")
    )
    expected = (len(admission), len(vocabulary))
    if share.shape != expected or flag.shape != expected:
        raise UserError(
            f"{folder}: percentiles of shape {share.shape} and flags of shape {flag.shape}, expected {expected}, a row "
            "for each hadm_id."
        )
    if not np.isin(flag, (0, 1)).all():
        raise UserError(
            f"{folder}: labs_missingness_{split}.npy holds other numbers than 0 (missing) and 1 (observed)."
        )
    study = tuple(str(int(one)) for one in admission)
    return LaboratoryTable(
        vocabulary=vocabulary,
        dataset=DATASET,
        study=study,
        patient=study,
        values=np.where(flag == 1, share, np.nan).astype(np.float64),
        split=(_name_split(split),) * len(study),
        scale="percentile",
    )


def read_symile_means(file: Path) -> Float64[np.ndarray, " lab"]:
    """`labs_means.json`: the mean percentile of each laboratory value over the training rows, in the arrays' order.

    Raises:
        UserError: not such a file, or a value is missing in it.
    """
    vocabulary = read_vocabulary("symile")
    try:
        means = json.loads(file.read_bytes())
        return np.array([float(means[f"{variable.itemid}_percentile"]) for variable in vocabulary.variables])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{file}: not Symile's labs_means.json ({error}); expected <itemid>_percentile: mean."
        ) from error


def _load(file: Path) -> np.ndarray:
    try:
        return np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(
            f"{file}: not a readable array ({error}); expected Symile-MIMIC's data_npy/<split>/."
        ) from error


def _name_split(split: SymileSplit) -> str:
    return "val" if split == "val_retrieval" else split


def _to_ids(cells: pl.Series) -> tuple[str, ...]:
    return tuple(cells.str.strip_chars().str.replace(r"\.0$", ""))
