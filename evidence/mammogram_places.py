"""Where cells of the comparison of MV-MLM lie, what they are called, and whether they are done."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from evidence.mammogram_arms import Arm
from evidence.mammogram_caches import WORK
from hilum.atomic import open_atomic
from hilum.config import parse_config
from hilum.evaluate.result import to_number, write_json

RESULTS = Path("results/mammograms")
NUM_RESAMPLES = 1000


@dataclass(frozen=True)
class Number:
    """A number, and what it is on each resample of the patients, which are the same for all arms."""

    value: float  # NaN: too few positives
    resampled: Float[np.ndarray, " resample"]


Judged = dict[str, Number]


def name_cell(arm: Arm, seed: int) -> str:
    """Readable name of a cell's run folder and of its result."""
    return f"{''.join(letter if letter.isalnum() else '-' for letter in arm.name)}-{seed}"


def name_run(arm: Arm, seed: int) -> Path:
    """Folder of its training."""
    return WORK / "runs" / name_cell(arm, seed)


def name_numbers(arm: Arm, seed: int) -> Path:
    return RESULTS / "cells" / f"{name_cell(arm, seed)}.json"


def name_resamples(arm: Arm, seed: int) -> Path:
    return name_numbers(arm, seed).with_suffix(".npz")


def is_done(arm: Arm, seed: int) -> bool:
    """Whether there are numbers of these settings and their resamples."""
    if not (name_numbers(arm, seed).exists() and name_resamples(arm, seed).exists()):
        return False
    kept = read_numbers(arm, seed)
    return kept["texts"] == arm.texts and parse_config(kept["settings"]) == replace(arm.config, seed=seed)


def read_numbers(arm: Arm, seed: int) -> dict[str, Any]:
    """All but the resamples."""
    return json.loads(name_numbers(arm, seed).read_bytes())


def read_judged(arm: Arm, seed: int) -> Judged:
    """The numbers with their resamples."""
    numbers = read_numbers(arm, seed)["numbers"]
    with np.load(name_resamples(arm, seed), allow_pickle=False) as stored:
        return {name: Number(np.nan if value is None else value, stored[name]) for name, value in numbers.items()}


def write_cell(arm: Arm, seed: int, judged: Judged, about: dict[str, Any]) -> None:
    """The resamples, then the numbers, which say that the cell is done."""
    path = name_resamples(arm, seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open_atomic(path) as file:
        resampled = {name: one.resampled.astype(np.float32) for name, one in judged.items()}
        np.savez_compressed(file, allow_pickle=False, **resampled)
    numbers = {name: to_number(one.value) for name, one in judged.items()}
    write_json(
        name_numbers(arm, seed), {"arm": arm.name, "seed": seed, "texts": arm.texts, **about, "numbers": numbers}
    )
