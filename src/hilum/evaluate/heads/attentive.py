"""The attentive head: learned queries choose which patch tokens of a frozen encoder a linear layer reads.

Masked autoencoders keep what a finding looks like in a few patch tokens, which neither the class token nor a mean shows
(M 7.3 F). It begins as a linear head on the mean of the tokens and is trained by AdamW on studies (mean of their views'
logits); the peak rate is chosen on validation.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from hilum.evaluate.fusion import Fusion, fuse_views, masked_cross_entropy, weigh_positives
from hilum.evaluate.rows import Rows, TrainOn
from hilum.model.heads import AttentivePool, pool_together
from hilum.training.optim import schedule_lr

from .logistic import Standardizer, fit_standardizer

RATES = (3e-4, 1e-3, 3e-3, 1e-2)
STUDIES_PER_STEP, NUM_EPOCHS = 64, 20
LEAST_STEPS, MOST_STEPS = 200, 4000  # fewer with few labels find less of what lies in single tokens (LOG.md)
WEIGHT_DECAY = 0.1
_VIEWS_AT_ONCE = 512
_FEW_NUMBERS = 2**22  # of tokens: 100 views of 196 tokens of 192 numbers


class AttentiveHead(nn.Module):
    """Attentive pooling and one linear layer."""

    def __init__(self, num_tokens: int, width: int, prevalence: Float[Tensor, " finding"]) -> None:
        super().__init__()
        self.pool = AttentivePool(width, num_tokens)
        self.linear = nn.Linear(width, len(prevalence))
        nn.init.zeros_(self.linear.weight)
        with torch.no_grad():
            self.linear.bias.copy_(prevalence.logit())

    def forward(self, tokens: Float[Tensor, "view token dim"]) -> Float[Tensor, "view finding"]:
        return self.linear(self.pool(tokens))


def classify_together(
    heads: Sequence[AttentiveHead], tokens: Float[Tensor, "view token dim"]
) -> Float[Tensor, "view all"]:
    """Logits of several heads of one shape, side by side: all findings of the first, then of the next."""
    weight = torch.stack([head.linear.weight for head in heads])
    bias = torch.cat([head.linear.bias for head in heads])
    read = pool_together([head.pool for head in heads], tokens)
    return torch.einsum("hvd,hfd->vhf", read, weight).flatten(1) + bias


@dataclass(frozen=True)
class AttentiveProbe:
    """The fitted head: standardise each channel, pool, multiply, fuse."""

    standardize: Standardizer
    head: AttentiveHead
    fusion: Fusion

    @torch.inference_mode()
    def score_rows(self, rows: Rows, keep: Bool[Tensor, " view"] | None = None) -> Float[Tensor, "row finding"]:
        """Logits of studies (or of views, for a task of views), from all their views or those in `keep`."""
        views = torch.arange(len(rows.owner)) if keep is None else keep.nonzero().squeeze(1)
        said = [self.head(read_standardized(rows, part, self.standardize)) for part in views.split(_VIEWS_AT_ONCE)]
        return fuse_views(torch.cat(said).double(), rows.owner[views], len(rows), self.fusion)


def read_standardized(
    rows: Rows, view: Int64[Tensor, " some"], standardize: Standardizer
) -> Float[Tensor, "some token dim"]:
    """Tokens of some views in 32 bit: they are stored in 16, and all at once would not fit."""
    return rows.features[view].float().sub_(standardize.mean.float()).div_(standardize.std.float())


@contextmanager
def use_few_threads(num_numbers: int) -> Generator[None]:
    """One thread where a step reads few numbers of tokens: on a busy machine threads wait longer for each other than
    such a step computes, up to forty times (LOG.md)."""
    before = torch.get_num_threads()
    torch.set_num_threads(1 if num_numbers < _FEW_NUMBERS else before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def fit_attentive(
    rows: Rows,
    rates: Sequence[float],
    train_on: TrainOn = "study",
    fusion: Fusion = "mean_logit",
    *,
    weighted: bool = False,
    seed: int = 0,
) -> list[AttentiveProbe]:
    """One head for each peak rate, all from the same start and shown the same studies in the same order.

    Args:
        rows: with tokens, (view, token, dim), as features.
        weighted: positives of rare findings count more, see `masked_cross_entropy`.
        seed: of the order of studies.
    """
    assert rows.features.ndim == 3, "the attentive head reads tokens"
    standardize = _measure_tokens(rows)
    target = rows.training_target.float()
    known = ~torch.isnan(target)
    prevalence = (torch.where(known, target, 0.0).sum(dim=0) + 0.5) / (known.sum(dim=0) + 1)
    weight = weigh_positives(target) if weighted else None
    by_owner = rows.owner.argsort(stable=True)
    counts = torch.bincount(rows.owner, minlength=len(rows))
    views_of = by_owner.split(counts.tolist())
    num_steps = max(LEAST_STEPS, min(MOST_STEPS, NUM_EPOCHS * -(-len(rows) // STUDIES_PER_STEP)))
    # All rates at once: a step costs what it takes to fetch and read the tokens, hardly more with more heads. A head's
    # parameters are its own, so each learns what it would learn alone.
    heads = [AttentiveHead(*rows.features.shape[1:], prevalence) for _ in rates]
    optimizer = _build_optimizer(heads, rates)
    target = target.repeat(1, len(heads))
    weight = None if weight is None else weight.repeat(len(heads))
    generator = torch.Generator().manual_seed(seed)
    order, at = torch.randperm(len(rows), generator=generator), 0
    per_step = min(STUDIES_PER_STEP, len(rows)) * rows.features[0].numel() * len(rows.owner) // len(rows)
    with use_few_threads(per_step):
        for step in range(num_steps):
            if at >= len(rows):
                order, at = torch.randperm(len(rows), generator=generator), 0
            picked = order[at : at + STUDIES_PER_STEP]
            at += STUDIES_PER_STEP
            for group in optimizer.param_groups:
                group["lr"] = schedule_lr(step + 0.5, num_steps, peak=group["peak"], warmup=0.1)
            view = torch.cat([views_of[study] for study in picked.tolist()])
            owner = torch.arange(len(picked)).repeat_interleave(counts[picked])
            logit = classify_together(heads, read_standardized(rows, view, standardize))
            if train_on == "study":
                loss = masked_cross_entropy(fuse_views(logit, owner, len(picked), fusion), target[picked], weight)
            else:
                loss = masked_cross_entropy(logit, target[picked][owner], weight)
            optimizer.zero_grad()
            (len(heads) * loss).backward()  # the sum of the heads' own means
            optimizer.step()
    return [AttentiveProbe(standardize, head.eval(), fusion) for head in heads]


def _build_optimizer(heads: Sequence[AttentiveHead], rates: Sequence[float]) -> torch.optim.AdamW:
    """Each head at its own peak rate; matrices decay, queries, places and biases do not."""
    groups = []
    for head, rate in zip(heads, rates, strict=True):
        matrices = [head.pool.value.weight, head.linear.weight]
        others = [head.pool.query, head.pool.place, head.linear.bias]
        groups.append({"params": matrices, "weight_decay": WEIGHT_DECAY, "peak": rate})
        groups.append({"params": others, "weight_decay": 0.0, "peak": rate})
    return torch.optim.AdamW(groups, lr=rates[0], fused=True)


def _measure_tokens(rows: Rows, num_views: int = 2048) -> Standardizer:
    """Statistics of each channel over the tokens of (evenly chosen) training views."""
    step = max(1, len(rows.features) // num_views)
    return fit_standardizer(rows.features[::step].float().flatten(0, 1))
