"""From the cells' results to one table, with the difference of every arm from those it is compared with."""

from __future__ import annotations

from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from evidence.mammogram_arms import Arm, list_arms
from evidence.mammogram_places import RESULTS, Judged, Number, is_done, read_judged, read_numbers
from evidence.mammogram_plots import draw_summary
from hilum.evaluate.result import to_number, write_json
from hilum.evaluate.scoring.bootstrap import read_interval

SHOWN = ("breast:mass", "breast:calcification", "breast:malignancy", "breast:birads", "breast:density")


def write_summary() -> None:
    """`summary.json`, plots and a table of the arms that have results."""
    arms = {name: arm for name, arm in list_arms().items() if list_seeds(arm)}
    means = {name: average(arm) for name, arm in arms.items()}
    rows = [summarize_arm(arm, means) for arm in arms.values()]
    if not rows:
        return
    write_json(RESULTS / "summary.json", rows)
    draw_summary(rows, RESULTS)
    print_rows(rows)


def list_seeds(arm: Arm) -> list[int]:
    """Seeds of an arm that are done."""
    return [seed for seed in range(arm.seeds) if is_done(arm, seed)]


def average(arm: Arm) -> Judged:
    """Every number as the mean over the arm's seeds, on the same resamples."""
    found = [read_judged(arm, seed) for seed in list_seeds(arm)]
    return {
        name: Number(
            float(np.mean([one[name].value for one in found])), np.mean([one[name].resampled for one in found], axis=0)
        )
        for name in found[0]
    }


def summarize_arm(arm: Arm, means: dict[str, Judged]) -> dict[str, Any]:
    """Numbers of an arm with their intervals by patient, and minus those of each arm it is compared with, paired."""
    seeds, own = list_seeds(arm), means[arm.name]
    kept = [read_numbers(arm, seed) for seed in seeds]
    row: dict[str, Any] = {"arm": arm.name, "question": arm.question, "texts": arm.texts, "seeds": len(seeds)}
    row["numbers"] = {name: describe(one) for name, one in own.items()}
    row["of seeds"] = {name: [one["numbers"][name] for one in kept] for name in own}
    for other in [name for name in arm.against if name in means]:
        shared = {name: one for name, one in own.items() if name in means[other] and len(one.resampled)}
        row[f"minus {other}"] = {name: describe(subtract(one, means[other][name])) for name, one in shared.items()}
    if "training" in kept[0]:
        row["minutes"] = float(np.mean([one["training"]["minutes"] for one in kept]))
        row["curves"] = kept[0]["training"]["curves"]
    return row


def subtract(first: Number, second: Number) -> Number:
    """A paired difference."""
    return Number(first.value - second.value, first.resampled - second.resampled)


def describe(number: Number) -> list[float | None]:
    """The number, and the ends of its interval."""
    interval = read_interval(number.resampled)
    return [to_number(number.value), *((interval.low, interval.high) if interval else (None, None))]


def print_rows(rows: list[dict[str, Any]]) -> None:
    """A table for each number of labels: arms by tasks."""
    for labels in dict.fromkeys(name.rpartition(", ")[2] for row in rows for name in row["numbers"] if ":" in name):
        names = [f"{task}, {labels}" for task in SHOWN]
        if not any(name in row["numbers"] for row in rows for name in names):
            continue
        table = Table("arm", "seeds", *SHOWN, title=f"Macro test AUROC, {labels}; differences with 95 % intervals")
        for row in rows:
            cells = ["\n".join(_list_lines(row, name)) for name in names]
            table.add_row(row["arm"], str(row["seeds"]), *cells)
        Console(width=180).print(table)


def _list_lines(row: dict[str, Any], name: str) -> list[str]:
    if name not in row["numbers"]:
        return ["-"]
    lines = [_say(row["numbers"][name][0], ".3f")]
    for other in [key for key in row if key.startswith("minus ") and name in row[key]]:
        value, low, high = (_say(one, "+.3f") for one in row[other][name])
        lines.append(f"{value} ({low} to {high}) {other.removeprefix('minus ')}")
    return lines


def _say(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
