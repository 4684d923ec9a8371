"""How often studies of a kind (of two views, with findings) are drawn, so that steps hold a wanted share of them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float64, Int64

_ROUNDS = 50  # each brings two wanted shares closer to holding together; a handful is enough
_LEAST = 1e-3  # of a draw in an epoch: of what is due less there is none
_WHOLLY = 1e9  # times as often: a share of 1, where nothing limits it


def limit_share(share: float, max_oversampling: float) -> float:
    """Share of draws of a part of the studies, each drawn `max_oversampling` times as often as a study of the rest."""
    return 1 / (1 + (1 - share) / (share * max_oversampling)) if share else 0.0


def split_step(views: float, mean_multi_views: float, floor: float) -> tuple[int, int]:
    """Multi-view and single-view studies of a step of `views` views, with at least `floor` of the studies multi-view.

    x studies of m views and y single ones: x m + y = views and x / (x + y) = floor give x; it is rounded up, and y
    fills the views that are left.
    """
    num_multi = max(1, math.ceil(floor * views / (floor * mean_multi_views + 1 - floor) - 1e-9))
    room = round(views - num_multi * mean_multi_views)
    most = math.floor(num_multi * (1 - floor) / floor + 1e-9)
    return num_multi, max(0, min(room, most))


def weigh_kinds(
    num: Int64[np.ndarray, " kind"],
    wanted: Sequence[tuple[Bool[np.ndarray, " kind"], float]],
    max_oversampling: float,
) -> Float64[np.ndarray, " kind"]:
    """How many times as often as a study of none of the `wanted` kinds those of each kind are drawn, 1 or more.

    Half, of 90 studies without findings and 10 with them: 9 times as often. At most 4 times: 4, a share of 40 in 130.

    Args:
        num: studies of each kind.
        wanted: kinds that together are to have at least a share of the draws. A study that counts for several is drawn
            the product of their factors times as often, at most `max_oversampling` times; later ones give way.
        max_oversampling: limit on how many times as often.
    """
    factors = np.ones(len(wanted))
    of = np.array([kinds for kinds, _ in wanted])
    for _ in range(_ROUNDS):
        for place, (kinds, share) in enumerate(wanted):
            others = np.where(np.arange(len(wanted)) == place, 1.0, factors)
            weight = num * np.where(of, others[:, None], 1.0).prod(axis=0)
            inside, rest = (1 - share) * weight[kinds].sum(), share * weight[~kinds].sum()
            # Where all or none are of these kinds nothing can be done.
            factor = (rest / inside if inside else _WHOLLY) if rest and weight[kinds].sum() else 1.0
            factors[place] = max(1.0, min(factor, max_oversampling / others.prod()))
    return np.where(of, factors[:, None], 1.0).prod(axis=0)


def count_draws(
    num: Int64[np.ndarray, " kind"], num_views: Int64[np.ndarray, " kind"], weight: Float64[np.ndarray, " kind"]
) -> Int64[np.ndarray, " kind"]:
    """Draws of each kind in an epoch, which draws as many views as there are, each study `weight` times as often.

    Args:
        num: studies of each kind.
        num_views: views of all of them.
        weight: of `weigh_kinds`.

    90 studies and 10 of weight 9, of two views each: 50 draws of either. A kind of few studies, of which less than half
    a draw is due, has one, so that it is seen at all; one that a share of 1 of the others leaves nothing has none.
    """
    due = num * weight * num_views.sum() / (num_views * weight).sum()
    return np.where(due > _LEAST, np.maximum(np.rint(due), 1), 0).astype(np.int64)


def limit_draws(draws: int, num: int) -> int:
    """Times that one of `num` studies is drawn in an epoch at most, where passes over them go on from one to the next.

    Ten draws of ten: 1. Ten draws of twenty: 1, since two epochs are a pass. Ten of fifteen: 2, of the end of one pass
    and the beginning of the next.
    """
    if num % draws == 0 or draws % num == 0:
        return max(1, draws // num)
    return -(-(draws - 1) // num) + 1
