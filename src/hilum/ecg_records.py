"""Which ECGs there are: a manifest of records, or a study table with signals; and all of them prepared at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import torch
from jaxtyping import Float32, Int64
from rich.console import Console
from rich.progress import track

from .errors import UserError
from .model.ecg_encoder import THIN_RATE, thin
from .signals.prepare import SECONDS, PreparedEcg, prepare_records
from .signals.record import UNITS, RecordSource
from .signals.rejection import RejectedRecord
from .wording import say_no_file

KIND = "ecg"  # of a signal in a study table
_KEYS = ("dataset", "study")  # of a manifest, kept beside vectors
_COLUMNS = ("path", "rate", "leads", "unit", "row", "patient", *_KEYS)


@dataclass(frozen=True)
class EcgManifest:
    """Records to read, in order, and whose they are."""

    sources: list[RecordSource]
    keys: pl.DataFrame  # dataset and study where the manifest has them, path as it is written there, row
    patient: Int64[np.ndarray, " record"]  # equal for records of one patient; a record alone where nobody says


@dataclass(frozen=True)
class ThinRecords:
    """Prepared records at 100 samples a second: all that our own encoder sees of them."""

    values: Float32[np.ndarray, "record 12 thin_time"]
    kept: Int64[np.ndarray, " record"]  # row of the manifest
    rejected: list[tuple[int, str]]  # row of the manifest, and why
    notes: dict[str, int]  # what was done to how many records


def read_ecg_manifest(path: Path) -> EcgManifest:
    """The records that a table lists.

    A .csv or .parquet with `path` (relative to the table) and, where a file does not say itself, `rate`, `leads`
    (names in order, with blanks or commas between), `unit` and `row`; `patient`, `dataset` and `study` say whose it
    is. A .npy file without `row` counts as all the records in it. A study table of Hilum is read too: its signals of
    kind "ecg".

    Raises:
        UserError: no such table, no records in it, or a column or value that means nothing.
    """
    table = _read_table(path)
    if "signals" in table.columns:
        table, root = _list_signals(table), path.resolve().parent
    else:
        root = path.resolve().parent
        unknown = [name for name in table.columns if name not in _COLUMNS]
        if "path" not in table.columns:
            raise UserError(f"{path}: it has no column path among {', '.join(table.columns)}; expected one of records.")
        if unknown:
            raise UserError(
                f"{path}: column {unknown[0]} is not known; expected {', '.join(_COLUMNS)}. Rename it, or leave it out."
            )
    if table.is_empty():
        raise UserError(f"{path}: it lists no ECG record.")
    sources, rows = [], []
    for place, line in enumerate(table.iter_rows(named=True)):
        for source in _expand(_read_line(path, place, line, root)):
            sources.append(source)
            rows.append(place)
    keys = table[rows].select(*(name for name in _KEYS if name in table.columns), "path")
    keys = keys.with_columns(pl.Series("row", [source.row for source in sources], dtype=pl.Int64))
    return EcgManifest(sources, keys, _number_patients(table[rows]))


def _read_table(path: Path) -> pl.DataFrame:
    if not path.is_file():
        raise UserError(f"{path}: {say_no_file(path)}; expected a .csv or .parquet that lists ECG records.")
    try:
        if path.suffix.lower() == ".parquet":
            return pl.read_parquet(path, glob=False)
        return pl.read_csv(path, infer_schema=False, glob=False)
    except pl.exceptions.PolarsError as error:
        raise UserError(f"{path}: not a readable table ({str(error).splitlines()[0]}).") from error


def _list_signals(studies: pl.DataFrame) -> pl.DataFrame:
    """One row for each ECG of a study table."""
    signals = studies.filter(pl.col("signals").list.len() > 0).explode("signals").unnest("signals")
    ecgs = signals.filter(pl.col("kind") == KIND)
    return ecgs.select("dataset", "study", pl.concat_str("root", "path", separator="/").alias("path"), patient="group")


def _read_line(path: Path, place: int, line: dict, root: Path) -> RecordSource:
    """One line of a manifest; blank cells are as good as none."""
    given = {name: value for name, value in line.items() if value not in (None, "")}
    if "path" not in given:
        raise UserError(f"{path}: record {place + 1} has no path.")
    try:
        rate = None if "rate" not in given else float(given["rate"])
        row = None if "row" not in given else int(given["row"])
    except ValueError as error:
        raise UserError(f"{path}: record {place + 1}: rate and row must be numbers ({error}).") from None
    unit = given.get("unit", "mV")
    if unit not in UNITS:
        raise UserError(f"{path}: record {place + 1}: unit {unit!r} is not known; expected {', '.join(UNITS)}.")
    leads = tuple(str(given["leads"]).replace(",", " ").split()) if "leads" in given else None
    return RecordSource(root / given["path"], rate, leads, unit, row)


def _expand(source: RecordSource) -> Iterator[RecordSource]:
    """The records of a stack, one by one; any other source as it is."""
    num = None
    if source.path.suffix.lower() == ".npy" and source.row is None and source.path.is_file():
        try:
            shape = np.load(source.path, mmap_mode="r", allow_pickle=False).shape
            num = shape[0] if len(shape) > 2 else None
        except (ValueError, OSError, EOFError):
            pass  # its reader will say what is wrong with it
    if num is None:
        yield source
    else:
        for row in range(num):
            yield RecordSource(source.path, source.rate, source.leads, source.unit, row)


def _number_patients(table: pl.DataFrame) -> Int64[np.ndarray, " record"]:
    """Equal numbers for equal names; a record without a name is its own patient."""
    if "patient" not in table.columns:
        return np.arange(len(table))
    names = table["patient"].cast(pl.String).to_list()
    number: dict[object, int] = {}
    return np.array(
        [number.setdefault(name if name else ("nameless", place), len(number)) for place, name in enumerate(names)]
    )


def prepare_thin(sources: Sequence[RecordSource], *, num_workers: int = 0, title: str | None = None) -> ThinRecords:
    """All records that can be used, prepared and thinned to 100 samples a second; the others with their reasons.

    48 kB a record. `num_workers` processes, 0: this one; `title` names a progress bar.
    """
    values, kept, rejected, notes = [], [], [], Counter[str]()
    for place, found in enumerate(show_progress(prepare_records(sources, num_workers), len(sources), title)):
        if isinstance(found, RejectedRecord):
            rejected.append((place, str(found)))
            continue
        values.append(thin(torch.from_numpy(found.values)[None])[0].numpy())
        kept.append(place)
        notes.update(found.notes)
    length = int(SECONDS * THIN_RATE)
    stacked = np.stack(values) if values else np.zeros((0, 12, length), np.float32)
    return ThinRecords(stacked, np.array(kept, np.int64), rejected, dict(notes))


def show_progress(
    found: Iterable[PreparedEcg | RejectedRecord], total: int, title: str | None
) -> Iterable[PreparedEcg | RejectedRecord]:
    """The same, with a progress bar where it has a title."""
    if title is None:
        return found
    return track(found, title, total=total, console=Console(stderr=True))
