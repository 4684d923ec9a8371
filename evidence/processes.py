"""Modules of the evidence in processes of their own: one thread each, two at a time, a log file each."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from rich.console import Console

AT_ONCE = 2  # a second thread speeds a step of the sizes used here by a tenth, a second process doubles what is done


def run_cells(commands: Mapping[str, Sequence[str]], logs: Path, *, of: int, sum_up: Callable[[], None]) -> None:
    """Run the cells of a comparison that have no result, sum up what there is, and stop if one failed.

    Args:
        commands: name of a cell -> module and its arguments.
        logs: as in `run_all`.
        of: how many cells there are in all.
        sum_up: makes tables and plots of the cells that are done.
    """
    console = Console(stderr=True)
    console.print(f"{of} cells, {len(commands)} to run, {AT_ONCE} at a time")
    failed = run_all(commands, logs)
    for line in failed:
        console.print(line, style="red", markup=False)
    sum_up()
    if failed:
        raise SystemExit(1)


def run_all(commands: Mapping[str, Sequence[str]], logs: Path) -> list[str]:
    """Run every module; what failed, in words.

    Args:
        commands: name -> module and its arguments.
        logs: folder of `NAME.txt`, what each one printed.
    """
    logs.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return [line for line in pool.map(partial(_run, logs=logs), commands, commands.values()) if line]


def _run(name: str, command: Sequence[str], logs: Path) -> str:
    """What went wrong, or nothing."""
    log, begin = logs / f"{name}.txt", time.monotonic()
    with log.open("w") as file:
        code = subprocess.run(
            [sys.executable, "-m", *command], check=False, env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=file,
            stderr=file,
        ).returncode  # fmt: skip
    Console(stderr=True).print(f"{name}: {(time.monotonic() - begin) / 60:.1f} minutes", highlight=False)
    return f"{name}: failed, see {log}" if code else ""
