"""The ECGs of a study table, and all of them prepared at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from jaxtyping import Float32, Int64
from rich.console import Console
from rich.progress import track

from hilum.errors import UserError
from hilum.imaging.array_row import split_row
from hilum.model.ecg_encoder import THIN_RATE, thin
from hilum.study import ECG_LEADS, ECG_RATE, ECG_UNIT

from .prepare import SECONDS, PreparedEcg, prepare_records
from .record import UNITS, RecordSource
from .rejection import RejectedRecord

KIND = "ecg"  # of a signal in a study table
KEYS = ("dataset", "study", "group", "split", "path")


@dataclass(frozen=True)
class EcgList:
    """ECGs of studies, in the table's order, and whose they are."""

    sources: list[RecordSource]
    keys: pl.DataFrame  # KEYS; the path as it stands in the study table

    @property
    def patient(self) -> Int64[np.ndarray, " record"]:
        """Equal for records of one person."""
        return self.keys["group"].rank("dense").to_numpy().astype(np.int64) - 1


@dataclass(frozen=True)
class ThinRecords:
    """Prepared records at 100 samples a second: all that our own encoder sees of them."""

    values: Float32[np.ndarray, "record 12 thin_time"]
    kept: Int64[np.ndarray, " record"]  # place among the sources
    rejected: list[tuple[int, str]]  # place among the sources, and why
    notes: dict[str, int]  # what was done to how many records


def list_ecgs(studies: pl.DataFrame, source: Path) -> EcgList:
    """Every signal of kind "ecg" of a study table with absolute roots (`study.open_studies`).

    Args:
        source: What to call the table in messages.

    Raises:
        UserError: it has no ECG, or a rate or unit that is none.
    """
    signals = studies.filter(pl.col("signals").list.len() > 0).explode("signals").unnest("signals")
    ecgs = signals.filter(pl.col("kind") == KIND)
    if ecgs.is_empty():
        raise UserError(
            f"{source}: none of its {len(studies):,} studies has an ECG. Where a table of yours names the files, say "
            "which column does when it is read: hilum ingest table ... --columns ecg=COLUMN."
        )
    return EcgList([_describe_file(line, source) for line in ecgs.iter_rows(named=True)], ecgs.select(KEYS))


def _describe_file(line: dict[str, Any], table: Path) -> RecordSource:
    """Where a record is, and of arrays and text files what else the study table says of it."""
    file, row = split_row(Path(line["root"]) / line["path"])
    kind = file.suffix.lower()
    if kind not in (".npy", ".csv"):
        return RecordSource(file)
    rate, leads, unit = (line.get(name) for name in (ECG_RATE, ECG_LEADS, ECG_UNIT))
    name = f"{table}, study {line['dataset']}/{line['study']}"
    try:
        hertz = None if rate is None else float(rate)
    except ValueError:
        raise UserError(f"{name}: {ECG_RATE} is {rate!r}; expected samples a second. Read the table anew.") from None
    if unit not in (None, *UNITS):
        raise UserError(f"{name}: {ECG_UNIT} is {unit!r}; expected {', '.join(UNITS)}. Read the table anew.")
    names = tuple(leads.replace(",", " ").split()) if leads and kind == ".npy" else None
    return RecordSource(file, hertz, names, unit or "mV", row)


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
