"""From the cells' results to one table, paired differences and plots."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from evidence.alignment_arms import SUPERVISED, Arm, list_arms
from evidence.alignment_caches import WORK, open_cache
from evidence.alignment_cell import COUNTS, RESULTS, is_done, name_cell, name_result, name_scores
from evidence.alignment_plots import draw_summary
from hilum.evaluate.efficiency import stack_repeats
from hilum.evaluate.estimates import estimate_difference
from hilum.evaluate.features import embed_cache
from hilum.evaluate.result import Estimate, Result, read_result, write_json
from hilum.evaluate.scores import Scores, read_scores
from hilum.objective.meters import measure_effective_rank, score_retrieval
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
    """Of the test studies, by the mean of an image's tokens: does a frontal view find its lateral first, and how many
    directions are used; through training, by the first seed: spread of the features and pull of the alignment."""
    cache = open_cache("clean")
    rows = cache.rows("test")
    found: dict[str, list[float]] = {"retrieval": [], "retrieval, chance": [], "effective rank": []}
    for seed in list_seeds(arm):
        features = embed_cache(cache, WORK / "runs" / name_cell(arm, seed), progress=False)
        test = np.isin(features.study, rows)
        mean = torch.from_numpy(features.mean[test])
        kind, study = torch.from_numpy(features.view_kind[test]), torch.from_numpy(features.study[test])
        retrieval = score_retrieval(mean, kind, study)
        assert retrieval is not None, "the phantom has studies of two views"
        found["retrieval"].append(retrieval.score)
        found["retrieval, chance"].append(retrieval.chance)
        found["effective rank"].append(measure_effective_rank(mean))
    lines = read_metrics(WORK / "runs" / name_cell(arm, list_seeds(arm)[0]) / "metrics.jsonl")
    curves = {
        name: [[line["step"], line[name]] for line in lines if line.get(name) is not None]
        for name in ("features/effective_rank", "features/std", "alignment/gradient_ratio")
    }
    return {name: float(np.mean(values)) for name, values in found.items()} | {"curves": curves}


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
        retrieval, rank = row.get("retrieval"), row.get("effective rank")
        shown = ["-" if value is None else f"{value:.3g}" for value in (retrieval, rank)]
        table.add_row(row["arm"], str(row["seeds"]), *cells, *shown, f"{row['minutes']:.0f}")
    Console(width=150).print(table)
