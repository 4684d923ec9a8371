"""MIMIC's table of laboratory events: of the studies asked for, the values of a vocabulary, by itemid."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import polars as pl

from hilum.errors import UserError
from hilum.wording import say_no_file

from .as_of import read_times
from .events import DAY, References, Source, assemble_events
from .table import LaboratoryTable
from .values import Bounds
from .vocabulary import LaboratoryVocabulary

_COLUMNS = ("subject_id", "itemid", "charttime", "value", "valuenum", "valueuom")


def read_labevents(
    file: Path,
    references: References,
    vocabulary: LaboratoryVocabulary,
    *,
    before: timedelta = DAY,
    after: timedelta = DAY,
    bounds: Bounds = "bound",
    dataset: str = "mimic",
) -> LaboratoryTable:
    """labevents.csv(.gz) or .parquet of MIMIC-III or MIMIC-IV; only rows of the studies' patients are ever held.

    The number (`valuenum`) counts; where there is none, the text (`value`) is read by the rules of values.py. With
    `bounds` "missing" what has no number is missing, as in Symile.

    Args:
        references: The studies; their owners are subject_ids.
        vocabulary: Values with an itemid; see `read_vocabulary` and `read_items`.

    Raises:
        UserError: a vocabulary without itemids, a file without these columns, a unit that cannot be converted.
    """
    itemids = {str(one.itemid): one.name for one in vocabulary.variables if one.itemid is not None}
    if not itemids:
        raise UserError("No laboratory value of the vocabulary has an itemid, by which MIMIC's events are found.")
    try:
        rows = _scan(file)
        present = {name: name.lower() for name in rows.collect_schema().names()}
        missing = [name for name in _COLUMNS if name not in present.values()]
        if missing:
            raise UserError(f"{file.name} has no column '{missing[0]}'; expected MIMIC's labevents.")
        events = (
            rows.rename(present)
            .select(pl.col(_COLUMNS).cast(pl.String))
            .filter(pl.col("itemid").is_in(list(itemids)) & pl.col("subject_id").is_in(list(set(references.owner))))
            .collect(engine="streaming")
        )
    except pl.exceptions.PolarsError as error:
        raise UserError(f"{file} cannot be read as MIMIC's labevents: {str(error).splitlines()[0]}.") from error
    if events.is_empty():
        raise UserError(
            f"{file.name}: holds no event of the {len(set(references.owner)):,} patients and {len(itemids)} items "
            "asked for. Are the studies' owners subject_ids?"
        )
    times, scale = read_times(events["charttime"], file.name, "charttime")
    events = events.select(
        owner="subject_id",
        item="itemid",
        text=pl.coalesce(pl.col("valuenum").str.strip_chars().replace("", None), "value"),
        unit="valueuom",
        time=times,
    )
    return assemble_events(
        events, scale, vocabulary, Source(file.name, "itemid", "valueuom"),
        references=references, before=before, after=after, items={}, bounds=bounds, dataset=dataset,
    )  # fmt: skip


def _scan(file: Path) -> pl.LazyFrame:
    if not file.is_file():
        raise UserError(f"{file}: {say_no_file(file)}; expected a table.")
    return pl.scan_parquet(file) if file.suffix == ".parquet" else pl.scan_csv(file, infer_schema=False)
