"""The de-facto protocol of VinDr-Mammo, as Mammo-CLIP has it (L 3.2): to reproduce its numbers, not to be good.

Two tasks for each of two findings, so that it shows what each defect is worth:

| task | examples | training | chosen on |
|---|---|---|---|
| `image:mass` (ours) | images, positive where any row says so | training | validation |
| `mammo-clip-rows:mass` | rows of the table of findings | training | validation |
| `mammo-clip:mass` | rows of the table of findings | training and validation | the test split |

An image is as many rows as the table has of it. One with a mass and another finding is then an example of both classes,
in training as in the test: no classifier can be right about both.

That the examples are rows was inferred from the published positive weights (15.5733, 37.2967), which are the negatives
for each positive of the 16,391 training rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Bool

from hilum.breasts import BREAST_FINDINGS, tabulate_view_rows
from hilum.cache import SPLITS, Cache
from hilum.errors import UserError
from hilum.study import LABEL_MARK

from .task import Task, build_task

ROWS, WHOLE = "mammo-clip-rows", "mammo-clip"
FINDINGS = ("mass", "calcification")
NUM_ROWS = {"training": 16_391, "test": 4_095}  # of the whole archive


def names_mammo_clip_task(name: str) -> bool:
    """Whether a task's name is of this module."""
    return name.partition(LABEL_MARK)[0] in (ROWS, WHOLE)


def read_mammo_clip_task(cache: Cache, name: str, leave_out: Sequence[str] = ()) -> Task:
    """The task of that name, such as `mammo-clip-rows:mass`; what is wrong with it is in its notes.

    Its policy has, of training (with validation) and test, the rows, positives, images and images of both labels, and
    the negatives for each positive of training.

    Raises:
        UserError: no such finding, or a cache of which no finding tells its row, as those of VinDr-Mammo do.
    """
    kind, _, label = name.partition(LABEL_MARK)
    known = [f"{kind}{LABEL_MARK}{finding}" for finding in FINDINGS]
    if label not in FINDINGS:
        raise UserError(f"{cache.path}: there is no task '{name}'. Tasks of Mammo-CLIP: {', '.join(known)}.")
    table = cache.table()
    rows = tabulate_view_rows(table, label) if BREAST_FINDINGS in table.columns else None
    if rows is None or rows.is_empty():
        raise UserError(
            f"{cache.path}: task '{name}' is made of the rows of VinDr-Mammo's table of findings, and no finding of "
            "this cache tells its row. Type `hilum ingest vindr-mammo` and `hilum cache` again, which keeps the images."
        )
    view = rows["view"].to_numpy().astype(np.int64)
    target = rows["state"].to_numpy().astype(np.float32)[:, None]
    study = cache.views["study"].astype(np.int64)[view]
    task = build_task(cache, table, name, "view", (label,), target, {"label": label}, leave_out, study)
    counts = count_rows(task, view)
    policy = {**task.policy, "examples": "rows of the table of findings", **counts}
    whole = kind == WHOLE
    return replace(task, view=view, chooses_on_test=whole, policy=policy, notes=_list_notes(label, counts, whole))


def count_rows(task: Task, view: np.ndarray) -> dict[str, Any]:
    """What is in the rows of training (with validation) and test; and negatives for each positive in training."""
    known = ~np.isnan(task.target[:, 0])
    is_test = task.split == SPLITS.index("test")
    parts = {"training": known & ~is_test & (task.split >= 0), "test": known & is_test}
    counts: dict[str, Any] = {part: _count_part(task, view, keep) for part, keep in parts.items()}
    positives = counts["training"]["positives"]
    negatives = counts["training"]["rows"] - positives
    return {**counts, "negatives_per_positive": round(negatives / positives, 4) if positives else None}


def _count_part(task: Task, view: np.ndarray, keep: Bool[np.ndarray, " row"]) -> dict[str, int]:
    positive, shown = task.target[keep, 0] == 1, view[keep]
    return {
        "rows": int(keep.sum()),
        "positives": int(positive.sum()),
        "images": len(np.unique(shown)),
        "images_of_both_labels": len(np.intersect1d(shown[positive], shown[~positive])),
    }


def _list_notes(label: str, counts: dict[str, Any], whole: bool) -> tuple[str, ...]:
    train, test = counts["training"], counts["test"]
    rows = ", ".join(
        f"{counts[part]['rows']:,} rows of {part} (of the whole archive {NUM_ROWS[part]:,})" for part in NUM_ROWS
    )
    notes = [
        f"For comparison with Mammo-CLIP only: examples are the rows of the table of findings, {rows}, and an image "
        "counts once for each of its rows.",
        f"Contradictory labels: {train['images_of_both_labels']:,} images of training and "
        f"{test['images_of_both_labels']:,} of the test are examples of {label} and of no {label} at once. "
        f"image:{label} has one label for each image.",
        f"Negatives for each positive in training (with validation): {counts['negatives_per_positive']}.",
    ]
    if whole:
        notes.append(
            "Chosen on the test split: setting, representation and thresholds are those that are best on the rows that "
            "are scored, so the scores are too high. Training is all that is not test."
        )
    return tuple(notes)
