r"""Where the right ones stand among candidates ordered by cosine: R@k and median rank (L 3.3, P 3.4).

A query may have several right candidates (identical descriptions count as hits, L 3.3); the first of them counts.
Candidates of the same score come in random order, in expectation: vectors that are all equal find what chance does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.special import gammaln

from hilum.evaluate.result import Estimate

from .bootstrap import NUM_RESAMPLES
from .cosines import normalize_rows
from .intervals import estimate_weighted, resample_mean, widen_certain

TOPS = (1, 5, 10)
LEVEL_WITHIN = 1e-12  # the same vectors give the same cosine but for the last bits
_SCORES_AT_ONCE = 4_000_000

# Some of the queries -> which candidates each of them sees, and which of these are right: both (query, candidate). The
# best of what is right is seen.
Judge = Callable[[slice], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Ranks:
    """Where the best right candidate of each query stands."""

    better: Int[np.ndarray, " query"]  # candidates that score higher
    equal: Int[np.ndarray, " query"]  # that score the same, itself among them
    right: Int[np.ndarray, " query"]  # right ones among the equal
    num: Int[np.ndarray, " query"]  # candidates in all
    num_right: Int[np.ndarray, " query"]  # right ones in all
    patient: Int[np.ndarray, " query"]

    def score_top(self, top: int) -> Float[np.ndarray, " query"]:
        """The probability that a right one is among the first `top`, with equals in random order."""
        return find_within(self.better, self.equal, self.right, top)

    def resample_median(self, weight: Float[np.ndarray, "query resample"]) -> Float[np.ndarray, " resample"]:
        """The median rank under multiplicities, see `resample_median_rank`."""
        return resample_median_rank(self.better, self.equal, self.right, weight)

    def shuffle(self) -> Ranks:
        """The same candidates where every one scores the same: what chance does."""
        return Ranks(0 * self.num, self.num, self.num_right, self.num, self.num_right, self.patient)


def find_within(
    better: Int[np.ndarray, "..."], equal: Int[np.ndarray, "..."], right: Int[np.ndarray, "..."], top: Any
) -> Float[np.ndarray, "..."]:
    r"""Probability that one of `right` is among the first `top`, behind `better` others and in random order among
    `equal`; `right` is 1 at least.

    .. math:: 1 - \binom{e - r}{t} \Big/ \binom{e}{t} = 1 - \binom{e - t}{r} \Big/ \binom{e}{r},
        \qquad t = \min(\max(k - b, 0), e)

    b, e, r, k: better, equal, right, top. The hypergeometric probability that all of the first t of e are wrong.
    """
    better, equal, right, top = np.broadcast_arrays(better, equal, right, top)
    rest = equal - np.clip(top - better, 0, equal)  # of the equal, those behind the first `top`
    missed = np.zeros(rest.shape)
    alone = right == 1
    missed[alone] = rest[alone] / equal[alone]
    several = ~alone & (rest >= right)
    left, r, e = rest[several], right[several], equal[several]
    missed[several] = np.exp(gammaln(left + 1) - gammaln(left - r + 1) - gammaln(e + 1) + gammaln(e - r + 1))
    return 1.0 - missed


def resample_median_rank(
    better: Int[np.ndarray, " query"],
    equal: Int[np.ndarray, " query"],
    right: Int[np.ndarray, " query"],
    weight: Float[np.ndarray, "query resample"],
) -> Float[np.ndarray, " resample"]:
    r"""The least k at which R@k is one half or more: without equals, the (lower) median of the ranks.

    .. math:: \min \{ k : \textstyle\sum_i w_i P_i(k) \ge \tfrac12 \sum_i w_i \}

    P is `find_within`. By bisection, each resample its own; queries that stand alike are taken together.
    """
    alike, place = np.unique(np.stack([better, equal, right], axis=1), axis=0, return_inverse=True)
    order = np.argsort(place.reshape(-1), kind="stable")
    starts = np.searchsorted(place.reshape(-1)[order], np.arange(len(alike)))
    mass = np.add.reduceat(weight[order].astype(np.float64), starts, axis=0)
    half = mass.sum(axis=0) / 2
    settled = alike[:, 1] == alike[:, 2]  # no wrong one is level: a rank, not a distribution; ascending
    edges = alike[settled, 0]
    upto = np.cumsum(np.vstack([np.zeros_like(half), mass[settled]]), axis=0)
    b, e, r = alike[~settled].T[:, :, None]
    low, high = np.ones(len(half), np.int64), np.full(len(half), int((better + equal).max()))
    while (low < high).any():
        middle = (low + high) // 2
        found = upto[np.searchsorted(edges, middle), np.arange(len(half))]
        found = found + (find_within(b, e, r, middle[None]) * mass[~settled]).sum(axis=0)
        enough = found >= half * (1 - 1e-9)
        low, high = np.where(enough, low, np.minimum(middle + 1, high)), np.where(enough, middle, high)
    return low.astype(np.float64)


def rank_candidates(
    query: Float[np.ndarray, "query dim"],
    candidate: Float[np.ndarray, "candidate dim"],
    patient: Int[np.ndarray, " query"],
    judge: Judge,
) -> Ranks:
    """Rank candidates by cosine; `judge` says which of them each query sees, and which are right."""
    from_, to = normalize_rows(query), normalize_rows(candidate)
    step = max(1, _SCORES_AT_ONCE // max(len(to), 1))
    parts = [
        _count_before(from_[part] @ to.T, *judge(part))
        for part in (slice(first, first + step) for first in range(0, len(from_), step))
    ]
    counts = np.concatenate(parts) if parts else np.zeros((0, 5), np.int64)
    return Ranks(*counts.T, patient)


def _count_before(
    score: Float[np.ndarray, "query candidate"],
    seen: Bool[np.ndarray, "query candidate"],
    right: Bool[np.ndarray, "query candidate"],
) -> Int[np.ndarray, "query 5"]:
    """The counts of `Ranks`, of those that are seen."""
    right = right & seen
    assert right.any(axis=1).all(), "the right candidate is one of its query's"
    best = np.where(right, score, -np.inf).max(axis=1, keepdims=True)
    level = seen & (np.abs(score - best) <= LEVEL_WITHIN)
    counted = (seen & (score > best) & ~level, level, level & right, seen, right)
    return np.stack([one.sum(axis=1) for one in counted], axis=1)


def estimate_ranks(
    ranks: Ranks,
    *,
    of: str,
    slice: str = "all",
    tops: Sequence[int] = TOPS,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> list[Estimate]:
    """R@k (`recall_at_1`, ...), the share of queries with a right candidate among the first k, and what chance gives.

    Intervals are over the queries' patients; the candidates stay those there are. Where all find theirs, or none does,
    and chance would not, the interval is exact (`widen_certain`).
    """
    rules: dict[str, Any] = {"of": of, "slice": slice, "num_resamples": num_resamples, "seed": seed}
    patient, chance, estimates = ranks.patient, ranks.shuffle(), []
    for top in tops:
        found, expected = ranks.score_top(top), chance.score_top(top)
        recall, other = (
            estimate_weighted(partial(resample_mean, values), patient, metric=f"{name}_at_{top}", **rules)
            for name, values in (("recall", found), ("chance", expected))
        )
        is_open = expected.min() < 1
        estimates += [widen_certain(recall, found, patient, is_share=True) if is_open else recall, other]
    return estimates


def estimate_median_rank(
    ranks: Ranks, *, of: str, slice: str = "all", num_resamples: int = NUM_RESAMPLES, seed: int = 0
) -> list[Estimate]:
    """The median rank of the first right candidate (`median_rank`), and what chance gives (`chance_median_rank`)."""
    rules: dict[str, Any] = {"of": of, "slice": slice, "num_resamples": num_resamples, "seed": seed}
    return [
        estimate_weighted(one.resample_median, ranks.patient, metric=name, **rules)
        for name, one in (("median_rank", ranks), ("chance_median_rank", ranks.shuffle()))
    ]
