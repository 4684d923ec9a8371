"""A suite is a list of cells, each one evaluation with a folder of its own, keyed by what it depends on.

A cell that has its result is not run again; one that fails is reported and the rest go on.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from hilum.atomic import tells_full_disk, write_atomic
from hilum.checksums import hash_parts
from hilum.errors import UserError
from hilum.folder_lock import lock_folder

from .result import hash_code, read_result


@dataclass(frozen=True)
class Cell:
    """One evaluation: a name for people, the settings it depends on (JSON), and what does it.

    `run` gets the cell's folder and leaves `result.json` in it, written last.
    """

    name: str
    settings: dict[str, Any]
    run: Callable[[Path], None]

    @property
    def folder(self) -> str:
        """Name of its folder: readable, and unique to the settings and to Hilum's code."""
        readable = "".join(letter if letter.isalnum() else "-" for letter in self.name)
        return f"{readable}-{hash_parts([self.settings, hash_code()])[:8]}"


class SuiteFailed(UserError):  # noqa: N818 (what happened to the suite)
    """Cells of a suite failed; the others, and its index, are written."""


@dataclass(frozen=True)
class Outcome:
    """What became of a suite: folders of the cells that have a result, and messages of those that failed."""

    done: dict[str, Path]
    failed: dict[str, str]


def run_suite(cells: Sequence[Cell], out: Path, *, progress: bool = True) -> Outcome:
    """Run the cells that have no result yet, one after the other, each in its folder under `out`.

    Nobody else runs cells of this folder meanwhile. A failure leaves `error.txt` in the cell's folder, with its
    traceback unless it is the user's to mend.
    """
    assert len({cell.name for cell in cells}) == len(cells), "cells of a suite have different names"
    with lock_folder(out, f"{out}: another command is evaluating into this folder. Wait for it.", patience=1.0):
        return _run_cells(cells, out, Console(stderr=True, quiet=not progress))


def check_failures(out: Path, outcomes: Sequence[Outcome]) -> None:
    """Say how many cells failed, and how the first did; `outcomes` are of suites that went on from the first.

    Raises:
        UserError: some did.
    """
    failed = [failure for outcome in outcomes for failure in outcome.failed.items()]
    if not failed:
        return
    num = sum(len(outcome.done) + len(outcome.failed) for outcome in outcomes)
    share = f"{len(failed)} of {num} evaluations failed, the others are written"
    if not outcomes[0].done:
        share = f"none of the {len(outcomes[0].failed)} evaluations worked"
    name, message = failed[0]
    raise UserError(f"{out}: {share}. The first: {name}: {message}")


def _run_cells(cells: Sequence[Cell], out: Path, console: Console) -> Outcome:
    done, failed = {}, {}
    for number, cell in enumerate(cells, 1):
        folder = out / cell.folder
        head = f"[{number}/{len(cells)}] {cell.name}"
        if _has_result(folder):
            console.print(f"{head}: kept", highlight=False, markup=False)
            done[cell.name] = folder
            continue
        folder.mkdir(parents=True, exist_ok=True)
        begin = time.monotonic()
        try:
            cell.run(folder)
            read_result(folder / "result.json")
        except UserError as error:
            failed[cell.name] = str(error)
            write_atomic(folder / "error.txt", f"{error}\n")
        except Exception as error:  # a defect in one cell must not cost the others; it is reported in full
            if tells_full_disk(error):  # the next cells would fail too, and this one's error could not be written
                raise
            failed[cell.name] = f"{type(error).__name__}: {error} (traceback in {folder / 'error.txt'})"
            write_atomic(folder / "error.txt", traceback.format_exc())
        else:
            (folder / "error.txt").unlink(missing_ok=True)
            done[cell.name] = folder
        state = f"failed: {failed[cell.name]}" if cell.name in failed else f"{time.monotonic() - begin:.1f} s"
        console.print(f"{head}: {state}", highlight=False, markup=False, soft_wrap=True)
    return Outcome(done, failed)


def _has_result(folder: Path) -> bool:
    if not (folder / "result.json").exists():
        return False
    try:
        read_result(folder / "result.json")
    except UserError:
        return False  # of another version or damaged: made again
    return True
