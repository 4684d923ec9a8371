"""Teachers of our own from a study table: encoders of its ECGs and of its laboratory values, by its training split."""

from __future__ import annotations

from pathlib import Path

import polars as pl
from rich.console import Console

from hilum.config.ecg import EcgPretrainingConfig
from hilum.config.laboratory import LaboratoryConfig
from hilum.errors import UserError
from hilum.laboratory.pretraining import pretrain_laboratory
from hilum.laboratory.studies import collect_labs
from hilum.laboratory.vocabulary import read_vocabulary
from hilum.signals.embedding import describe_records, write_rejected
from hilum.signals.pretraining import pretrain_ecg
from hilum.signals.table import list_ecgs, prepare_thin
from hilum.study import open_studies
from hilum.training.run_folder import check_unused

from .table import list_people


def train_ecg_teacher(
    config: EcgPretrainingConfig, data: Path, out: Path, *, num_workers: int = 0, resume: bool = False
) -> int:
    """Train our own encoder on the ECGs of the training studies, without labels.

    Args:
        data: A cache's folder, or a study table with splits.
        out: Run folder. Records that cannot be used are listed in its rejected.parquet.
        num_workers: Processes that read and filter; 0: this one.

    Returns:
        How many records could not be used.

    Raises:
        UserError, SystemExit: as `pretrain_ecg`; or there is no ECG, or no training study.
    """
    check_unused(out, resume=resume)
    studies, console = _select_training(open_studies(data), data), Console(stderr=True)
    listed = list_ecgs(studies, data)
    found = prepare_thin(listed.sources, num_workers=num_workers, title="reading and filtering ECGs")
    if not len(found.kept):
        raise UserError(f"{data}: none of its {len(listed.sources):,} ECGs can be used: {found.rejected[0][1]}")
    out.mkdir(parents=True, exist_ok=True)
    rejected = write_rejected(out, listed, found.rejected)
    lines = [f"{len(found.kept):,} of {len(listed.sources):,} ECGs of {len(studies):,} training studies"]
    lines += describe_records(found.notes, found.rejected, str(rejected))
    console.print("\n".join(lines), markup=False, highlight=False, soft_wrap=True)
    seen = studies.join(listed.keys[found.kept], on=["dataset", "study"], how="semi")
    pretrain_ecg(found.values, listed.patient[found.kept], out, config, people=list_people(seen, data), resume=resume)
    return len(found.rejected)


def train_lab_teacher(
    config: LaboratoryConfig, data: Path, out: Path, *, vocabulary: str = "symile", resume: bool = False
) -> None:
    """Train an auto-encoder of laboratory values on the training studies; validation studies measure it.

    Args:
        data: A cache's folder, or a study table with splits.
        out: Run folder.
        vocabulary: "symile" (P 1.2), or a CSV file of another.

    Raises:
        UserError, SystemExit: as `pretrain_laboratory`; or there is no laboratory value, or no training study.
    """
    check_unused(out, resume=resume)
    studies = open_studies(data)
    _select_training(studies, data)
    table = collect_labs(studies, read_vocabulary(vocabulary), str(data))
    for note in table.notes:
        Console(stderr=True).print(f"- {note}", markup=False, highlight=False)
    train = table.take(table.find_rows("train"))
    rows = pl.DataFrame({"dataset": train.dataset, "study": train.study})
    seen = studies.join(rows, on=["dataset", "study"], how="semi")
    pretrain_laboratory(config, table, out, people=list_people(seen, data), resume=resume)


def _select_training(studies: pl.DataFrame, data: Path) -> pl.DataFrame:
    chosen = studies.filter(pl.col("split") == "train")
    if chosen.is_empty():
        lacks = "has no splits yet" if studies["split"].null_count() == len(studies) else "has no training study"
        raise UserError(
            f"{data}: it {lacks}, so that nobody can tell whom a teacher may learn from. `hilum cache` draws splits by "
            "patient: give the cache's folder as --data."
        )
    return chosen
