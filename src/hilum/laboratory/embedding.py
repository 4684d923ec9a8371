"""A vector for each row of a laboratory table, by a trained auto-encoder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32
from rich.console import Console

from hilum.model.lab_weights import LabTeacher, load_lab_teacher
from hilum.model.places import find_weights

from .percentiles import check_vocabulary, fill_placeholders
from .table import LaboratoryTable

_ROWS = 8192  # at a time


@torch.inference_mode()
def embed_laboratory(table: LaboratoryTable, teacher: LabTeacher | Path) -> Float32[np.ndarray, "row dim"]:
    """The encoder's vectors of all rows, in their order.

    A row without any value gets a vector too: what the encoder makes of nothing, the same for all such rows. It says
    nothing of the patient; `write_lab_vectors` leaves such rows out. A teacher with `mask_missing` off sees mean
    percentiles in missing slots, as in the released code (P 1.2, bug).

    Raises:
        UserError: the table's vocabulary is not the teacher's.
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


def write_lab_vectors(data: Path, run: Path, out: Path, console: Console | None = None) -> int:
    """A teacher's table of the laboratory values of a cache or study table: a row for each study that has one.

    Besides the columns of `teachers/table.py` it has num_observed, the number of values that a vector was made from.
    Studies without any value have no row: absent is absent, and not a vector that stands for it.

    Args:
        data: A cache's folder or a study table.
        run: The run folder of an auto-encoder, or its weights.
        out: .parquet; an older table of vectors is replaced.

    Returns:
        The number of rows written.

    Raises:
        UserError: no study has one of the auto-encoder's values, or data, run or out are not what they should be.
    """
    import polars as pl  # not for those who embed arrays only

    from hilum.outputs import FEATURES, check_parquet_output
    from hilum.study import open_studies
    from hilum.teachers.table import read_people, write_teacher_table

    from .studies import collect_labs

    check_parquet_output(out, FEATURES, [data])
    teacher, studies = load_lab_teacher(run), open_studies(data)
    table = collect_labs(studies, teacher.vocabulary, str(data))
    num_observed = teacher.percentiles.transform(table).observed.sum(axis=1)
    known = table.take(np.flatnonzero(num_observed))
    vectors = embed_laboratory(known, teacher)
    rows = pl.DataFrame(
        {
            "dataset": known.dataset,
            "study": known.study,
            "num_observed": num_observed[num_observed > 0].astype(np.int32),
        }
    )
    names = studies.select("dataset", "study", "group", "split")
    rows = rows.join(names, on=["dataset", "study"], maintain_order="left")
    made_by = {
        "teacher": "laboratory run",
        "weights": teacher.digest,
        "preset": teacher.config.preset,
        "values": known.digest,
    }
    write_teacher_table(
        out,
        rows.select("dataset", "study", "group", "split", "num_observed"),
        vectors,
        made_by=made_by,
        people=read_people(find_weights(run)),
    )
    lines = [f"{out}: {len(known):,} of {len(studies):,} studies with a vector of {vectors.shape[1]:,} numbers"]
    lines += [f"  {note}" for note in table.notes]
    (console or Console(stderr=True)).print("\n".join(lines), markup=False, highlight=False, soft_wrap=True)
    return len(known)
