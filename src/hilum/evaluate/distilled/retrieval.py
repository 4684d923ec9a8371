"""Finding the right one among candidates: an image's ECG or laboratory values, and the other way round (P 3.4).

A query's candidates are all rows, or a list of its own (Symile-MIMIC gives each query one right and nine wrong ones;
P 4.1, `candidates.py`). Other rows of the same patient are no wrong answers and are left out. Candidates that score
the same come in random order, in expectation: vectors that are all equal retrieve what chance does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from hilum.evaluate.result import Estimate
from hilum.evaluate.scoring.bootstrap import NUM_RESAMPLES
from hilum.evaluate.scoring.intervals import estimate_weighted

from .alignment_metrics import normalize_rows, resample_mean

TOPS = (1, 5, 10)
_SCORES_AT_ONCE = 4_000_000


@dataclass(frozen=True)
class Ranks:
    """Where the right candidate of each query stands."""

    better: Int[np.ndarray, " query"]  # candidates that score higher
    equal: Int[np.ndarray, " query"]  # that score the same, the right one among them
    num: Int[np.ndarray, " query"]  # candidates in all
    patient: Int[np.ndarray, " query"]

    def score_top(self, top: int) -> Float[np.ndarray, " query"]:
        """The probability that the right one is among the first `top`, with equals in random order."""
        return np.clip((top - self.better) / self.equal, 0.0, 1.0)

    def score_chance(self, top: int) -> Float[np.ndarray, " query"]:
        """The same where every candidate scores the same."""
        return np.minimum(top / self.num, 1.0)


def rank_candidates(
    query: Float[np.ndarray, "query dim"],
    candidate: Float[np.ndarray, "candidate dim"],
    right: Int[np.ndarray, " query"],
    query_patient: Int[np.ndarray, " query"],
    candidate_patient: Int[np.ndarray, " candidate"],
    candidates: Bool[np.ndarray, "query candidate"] | None = None,
) -> Ranks:
    """Rank candidates by cosine.

    Args:
        query, candidate: vectors in one space.
        right: each query's own candidate.
        query_patient, candidate_patient: whose they are; a query's other candidates of its patient are left out.
        candidates: which ones each query sees, its own among them; all where not given.
    """
    own_seen = candidates is None or candidates[np.arange(len(right)), right].all()
    assert own_seen, "the right candidate is one of its query's"
    from_, to = normalize_rows(query), normalize_rows(candidate)
    step = max(1, _SCORES_AT_ONCE // max(len(to), 1))
    parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    for first in range(0, len(from_), step):
        part = slice(first, first + step)
        rows, own = np.arange(len(right[part])), right[part]
        seen = query_patient[part][:, None] != candidate_patient[None]
        seen[rows, own] = True
        if candidates is not None:
            seen &= candidates[part]
        parts.append(_count_before(from_[part] @ to.T, seen, own))
    better, equal, num = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Ranks(better, equal, num, query_patient)


def _count_before(
    score: Float[np.ndarray, "query candidate"],
    seen: Bool[np.ndarray, "query candidate"],
    own: Int[np.ndarray, " query"],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Candidates above the own one, level with it, and all, of those that are seen."""
    at = score[np.arange(len(own)), own][:, None]
    level = np.abs(score - at) <= 1e-12  # the same vectors give the same cosine but for the last bits
    return (seen & (score > at) & ~level).sum(axis=1), (seen & level).sum(axis=1), seen.sum(axis=1)


def estimate_ranks(
    ranks: Ranks,
    *,
    of: str,
    slice: str = "all",
    tops: Sequence[int] = TOPS,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> list[Estimate]:
    """R@k (`recall_at_1`, ...), the share of queries whose right candidate is among the first k, and what chance gives.

    Intervals are over the queries' patients; the candidates stay those there are.
    """
    estimates = []
    for top in tops:
        for name, values in ((f"recall_at_{top}", ranks.score_top(top)), (f"chance_at_{top}", ranks.score_chance(top))):
            number = partial(resample_mean, values)
            rules: dict[str, Any] = {"of": of, "slice": slice, "num_resamples": num_resamples, "seed": seed}
            estimates.append(estimate_weighted(number, ranks.patient, metric=name, **rules))
    return estimates


def name_ways(name: str, *, own: bool = False) -> tuple[str, str]:
    """Slices of the estimates in both directions, among all rows or among each query's own candidates."""
    among = ", own candidates" if own else ""
    return f"image to {name}{among}", f"{name} to image{among}"


def retrieve_both_ways(
    image: Float[np.ndarray, "row dim"],
    other: Float[np.ndarray, "row dim"],
    patient: Int[np.ndarray, " row"],
    *,
    name: str,
    candidates: Bool[np.ndarray, "row row"] | None = None,
    tops: Sequence[int] = TOPS,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> list[Estimate]:
    """R@k from image to ECG or laboratory values, and back, of rows that have both.

    Args:
        image, other: vectors in one space: both projected, or a prediction of the teacher's and the teacher's own.
        name: of the other side, such as "ecg".
        candidates: of each row; rows without any ask nothing. All rows are everyone's where not given, and the slices
            are called otherwise.
    """
    asks = np.arange(len(patient)) if candidates is None else np.flatnonzero(candidates.any(axis=1))
    shown = None if candidates is None else candidates[asks]
    rules: dict[str, Any] = {"of": name, "tops": tops, "num_resamples": num_resamples, "seed": seed}
    estimates = []
    for slice, (from_, to) in zip(
        name_ways(name, own=candidates is not None), ((image, other), (other, image)), strict=True
    ):
        ranks = rank_candidates(from_[asks], to, asks, patient[asks], patient, shown)
        estimates += estimate_ranks(ranks, slice=slice, **rules)
    return estimates
