"""Probes of five label counts x five seeds on stored features: how long a label-efficiency curve takes.

One probe tries every representation, the curve reads the longest. Synthetic features of the right shapes (the time does
not depend on what they mean); writes results/bench/probe.json.
"""

from __future__ import annotations

import time

import numpy as np
import polars as pl
import torch
from rich.console import Console
from rich.table import Table

from hilum.evaluate.features import ViewFeatures, choose_grid
from hilum.evaluate.probe.efficiency import probe_label_counts
from hilum.evaluate.probe.label_subsets import choose_counts
from hilum.evaluate.probe.run import probe_encoder
from hilum.evaluate.record import record_probe
from hilum.evaluate.task import Task
from hilum.labels import FINDINGS

from .record import write_result

SIZES = ((1_000, 192), (4_000, 192), (8_000, 384))  # studies, width of a token


def main() -> dict:
    """Measure, print the table, write the JSON."""
    rows = []
    for num_studies, width in SIZES:
        features, task = make_problem(num_studies, width)
        counts = choose_counts(len(task.rows("train")))
        start = time.perf_counter()
        probe = probe_encoder(features, task, name="bench")
        fitted = time.perf_counter()
        record_probe(probe)
        recorded = time.perf_counter()
        reading = features.representations[-1]  # the longest vectors there are
        probe_label_counts(features, task, name="bench", counts=counts, num_seeds=5, representation=reading)
        drawn = time.perf_counter()
        rows.append(
            {
                "studies": num_studies,
                "features": features.read(reading).shape[1],
                "label_counts": counts,
                "probe_seconds": fitted - start,
                "intervals_seconds": recorded - fitted,
                "curve_seconds": drawn - recorded,
            }
        )
    table = Table(title="linear probe of 14 findings on stored features")
    for column in ("studies", "features", "one probe, s", "metrics with intervals, s", "5 counts x 5 seeds, s"):
        table.add_column(column, justify="right")
    for row in rows:
        times = (row[name] for name in ("probe_seconds", "intervals_seconds", "curve_seconds"))
        table.add_row(f"{row['studies']:,}", str(row["features"]), *(f"{seconds:.1f}" for seconds in times))
    Console().print(table)
    result = {"threads": torch.get_num_threads(), "rows": rows}
    write_result("probe", result)
    return result


def make_problem(num_studies: int, width: int) -> tuple[ViewFeatures, Task]:
    """Studies of one or two views whose features hold something of 14 findings, with a decaying spectrum."""
    rng = np.random.default_rng(0)
    target = (rng.random((num_studies, 14)) < rng.uniform(0.03, 0.4, 14)).astype(np.float32)
    study = np.repeat(np.arange(num_studies), rng.integers(1, 3, num_studies))
    signal = target @ rng.normal(size=(14, width))
    mixing = rng.normal(size=(width, width)) * np.logspace(0, -2, width)[:, None]

    def draw() -> np.ndarray:
        return (0.3 * signal[study] + rng.normal(size=(len(study), width)) @ mixing).astype(np.float32)

    regions = np.stack([draw() for _ in range(choose_grid(width, len(study)) ** 2)], axis=1)

    rows = np.arange(num_studies)
    kind, made_by = rng.integers(0, 2, len(study)), {"cache": "bench", "weights": "bench"}
    features = ViewFeatures(draw(), draw(), regions, study, kind, np.arange(len(study)), made_by)
    split = np.digitize(rows / num_studies, (0.7, 0.8))
    group = pl.Series([f"p{row // 2}" for row in rows])
    return features, Task("findings", "study", FINDINGS, target, rows, rows // 2, split, group, {}, "bench")
