"""Fine-tuning: encoder and head trained together, the answer of a study or a breast the mean of its views' logits (M
4.1).

The epoch with the best macro AUROC on validation is kept (`selection.py`). Layer-wise rate decay and drop path are what
the field found to matter in fine-tuning masked autoencoders (M 7.3 G).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int64

from hilum.cache import Cache
from hilum.checksums import hash_weights
from hilum.errors import UserError
from hilum.evaluate.probe.label_subsets import pick_labelled
from hilum.evaluate.subject import check_cache
from hilum.evaluate.supervised_training import train_supervised
from hilum.evaluate.task import SPLIT_WORDS, Task
from hilum.model.image_encoder import ImageEncoder

from .settings import FinetuneSettings
from .state import Finetuned, Finetuning


def finetune_encoder(
    cache: Cache,
    encoder: ImageEncoder,
    task: Task,
    settings: FinetuneSettings,
    *,
    name: str,
    mean: float,
    std: float,
    checkpoints: Path | None = None,
    checkpoint_minutes: float = 10.0,
    progress: bool = True,
) -> Finetuned:
    """Train a copy of `encoder` with a new head on a task of studies, breasts or images.

    Of breasts and images all views are shown, whatever `settings.max_views` says of a study's.

    Args:
        name: what the encoder is called in tables.
        mean, std: normalisation the encoder was trained with; 0 and 1 for a public one, which normalises by itself.
        checkpoints, checkpoint_minutes: see `train_supervised`.

    Raises:
        UserError: a split is empty, fewer labels than asked for, a loss that is not finite, not enough memory.
        SystemExit: stopped by a signal, after saving a checkpoint; the code is 128 + the signal's number.
    """
    parts = list_parts(task, settings)
    settings = settings if task.unit == "study" else replace(settings, max_views=None)
    check_cache(cache, encoder)
    with torch.random.fork_rng():
        tuning = Finetuning(cache, encoder, task, settings, parts, mean=mean, std=std)
        return train_supervised(
            tuning,
            lambda: tuning.finish(name, hash_weights(encoder)),
            title=f"finetune {name}",
            advice=f"of {settings.views_per_step} views: lower --views-per-step, or cap the views of a study "
            f"(now {settings.max_views or 'all'})",
            checkpoints=checkpoints,
            checkpoint_minutes=checkpoint_minutes,
            progress=progress,
        )


def list_parts(task: Task, settings: FinetuneSettings) -> dict[str, Int64[np.ndarray, " row"]]:
    """The task's rows of each split, in training those whose labels are used.

    Raises:
        UserError: a split is empty, or training has fewer labels than asked for.
    """
    parts = {split: task.rows(split) for split in ("train", "val", "test")}
    for split, rows in parts.items():
        if not len(rows):
            raise UserError(f"There is no {SPLIT_WORDS[split]} {task.unit} with a known target of task {task.name}.")
    if (count := settings.label_count) is not None:
        parts["train"] = pick_labelled(task, [count], settings.seed)[count]
    return parts
