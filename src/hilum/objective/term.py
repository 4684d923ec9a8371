"""What a term of the objective is: sums with their counts, so that any split of a batch gives the same mean."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from hilum.batch import StudyBatch
from hilum.model.encoder import Features
from hilum.model.masking import Mask

from .gather import Gather


class Sum(NamedTuple):
    """A sum over items and how many items there were; add both over micro-batches and processes, then divide."""

    value: Float[Tensor, ""]
    count: Float[Tensor, ""]


class Term(nn.Module, ABC):
    """One term of an objective: features and batch in, named sums out.

    The sum under "loss" is optimised; the others are for the log. The items of "loss" are `count(batch)` many, which
    is known before anything is computed. Where a batch has none, the value is 0 and still reaches every parameter, so
    that processes with and without items stay in step.
    """

    reads_layers = False  # whether `Features.layers` must be filled
    sees_whole = False  # whether its features are of whole views, and not of what masks leave of them

    @abstractmethod
    def count(self, batch: StudyBatch) -> float:
        """How many items the mean of "loss" is over."""

    @abstractmethod
    def forward(self, features: Features, mask: Mask, batch: StudyBatch, gather: Gather) -> dict[str, Sum]:
        """The sums of this process's part of the batch; `gather` fetches other processes' rows."""

    def constrain(self) -> None:
        """Bring learned numbers back to where they may be; called after every optimiser step."""

    def list_rows(self, features: Features, batch: StudyBatch) -> dict[str, Tensor]:
        """What `score_rows` reads of a batch in evaluation; rows of all batches are put one after the other."""
        return {}

    def score_rows(self, rows: dict[str, Tensor]) -> dict[str, float]:
        """Figures for the log that need all of a split, and not a sum over batches."""
        return {}


def sum_items(items: Float[Tensor, " item"], count: float | int | None = None) -> Sum:
    """The sum of items; `count` where the mean is over another number than there are items."""
    return Sum(items.sum(), torch.tensor(float(len(items) if count is None else count), device=items.device))


def count_pairs(batch: StudyBatch) -> float:
    """Ordered pairs of two views of one study."""
    views = batch.views_per_study()
    return float((views * (views - 1)).sum())
