"""The arm without any pretraining: the same encoder from random weights, trained on labels alone, end to end.

One draw of labels a seed: a draw of labels and a draw of first weights are one here. Fewer epochs where there are more
studies, so that a cell takes about 20 minutes; the best epoch by validation is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from hilum.cache import Cache
from hilum.config import CropConfig, EncoderConfig
from hilum.evaluate.finetune.run import finetune_encoder
from hilum.evaluate.finetune.settings import FROM_SCRATCH, LIGHT
from hilum.evaluate.finetune.state import Finetuned
from hilum.evaluate.record import record_finetuned
from hilum.evaluate.result import Result
from hilum.evaluate.scoring.scores import Scores, read_scores, write_scores
from hilum.evaluate.subject import build_random
from hilum.evaluate.task import Task

EPOCHS = {100: 30, 300: 20, 1000: 15, None: 6}  # labels -> epochs


def run_supervised(
    cache: Cache, task: Task, config: EncoderConfig, counts: Sequence[int], folder: Path, seed: int
) -> tuple[Result, dict[int | None, Scores]]:
    """Train with each number of labels and with all (None); `folder`/scores-*.npz tell where it was stopped."""
    scores: dict[int | None, Scores] = {}
    for count in counts:
        path = folder / f"scores-{count}.npz"
        if not path.exists():
            write_scores(path, _train(cache, task, config, count, folder, seed).test)
        scores[count] = read_scores(path)
    found = _train(cache, task, config, None, folder, seed)
    return record_finetuned(found, slices={}), scores | {None: found.test}


def _train(cache: Cache, task: Task, config: EncoderConfig, count: int | None, folder: Path, seed: int) -> Finetuned:
    settings = replace(
        FROM_SCRATCH,
        epochs=EPOCHS[count],
        views_per_step=32,
        label_count=count,
        crop=CropConfig(mode="random", min_scale=0.7),
        augment=LIGHT,
        seed=seed,
    )
    return finetune_encoder(
        cache,
        build_random(config, seed),
        task,
        settings,
        name="supervised",
        mean=cache.mean,
        std=cache.std,
        checkpoints=folder / f"checkpoints-{count or 'all'}",
        checkpoint_minutes=2.0,
    )
