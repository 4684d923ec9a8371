"""`hilum evaluate SUITE`: runs the cells, prints the tables, leaves them and the figures in the folder."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from hilum.atomic import write_atomic
from hilum.cache import Cache
from hilum.evaluate.asked import group_asked
from hilum.evaluate.paper.index import INDEX, read_suite
from hilum.evaluate.paper.mvmae.leave_one_out import list_commands, list_missing, say_missing
from hilum.evaluate.paper.mvmae.suite import run_mvmae
from hilum.evaluate.paper.mvmlm.suite import run_mvmlm
from hilum.evaluate.paper.pacx.suite import run_pacx
from hilum.evaluate.paper.table import SuiteTable, write_markdown
from hilum.evaluate.paper.tables import build_tables
from hilum.evaluate.suite import SuiteFailed
from hilum.report.suite_figures import draw_suite

_RUN: dict[str, Callable[..., Path]] = {"mvmae": run_mvmae, "pacx": run_pacx, "mvmlm": run_mvmlm}


def run_evaluate(
    data: Path,
    runs: Sequence[str],
    out: Path,
    *,
    suite: Literal["mvmae", "pacx", "mvmlm"] = "mvmae",
    leave_one_out: bool = False,
    progress: bool = True,
    **settings: Any,
) -> Path:
    """Run a suite and show it; with failed cells, what the others gave is shown before the error.

    Args:
        data, runs, out, settings: see `run_mvmae`, `run_pacx` and `run_mvmlm` of `evaluate.paper`.
        suite: which of them.
        leave_one_out: also print the commands that pretrain on each archive alone and on all but one, where no run did.

    Raises:
        UserError: as these.
    """
    failure = None
    try:
        _RUN[suite](data, runs, out, progress=progress, **settings)
    except SuiteFailed as error:
        failure = error  # what the other cells gave is shown first
    found = read_suite(out)
    tables = build_tables(found)
    write_atomic(out / "tables.md", write_markdown(tables, found.index["notes"]))
    (out / "figures").mkdir(exist_ok=True)
    for name, drawn in draw_suite(found).items():
        write_atomic(out / "figures" / f"{name}.svg", drawn)
    console = Console(highlight=False, quiet=not progress)
    print_tables(tables, console, found.index["notes"])
    if leave_one_out:
        saw = [encoder["saw"] for encoder in found.index["encoders"] if not encoder["is_random"]]
        cache, first = Cache.open(data), next(iter(group_asked(runs).values()))[0]
        missing = list_missing(found.index["archives"], cache.datasets, saw)
        commands = list_commands(cache, Path(first), out / "leave-one-out", missing)
        for line in say_missing(commands, cache.datasets):
            console.print(line, markup=False, soft_wrap=True)
    if failure:
        raise failure
    console.print(f"written: {out / INDEX}", markup=False, soft_wrap=True)
    console.print(f"Next: hilum report {shlex.join([str(data), str(out)])}", markup=False, soft_wrap=True)
    return out / INDEX


def print_tables(tables: Sequence[SuiteTable], console: Console, notes: Sequence[str] = ()) -> None:
    """Tables one below the other, and what concerns all of them."""
    for table in tables:
        print_table(table, console)
    for note in notes:
        console.print(note, markup=False)


def print_table(table: SuiteTable, console: Console) -> None:
    """One table with its caption and footnotes; below itself where the terminal is too narrow for all its columns."""
    title: str | None = escape(table.title)
    needed, whole = measure_columns(table), [len(name) for name in table.columns]
    for part in split_columns(needed, console.width):
        fits = len(split_columns([max(needed[place], whole[place]) for place in (0, *part)], console.width)) == 1
        columns = [
            Column(
                escape(table.columns[place]),
                justify="right" if place else "left",
                width=None if fits else needed[place],
            )
            for place in (0, *part)
        ]
        shown = Table(*columns, title=title, title_justify="left", title_style="bold")
        for row in table.rows:
            shown.add_row(*(escape(row[place]) for place in (0, *part)))
        console.print(shown)
        title = None
    for line in (table.caption, *table.footnotes):
        console.print(line, markup=False)


def measure_columns(table: SuiteTable) -> list[int]:
    """Characters that each column needs so that no value and no word of its title is cut; names fold at 24."""
    cells = [[line for row in table.rows for line in row[place].split("\n")] for place in range(len(table.columns))]
    first, *others = [
        max(len(text) for text in (*lines, *title.split(), ""))
        for lines, title in zip(cells, table.columns, strict=True)
    ]
    return [min(first, 24), *others]


def split_columns(needed: Sequence[int], width: int) -> list[list[int]]:
    """Columns beside the first, in groups that fit `width` characters; a frame takes 3 a column and 1."""
    groups: list[list[int]] = [[]]
    for place in range(1, len(needed)):
        if groups[-1] and 1 + sum(needed[one] + 3 for one in (0, *groups[-1], place)) > width:
            groups.append([])
        groups[-1].append(place)
    return groups
