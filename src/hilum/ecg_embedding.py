"""From a table of ECG records to a table of teacher vectors: one frozen encoder, run once over everything."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from jaxtyping import Float32, Int64
from rich.console import Console
from torch import nn

from .atomic import open_atomic
from .ecg_records import read_ecg_manifest, show_progress
from .errors import UserError
from .evaluate.features import hash_weights
from .model.ecg_encoder import FORMAT, load_ecg_encoder
from .model.ecg_weights import load_ecg_founder
from .model.places import find_checkpoint, find_weights
from .model.weights import read_metadata
from .outputs import FEATURES, check_parquet_output
from .signals import preprocessing
from .signals.prepare import prepare_records
from .signals.record import RecordSource
from .signals.rejection import RejectedRecord


@dataclass(frozen=True)
class EcgVectors:
    """What an encoder says of the records that can be used."""

    vectors: Float32[np.ndarray, "record dim"]
    kept: Int64[np.ndarray, " record"]  # place among the sources
    rejected: list[tuple[int, str]]  # place among the sources, and why
    notes: dict[str, int]  # what was done to how many records on their way


def load_ecg_teacher(path: Path) -> tuple[nn.Module, str]:
    """A frozen encoder of ECGs and what it is: "hilum" (a run folder or its weights) or "ECGFounder".

    Raises:
        UserError: no such file, or neither of the two.
    """
    if path.is_dir():
        return load_ecg_encoder(find_weights(path))[0], "hilum"
    find_checkpoint(path)
    if path.suffix == ".safetensors" and read_metadata(path).get("format") == FORMAT:
        return load_ecg_encoder(path)[0], "hilum"
    return load_ecg_founder(path), "ECGFounder"


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
    manifest: Path,
    teacher: Path,
    out: Path,
    *,
    batch_records: int = 32,
    num_workers: int = 0,
    console: Console | None = None,
) -> EcgVectors:
    """A Parquet file with one row for each ECG that can be used: dataset, study, path, row and `vector`.

    Its metadata (hilum_features) say which weights and preprocessing made it. Records that cannot be used are listed
    in `<out>-rejected.parquet` with their reasons, and printed in brief.

    Args:
        manifest: see `read_ecg_manifest`.
        teacher: see `load_ecg_teacher`.
        out: .parquet; an older table of vectors is replaced.

    Raises:
        UserError: none of the records can be used; or manifest, teacher or out are not what they should be.
    """
    check_parquet_output(out, FEATURES, [manifest, teacher])
    listed = read_ecg_manifest(manifest)
    encoder, kind = load_ecg_teacher(teacher)
    encoder.to("cuda" if torch.cuda.is_available() else "cpu")
    found = embed_ecgs(
        encoder, listed.sources, batch_records=batch_records, num_workers=num_workers, title=f"vectors of {kind}"
    )
    rejected = listed.keys[[place for place, _ in found.rejected]].select("path", "row")
    rejected = rejected.with_columns(pl.Series("reason", [reason for _, reason in found.rejected], dtype=pl.String))
    if not len(found.kept):
        raise UserError(f"{manifest}: none of its {len(listed.sources):,} records can be used: {found.rejected[0][1]}")
    column = pl.Series("vector", found.vectors, dtype=pl.Array(pl.Float32, found.vectors.shape[1]))
    out.parent.mkdir(parents=True, exist_ok=True)
    with open_atomic(out.with_name(f"{out.stem}-rejected.parquet")) as file:
        rejected.write_parquet(file)
    with open_atomic(out) as file:
        made_by = json.dumps(describe_teacher(encoder, kind))
        listed.keys[found.kept].with_columns(column).write_parquet(file, metadata={FEATURES: made_by})
    _print_summary(console or Console(stderr=True), found, len(listed.sources), out)
    return found


def describe_teacher(encoder: nn.Module, kind: str) -> dict[str, Any]:
    """What vectors depend on, for the record."""
    return {
        "teacher": kind,
        "weights": hash_weights(encoder),
        "preprocessing": {
            "rate": preprocessing.RATE,
            "notch": [preprocessing.MAINS, preprocessing.MAINS_QUALITY],
            "band": list(preprocessing.BAND),
            "order": preprocessing.ORDER,
            "median_seconds": preprocessing.MEDIAN_SECONDS,
        },
    }


def _print_summary(console: Console, found: EcgVectors, num: int, out: Path) -> None:
    lines = [f"{out}: {len(found.kept):,} of {num:,} records, vectors of {found.vectors.shape[1]:,} numbers"]
    lines += [f"  {count:,} {note}" for note, count in Counter(found.notes).most_common(5)]
    if found.rejected:
        lines.append(f"  {len(found.rejected):,} rejected, listed in {out.stem}-rejected.parquet:")
        lines += [f"    {reason}" for _, reason in found.rejected[:3]]
    console.print("\n".join(lines), markup=False, highlight=False, soft_wrap=True)
