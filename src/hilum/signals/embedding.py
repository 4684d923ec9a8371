"""From the ECGs of a study table to a table of teacher vectors: one frozen encoder, run once over everything."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from jaxtyping import Float32, Int64
from rich.console import Console
from torch import nn

from hilum.atomic import open_atomic
from hilum.checksums import hash_weights
from hilum.errors import UserError
from hilum.model.ecg_encoder import load_ecg_encoder
from hilum.model.ecg_weights import load_ecg_founder
from hilum.model.net1d import Net1D
from hilum.model.places import RANDOM, find_ecg_founder, find_weights
from hilum.outputs import FEATURES, check_parquet_output
from hilum.study import open_studies
from hilum.teachers.table import read_people, write_teacher_table

from . import preprocessing
from .prepare import prepare_records
from .record import RecordSource
from .rejection import RejectedRecord
from .table import EcgList, list_ecgs, show_progress

RANDOM_FOUNDER = "ECGFounder (random weights)"


@dataclass(frozen=True)
class EcgVectors:
    """What an encoder says of the records that can be used."""

    vectors: Float32[np.ndarray, "record dim"]
    kept: Int64[np.ndarray, " record"]  # place among the sources
    rejected: list[tuple[int, str]]  # place among the sources, and why
    notes: dict[str, int]  # what was done to how many records on their way


@dataclass(frozen=True)
class EcgTeacher:
    """A frozen encoder of ECGs, what it is, and whom it has seen."""

    encoder: nn.Module
    kind: str  # "ECG run", "ECGFounder" or RANDOM_FOUNDER
    people: Mapping[str, Any]  # as in pretraining.json; empty: nobody of a study table of Hilum


def load_ecg_teacher(teacher: str) -> EcgTeacher:
    """Our own (a run folder or its weights), or ECGFounder's by `ecgfounder=FILE`; `ecgfounder=random` to try it out.

    Raises:
        UserError: no such file, or neither of the two.
    """
    asked = find_ecg_founder(teacher)
    if asked is None:
        weights = find_weights(Path(teacher))
        return EcgTeacher(load_ecg_encoder(weights)[0], "ECG run", read_people(weights))
    if asked == RANDOM:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            net = Net1D()
        return EcgTeacher(net.requires_grad_(False).eval(), RANDOM_FOUNDER, {})
    return EcgTeacher(load_ecg_founder(Path(asked)), "ECGFounder", {})


def embed_ecgs(
    encoder: nn.Module,
    sources: Sequence[RecordSource],
    *,
    batch_records: int = 32,
    num_workers: int = 0,
    title: str | None = None,
) -> EcgVectors:
    """One vector for each record, on the encoder's device, in 32 bit.

    Args:
        encoder: takes (record, 12, 5000), as `hilum.signals.prepare` makes them.
        batch_records: records at a time.
        num_workers: processes that read and filter; 0: this one.
        title: of a progress bar; None: none.
    """
    device = next(encoder.parameters()).device
    vectors, waiting, kept, rejected, notes = [], [], [], [], Counter[str]()

    def encode() -> None:
        values = torch.from_numpy(np.stack(waiting)).to(device)
        vectors.append(encoder(values).float().cpu().numpy())
        waiting.clear()

    with torch.inference_mode():
        for place, found in enumerate(show_progress(prepare_records(sources, num_workers), len(sources), title)):
            if isinstance(found, RejectedRecord):
                rejected.append((place, str(found)))
                continue
            waiting.append(found.values)
            kept.append(place)
            notes.update(found.notes)
            if len(waiting) == batch_records:
                encode()
        if waiting:
            encode()
    stacked = np.concatenate(vectors) if vectors else np.zeros((0, 0), np.float32)
    return EcgVectors(stacked, np.array(kept, np.int64), rejected, dict(notes))


def write_ecg_vectors(
    data: Path,
    teacher: str,
    out: Path,
    *,
    batch_records: int = 32,
    num_workers: int = 0,
    console: Console | None = None,
) -> EcgVectors:
    """A teacher's table of the ECGs of a cache or study table: a row for each study with one that can be used.

    Of several ECGs of a study the first that can be used counts. Records that cannot be are listed in
    `<out>-rejected.parquet` with their reasons, and printed in brief.

    Args:
        data: a cache's folder or a study table.
        teacher: see `load_ecg_teacher`.
        out: .parquet; an older table of vectors is replaced.

    Raises:
        UserError: none of the records can be used; or data, teacher or out are not what they should be.
    """
    check_parquet_output(out, FEATURES, [data])
    listed = list_ecgs(open_studies(data), data)
    loaded = load_ecg_teacher(teacher)
    loaded.encoder.to("cuda" if torch.cuda.is_available() else "cpu")
    found = embed_ecgs(
        loaded.encoder,
        listed.sources,
        batch_records=batch_records,
        num_workers=num_workers,
        title=f"vectors of {loaded.kind}",
    )
    if not len(found.kept):
        raise UserError(f"{data}: none of its {len(listed.sources):,} ECGs can be used: {found.rejected[0][1]}")
    first = listed.keys[found.kept].with_row_index("place").unique(["dataset", "study"], keep="first").sort("place")
    write_rejected(out, listed, found.rejected)
    write_teacher_table(
        out,
        first.drop("place"),
        found.vectors[first["place"].to_numpy()],
        made_by=describe_teacher(loaded),
        people=loaded.people,
    )
    used = f"{len(found.kept):,} of {len(listed.sources):,} ECGs"
    lines = [f"{out}: {len(first):,} studies with a vector of {found.vectors.shape[1]:,} numbers, from {used}"]
    lines += describe_records(found.notes, found.rejected, f"{out.stem}-rejected.parquet")
    if loaded.kind == RANDOM_FOUNDER:
        lines.append(f"warning: {loaded.kind}, to try the road: these vectors know nothing.")
    (console or Console(stderr=True)).print("\n".join(lines), markup=False, highlight=False, soft_wrap=True)
    return found


def write_rejected(out: Path, listed: EcgList, rejected: Sequence[tuple[int, str]]) -> Path:
    """List the records that cannot be used beside `out` (a file or a run folder), with their reasons; also none."""
    path = out / "rejected.parquet" if out.is_dir() else out.with_name(f"{out.stem}-rejected.parquet")
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = listed.keys[[place for place, _ in rejected]].select("dataset", "study", "path")
    with open_atomic(path) as file:
        lines.with_columns(pl.Series("reason", [reason for _, reason in rejected], dtype=pl.String)).write_parquet(file)
    return path


def describe_teacher(loaded: EcgTeacher) -> dict[str, Any]:
    """What vectors depend on, for the record."""
    return {
        "teacher": loaded.kind,
        "weights": hash_weights(loaded.encoder),
        "preprocessing": {
            "rate": preprocessing.RATE,
            "notch": [preprocessing.MAINS, preprocessing.MAINS_QUALITY],
            "band": list(preprocessing.BAND),
            "order": preprocessing.ORDER,
            "median_seconds": preprocessing.MEDIAN_SECONDS,
        },
    }


def describe_records(notes: Mapping[str, int], rejected: Sequence[tuple[int, str]], file: str) -> list[str]:
    """What was done to records on their way and which were rejected, in lines for the person at the keyboard."""
    lines = [f"  {count:,} {note}" for note, count in Counter(notes).most_common(5)]
    if rejected:
        lines.append(f"  {len(rejected):,} rejected, listed in {file}:")
        lines += [f"    {reason}" for _, reason in rejected[:3]]
    return lines
