"""Weights of terms over a run."""

from __future__ import annotations

import math
from collections.abc import Mapping

from hilum.config import Term, VarianceCovariance, WeightConfig

RELEASED_STEEPNESS = 0.02  # of the released code's sigmoid, per epoch


def ramp_cosine(progress: float) -> float:
    """0 at progress 0, 1 at progress 1, half a cosine between: independent of how long the run is."""
    return (1 - math.cos(math.pi * min(max(progress, 0.0), 1.0))) / 2


def ramp_released_sigmoid(epoch: int, warmup: int, end: int) -> float:
    """The released code's share of the final weight at a whole epoch (M 2.5).

    Warm-up is subtracted twice in effect, and short runs start near one half: both are the code's, kept to show it.
    """
    middle = int(warmup + (end - warmup) / 2)
    reached = min(epoch, end) - warmup if epoch >= warmup else 0
    return 1 / (1 + math.exp(-RELEASED_STEEPNESS * (reached - middle)))


def schedule_weight(config: WeightConfig, progress: float, *, epochs: float, warmup: float, target: float) -> float:
    """The weight of a term at `progress` (0 to 1) of a run of `epochs` epochs.

    warmup: share of the run in which the learning rate rises (only the released curve looks at it).
    target: the weight at the end of the ramp: `config.value`, or what a `GradientRatioController` found.
    """
    if config.ramp == "constant":
        return target
    if config.ramp == "cosine":
        return target * ramp_cosine(progress)
    epoch = min(int(progress * epochs + 1e-9), round(epochs))
    return target * ramp_released_sigmoid(epoch, warmup=round(warmup * epochs), end=round(epochs))


def scale_guards(terms: Mapping[str, Term], weights: Mapping[str, float]) -> dict[str, float]:
    """The weights, those of guards multiplied by the weight of the term they watch.

    Distance and guard meet in one projector, which nothing else trains. With a guard of fixed weight, the distance's
    own weight decides whether the projector collapses; and once it does, a `GradientRatioController` turns up a
    distance whose gradient vanishes.
    """
    scaled = dict(weights)
    for name, term in terms.items():
        if isinstance(term, VarianceCovariance) and term.of is not None:
            scaled[name] = weights[name] * weights[term.of]
    return scaled
