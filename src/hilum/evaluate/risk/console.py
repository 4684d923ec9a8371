"""What a person at the keyboard sees of a risk evaluation: every C-index by its name, and AUC at 2 and 5 years."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

from rich.console import Console
from rich.table import Column, Table

from hilum.evaluate.console import list_notes
from hilum.evaluate.result import Result, read_result

from .concordance import C_INDICES
from .estimates import AUC_YEARS, name_years


def print_risk(path: Path, data: Path, run: Path) -> None:
    """The scores of a risk.json and its differences, and the command that draws them."""
    summary, console = json.loads(path.read_bytes()), Console(highlight=False)
    arms = {arm["name"]: read_result(path.parent / arm["path"]) for arm in summary["arms"]}
    for note in list_notes({name: result.notes for name, result in arms.items()}):
        console.print(f"- {note}", markup=False, soft_wrap=True)
    if arms:
        counts = next(iter(arms.values())).counts
        console.print(
            f"Task risk: {counts['test_studies']:,} test exams of {counts['test_patients']:,} women, "
            f"{counts['test_cancers']:,} with cancer within {summary['years']} years",
            markup=False,
        )
        console.print(_tabulate("", list(arms.items()), ".3f"))
    if summary["differences"]:
        results = [read_result(path.parent / entry["path"]) for entry in summary["differences"]]
        rows = [(result.encoder.replace(" - ", " minus "), result) for result in results]
        console.print(_tabulate("difference, same women", rows, "+.3f"))
    console.print(f"written: {path}", markup=False, soft_wrap=True)
    drawn = [data, run, path.parent] if (run / "metrics.jsonl").is_file() else [data, path.parent]
    words = shlex.join(str(place) for place in drawn)
    console.print(f"Next: hilum report {words}", markup=False, soft_wrap=True)


def _tabulate(title: str, rows: list[tuple[str, Result]], style: str) -> Table:
    metrics = [(f"c_index_{name}", "risk", f"C ({name})") for name in C_INDICES]
    metrics += [("auc_ipcw", name_years(year), f"AUC, {name_years(year)}") for year in AUC_YEARS]
    table = Table(title, *(Column(heading, justify="right") for *_, heading in metrics))
    for name, result in rows:
        table.add_row(name, *(_format(result, metric, of, style) for metric, of, _ in metrics))
    return table


def _format(result: Result, metric: str, of: str, style: str) -> str:
    found = result.find(metric, of)
    if found.value is None:
        return "-"
    ends = "" if found.low is None else f"\n{found.low:{style}} to {found.high:{style}}"
    return f"{found.value:{style}}{ends}"
