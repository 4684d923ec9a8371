"""Patch features that stay where the encoder had them at its start (P 7.3, "no anatomical anchor").

Distillation from a vector of the whole study says nothing of places. This term keeps what the encoder knew of them:
the patch tokens of whole views may not turn away from those that a frozen copy of the first weights gives. It costs one
more encoder pass without gradient, and the memory of the copy's weights.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from hilum.batch import StudyBatch
from hilum.config import EncoderConfig
from hilum.model.encoder import Encoder, Features
from hilum.model.masking import Mask

from .gather import Gather
from .term import Sum, Term, sum_items


def measure_drift(
    patches: Float[Tensor, "view patch dim"], start: Float[Tensor, "view patch dim"]
) -> Float[Tensor, " view"]:
    """Mean over patches of 1 - cos(patch, its start), as half the squared chord: exactly 0 where nothing changed."""
    now, before = F.normalize(patches.float(), dim=2), F.normalize(start.float(), dim=2)
    return (now - before).square().sum(dim=2).mean(dim=1) / 2


class FeaturePreservation(Term):
    """Drift of the patch tokens of whole views, mean over views."""

    sees_whole = True

    def __init__(self, encoder: EncoderConfig) -> None:
        super().__init__()
        # A part of the term, so that a checkpoint has it: a continued run does not need the weights it began with.
        with torch.device("meta"):
            self.start = Encoder(encoder).requires_grad_(False).eval()

    def keep_start(self, encoder: Encoder) -> None:
        """Take a copy of the encoder's present weights."""
        self.start.load_state_dict({name: value.clone() for name, value in encoder.state_dict().items()}, assign=True)
        self.start.requires_grad_(False)

    def count(self, batch: StudyBatch) -> float:
        return float(batch.num_views)

    def forward(self, features: Features, mask: Mask, batch: StudyBatch, gather: Gather) -> dict[str, Sum]:
        with torch.no_grad():
            start = self.start.encode(batch.pixels, batch.view_kind).tokens
        return {"loss": sum_items(measure_drift(features.tokens[:, 1:], start[:, 1:]))}
