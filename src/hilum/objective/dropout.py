"""Dropout that a continued run repeats: seeded by the batch, with no generator's state to save."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import numpy as np
import torch

from hilum.batch import StudyBatch
from hilum.keyed_random import make_keys


@contextmanager
def seed_dropout(purpose: str, seed: int, batch: StudyBatch) -> Generator[None]:
    """Within the block, torch draws by (purpose, seed, first study of the batch); its generators stay as they were."""
    device = batch.study.device
    key, draw = (rows[:1].cpu().numpy() for rows in (batch.key, batch.draw))
    with torch.random.fork_rng(devices=[] if device.type == "cpu" else [device]):
        torch.manual_seed(int(make_keys(purpose, seed, key, draw)[0] >> np.uint64(1)))
        yield
