"""Does MV-MLM's way of learning work, and what of it? Its recipes and ablations on the breast phantom.

Every arm has three networks, the four recipes that matter five. Each cell (an arm and a seed) runs on one thread, two
at a time, and leaves results/mammograms/cells/*.json as it comes; work is kept in runs/evidence. Stop it at any time;
it continues where it was. `summary.json` and the plots are made from the cells; `hilum evaluate mvmlm` judges the four
recipes as users would, and leaves its tables too.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rich.console import Console

from evidence.mammogram_arms import FINAL, list_arms
from evidence.mammogram_caches import WORK, open_cache, prepare_cache
from evidence.mammogram_judging import DRAWS, FEW, TASKS
from evidence.mammogram_places import NUM_RESAMPLES, RESULTS, is_done, name_run
from evidence.mammogram_summary import write_summary
from evidence.mammogram_texts import prepare_texts
from hilum.commands.paper import run_evaluate
from hilum.evaluate.paper.index import INDEX

AT_ONCE = 2  # a second thread speeds a step of this size by little, a second cell doubles what is done


def main() -> None:
    """Run the cells that have no result, the final ones last, then sum up."""
    console = Console(stderr=True)
    prepare_cache()
    prepare_texts(open_cache())
    arms = list_arms().values()
    cells = sorted(((arm, seed) for arm in arms for seed in range(arm.seeds)), key=lambda cell: cell[1])
    waiting = [(arm.name, str(seed)) for arm, seed in cells if not is_done(arm, seed)]
    console.print(f"{len(cells)} cells, {len(waiting)} to run, {AT_ONCE} at a time")
    with ThreadPoolExecutor(AT_ONCE) as pool:
        failed = [line for line in pool.map(_run_cell, waiting) if line]
    for line in failed:
        console.print(line, style="red", markup=False)
    write_summary()
    if failed:
        raise SystemExit(1)
    judge_final()


def _run_cell(cell: Sequence[str]) -> str:
    """Run a cell in a process of its own; what went wrong, or nothing."""
    name = ", seed ".join(cell)
    log = WORK / "logs" / f"{name}.txt"
    log.parent.mkdir(parents=True, exist_ok=True)
    begin, environment = time.monotonic(), {**os.environ, "OMP_NUM_THREADS": "1"}
    with log.open("w") as file:
        command = [sys.executable, "-m", "evidence.mammogram_cell", *cell]
        code = subprocess.run(command, check=False, env=environment, stdout=file, stderr=file).returncode
    Console(stderr=True).print(f"{name}: {(time.monotonic() - begin) / 60:.1f} minutes", highlight=False)
    return f"{name}: failed, see {Path(log)}" if code else ""


def judge_final() -> None:
    """`hilum evaluate mvmlm` of the four recipes and of random weights; its tables and its index are kept."""
    out, arms = WORK / "suite", list_arms()
    runs = [
        f"{name.replace(', ', ' ')}={','.join(str(name_run(arms[name], seed)) for seed in range(arms[name].seeds))}"
        for name in FINAL
    ]
    run_evaluate(
        open_cache().path, runs, out, suite="mvmlm", parts=("probe",), tasks=TASKS, fractions=(FEW, 1.0),
        num_seeds=DRAWS, num_resamples=NUM_RESAMPLES, paper=True,
    )  # fmt: skip
    shutil.copy(out / "tables.md", RESULTS / "suite.md")
    shutil.copy(out / INDEX, RESULTS / "suite.json")
