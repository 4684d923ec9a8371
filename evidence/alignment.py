"""Which alignment of views works? All forms on the phantom, with few labels and with all.

Every arm is screened with one seed; presets, the best and the controls get more. Each cell (an arm and a seed) runs on
one thread, two at a time: 10 to 20 minutes where nothing else computes, 50 with the released report decoder. It leaves
results/alignment/cells/*.json as it comes; work is kept in runs/evidence. Stop it at any time; it continues where it
was. `summary.json` and the plots are made from the cells.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rich.console import Console

from evidence.alignment_arms import PRESETS, Arm, list_arms
from evidence.alignment_caches import WORK, prepare_caches
from evidence.alignment_cell import is_done, name_cell
from evidence.alignment_summary import write_summary

AT_ONCE = 2  # a second thread speeds a step of this size by a tenth, a second cell doubles what is done
# Arms with more seeds: what users ask for by name, the best of the screening, and the control of reports.
CHOSEN = (*PRESETS, "InfoNCE", "V2T, InfoNCE within archives", "V2T, others' reports")
SEEDS = 3


def main() -> None:
    """Run the cells that have no result, then sum up."""
    console = Console(stderr=True)
    prepare_caches()
    arms = list_arms()
    cells = [(arm, 0) for arm in arms.values()] + [(arms[name], seed) for seed in range(1, SEEDS) for name in CHOSEN]
    waiting = [cell for cell in cells if not is_done(*cell)]
    console.print(f"{len(cells)} cells, {len(waiting)} to run, {AT_ONCE} at a time")
    with ThreadPoolExecutor(AT_ONCE) as pool:
        failed = [line for line in pool.map(_run_cell, waiting) if line]
    for line in failed:
        console.print(line, style="red", markup=False)
    write_summary()
    if failed:
        raise SystemExit(1)


def _run_cell(cell: tuple[Arm, int]) -> str:
    """Run a cell in a process of its own; what went wrong, or nothing."""
    arm, seed = cell
    log = WORK / "logs" / f"{name_cell(arm, seed)}.txt"
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "evidence.alignment_cell", arm.name, str(seed)]
    begin = time.monotonic()
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with log.open("w") as file:
        code = subprocess.run(command, check=False, env=environment, stdout=file, stderr=file).returncode
    minutes = (time.monotonic() - begin) / 60
    Console(stderr=True).print(f"{arm.name}, seed {seed}: {minutes:.1f} minutes", highlight=False)
    return f"{arm.name}, seed {seed}: failed, see {Path(log)}" if code else ""
