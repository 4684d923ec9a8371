"""Gated attention over a study's views: which of them to believe, told from their features.

A view's share in the mean of logits is a softmax over its study of u . (tanh(V x) * sigmoid(U x)) (Ilse, Tomczak and
Welling 2018, "Attention-based deep multiple instance learning", eq. 9). The views' logits are those of a fitted linear
head and stay as they are; u begins at 0, where the gate is the plain mean of logits.
"""

from __future__ import annotations

import copy

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from hilum.evaluate.fusion import masked_cross_entropy

NUM_STEPS, CHECK_EVERY, RATE, WEIGHT_DECAY = 100, 10, 1e-2, 1e-2


class Gate(nn.Module):
    """Shares of views from their standardised features."""

    def __init__(self, width: int, hidden: int = 16) -> None:
        super().__init__()
        self.content = nn.Linear(width, hidden)
        self.gate = nn.Linear(width, hidden)
        self.score = nn.Linear(hidden, 1, bias=False)
        nn.init.zeros_(self.score.weight)

    def forward(
        self,
        features: Float[Tensor, "view dim"],
        logit: Float[Tensor, "view finding"],
        study: Int64[Tensor, " view"],
        num_studies: int,
    ) -> Float[Tensor, "study finding"]:
        """The studies' logits."""
        said = self.score(torch.tanh(self.content(features)) * torch.sigmoid(self.gate(features))).squeeze(1)
        share = share_within(said, study, num_studies).to(logit.dtype)
        return logit.new_zeros(num_studies, logit.shape[1]).index_add(0, study, share[:, None] * logit)


def share_within(
    score: Float[Tensor, " view"], study: Int64[Tensor, " view"], num_studies: int
) -> Float[Tensor, " view"]:
    """Softmax of the scores over the views of each study.

    Example: scores 0, 0 of one study and 5 of another give shares 1/2, 1/2 and 1.
    """
    highest = score.new_full((num_studies,), -torch.inf).scatter_reduce(0, study, score.detach(), "amax")
    weight = (score - highest[study]).exp()
    total = weight.new_zeros(num_studies).index_add(0, study, weight)
    return weight / total[study]


def fit_gate(
    train: tuple[Tensor, Tensor, Tensor, Tensor], val: tuple[Tensor, Tensor, Tensor, Tensor], *, seed: int = 0
) -> Gate:
    """Train a gate on studies with several views and keep it where the loss of validation was lowest.

    Args:
        train, val: (features, logit, study, target): of views, their owner, and of studies; of val at any number of
            views. The start counts as a candidate: a gate that never helps stays the mean of logits.
        seed: of the first weights.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        gate = Gate(train[0].shape[1])

    def measure(part: tuple[Tensor, Tensor, Tensor, Tensor]) -> Tensor:
        features, logit, study, target = part
        return masked_cross_entropy(gate(features.float(), logit, study, len(target)), target)

    optimizer = torch.optim.AdamW(gate.parameters(), lr=RATE, weight_decay=WEIGHT_DECAY)
    best, kept = float("inf"), copy.deepcopy(gate)
    for step in range(NUM_STEPS + 1):
        if step % CHECK_EVERY == 0:
            with torch.no_grad():
                loss = float(measure(val))
            if loss < best:
                best, kept = loss, copy.deepcopy(gate)
        optimizer.zero_grad()
        measure(train).backward()
        optimizer.step()
    return kept
