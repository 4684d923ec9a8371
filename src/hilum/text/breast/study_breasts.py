"""Records of breasts in a study table: the column `extra_breasts`, JSON without ids, which are the table's own.

So an archive's ingest says what is known of a study's breasts with `dump_breasts`, and ids are hashed once, for all.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import polars as pl

from hilum.cache import Cache
from hilum.errors import UserError
from hilum.study import EXTRA_PREFIX, read_studies

from .record import BreastRecord, dump_record, parse_record, read_records

BREASTS = EXTRA_PREFIX + "breasts"
_IDS = ("dataset", "patient", "study")


def dump_breasts(records: Iterable[BreastRecord]) -> str:
    """The cell of one study."""
    entries = [json.loads(dump_record(record)) for record in records]
    return json.dumps([{name: value for name, value in one.items() if name not in _IDS} for one in entries])


def read_breasts(studies: pl.DataFrame, place: str) -> list[BreastRecord]:
    """Records of all studies that have some; `place` names the table in errors.

    Raises:
        UserError: the table has no such column, or a cell is none of `dump_breasts`.
    """
    if BREASTS not in studies.columns:
        raise UserError(
            f"{place} has no column {BREASTS}: its archive's ingest knows nothing of single breasts. Give a table of a "
            "mammography archive, or a file of records, one line of JSON each (.jsonl)."
        )
    records: list[BreastRecord] = []
    for *ids, cell in studies.select(*_IDS, BREASTS).iter_rows():
        try:
            entries = json.loads(cell) if cell else []
            lines = [json.dumps({**entry, **dict(zip(_IDS, ids, strict=True))}) for entry in entries]
        except (ValueError, TypeError) as error:
            raise UserError(f"{place}, study {ids[2]}: {BREASTS} is no list of records ({error}).") from error
        records += [parse_record(line, f"{place}, study {ids[2]}") for line in lines]
    return records


def open_records(path: Path) -> list[BreastRecord]:
    """Records of a cache, a study table (.parquet) or a file of records (.jsonl)."""
    if path.is_dir():
        return read_breasts(Cache.open(path).table(), str(path))
    if path.suffix == ".parquet":
        return read_breasts(read_studies(path), str(path))
    return read_records(path)
