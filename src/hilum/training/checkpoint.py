"""Checkpoints that are there whole or not at all.

A checkpoint is a folder `step-00000100` that appears in one move (`atomic.make_folder_atomic`): a kill at any moment
leaves it whole or leaves a hidden leftover that the next start removes. Weights are safetensors; the optimiser's state
is a torch file that is only ever read with `weights_only=True`; `checksums.json` holds the SHA-256 of both, checked at
reading.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from hilum.atomic import make_folder_atomic, name_temporary, remove_leftovers
from hilum.checksums import hash_file

_FILES = ("model.safetensors", "state.pt")


class Checkpoint(NamedTuple):
    """What a run needs to go on: weights by name, and everything else (optimiser, controller, position)."""

    step: int
    weights: dict[str, Tensor]
    state: dict[str, Any]


def save_checkpoint(folder: Path, checkpoint: Checkpoint, *, keep: int = 2) -> Path:
    """Write `folder/step-XXXXXXXX` in one move, then remove all but it and the `keep` before it.

    A step that is already there is left as it is: the same step of the same run has the same content.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"step-{checkpoint.step:08d}"
    if not path.exists():
        with make_folder_atomic(path) as work:
            weights = {name: value.detach().cpu().contiguous() for name, value in checkpoint.weights.items()}
            save_file(weights, work / "model.safetensors")
            with (work / "state.pt").open("wb") as file:  # by Python's file, so that a full disk is said as such
                torch.save(checkpoint.state, file)
            checksums = {name: hash_file(work / name) for name in _FILES}
            (work / "checksums.json").write_text(json.dumps({"sha256": checksums}, indent=2) + "\n")
    for old in list_checkpoints(folder)[: -keep - 1]:
        # Renamed first: half a removal must not look like a checkpoint.
        shutil.rmtree(old.rename(name_temporary(old)))
    return path


def load_latest_checkpoint(folder: Path) -> Checkpoint | None:
    """The newest checkpoint whose files are as they were written; None where there is none.

    Leftovers of killed writers are removed, so the caller must be the run's only writer. A checkpoint whose checksums
    fail (a disk that lost writes) is passed over for the one before it, and kept as `damaged-step-...`.
    """
    if not folder.is_dir():
        return None
    remove_leftovers(folder)
    for path in reversed(list_checkpoints(folder)):
        if is_intact(path):
            state = torch.load(path / "state.pt", map_location="cpu", weights_only=True)
            return Checkpoint(int(path.name.removeprefix("step-")), load_file(path / "model.safetensors"), state)
        path.rename(path.with_name(f"damaged-{path.name}"))
    return None


def list_checkpoints(folder: Path) -> list[Path]:
    """Finished checkpoints, oldest first."""
    return sorted(path for path in folder.glob("step-*") if path.is_dir())


def is_intact(path: Path) -> bool:
    """Whether the checkpoint's files are as they were written."""
    try:
        expected = json.loads((path / "checksums.json").read_bytes())["sha256"]
        return all(hash_file(path / name) == expected[name] for name in _FILES)
    except (OSError, ValueError, KeyError):
        return False  # a missing, cut or unreadable file is what this function is asked about
