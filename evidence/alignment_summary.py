"""From the cells' results to one table, paired differences and plots."""

from __future__ import annotations

from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from evidence.alignment_arms import PRESETS, SUPERVISED, Arm, list_arms
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


def summarize_arm(arm: Arm, references: dict[str, dict[int | None, Scores]]) -> dict[str, Any]:
    """Means over an arm's seeds, and its paired differences from the references at each number of labels."""
    results = [read_result(name_result(arm, seed)) for seed in list_seeds(arm)]
    row: dict[str, Any] = {"arm": arm.name, "question": arm.question, "seeds": len(results)}
    for labels in LABELS:
        named, slice = f"{labels or 'all'} labels", "all" if labels is None else f"{labels} labels"
        row[f"auroc, {named}"] = average(results, "auroc", slice)
        row[f"auroc of seeds, {named}"] = [average([one], "auroc", slice) for one in results]
        row[f"brier, {named}"] = average(results, "brier_error", slice)
        for other in list_references(arm):
            if other in references:
                estimates = estimate_difference(read_arm(arm, labels), references[other][labels], ("auroc",))
                macro = find_macro(estimates, "auroc")
                row[f"minus {other}, {named}"] = [macro.value, macro.low, macro.high]
    for seen in ("all", "frontal", "lateral"):
        row[f"two-view studies, {seen}"] = average(results, "auroc", f"two kinds of view, seen: {seen}")
    row["minutes"] = np.mean([one.protocol.get("minutes", np.nan) for one in results])
    return row | ({} if arm.name == SUPERVISED else describe_health(arm))


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
    """`summary.json`, plots and tables of the arms that have results."""
    arms = {name: arm for name, arm in list_arms().items() if list_seeds(arm)}
    if REFERENCE not in arms:
        return
    wanted = {name for arm in arms.values() for name in list_references(arm)} & arms.keys()
    references = {name: {labels: read_arm(arms[name], labels) for labels in LABELS} for name in wanted}
    rows = [summarize_arm(arm, references) for arm in arms.values()]
    write_json(RESULTS / "summary.json", rows)
    draw_summary(rows, RESULTS)
    print_rows(rows, f"Macro test AUROC on the phantom; below minus `{REFERENCE}`, 95 % interval by patient; seeds")
    presets = [{**row, "arm": PRESETS[row["arm"]]} for row in rows if row["arm"] in PRESETS]
    print_rows(presets, "The same of what users ask for by name; of reports also minus the preset without them")


def print_rows(rows: list[dict[str, Any]], title: str) -> None:
    """One line an arm."""
    table = Table(title=title)
    for column in ("arm", "seeds", *(f"{labels or 'all'} labels" for labels in LABELS), "retrieval", "rank", "min"):
        table.add_column(column)
    for row in rows:
        cells = []
        for labels in LABELS:
            named = f"{labels or 'all'} labels"
            text = f"{row[f'auroc, {named}']:.3f}"
            for key in [key for key in row if key.startswith("minus ") and key.endswith(f", {named}")]:
                value, low, high = row[key]
                text += f"\n{value:+.3f} ({low:+.3f} to {high:+.3f})"
            if row["seeds"] > 1:
                text += "\n" + " ".join(f"{value:.3f}" for value in row[f"auroc of seeds, {named}"])
            cells.append(text)
        retrieval, rank = row.get("retrieval"), row.get("effective_rank")
        shown = ["-" if value is None else f"{value:.3g}" for value in (retrieval, rank)]
        table.add_row(row["arm"], str(row["seeds"]), *cells, *shown, f"{row['minutes']:.0f}")
    Console(width=150).print(table)
