"""Fitting a risk head to stored features, its settings chosen by the loss on validation."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32

from hilum.model.heads import Representation

from .exam_views import ExamViews, Scale, fit_scale
from .hazards import (
    USUAL,
    RiskModel,
    find_discrete_risk,
    measure_discrete_nll,
    measure_partial_likelihood,
    spread_relative,
)
from .head import HeadOfEachSide, Pooling, RiskHead, find_risk, measure_masked_loss

DECAYS = (0.01, 0.3, 3.0)  # of the weights: the strengths that validation chooses among
_RATES: dict[Pooling, float] = {"mean": 1e-2, "attention": 1e-3}
_STEPS, _LOOK, _PATIENCE = 800, 10, 8
_EXAMS_AT_ONCE = 1024


@dataclass(frozen=True)
class Setting:
    """What validation chooses."""

    representation: Representation
    pooling: Pooling
    decay: float

    def __str__(self) -> str:
        return f"{self.representation}, {self.pooling}, decay {self.decay:g}"


@dataclass(frozen=True)
class FittedRisk:
    """A head, and how well it did on validation."""

    setting: Setting
    model: RiskModel
    head: RiskHead | HeadOfEachSide
    scale: Scale
    loss: float  # on validation
    step: int  # at which it was best

    def predict(self, exams: ExamViews) -> Float32[np.ndarray, "exam year"]:
        """Probabilities of cancer within 1 to 5 years; of Cox's model `hazards.spread_relative`, which is none."""
        return _predict(self.head, self.model, self.scale.apply(exams))


def choose_risk(
    take: Callable[[str, Representation], ExamViews],
    base: Sequence[float],
    settings: Sequence[Setting],
    *,
    model: RiskModel = USUAL,
    earlier: bool = False,
    seed: int = 0,
) -> tuple[FittedRisk, dict[str, float]]:
    """The head of the setting with the least loss on validation, the first of equals; and what each was worth.

    Args:
        take: exams of a split ("train", "val") by what is read of their views.
        base: risks to start from, of each year.
        settings: to try.
        model: what is fitted.
        earlier: whether views of earlier exams are among those.
        seed: of weights, order and dropout.
    """
    tried: dict[str, float] = {}
    best: FittedRisk | None = None
    for representation in dict.fromkeys(setting.representation for setting in settings):
        train, val = (take(split, representation) for split in ("train", "val"))
        for setting in settings:
            if setting.representation == representation:
                fitted = fit_risk(train, val, base, setting, model=model, earlier=earlier, seed=seed)
                tried[str(setting)] = fitted.loss
                best = fitted if best is None or fitted.loss < best.loss else best
    assert best is not None, "there are settings to try"
    return best, tried


def fit_risk(
    train: ExamViews,
    val: ExamViews,
    base: Sequence[float],
    setting: Setting,
    *,
    model: RiskModel = USUAL,
    earlier: bool = False,
    seed: int = 0,
) -> FittedRisk:
    """AdamW on whole batches (of at most a thousand exams), stopped where the loss on validation is least."""
    scale = fit_scale(train)
    train, val = scale.apply(train), scale.apply(val)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = _build_head(train, torch.tensor(base), setting, model, earlier)
        loss, step = _train(head, model, train, val, setting)
    return FittedRisk(setting, model, head.eval(), scale, loss, step)


def _build_head(
    train: ExamViews, base: torch.Tensor, setting: Setting, model: RiskModel, earlier: bool
) -> RiskHead | HeadOfEachSide:
    width, num_table = train.vectors.shape[1], train.table.shape[1]
    apart = model.sides == "apart" and width > 0  # a table has no sides
    base = 1 - (1 - base).sqrt() if apart else base  # of two such breasts

    def build() -> RiskHead:
        return RiskHead(width, num_table, base, pooling=setting.pooling, earlier=earlier, hazard=model.hazard)

    return HeadOfEachSide(build(), build(), model.hazard) if apart else build()


def _train(
    head: RiskHead | HeadOfEachSide, model: RiskModel, train: ExamViews, val: ExamViews, setting: Setting
) -> tuple[float, int]:
    """Leaves the head as it was best, and tells its loss on validation and the step."""
    named = list(head.named_parameters())
    groups = [
        {"params": [one for name, one in named if one.ndim > 1], "weight_decay": setting.decay},
        {"params": [one for name, one in named if one.ndim < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=_RATES[setting.pooling])
    best, kept = (_measure(head, model, val), 0), copy.deepcopy(head.state_dict())
    for step in range(1, _STEPS + 1):
        head.train()
        batch = train
        if len(train) > _EXAMS_AT_ONCE:
            batch = train.take(torch.randperm(len(train))[:_EXAMS_AT_ONCE])
        optimizer.zero_grad()
        _find_loss(model, head(batch), batch).backward()
        optimizer.step()
        if step % _LOOK:
            continue
        found = _measure(head, model, val)
        if found < best[0]:
            best, kept = (found, step), copy.deepcopy(head.state_dict())
        elif step - best[1] >= _PATIENCE * _LOOK:
            break
    head.load_state_dict(kept)
    return best


def _find_loss(model: RiskModel, numbers: torch.Tensor, exams: ExamViews) -> torch.Tensor:
    match model.hazard:
        case "additive":
            return measure_masked_loss(numbers, exams.target, exams.weight)
        case "logistic":
            return measure_discrete_nll(numbers, exams.target)
        case "cox":
            return measure_partial_likelihood(numbers.squeeze(1), exams.years, exams.event)


def _measure(head: RiskHead | HeadOfEachSide, model: RiskModel, exams: ExamViews) -> float:
    return float(_find_loss(model, _run(head, exams), exams))


def _predict(head: RiskHead | HeadOfEachSide, model: RiskModel, exams: ExamViews) -> Float32[np.ndarray, "exam year"]:
    find = {"additive": find_risk, "logistic": find_discrete_risk, "cox": spread_relative}[model.hazard]
    return find(_run(head, exams)).numpy()


@torch.no_grad()
def _run(head: RiskHead | HeadOfEachSide, exams: ExamViews) -> torch.Tensor:
    head.eval()
    parts = torch.arange(len(exams)).split(4 * _EXAMS_AT_ONCE)
    return torch.cat([head(exams.take(part)) for part in parts])
