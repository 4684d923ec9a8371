"""Do rare findings gain where their positives count more in training? Probes of the same encoders, both ways.

Encoders are those of `alignment.py`; one whose run is no longer there is pretrained again. Rare is a finding in under
5 % of the training studies. Differences are paired, intervals draw patients. A file for each encoder is left in
results/alignment/rare_findings, and their means in rare_findings.json.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from evidence.alignment import SEEDS
from evidence.alignment_arms import list_arms
from evidence.alignment_caches import open_cache, prepare_caches
from evidence.alignment_cell import DRAWS, RESULTS, name_cell, name_labels, pretrain_arm
from hilum.atomic import open_atomic
from hilum.evaluate.features import embed_cache
from hilum.evaluate.paper.parts import take_findings
from hilum.evaluate.probe.efficiency import probe_label_counts, stack_repeats
from hilum.evaluate.result import write_json
from hilum.evaluate.scoring.bootstrap import read_interval
from hilum.evaluate.scoring.estimates import estimate_scores
from hilum.evaluate.task import Task, read_task

ARMS, COUNTS, RARE = ("independent", "InfoNCE within archives"), (300, 1000, None), 0.05
READ = "4x4"  # what validation chose for every encoder of the comparison
METRICS = ("auroc", "average_precision", "brier_error")
GROUPS, WAYS = ("rare", "others"), ("plain", "weighted")


def main() -> None:
    """Probe both ways what has no file, sum up and print."""
    rows = []
    for name in ARMS:
        parts = []
        for seed in range(SEEDS):
            path = RESULTS / "rare_findings" / f"{name_cell(list_arms()[name], seed)}.npz"
            if not path.exists():
                prepare_caches()
                probe_both_ways(name, seed, path)
            with np.load(path, allow_pickle=False) as stored:
                parts.append(dict(stored))
        rows += [summarize(name, count, group, parts) for count in COUNTS for group in GROUPS]
    write_json(RESULTS / "rare_findings.json", rows)
    print_rows(rows)


def split_findings(task: Task) -> dict[str, list[str]]:
    """Group -> findings, by the share of the training studies that have them."""
    share = np.nanmean(task.target[task.rows("train")], axis=0)
    rare = [finding for finding, part in zip(task.names, share, strict=True) if part < RARE]
    return {"rare": rare, "others": [one for one in task.names if one not in rare]}


def probe_both_ways(name: str, seed: int, path: Path) -> None:
    """Macro means of both groups by both ways: first the value, then those of the resamples of patients."""
    cache = open_cache("clean")
    task = read_task(cache, "findings")
    features = embed_cache(cache, pretrain_arm(list_arms()[name], seed), title=name)
    groups, everything = split_findings(task), len(task.rows("train"))
    found = {f"findings, {group}": np.array(findings) for group, findings in groups.items()}
    for way in WAYS:
        probed = probe_label_counts(
            features, task, name=name, counts=[count or everything for count in COUNTS], num_seeds=DRAWS,
            representation=READ, weighted=way == "weighted",
        )  # fmt: skip
        for count, probes in zip(COUNTS, probed.values(), strict=True):
            scores = stack_repeats([probe.test for probe in probes])
            for group, findings in groups.items():
                of = take_findings(scores, findings)
                for metric in METRICS:
                    macro = estimate_scores(of, (metric,))[-1]
                    found[name_values(group, way, count, metric)] = np.array(
                        [macro.value, *macro.resamples], float
                    )  # None: NaN
    path.parent.mkdir(parents=True, exist_ok=True)
    with open_atomic(path) as file:
        np.savez_compressed(file, allow_pickle=False, **found)


def name_values(group: str, way: str, count: int | None, metric: str) -> str:
    return f"{group}, {way}, {name_labels(count)}, {metric}"


def summarize(name: str, count: int | None, group: str, parts: list[dict[str, np.ndarray]]) -> dict[str, Any]:
    """Means over seeds as they are, and what weighting adds."""
    row: dict[str, Any] = {
        "encoder": name,
        "labels": name_labels(count),
        "group": group,
        "findings": parts[0][f"findings, {group}"].tolist(),
        "seeds": len(parts),
    }
    for metric in METRICS:
        plain, weighted = (
            np.mean([part[name_values(group, way, count, metric)] for part in parts], axis=0) for way in WAYS
        )
        interval = read_interval((weighted - plain)[1:])
        assert interval is not None
        row[metric] = plain[0]
        row[f"{metric}, weighted minus that"] = [weighted[0] - plain[0], interval.low, interval.high]
    return row


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
        table.add_row(row["encoder"], row["labels"], f"{len(row['findings'])} {row['group']}", *cells)
    Console(width=140).print(table)
