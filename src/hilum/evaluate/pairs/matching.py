"""Whether the CC view of a breast finds its MLO view, and is nearer to it than to that of the other breast (L 3.3)."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from hilum.evaluate.result import Estimate
from hilum.evaluate.scoring.bootstrap import NUM_RESAMPLES, resample_auroc
from hilum.evaluate.scoring.cosines import measure_cosines
from hilum.evaluate.scoring.intervals import NO_SPREAD, estimate_weighted, resample_mean, widen_certain
from hilum.evaluate.scoring.ranking import (
    LEVEL_WITHIN,
    Ranks,
    estimate_median_rank,
    estimate_ranks,
    rank_candidates,
)

OF = "view"
WAYS = ("CC to MLO", "MLO to CC")


def rank_views(
    query: Float[np.ndarray, "breast dim"],
    candidate: Float[np.ndarray, "breast dim"],
    patient: Int[np.ndarray, " breast"],
    laterality: Int[np.ndarray, " breast"],
) -> Ranks:
    """Rank the other view of all breasts, a row each, for the view of each breast.

    The right one is that of the same exam. The same breast at another exam is neither right nor wrong and is left out;
    the woman's other breast is a candidate like others.
    """
    num = len(candidate)

    def judge(part: slice) -> tuple[np.ndarray, np.ndarray]:
        right = np.arange(num)[part][:, None] == np.arange(num)
        same_breast = (patient[part][:, None] == patient) & (laterality[part][:, None] == laterality)
        return right | ~same_breast, right

    return rank_candidates(query, candidate, patient, judge)


def find_other_breast(study: Int[np.ndarray, " breast"]) -> Int[np.ndarray, " breast"]:
    """Place of the other breast of the same exam; -1 where it is not there. A study has two breasts at most."""
    places: dict[int, list[int]] = {}
    for place, one in enumerate(study.tolist()):
        places.setdefault(one, []).append(place)
    found = np.full(len(study), -1)
    for both in places.values():
        assert len(both) <= 2, "breasts of a study are a left and a right one"
        if len(both) == 2:
            found[both] = both[::-1]
    return found


def measure_own_nearer(
    own: Float[np.ndarray, " breast"], other: Float[np.ndarray, " breast"]
) -> Float[np.ndarray, " breast"]:
    r"""1 where the cosine with the other view of the same breast is above that with the woman's other breast, 0 where
    it is below, one half where they are the same. The mean is the AUC within a woman.

    .. math:: \mathrm{AUC} = \frac1n \sum_b [s_b > s'_b] + \tfrac12 [s_b = s'_b]
    """
    gap = own - other
    return np.where(np.abs(gap) <= LEVEL_WITHIN, 0.5, gap > 0)


def estimate_matching(
    views: Float[np.ndarray, "breast 2 dim"],
    study: Int[np.ndarray, " breast"],
    laterality: Int[np.ndarray, " breast"],
    patient: Int[np.ndarray, " breast"],
    *,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> list[Estimate]:
    """R@1, R@5, R@10 and median rank both ways beside chance, and both AUC of the own against the other breast.

    `ipsilateral_auc` compares within a woman: of each breast whose other breast has both views too, is its own other
    view nearer? `ipsilateral_auc_pooled` compares each cosine of a breast with itself with each of a breast with the
    other, over all women, so that a cosine has to mean the same for all. Chance is one half in both.

    Args:
        views: CC and MLO of each breast with both.
    """
    rules: dict[str, Any] = {"of": OF, "num_resamples": num_resamples, "seed": seed}
    other = find_other_breast(study)
    has = np.flatnonzero(other >= 0)
    estimates: list[Estimate] = []
    for slice, (a, b) in zip(WAYS, ((0, 1), (1, 0)), strict=True):
        query, candidate = views[:, a], views[:, b]
        ranks = rank_views(query, candidate, patient, laterality)
        estimates += estimate_ranks(ranks, slice=slice, **rules)
        estimates += estimate_median_rank(ranks, slice=slice, **rules)
        own, wrong = (measure_cosines(query[has], candidate[place]) for place in (has, other[has]))
        estimates += _estimate_sides(own, wrong, patient[has], slice=slice, **rules)
    return estimates


def _estimate_sides(
    own: Float[np.ndarray, " breast"],
    wrong: Float[np.ndarray, " breast"],
    patient: Int[np.ndarray, " breast"],
    **rules: Any,
) -> list[Estimate]:
    names = ("ipsilateral_auc", "ipsilateral_auc_pooled")
    if not len(own):
        reason = "no test exam has both views of both breasts"
        return [Estimate(name, OF, None, reason=reason, slice=rules["slice"]) for name in names]
    nearer = measure_own_nearer(own, wrong)
    within = estimate_weighted(partial(resample_mean, nearer), patient, metric=names[0], **rules)
    target = np.repeat([1.0, 0.0], len(own))
    # Of views that are all alike the last bits differ, and must not decide.
    auroc = partial(resample_auroc, target, np.round(np.concatenate([own, wrong]), 9))
    pooled = estimate_weighted(auroc, np.tile(patient, 2), metric=names[1], num=len(own), **rules)
    if pooled.value in (0, 1):
        pooled = replace(pooled, low=None, high=None, reason=f"all or none are told apart: {NO_SPREAD}")
    return [widen_certain(within, nearer, patient, is_share=True), pooled]
