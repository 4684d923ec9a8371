"""A laboratory table as one Parquet file, beside the study table: the form in which everything later finds it.

Patient and study ids are hashed as in the study table, by the salt in the same folder, so that rows find their studies.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import polars as pl

from hilum.atomic import open_atomic
from hilum.errors import UserError
from hilum.identifiers import Naming, hash_identifiers, read_or_make_salt
from hilum.vocabulary import SPLITS
from hilum.wording import say_count, say_no_file

from .table import LaboratoryTable
from .vocabulary import RESERVED, LaboratoryVariable, LaboratoryVocabulary

FORMAT = "hilum-laboratory-1"


def write_laboratory(table: LaboratoryTable, path: Path, naming: Naming = Naming()) -> None:
    """Write the table, its rows under other names (see `Naming`); it appears whole or not at all.

    Raises:
        UserError: a study is listed twice, or the naming contradicts itself.
    """
    naming.check()
    if len(set(table.study)) < len(table):
        repeated = say_count(len(table) - len(set(table.study)), "row")
        raise UserError(f"{table.dataset}: studies are repeated ({repeated} too many); expected one row each.")
    path.parent.mkdir(parents=True, exist_ok=True)
    named = {
        kind: _rename(ids, kind, table.dataset, naming, path.parent)
        for kind, ids in (("study", table.study), ("patient", table.patient))
    }
    names = {
        "dataset": pl.Series([table.dataset] * len(table), dtype=pl.String),
        **{kind: pl.Series(ids, dtype=pl.String) for kind, ids in named.items()},
        "split": pl.Series(table.split or [None] * len(table), dtype=pl.String),
    }
    values = {
        name: pl.Series(column, dtype=pl.Float64).fill_nan(None)
        for name, column in zip(table.vocabulary.names, table.values.T, strict=True)
    }
    about = {
        "format": FORMAT,
        "scale": table.scale,
        "vocabulary": [asdict(variable) for variable in table.vocabulary.variables],
    }
    with open_atomic(path) as file:
        pl.DataFrame({**names, **values}).write_parquet(file, metadata={"hilum_laboratory": json.dumps(about)})


def read_laboratory(path: Path) -> LaboratoryTable:
    """A table that `write_laboratory` wrote.

    Raises:
        UserError: no such file, or another one.
    """
    if not path.is_file():
        raise UserError(f"{path}: {say_no_file(path)}; expected a laboratory table.")
    try:
        about = json.loads(pl.read_parquet_metadata(path).get("hilum_laboratory", "{}"))
        frame = pl.read_parquet(path, glob=False)
    except pl.exceptions.PolarsError as error:
        raise UserError(f"{path}: not a Parquet file ({str(error).splitlines()[0]}). Read the values again.") from error
    if about.get("format") != FORMAT:
        raise UserError(
            f"{path}: its format is {about.get('format')!r}, this Hilum reads {FORMAT!r}. Read a hospital's own table "
            "with the readers of hilum.laboratory first."
        )
    vocabulary = LaboratoryVocabulary(tuple(LaboratoryVariable(**variable) for variable in about["vocabulary"]))
    if frame.columns != [*RESERVED, *vocabulary.names] or frame["dataset"].n_unique() > 1:
        raise UserError(f"{path}: its columns are not those of its own vocabulary. Read the values again.")
    split = frame["split"].to_list()
    if any(one is not None and one not in SPLITS for one in split):
        raise UserError(f"{path}: has a split other than {', '.join(SPLITS)}.")
    return LaboratoryTable(
        vocabulary=vocabulary,
        dataset=frame["dataset"][0] if len(frame) else path.stem,
        study=tuple(frame["study"]),
        patient=tuple(frame["patient"]),
        values=frame.select(vocabulary.names).fill_null(np.nan).to_numpy().astype(np.float64),
        split=None if None in split else tuple(split),
        scale=about["scale"],
    )


def _rename(ids: tuple[str, ...], kind: str, dataset: str, naming: Naming, folder: Path) -> list[str]:
    """As `sources.assemble` names the patients and studies of a study table."""
    space = dataset if naming.id_space is None else naming.id_space
    if naming.keep_ids:
        return [f"{space}:{name}" if space and kind == "patient" else name for name in ids]
    salt = naming.salt or read_or_make_salt(folder)[0]
    hashes = hash_identifiers({f"{space}\0{name}" for name in ids}, kind, salt)
    return [hashes[f"{space}\0{name}"] for name in ids]
