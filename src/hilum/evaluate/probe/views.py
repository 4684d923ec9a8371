"""What a second view of a study adds: probes of the same studies seen by one and by two (M 4.2)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from hilum.errors import UserError
from hilum.evaluate.features import ViewFeatures
from hilum.evaluate.heads.fit import Head
from hilum.evaluate.task import UNITS, Task

from .label_subsets import pick_labelled
from .run import ProbeResult, Reading, probe_encoder


def compare_views(
    features: ViewFeatures,
    task: Task,
    *,
    name: str,
    label_count: int | None = None,
    num_seeds: int = 3,
    representation: Reading = "auto",
    head: Head = "linear",
) -> dict[str, list[ProbeResult]]:
    """Probes of studies with exactly two views, in training, validation and test: seen by the first or by both.

    Args:
        features: of all views; "first" is the order of the study table.
        label_count: labelled training studies, of those with two views; None: all.
        num_seeds: draws of the labelled studies; one where all are used, since nothing is drawn.

    Returns:
        `one view` and `two views`, a probe for each seed; the test studies are the same in all.

    Raises:
        UserError: a task of views, features that may lack views of a study, or too few studies with two views.
    """
    if task.unit != "study":
        raise UserError(f"One view is compared with two on tasks of studies; {task.name} is one of {UNITS[task.unit]}.")
    cap = features.made_by.get("max_views")
    if cap is not None and cap < 3:
        raise UserError(
            f"These features hold at most {cap} views of a study, so that nobody can tell which studies have exactly "
            "two. Make them without a cap (max_views)."
        )
    counts = np.bincount(features.study, minlength=len(task.target))

    def keep_pairs(states: np.ndarray) -> np.ndarray:
        return np.where((counts == 2)[:, None], states, np.float32(np.nan)).astype(np.float32)

    pairs = replace(task, target=keep_pairs(task.target), soft=None if task.soft is None else keep_pairs(task.soft))
    num_train = len(pairs.rows("train"))
    if label_count is not None and label_count > num_train:
        raise UserError(f"{label_count:,} labelled studies with two views were asked for; training has {num_train:,}.")
    is_first = np.append(True, np.diff(features.study) != 0)
    seen = {"one view": _mark_first(features.take(is_first)), "two views": features}
    found: dict[str, list[ProbeResult]] = {part: [] for part in seen}
    for seed in range(num_seeds if label_count is not None and label_count < num_train else 1):
        rows = None if label_count is None else pick_labelled(pairs, [label_count], seed)[label_count]
        for part, shown in seen.items():
            found[part].append(
                probe_encoder(
                    shown,
                    pairs,
                    name=f"{name}, {part}",
                    representation=representation,
                    head=head,
                    train_rows=rows,
                    label_count=label_count,
                    seed=seed,
                )
            )
    return found


def _mark_first(features: ViewFeatures) -> ViewFeatures:
    return replace(features, made_by={**features.made_by, "views": "first of each study"})
