"""Label efficiency: how good a probe is with few labelled studies, over several draws of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from hilum.evaluate.features import ViewFeatures
from hilum.evaluate.heads.fit import Head
from hilum.evaluate.scoring.scores import Scores
from hilum.evaluate.task import Task

from .label_subsets import pick_labelled
from .run import ProbeResult, Reading, probe_encoder


def probe_label_counts(
    features: ViewFeatures,
    task: Task,
    *,
    name: str,
    counts: Sequence[int],
    num_seeds: int = 5,
    representation: Reading = "auto",
    head: Head = "linear",
    weighted: bool = False,
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
                    head=head,
                    weighted=weighted,
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
    screened = [part.screened for part in parts if part.screened is not None]
    return replace(
        first,
        screened=np.concatenate(screened) if len(screened) == len(parts) else None,
        logit=np.concatenate([part.logit for part in parts]),
        decision=np.concatenate([part.decision for part in parts]),
        threshold=first.threshold if len(parts) == 1 else None,
    )
