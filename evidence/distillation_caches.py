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
from hilum.cache_writer import build_cache
from hilum.config import CropConfig
from hilum.evaluate.masks import MaskTable, build_masks, read_phantom_masks
from hilum.identifiers import Naming
from hilum.phantom.archive import write_archive
from hilum.phantom.physiology.freeze import hash_physiology
from hilum.sources.table import ingest_table

NUM_STUDIES, NUM_DRAWN = 12_000, 1_500
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
            ingest_table(WORK / name / "studies.csv", table, columns={"dataset": "institution"}, naming=_NAMING)
        build_cache(table, _name_cache(name), workers=2, short_side=SHORT_SIDE, split_fractions=FRACTIONS)
    cache = open_cache()
    for name, make in (("ecg", _make_ecg_vectors), ("labs", _make_laboratory_vectors)):
        if not name_teacher(name).exists():
            make(cache)


def open_cache() -> Cache:
    return Cache.open(_name_cache("archive"))


def open_drawn() -> Cache:
    """The cache of the archive that has masks."""
    return Cache.open(_name_cache("drawn"))


def read_masks(size: int, crop: CropConfig) -> MaskTable:
    """Masks of heart, lungs, bone and effusion on the squares that an encoder of this size and crop reads."""
    cache = open_drawn()
    return build_masks(cache, read_phantom_masks(WORK / "drawn", cache, STRUCTURES), STRUCTURES, size=size, crop=crop)


def name_teacher(name: str) -> Path:
    """Table of a teacher's vectors."""
    return WORK / f"{name}.parquet"


def _name_cache(name: str) -> Path:
    return WORK / f"cache-{name}"
