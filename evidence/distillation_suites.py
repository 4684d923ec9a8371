"""How the distilled encoders are judged: `hilum evaluate pacx` on one thing after the other.

`python -m evidence.distillation_suites NAME`; every cell that is done is kept.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from evidence.distillation_arms import ABROAD, MAE, list_arms
from evidence.distillation_caches import STRUCTURES, TEACHERS, WORK, name_teacher, open_cache, open_drawn
from evidence.distillation_run import is_trained, name_run
from hilum.cache import Cache
from hilum.commands.paper import run_evaluate

MAX_SEEDS = 5
# Of the suites' own comparisons, in all their metrics; the summary's, of macro AUROC, take as many as everywhere.
NUM_RESAMPLES = 300
# Arms whose features are asked for places: presets, tunings, and what any training on these images would do.
PLACED = ("starts", "presets", "tuning", "mixtures", "places")
CONTROLS = ("shuffled pairs", "continued mae", "images alone")
TRANSFER = (MAE, "pacx", "pacx of one institution", "shuffled pairs", "images alone")


def list_runs(names: tuple[str, ...] = ()) -> list[str]:
    """ARM=RUN,RUN,... of the arms named, or of all, as far as they are trained."""
    found = []
    for name, arm in list_arms().items():
        runs = [str(name_run(arm, seed)) for seed in range(MAX_SEEDS) if is_trained(arm, seed)]
        if runs and name in (names or list_arms()):
            found.append(f"{name}={','.join(runs)}")
    return found


def name_suite(name: str) -> Path:
    """Its folder."""
    return WORK / "suites" / name


def judge(name: str, cache: Cache, names: tuple[str, ...] = (), **settings: Any) -> None:
    """Run a suite's cells that have no result."""
    runs = list_runs(names)
    run_evaluate(cache.path, runs, name_suite(name), suite="pacx", num_resamples=NUM_RESAMPLES, **settings)


def judge_physiology() -> None:
    """Physiology with all labels and few, what features tell of the teachers' vectors, and drift."""
    teachers = {name: name_teacher(name) for name in TEACHERS}
    judge(
        "physiology", open_cache(), task="physiology", parts=("probe", "alignment", "drift"), teachers=teachers,
        paper=True,
    )  # fmt: skip


def judge_findings() -> None:
    """The findings of the images, among them those that no ECG and no laboratory value knows of."""
    judge("findings", open_cache(), task="findings", parts=("probe",))


def judge_abroad() -> None:
    """Physiology at institutions that one of the arms was not distilled at."""
    others = tuple(name for name in open_cache().datasets if name not in ABROAD)
    judge("abroad", open_cache(), TRANSFER, task="physiology", parts=("probe",), leave_out=others)


def judge_places() -> None:
    """Segmentation on frozen encoders, and where attention goes."""
    named = tuple(name for name, arm in list_arms().items() if arm.question in PLACED or name in CONTROLS)
    judge(
        "places", open_drawn(), named, task="physiology", parts=("segmentation", "rollout"), decoders=("light",),
        decoder_epochs=20, views_per_step=16, masks=WORK / "drawn", structures=STRUCTURES,
    )  # fmt: skip


SUITES: dict[str, Callable[[], None]] = {
    "physiology": judge_physiology,
    "findings": judge_findings,
    "abroad": judge_abroad,
    "places": judge_places,
}

if __name__ == "__main__":
    torch.set_num_threads(1)
    SUITES[sys.argv[1]]()
