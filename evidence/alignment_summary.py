"""From the cells' results to one table, paired differences and plots."""

from __future__ import annotations

from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from evidence.alignment_arms import PRESETS, SUPERVISED, Arm, list_arms
from evidence.alignment_cell import LABELS, RESULTS, is_done, name_labels, name_resamples, name_result
from evidence.alignment_plots import draw_summary
from hilum.evaluate.result import Result, read_result, write_json
from hilum.evaluate.scoring.bootstrap import read_interval

MAX_SEEDS = 5
REFERENCE = "independent"


def list_seeds(arm: Arm) -> list[int]:
    """Seeds of an arm that are done."""
    return [seed for seed in range(MAX_SEEDS) if is_done(arm, seed)]


def read_resamples(arm: Arm, labels: int | None) -> np.ndarray:
    """Macro AUROC on the resamples of patients, which are the same for all arms, averaged over an arm's seeds."""
    found = []
    for seed in list_seeds(arm):
        with np.load(name_resamples(arm, seed), allow_pickle=False) as stored:
            found.append(stored[name_labels(labels)])
    return np.mean(found, axis=0)


def summarize_arm(arm: Arm, references: dict[str, Arm]) -> dict[str, Any]:
    """Means over an arm's seeds, and its paired differences from the references at each number of labels."""
    results = read_results(arm)
    row: dict[str, Any] = {"arm": arm.name, "question": arm.question, "seeds": len(results)}
    for labels in LABELS:
        named, slice = name_labels(labels), name_slice(labels)
        row[f"auroc, {named}"] = average(results, "auroc", slice)
        row[f"auroc of seeds, {named}"] = [average([one], "auroc", slice) for one in results]
        if arm.name != SUPERVISED:
            row[f"validation, {named}"] = float(np.mean([one.protocol["validation"][named] for one in results]))
        row[f"brier, {named}"] = average(results, "brier_error", slice)
        for other, reference in references.items():
            gained = read_resamples(arm, labels) - read_resamples(reference, labels)
            interval, value = read_interval(gained), average(read_results(reference), "auroc", slice)
            assert interval is not None
            assert value is not None
            row[f"minus {other}, {named}"] = [row[f"auroc, {named}"] - value, interval.low, interval.high]
    for seen in ("all", "frontal", "lateral"):
        row[f"two-view studies, {seen}"] = average(results, "auroc", f"two kinds of view, seen: {seen}")
    if arm.name == SUPERVISED:  # nothing was pretrained
        return row
    return row | {"minutes": np.mean([one.protocol["minutes"] for one in results])} | describe_health(results)


def read_results(arm: Arm) -> list[Result]:
    return [read_result(name_result(arm, seed)) for seed in list_seeds(arm)]


def name_slice(labels: int | None) -> str:
    """Of a result's estimates."""
    return "all" if labels is None else name_labels(labels)


def list_references(arm: Arm) -> list[str]:
    """Arms that an arm is compared with: the views by themselves, and for reports the same preset without them."""
    if arm.name in (REFERENCE, SUPERVISED):
        return [] if arm.name == REFERENCE else [REFERENCE]
    without = {"V2T code": "mvmae code"}.get(arm.name, "InfoNCE within archives")
    return [REFERENCE, without] if arm.question == "reports" else [REFERENCE]


def average(results: list[Result], metric: str, slice: str) -> float | None:
    """Mean over seeds of the macro mean; None where a result has no such part."""
    found = [
        entry.value
        for one in results
        for entry in one.estimates
        if (entry.metric, entry.of, entry.slice) == (metric, "macro", slice) and entry.value is not None
    ]
    return float(np.mean(found)) if found else None


def describe_health(results: list[Result]) -> dict[str, Any]:
    """Means over seeds of what the test studies' features are like; through training, of the first seed: spread and
    effective rank of the features and pull of the alignment."""
    measured = ("retrieval", "retrieval_chance", "effective_rank")
    means = {name: float(np.mean([one.protocol[name] for one in results])) for name in measured}
    return means | {"curves": results[0].protocol["curves"]}


def write_summary() -> None:
    """`summary.json`, plots and tables of the arms that have results."""
    arms = {name: arm for name, arm in list_arms().items() if list_seeds(arm)}
    if REFERENCE not in arms:
        return
    rows = [
        summarize_arm(arm, {name: arms[name] for name in list_references(arm) if name in arms}) for arm in arms.values()
    ]
    write_json(RESULTS / "summary.json", rows)
    draw_summary(rows, RESULTS)
    print_rows(rows, f"Macro test AUROC on the phantom; below minus `{REFERENCE}`, 95 % interval by patient; seeds")
    presets = [{**row, "arm": PRESETS[row["arm"]]} for row in rows if row["arm"] in PRESETS]
    print_rows(presets, "The same of what users ask for by name; of reports also minus the preset without them")


def print_rows(rows: list[dict[str, Any]], title: str) -> None:
    """One line an arm."""
    table = Table(title=title)
    for column in ("arm", "seeds", *(name_labels(labels) for labels in LABELS), "retrieval", "rank", "min"):
        table.add_column(column)
    for row in rows:
        cells = []
        for labels in LABELS:
            named = name_labels(labels)
            text = f"{row[f'auroc, {named}']:.3f}"
            if f"validation, {named}" in row:
                text += f" (validation {row[f'validation, {named}']:.3f})"
            for key in [key for key in row if key.startswith("minus ") and key.endswith(f", {named}")]:
                value, low, high = row[key]
                text += f"\n{value:+.3f} ({low:+.3f} to {high:+.3f})"
            if row["seeds"] > 1:
                text += "\n" + " ".join(f"{value:.3f}" for value in row[f"auroc of seeds, {named}"])
            cells.append(text)
        shown = ["-" if key not in row else f"{row[key]:.3g}" for key in ("retrieval", "effective_rank", "minutes")]
        table.add_row(row["arm"], str(row["seeds"]), *cells, *shown)
    Console(width=150).print(table)
