"""The closed vocabularies that ingest, study table, cache and batch share; the latter two store places in them.

Imports nothing, so that ingest waits for no torch and training for no polars.
"""

from __future__ import annotations

from typing import Literal, get_args

# Anything nobody named is `unknown`, never a guess. The first three kinds are the families of the MVMAE paper (frontal,
# lateral, other); the mammographic ones follow.
ViewKind = Literal["frontal", "lateral", "unknown", "cc", "mlo"]
Laterality = Literal["unknown", "left", "right", "both"]

VIEW_KINDS: tuple[ViewKind, ...] = get_args(ViewKind)
LATERALITIES: tuple[Laterality, ...] = get_args(Laterality)
SPLITS = ("train", "val", "test")
# DICOM modalities taken where the user names none: projection radiography. CT and MR are volumes, PX and IO are teeth.
MODALITIES = ("CR", "DX", "RG", "MG")
