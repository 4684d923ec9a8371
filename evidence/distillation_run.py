"""One training: an arm with one seed, its start before it, on one thread.

`python -m evidence.distillation_run ARM SEED`; a stopped one continues where it was.
"""

from __future__ import annotations

import shutil
import sys
from dataclasses import replace
from pathlib import Path

import torch

from evidence.distillation_arms import Arm, list_arms
from evidence.distillation_caches import WORK, name_teacher, open_cache
from hilum.config import load_config
from hilum.training.pretrain import pretrain


def name_run(arm: Arm, seed: int) -> Path:
    """Its folder."""
    return WORK / "runs" / f"{''.join(letter if letter.isalnum() else '-' for letter in arm.name)}-{seed}"


def is_trained(arm: Arm, seed: int) -> bool:
    """Whether there are weights of these settings."""
    folder = name_run(arm, seed)
    if not (folder / "weights.safetensors").exists():
        return False
    found, wanted = load_config(folder / "config.json"), replace(arm.config, seed=seed)
    # A run adds what it was given: tables of vectors, a vocabulary, the weights that it began with.
    teachers = replace(found.teachers, tables=wanted.teachers.tables)
    return replace(found, teachers=teachers, text=wanted.text, initial_weights=wanted.initial_weights) == wanted


def train(arms: dict[str, Arm], name: str, seed: int) -> Path:
    """Train what is not finished; the run's folder. One of settings that have changed since is thrown away."""
    arm, folder = arms[name], name_run(arms[name], seed)
    if is_trained(arm, seed):
        return folder
    init = None if arm.start is None else train(arms, arm.start, seed)
    if (folder / "weights.safetensors").exists():
        shutil.rmtree(folder)
    teachers = {teacher: name_teacher(teacher) for teacher in arm.teachers}
    return pretrain(
        replace(arm.config, seed=seed), open_cache().path, folder, init=init, teachers=teachers, resume=True
    )


if __name__ == "__main__":
    torch.set_num_threads(1)
    train(list_arms(), sys.argv[1], int(sys.argv[2]))
