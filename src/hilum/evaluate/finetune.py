"""Fine-tuning: encoder and head trained together, a study's answer the mean of its views' logits (M 4.1).

The epoch with the best macro AUROC on validation is kept (`selection.py`). Layer-wise rate decay and drop path are what
the field found to matter in fine-tuning masked autoencoders (M 7.3 G).
"""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int64

from hilum.cache import Cache
from hilum.errors import UserError
from hilum.launch import StopRequest
from hilum.memory import tells_exhaustion
from hilum.model.image_encoder import ImageEncoder
from hilum.progress import RunProgress

from .efficiency import pick_labelled
from .features import hash_weights
from .finetune_settings import FinetuneSettings
from .finetune_state import Finetuned, Finetuning
from .subject import check_cache
from .task import Task


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
    """Train a copy of `encoder` with a new head on a task of studies.

    Args:
        name: what the encoder is called in tables.
        mean, std: normalisation the encoder was trained with; 0 and 1 for a public one, which normalises by itself.
        checkpoints: folder in which checkpoints are kept, and from whose newest the fine-tuning continues. The caller
            sees to it that it is of the same settings, and is its only writer.
        checkpoint_minutes: time between checkpoints; one is written at a stop signal as well.

    Raises:
        UserError: the task is not one of studies, a split is empty, fewer labels than asked for, a loss that is not
            finite, not enough memory.
        SystemExit: stopped by a signal, after saving a checkpoint; the code is 128 + the signal's number.
    """
    parts = list_parts(task, settings)
    check_cache(cache, encoder)
    with ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng())
        tuning = Finetuning(cache, encoder, task, settings, parts, mean=mean, std=std)
        stop = StopRequest()
        if checkpoints is not None:
            tuning.load(checkpoints)
            stack.enter_context(stop.listen())
        title = f"finetune {name}"
        bar = stack.enter_context(RunProgress(title, tuning.num_steps, tuning.num_done, silent=not progress))
        if tuning.num_done:
            bar.say(f"Continued at step {tuning.num_done} of {tuning.num_steps}")
        saved_at = time.monotonic()
        with _explain_exhaustion(settings):
            for batch in tuning.iterate():
                if stop.signal_number:
                    break
                loss = tuning.take_step(batch)
                bar.advance(loss=loss, views=float(batch.num_views), waited=tuning.loader.seconds_waited)
                if tuning.is_validation_due():
                    bar.say(tuning.validate())
                if checkpoints is not None and time.monotonic() - saved_at > 60 * checkpoint_minutes:
                    tuning.save(checkpoints)
                    saved_at = time.monotonic()
        if stop.signal_number:
            assert checkpoints is not None, "signals are listened to only where checkpoints are kept"
            tuning.save(checkpoints)
            done = f"step {tuning.num_done} of {tuning.num_steps}"
            bar.say(f"Stopped at {done} and saved. The same command continues there.")
            raise SystemExit(128 + stop.signal_number)
        return tuning.finish(name, hash_weights(encoder))


def list_parts(task: Task, settings: FinetuneSettings) -> dict[str, Int64[np.ndarray, " study"]]:
    """The studies of each split, in training those whose labels are used.

    Raises:
        UserError: the task is not one of studies, a split is empty, or training has fewer labels than asked for.
    """
    if task.unit != "study":
        raise UserError(f"Fine-tuning is for tasks of studies; {task.name} is one of views. Probe it instead.")
    parts = {split: task.rows(split) for split in ("train", "val", "test")}
    for split, rows in parts.items():
        if not len(rows):
            raise UserError(f"There is no {split} study with a known target of task {task.name}.")
    if (count := settings.label_count) is not None:
        parts["train"] = pick_labelled(task, [count], settings.seed)[count]
    return parts


@contextmanager
def _explain_exhaustion(settings: FinetuneSettings) -> Generator[None, None, None]:
    """Turn "out of memory" into what to change.

    Raises:
        UserError: memory ran out within the block.
    """
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if not tells_exhaustion(error):
            raise
        told = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"Out of memory in a step of {settings.views_per_step} views: lower --views-per-step, or cap the views of "
            f"a study (now {settings.max_views or 'all'}). ({told})"
        ) from error
