"""Label efficiency: how good a probe is with few labelled studies, over several draws of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import polars as pl
from jaxtyping import Int64

from hilum.splits import nested_subsets

from .features import ViewFeatures
from .probe import ProbeResult, Reading, probe_encoder
from .scores import Scores
from .task import Task


def choose_counts(num_train: int, num: int = 5, least: int = 20) -> list[int]:
    """Up to `num` label counts below and up to all `num_train`: all, and round numbers (1, 2, 5 x 10^k) under it."""
    ladder = [factor * 10**power for power in range(1, 8) for factor in (1, 2, 5)]
    below = [count for count in ladder if least <= count <= 0.75 * num_train]
    return [*below[-(num - 1) :], num_train]


def pick_labelled(task: Task, counts: Sequence[int], seed: int) -> dict[int, Int64[np.ndarray, " row"]]:
    """count -> training rows whose labels are used: whole patients in an order hashed by `seed`, so that a smaller
    count is part of a larger one, and the same patients come first when others are added (M 8-31)."""
    rows = task.rows("train")
    groups = pl.DataFrame({"group": task.group.gather(rows)})
    return {count: rows[part] for count, part in nested_subsets(groups, counts, salt=f"labels/{seed}").items()}


def probe_label_counts(
    features: ViewFeatures,
    task: Task,
    *,
    name: str,
    counts: Sequence[int],
    num_seeds: int = 5,
    representation: Reading = "auto",
) -> dict[int, list[ProbeResult]]:
    """For each label count a probe for each seed (one alone where every label is used: there is nothing to draw)."""
    num_train = len(task.rows("train"))
    probes: dict[int, list[ProbeResult]] = {count: [] for count in counts}
    for seed in range(num_seeds):
        for count, rows in pick_labelled(task, counts, seed).items():
            if count == num_train and seed:
                continue
            probes[count].append(
                probe_encoder(
                    features,
                    task,
                    name=name,
                    representation=representation,
                    train_rows=rows,
                    label_count=count,
                    seed=seed,
                )
            )
    return probes


def stack_repeats(parts: Sequence[Scores]) -> Scores:
    """Scores of the same rows by several classifiers as repeats: their metrics are averaged."""
    first = parts[0]
    assert all(np.array_equal(part.row, first.row) for part in parts)
    return replace(
        first,
        logit=np.concatenate([part.logit for part in parts]),
        decision=np.concatenate([part.decision for part in parts]),
        threshold=first.threshold if len(parts) == 1 else None,
    )
