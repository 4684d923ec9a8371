"""The arm without any pretraining: the same network from random weights, trained on labels alone, end to end.

It learns all tasks at once, with as many views shown as in a pretraining, and with all labels or with those of a tenth
of the patients. The best epoch by validation is kept. A draw of labels is a draw of first weights too.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from evidence.mammogram_arms import VIEWS
from evidence.mammogram_judging import FEW, SINGLE, TASKS, score_task
from evidence.mammogram_places import Judged
from hilum.cache import Cache
from hilum.config import Config
from hilum.evaluate.finetune.run import finetune_encoder
from hilum.evaluate.finetune.settings import FROM_SCRATCH, LIGHT
from hilum.evaluate.paper.parts import take_findings
from hilum.evaluate.paper.sizes import count_labels
from hilum.evaluate.scoring.scores import Scores, read_scores, write_scores
from hilum.evaluate.subject import build_random
from hilum.evaluate.task import Task, read_task

EPOCHS = {FEW: 20, 1.0: 2}  # share of the labels -> epochs
LR = 1e-3  # as in pretraining


def train_on_labels(cache: Cache, config: Config, seed: int, folder: Path) -> Judged:
    """Macro test AUROC of every task; `folder`/scores-*.npz tell where it was stopped."""
    tasks = {name: read_task(cache, name) for name in (*TASKS, SINGLE)}
    merged = merge_tasks(list(tasks.values()))
    found: Judged = {}
    for share, epochs in EPOCHS.items():
        path = folder / f"scores-{share}.npz"
        if not path.exists():
            folder.mkdir(parents=True, exist_ok=True)
            write_scores(path, _train(cache, merged, config, share, epochs, folder, seed))
        scores, labels = read_scores(path), "all labels" if share == 1 else f"{share:.0%} of labels"
        for name, task in tasks.items():
            found |= score_task(cache, name, labels, take_findings(scores, task.names))
    return found


def merge_tasks(tasks: list[Task]) -> Task:
    """One task of breasts with all targets of several."""
    first = tasks[0]
    assert all(np.array_equal(task.study, first.study) for task in tasks), "tasks of the same breasts"
    names = tuple(name for task in tasks for name in task.names)
    return replace(
        first, name="all", names=names, target=np.concatenate([task.target for task in tasks], axis=1),
        policy={task.name: task.policy for task in tasks}, classes=None,
    )  # fmt: skip


def _train(cache: Cache, task: Task, config: Config, share: float, epochs: int, folder: Path, seed: int) -> Scores:
    counts = list(count_labels(task, [share]))  # of all labels none
    settings = replace(
        FROM_SCRATCH,
        epochs=epochs,
        lr=LR,
        views_per_step=VIEWS,
        label_count=counts[0] if counts else None,
        augment=LIGHT,
        seed=seed,
    ).show_as(config.data)
    return finetune_encoder(
        cache,
        build_random(config.encoder, seed),
        task,
        settings,
        name="supervised",
        mean=cache.mean,
        std=cache.std,
        checkpoints=folder / f"checkpoints-{share}",
        checkpoint_minutes=2.0,
        progress=False,
    ).test
