"""A vector for each row of a laboratory table, by a trained auto-encoder."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32
from rich.console import Console

from hilum.atomic import open_atomic
from hilum.model.lab_weights import LabTeacher, load_lab_teacher

from .percentiles import check_vocabulary, fill_placeholders
from .table import LaboratoryTable

_ROWS = 8192  # at a time


@torch.inference_mode()
def embed_laboratory(table: LaboratoryTable, teacher: LabTeacher | Path) -> Float32[np.ndarray, "row dim"]:
    """The encoder's vectors of all rows, in their order.

    A row without any value gets a vector too: what the encoder makes of nothing, the same for all such rows. It says
    nothing of the patient; `write_vectors` leaves such rows out. A teacher with `mask_missing` off sees mean
    percentiles in missing slots, as in the released code (P 1.2, bug).

    Raises:
        UserError: the table's vocabulary or scale is not the teacher's.
    """
    teacher = load_lab_teacher(teacher) if isinstance(teacher, Path) else teacher
    check_vocabulary(teacher.vocabulary, table, "this auto-encoder")
    percentiles = teacher.percentiles.transform(table)
    if not teacher.config.mask_missing:
        percentiles = fill_placeholders(percentiles, teacher.percentiles.mean)
    encoder = teacher.autoencoder.encoder
    device = next(encoder.parameters()).device
    parts = [
        encoder(*(torch.from_numpy(part[start : start + _ROWS]).to(device) for part in percentiles)).cpu().numpy()
        for start in range(0, len(table), _ROWS)
    ]
    return np.concatenate(parts) if parts else np.zeros((0, teacher.config.width), np.float32)


def write_vectors(values: Path, teacher: LabTeacher | Path, out: Path) -> int:
    """A Parquet file of one row for each study that has a laboratory value: a teacher's table.

    Columns: dataset, study, patient, split, num_observed (laboratory values it was made from) and `vector`. Studies
    without any value have no row: absent is absent, and not a vector that stands for it.

    Args:
        values: A laboratory table that `write_laboratory` wrote, whose ids are those of the study table.
        teacher: What `load_lab_teacher` gives, or the file or run folder it reads.
        out: The file to write.

    Returns:
        The number of rows written.

    Raises:
        UserError: as `embed_laboratory`.
    """
    import polars as pl  # not for those who embed arrays only

    from .storage import read_laboratory

    table = read_laboratory(values)
    teacher = load_lab_teacher(teacher) if isinstance(teacher, Path) else teacher
    check_vocabulary(teacher.vocabulary, table, "this auto-encoder")
    num_observed = teacher.percentiles.transform(table).observed.sum(axis=1)
    known = table.take(np.flatnonzero(num_observed))
    if empty := len(table) - len(known):
        Console(stderr=True).print(f"{empty:,} of {len(table):,} studies have no laboratory value: no vector.")
    vectors = embed_laboratory(known, teacher)
    frame = pl.DataFrame(
        {
            "dataset": pl.Series([known.dataset] * len(known), dtype=pl.String),
            "study": pl.Series(known.study, dtype=pl.String),
            "patient": pl.Series(known.patient, dtype=pl.String),
            "split": pl.Series(known.split or [None] * len(known), dtype=pl.String),
            "num_observed": num_observed[num_observed > 0].astype(np.int32),
            "vector": pl.Series(vectors, dtype=pl.Array(pl.Float32, vectors.shape[1])),
        }
    )
    made_by = {"kind": "laboratory", "weights": teacher.digest, "preset": teacher.config.preset, "values": table.digest}
    with open_atomic(out) as file:
        frame.write_parquet(file, metadata={"hilum_vectors": json.dumps(made_by)})
    return len(frame)
