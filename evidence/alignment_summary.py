"""From the cells' results to one table, paired differences and plots."""

from __future__ import annotations

from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from evidence.alignment_arms import Arm, list_arms
from evidence.alignment_cell import COUNTS, RESULTS, is_done, name_result, name_scores
from hilum.evaluate.efficiency import stack_repeats
from hilum.evaluate.estimates import estimate_difference
from hilum.evaluate.result import Estimate, read_result, write_json
from hilum.evaluate.scores import Scores, read_scores

MAX_SEEDS = 5
LABELS: tuple[int | None, ...] = (*COUNTS, None)
REFERENCE = "independent"


def list_seeds(arm: Arm) -> list[int]:
    """Seeds of an arm that are done."""
    return [seed for seed in range(MAX_SEEDS) if is_done(arm, seed)]


def read_arm(arm: Arm, labels: int | None) -> Scores:
    """Scores of all of an arm's seeds and draws of labels, as repeats of one method."""
    return stack_repeats([read_scores(name_scores(arm, seed, labels)) for seed in list_seeds(arm)])


def find_macro(estimates: list[Estimate], metric: str) -> Estimate:
    return next(entry for entry in estimates if entry.of == "macro" and entry.metric == metric)


def summarize_arm(arm: Arm, reference: dict[int | None, Scores]) -> dict[str, Any]:
    """Means over an arm's seeds, and its paired differences from the reference at each number of labels."""
    results = [read_result(name_result(arm, seed)) for seed in list_seeds(arm)]
    row: dict[str, Any] = {"arm": arm.name, "question": arm.question, "seeds": len(results)}
    for labels in LABELS:
        slice = "all" if labels is None else f"{labels} labels"
        row[f"auroc, {labels or 'all'} labels"] = np.mean([one.find("auroc", slice=slice).value for one in results])
        if arm.name != REFERENCE:
            found = estimate_difference(read_arm(arm, labels), reference[labels], ("auroc",))
            macro = find_macro(found, "auroc")
            row[f"difference, {labels or 'all'} labels"] = [macro.value, macro.low, macro.high]
    row["brier"] = np.mean([one.find("brier_error").value for one in results])
    for seen in ("all", "frontal", "lateral"):
        slice = f"two kinds of view, seen: {seen}"
        row[f"two-view studies, {seen}"] = np.mean([one.find("auroc", slice=slice).value for one in results])
    health = [one.protocol["health"] for one in results]
    for name in ("val/features/retrieval", "val/features/effective_rank", "alignment/gradient_ratio"):
        if all(name in one for one in health):
            row[name] = np.mean([one[name] for one in health])
    row["minutes"] = np.mean([one.protocol["minutes"] for one in results])
    return row


def write_summary() -> None:
    """`summary.json` and a table, of the arms that have results."""
    arms = [arm for arm in list_arms().values() if list_seeds(arm)]
    first = next((arm for arm in arms if arm.name == REFERENCE), None)
    if first is None:
        return
    reference = {labels: read_arm(first, labels) for labels in LABELS}
    rows = [summarize_arm(arm, reference) for arm in arms]
    write_json(RESULTS / "summary.json", rows)
    print_summary(rows)


def print_summary(rows: list[dict[str, Any]]) -> None:
    """One line an arm."""
    table = Table(title="Macro test AUROC on the phantom; in brackets minus `independent`, 95 % interval by patient")
    for column in ("arm", "seeds", *(f"{labels or 'all'} labels" for labels in LABELS), "retrieval", "rank", "min"):
        table.add_column(column)
    for row in rows:
        cells = []
        for labels in LABELS:
            named = f"{labels or 'all'} labels"
            text = f"{row[f'auroc, {named}']:.3f}"
            if (key := f"difference, {named}") in row:
                value, low, high = row[key]
                text += f"\n{value:+.3f} ({low:+.3f} to {high:+.3f})"
            cells.append(text)
        retrieval, rank = row.get("val/features/retrieval"), row.get("val/features/effective_rank")
        shown = ["-" if value is None else f"{value:.2f}" for value in (retrieval, rank)]
        table.add_row(row["arm"], str(row["seeds"]), *cells, *shown, f"{row['minutes']:.0f}")
    Console(width=150).print(table)
