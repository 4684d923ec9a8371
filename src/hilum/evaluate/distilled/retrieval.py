"""Finding the right one among candidates: an image's ECG or laboratory values, and the other way round (P 3.4).

A query's candidates are all rows, or a list of its own (Symile-MIMIC gives each query one right and nine wrong ones;
P 4.1, `candidates.py`). Other rows of the same patient are no wrong answers and are left out. Candidates that score
the same come in random order, in expectation (`scoring/ranking.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from hilum.evaluate.result import Estimate
from hilum.evaluate.scoring.bootstrap import NUM_RESAMPLES
from hilum.evaluate.scoring.ranking import TOPS, Ranks, estimate_ranks, rank_candidates


def rank_pairs(
    query: Float[np.ndarray, "query dim"],
    candidate: Float[np.ndarray, "candidate dim"],
    own: Int[np.ndarray, " query"],
    query_patient: Int[np.ndarray, " query"],
    candidate_patient: Int[np.ndarray, " candidate"],
    candidates: Bool[np.ndarray, "query candidate"] | None = None,
) -> Ranks:
    """Rank candidates by cosine, of which each query has one of its own.

    Args:
        query, candidate: vectors in one space.
        own: each query's own candidate, the right one.
        query_patient, candidate_patient: whose they are; a query's other candidates of its patient are left out.
        candidates: which ones each query sees, its own among them; all where not given.
    """

    def judge(part: slice) -> tuple[np.ndarray, np.ndarray]:
        right = own[part][:, None] == np.arange(len(candidate))
        seen = (query_patient[part][:, None] != candidate_patient) | right
        return seen if candidates is None else seen & candidates[part], right

    return rank_candidates(query, candidate, query_patient, judge)


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
        ranks = rank_pairs(from_[asks], to, asks, patient[asks], patient, shown)
        estimates += estimate_ranks(ranks, slice=slice, **rules)
    return estimates
