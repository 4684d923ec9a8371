"""Does physiology teach an encoder of images? PaCX-MAE and its controls on the phantom, with few labels and with all.

Every arm is trained with one seed, the presets and the controls with three; each run takes minutes on one thread, two
at a time. `hilum evaluate pacx` then judges them all on physiology, on findings, at an institution that one of them has
not seen, and on images with masks. Stop it at any time; it continues where it was. Work is kept in runs/evidence, means
and differences with their intervals go to results/distillation.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rich.console import Console

from evidence.distillation_arms import MAE, list_arms
from evidence.distillation_caches import WORK, prepare_caches
from evidence.distillation_run import is_trained
from evidence.distillation_suites import SUITES
from evidence.distillation_summary import write_summary

AT_ONCE, SEEDS = 2, 3
# Arms with more seeds: what others begin with, the preset, and what must not gain as it does.
CHOSEN = (
    MAE, "pacx", "pacx of one institution", "shuffled pairs", "random teachers", "continued mae", "images alone",
    "mvmae_v2t", "mvmae_v2t with teachers",
)  # fmt: skip


def main() -> None:
    """Train what is not trained, judge, and sum up."""
    prepare_caches()
    arms = list_arms()
    runs = [(arm, 0) for arm in arms.values()] + [(arms[name], seed) for seed in range(1, SEEDS) for name in CHOSEN]
    # What others begin with comes first, so that no two processes train the same.
    for are_starts in (True, False):
        waiting = [(arm, seed) for arm, seed in runs if (arm.start is None) == are_starts and not is_trained(arm, seed)]
        run_all([["evidence.distillation_run", arm.name, str(seed)] for arm, seed in waiting])
    run_all([["evidence.distillation_suites", name] for name in SUITES])
    write_summary()


def run_all(commands: Sequence[Sequence[str]]) -> None:
    """Run modules in processes of their own, some at once; all of them, before any failure is reported."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        failed = [line for line in pool.map(_run, commands) if line]
    if failed:
        raise SystemExit("\n".join(failed))


def _run(command: Sequence[str]) -> str:
    """What went wrong, or nothing."""
    name = " ".join(command[1:])
    log = WORK / "logs" / f"{name}.txt"
    log.parent.mkdir(parents=True, exist_ok=True)
    Console(stderr=True).print(f"{name} ...", highlight=False)
    with log.open("w") as file:
        code = subprocess.run(
            [sys.executable, "-m", *command], check=False, env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=file,
            stderr=file,
        ).returncode  # fmt: skip
    return f"{name}: failed, see {Path(log)}" if code else ""
