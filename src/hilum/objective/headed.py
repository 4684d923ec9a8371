"""What the terms of distillation share: a choice of pass, dropout that repeats, a learned temperature."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from hilum.batch import StudyBatch
from hilum.model.encoder import Features

from .dropout import seed_dropout
from .term import Term

MIN_SCALE, MAX_SCALE = 1.0, 100.0


def start_scales(temperature: float, num: int = 1) -> nn.Parameter:
    """The logarithm of what cosines are multiplied by, to be learned (P 2.3)."""
    scales = nn.Parameter(torch.full((num,), math.log(1 / temperature)))
    clamp_scales(scales)
    return scales


@torch.no_grad()
def clamp_scales(log_scale: nn.Parameter) -> None:
    """Keep scales within 1 and 100 (P 2.3), in place."""
    log_scale.clamp_(math.log(MIN_SCALE), math.log(MAX_SCALE))


class LearnedScale:
    """Of a term that multiplies cosines by a learned scale: it stays in its range."""

    log_scale: nn.Parameter  # of `start_scales`

    def constrain(self) -> None:
        clamp_scales(self.log_scale)


class HeadedTerm(Term):
    """A term whose heads drop numbers in training, by the batch."""

    def __init__(self, reads: Literal["whole", "visible"], dropout: float, seed: int) -> None:
        super().__init__()
        self.sees_whole = reads == "whole"
        self.dropout, self.seed = dropout, seed

    def repeat_dropout(self, batch: StudyBatch) -> AbstractContextManager[None]:
        """Within it, the same batch drops the same."""
        drops = self.training and self.dropout
        return seed_dropout(f"dropout of {type(self).__name__}", self.seed, batch) if drops else nullcontext()

    def reach_all(self, features: Features) -> Float[Tensor, ""]:
        """0, with a gradient to every parameter, so that processes without any row stay in step."""
        return 0.0 * (features.tokens.sum() + sum(parameter.sum() for parameter in self.parameters()))
