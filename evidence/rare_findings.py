"""Do rare findings gain where their positives count more in training? Probes of the same encoders, both ways.

Encoders are those of `alignment.py`. Rare is a finding in under 5 % of the training studies. Differences are paired,
intervals draw patients. The result goes to results/alignment/rare_findings.json.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from evidence.alignment_arms import list_arms
from evidence.alignment_caches import WORK, open_cache
from evidence.alignment_cell import DRAWS, RESULTS, name_cell
from evidence.alignment_summary import find_macro, list_seeds
from hilum.evaluate.efficiency import probe_label_counts, stack_repeats
from hilum.evaluate.estimates import estimate_difference, estimate_scores
from hilum.evaluate.features import embed_cache
from hilum.evaluate.paper.parts import take_findings
from hilum.evaluate.result import write_json
from hilum.evaluate.scores import Scores
from hilum.evaluate.task import read_task

ARMS, COUNTS, RARE = ("independent", "InfoNCE within archives"), (300, 1000), 0.05
READ = "4x4"  # what validation chose for every encoder of the comparison
METRICS = ("auroc", "average_precision", "brier_error")


def main() -> None:
    """Probe both ways, write and print."""
    cache = open_cache("clean")
    task = read_task(cache, "findings")
    share = np.nanmean(task.target[task.rows("train")], axis=0)
    rare = [finding for finding, part in zip(task.names, share, strict=True) if part < RARE]
    everything = len(task.rows("train"))
    rows: list[dict[str, Any]] = []
    for name in ARMS:
        arm = list_arms()[name]
        said: dict[tuple[int, bool], list[Scores]] = {}
        for seed in list_seeds(arm):
            features = embed_cache(cache, WORK / "runs" / name_cell(arm, seed), progress=False)
            for weighted in (False, True):
                found = probe_label_counts(
                    features, task, name=name, counts=(*COUNTS, everything), num_seeds=DRAWS, representation=READ,
                    weighted=weighted,
                )  # fmt: skip
                for count, probes in found.items():
                    said.setdefault((count, weighted), []).extend(probe.test for probe in probes)
        for count in (*COUNTS, everything):
            plain, weighed = (stack_repeats(said[count, weighted]) for weighted in (False, True))
            for group, names in (("rare", rare), ("others", [one for one in task.names if one not in rare])):
                rows.append(
                    {"encoder": name, "labels": count, "findings": names, "group": group}
                    | compare(take_findings(plain, names), take_findings(weighed, names))
                )
    write_json(RESULTS / "rare_findings.json", rows)
    print_rows(rows)


def compare(plain: Scores, weighed: Scores) -> dict[str, Any]:
    """Macro means as they are, and what weighting adds."""
    found = {}
    before, gained = estimate_scores(plain, METRICS), estimate_difference(weighed, plain, METRICS)
    for metric in METRICS:
        change = find_macro(gained, metric)
        found[metric] = find_macro(before, metric).value
        found[f"{metric}, weighted minus that"] = [change.value, change.low, change.high]
    return found


def print_rows(rows: list[dict[str, Any]]) -> None:
    """A line an encoder, number of labels and group of findings."""
    table = Table(
        "encoder", "labels", "findings", *METRICS, title="Weighted positives minus as they are, 95 % interval"
    )
    for row in rows:
        changes = [row[f"{metric}, weighted minus that"] for metric in METRICS]
        cells = [
            f"{row[metric]:.3f}\n{value:+.3f} ({low:+.3f} to {high:+.3f})"
            for metric, (value, low, high) in zip(METRICS, changes, strict=True)
        ]
        table.add_row(row["encoder"], f"{row['labels']:,}", f"{len(row['findings'])} {row['group']}", *cells)
    Console(width=140).print(table)
