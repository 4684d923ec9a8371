"""What a person at the keyboard sees of a risk evaluation: every C-index by its name, and AUC at 2 and 5 years."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

from rich.console import Console
from rich.table import Column, Table

from hilum.evaluate.console import list_notes
from hilum.evaluate.result import Result, read_result

from .concordance import C_INDICES, UNO_WEIGHTS
from .estimates import AUC_YEARS, name_c_index, name_years
from .kaplan_meier import Side


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
        uno_weight = next(iter(arms.values())).protocol["uno_weight"]
        console.print(_tabulate_arms(arms, uno_weight))
        if summary["differences"]:
            results = [read_result(path.parent / entry["path"]) for entry in summary["differences"]]
            console.print(_tabulate_differences(results, uno_weight))
        console.print(f"Weights of Uno's C: {UNO_WEIGHTS[uno_weight]}", markup=False, soft_wrap=True)
    console.print(f"written: {path}", markup=False, soft_wrap=True)
    drawn = [data, run, path.parent] if (run / "metrics.jsonl").is_file() else [data, path.parent]
    words = shlex.join(str(place) for place in drawn)
    console.print(f"Next: hilum report {words}", markup=False, soft_wrap=True)


def _list_metrics(uno_weight: Side) -> list[tuple[str, str, str]]:
    """metric, of, and what it is called here."""
    indices = [(f"c_index_{name}", "risk", name_c_index(name, uno_weight)) for name in C_INDICES]
    return indices + [("auc_ipcw", name_years(year), f"AUC, {name_years(year)}") for year in AUC_YEARS]


def _tabulate_arms(arms: dict[str, Result], uno_weight: Side) -> Table:
    """A row for each metric, so that none of their names is cut on a narrow terminal."""
    table = Table(Column("", no_wrap=True), *(Column(name, justify="right") for name in arms))
    for metric, of, said in _list_metrics(uno_weight):
        table.add_row(said, *(_format(result, metric, of, ".3f") for result in arms.values()))
    return table


def _tabulate_differences(results: list[Result], uno_weight: Side) -> Table:
    """Of Uno's index and of AUC; the others are in the report."""
    metrics = [one for one in _list_metrics(uno_weight) if one[0] in ("c_index_uno", "auc_ipcw")]
    table = Table("difference, same women", *(Column(said, justify="right") for *_, said in metrics))
    for result in results:
        name = result.encoder.replace(" - ", " minus ")
        table.add_row(name, *(_format(result, metric, of, "+.3f") for metric, of, _ in metrics))
    return table


def _format(result: Result, metric: str, of: str, style: str) -> str:
    found = result.find(metric, of)
    if found.value is None:
        return "-"
    ends = "" if found.low is None else f"\n{found.low:{style}} to {found.high:{style}}"
    return f"{found.value:{style}}{ends}"
