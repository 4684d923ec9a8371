"""The phantom that distillations are compared on, its teachers, and another whose structures are drawn.

12,000 studies of two institutions whose images, ECGs and laboratory values show one planted physiology; and 1,500
studies of other patients with masks of what is where, for segmentation and attention. Teachers are our own: an ECG
encoder and a laboratory auto-encoder, both trained on what the training patients have and on nobody's labels.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from evidence.alignment_caches import FRACTIONS, IMAGE_SIZE, SHORT_SIDE
from hilum.cache import Cache
from hilum.cache.writer import build_cache
from hilum.config.ecg import EcgPretrainingConfig
from hilum.config.laboratory import build_laboratory
from hilum.identifiers import Naming
from hilum.laboratory.embedding import write_lab_vectors
from hilum.phantom.archive import write_archive
from hilum.phantom.physiology.freeze import hash_physiology
from hilum.signals.embedding import write_ecg_vectors
from hilum.sources.signal_files import LabsFile
from hilum.sources.table import ingest_table
from hilum.teachers.runs import train_ecg_teacher, train_lab_teacher

NUM_STUDIES, NUM_DRAWN, ECG_STEPS = 12_000, 1_500, 600
WORK = Path("runs/evidence") / f"distillation-{hash_physiology()[:8]}"
STRUCTURES = ("heart", "lungs", "bone", "Pleural Effusion")
TEACHERS = ("ecg", "labs")
_write = partial(write_archive, size=IMAGE_SIZE, workers=2, physiology=True)
_NAMING = Naming(keep_ids=True, id_space="")


def prepare_caches() -> None:
    """Write, ingest and cache what is missing, and train the teachers."""
    WORK.mkdir(parents=True, exist_ok=True)
    _write(WORK / "archive", NUM_STUDIES)
    _write(WORK / "drawn", NUM_DRAWN, seed=1, masks=True)
    for name in ("archive", "drawn"):
        table = WORK / f"{name}.parquet"
        if not table.exists():
            ingest_table(
                WORK / name / "studies.csv", table, columns={"dataset": "institution"},
                labs=LabsFile(WORK / name / "laboratory.csv"), naming=_NAMING,
            )  # fmt: skip
        build_cache(table, _name_cache(name), workers=2, short_side=SHORT_SIDE, split_fractions=FRACTIONS)
    data = _name_cache("archive")
    if not name_teacher("ecg").exists():
        run = WORK / "teacher-ecg"
        train_ecg_teacher(EcgPretrainingConfig(steps=ECG_STEPS), data, run, num_workers=2, resume=True)
        write_ecg_vectors(data, str(run), name_teacher("ecg"), num_workers=2)
    if not name_teacher("labs").exists():
        run = WORK / "teacher-labs"
        train_lab_teacher(build_laboratory("hilum"), data, run, resume=True)
        write_lab_vectors(data, run, name_teacher("labs"))


def open_cache() -> Cache:
    return Cache.open(_name_cache("archive"))


def open_drawn() -> Cache:
    """The cache of the archive that has masks."""
    return Cache.open(_name_cache("drawn"))


def name_teacher(name: str) -> Path:
    """Table of a teacher's vectors."""
    return WORK / f"{name}.parquet"


def _name_cache(name: str) -> Path:
    return WORK / f"cache-{name}"
