"""Which text the images of a breast find among those of all test breasts, and which breast a text (L 3.3)."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float, Int

from hilum.evaluate.result import Estimate
from hilum.evaluate.scoring.bootstrap import NUM_RESAMPLES
from hilum.evaluate.scoring.cosines import normalize_rows
from hilum.evaluate.scoring.ranking import Ranks, estimate_median_rank, estimate_ranks, rank_candidates

OF = "text"
WAYS = ("image to text", "text to image")


def rank_texts(
    query: Float[np.ndarray, "breast dim"],
    candidate: Float[np.ndarray, "breast dim"],
    facts: Int[np.ndarray, " breast"],
    text: Int[np.ndarray, " breast"],
    patient: Int[np.ndarray, " breast"],
) -> Ranks:
    """Rank the candidates of all breasts, a row each, for the query of each breast.

    Args:
        query, candidate: vectors of the images and of the texts of the same breasts, or the other way round.
        facts, text: breasts with equal numbers in either have identical descriptions: each is right for the other.
        patient: whose they are. The other breast of a woman, and those of her other exams, are candidates like others.
    """

    def judge(part: slice) -> tuple[np.ndarray, np.ndarray]:
        right = (facts[part][:, None] == facts) | (text[part][:, None] == text)
        return np.ones_like(right), right

    return rank_candidates(query, candidate, patient, judge)


def fuse_kinds(views: Float[np.ndarray, "breast 2 dim"]) -> Float[np.ndarray, "breast dim"]:
    """The vector of a breast: the sum of the unit vectors of its CC and its MLO view, of length 1; either alone where
    the other is missing (zeros)."""
    return normalize_rows(views.sum(axis=1))


def estimate_retrieval(
    image: Float[np.ndarray, "breast dim"],
    text: Float[np.ndarray, "breast dim"],
    facts: Int[np.ndarray, " breast"],
    same_text: Int[np.ndarray, " breast"],
    patient: Int[np.ndarray, " breast"],
    *,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> list[Estimate]:
    """R@1, R@5, R@10 and median rank both ways, each beside what chance gives; see `rank_texts`."""
    rules: dict[str, Any] = {"of": OF, "num_resamples": num_resamples, "seed": seed}
    estimates: list[Estimate] = []
    for slice, (query, candidate) in zip(WAYS, ((image, text), (text, image)), strict=True):
        ranks = rank_texts(query, candidate, facts, same_text, patient)
        estimates += estimate_ranks(ranks, slice=slice, **rules)
        estimates += estimate_median_rank(ranks, slice=slice, **rules)
    return estimates
