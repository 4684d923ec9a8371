"""From the cells' results to one table, paired differences and plots."""

from __future__ import annotations

from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from evidence.alignment_arms import SUPERVISED, Arm, list_arms
from evidence.alignment_caches import WORK
from evidence.alignment_cell import COUNTS, RESULTS, is_done, name_cell, name_result, name_scores
from evidence.alignment_plots import draw_summary
from hilum.evaluate.efficiency import stack_repeats
from hilum.evaluate.estimates import estimate_difference
from hilum.evaluate.result import Estimate, Result, read_result, write_json
from hilum.evaluate.scores import Scores, read_scores
from hilum.run_folder import read_metrics

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
        named, slice = f"{labels or 'all'} labels", "all" if labels is None else f"{labels} labels"
        row[f"auroc, {named}"] = average(results, "auroc", slice)
        row[f"auroc of seeds, {named}"] = [average([one], "auroc", slice) for one in results]
        row[f"brier, {named}"] = average(results, "brier_error", slice)
        if arm.name != REFERENCE:
            macro = find_macro(estimate_difference(read_arm(arm, labels), reference[labels], ("auroc",)), "auroc")
            row[f"difference, {named}"] = [macro.value, macro.low, macro.high]
    for seen in ("all", "frontal", "lateral"):
        row[f"two-view studies, {seen}"] = average(results, "auroc", f"two kinds of view, seen: {seen}")
    row["minutes"] = np.mean([one.protocol.get("minutes", np.nan) for one in results])
    return row | ({} if arm.name == SUPERVISED else describe_health(arm))


def average(results: list[Result], metric: str, slice: str) -> float | None:
    """Mean over seeds of the macro mean; None where a result has no such part."""
    found = [
        entry.value
        for one in results
        for entry in one.estimates
        if (entry.metric, entry.of, entry.slice) == (metric, "macro", slice) and entry.value is not None
    ]
    return float(np.mean(found)) if found else None


def describe_health(arm: Arm) -> dict[str, Any]:
    """Means over seeds of what the test studies' features are like; through training, of the first seed: spread and
    effective rank of the features and pull of the alignment."""
    seeds = list_seeds(arm)
    protocols = [read_result(name_result(arm, seed)).protocol for seed in seeds]
    lines = read_metrics(WORK / "runs" / name_cell(arm, seeds[0]) / "metrics.jsonl")
    curves = {
        name: [[line["step"], line[name]] for line in lines if line.get(name) is not None]
        for name in ("features/effective_rank", "features/std", "alignment/gradient_ratio")
    }
    measured = ("retrieval", "retrieval_chance", "effective_rank")
    return {name: float(np.mean([one[name] for one in protocols])) for name in measured} | {"curves": curves}


def write_summary() -> None:
    """`summary.json` and a table, of the arms that have results."""
    arms = [arm for arm in list_arms().values() if list_seeds(arm)]
    first = next((arm for arm in arms if arm.name == REFERENCE), None)
    if first is None:
        return
    reference = {labels: read_arm(first, labels) for labels in LABELS}
    rows = [summarize_arm(arm, reference) for arm in arms]
    write_json(RESULTS / "summary.json", rows)
    draw_summary(rows, RESULTS)
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
            if row["seeds"] > 1:
                text += "\n" + " ".join(f"{value:.3f}" for value in row[f"auroc of seeds, {named}"])
            cells.append(text)
        retrieval, rank = row.get("retrieval"), row.get("effective_rank")
        shown = ["-" if value is None else f"{value:.3g}" for value in (retrieval, rank)]
        table.add_row(row["arm"], str(row["seeds"]), *cells, *shown, f"{row['minutes']:.0f}")
    Console(width=150).print(table)
