r"""Concordance: of two women, how often she who gets cancer first has the higher risk. Four indices have the name.

Over pairs whose first member's event is seen before the second's time,

.. math:: C = \frac{\sum_{ij} w_{ij} \left([r_i > r_j] + \tfrac12 [r_i = r_j]\right)}{\sum_{ij} w_{ij}}

========  =============================================  ==============================================
name      weight of a pair                                r
========  =============================================  ==============================================
harrell   1 (Harrell 1996); censoring moves it            risk until the last horizon
uno       1 / G(T_i-)^2 up to a time (Uno 2011)           the same
antolini  1 (Antolini 2005)                               risk until the horizon in which T_i lies
mirai     1 / S(T_j)^2, as released with Mirai (L 3.5)    risk until the horizon in which T_j lies
========  =============================================  ==============================================

G is the Kaplan-Meier curve of follow-up, S that of cancer, both of the training exams. The last calls itself Uno's and
is not: its weights are of cancers, not of censoring, at the later time; it is here to compare with published values.
Its times are whole years (`place_as_mirai`). A pair of an event and a follow-up that ends at the same time counts, as
in torchsurv, lifelines and Mirai.

The values of the first three are torchsurv's; intervals need multiplicities of patients, which `resample_concordance`
has, and which with each row once gives the same.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Float64, Int, Int64

from .kaplan_meier import Side, Survival, fit_survival

CIndex = Literal["harrell", "uno", "antolini", "mirai"]
C_INDICES: tuple[CIndex, ...] = get_args(CIndex)
_EVENTS_AT_ONCE = 1024
UNO_WEIGHTS: dict[Side, str] = {
    "before": "1 / G(T-)^2, G just before each cancer",
    "at": "1 / G(T)^2, G at each cancer, as libraries have it",
}

Score = Float[np.ndarray, " row"]
Years = Float[np.ndarray, " row"]
Event = Bool[np.ndarray, " row"]


def weigh_by_censoring(
    years: Years, censoring: Survival, until: float = np.inf, side: Side = "before"
) -> Float64[np.ndarray, " row"]:
    """1 / G(T-), or 1 / G(T) as libraries take it (torchsurv's `get_ipcw`, but in double precision); 0 from `until` on,
    and where G is not known (`Survival.last`).

    Times that are binned tell the two apart (0.6688 and 0.6707 of a simulated set, L 3.5); times without ties do not.
    """
    followed = censoring.read(years, side)
    known = (followed > 0) & (years < until) & (years <= censoring.last)
    return np.divide(1.0, followed, out=np.zeros(len(years)), where=known)


def place_as_mirai(
    years: Years, event: Event, num_horizons: int
) -> tuple[Int64[np.ndarray, " row"], Bool[np.ndarray, " row"]]:
    """Mirai's time of each row, a place among the horizons, and whether it is of a cancer.

    That of a cancer is its year, 0 the first; of all others the last full year without one, -1 where there is none
    (they take no part). A cancer after the last horizon is follow-up until it. Cancers after 0 and 1.5 years: 0, 1;
    follow-up for 0.5, 1.5 and 9 years: -1, 0, 4.
    """
    whole = np.floor(years).astype(np.int64)
    sick = event & (whole < num_horizons)
    return np.where(sick, whole, np.minimum(whole, num_horizons) - 1), sick


def fit_mirai_survival(years: Years, event: Event, num_horizons: int) -> Survival:
    """S, the curve of cancer over Mirai's times."""
    place, sick = place_as_mirai(years, event, num_horizons)
    return fit_survival(place[place >= 0].astype(np.float64), sick[place >= 0])


def weigh_by_events(place: Int64[np.ndarray, " row"], survival: Survival) -> Float64[np.ndarray, " row"]:
    """1 / S of Mirai's index at Mirai's times; 0 where S is."""
    free = survival.read(place.astype(np.float64))
    return np.divide(1.0, free, out=np.zeros(len(place)), where=free > 0)


def c_index_harrell(score: Score, years: Years, event: Event) -> float:
    """Harrell's C. Scores 3, 1, 2 of events at 1 and 2 and a follow-up until 3: pairs 3 > 1, 3 > 2, 1 < 2, so 2/3."""
    return _ask_torchsurv(_rank(score), years, event)


def c_index_uno(score: Score, years: Years, event: Event, weight: Float64[np.ndarray, " row"]) -> float:
    """Uno's C with the weights of `weigh_by_censoring`, squared here; NaN where no pair has one."""
    return _ask_torchsurv(_rank(score), years, event, weight)


def c_index_antolini(risk: Float[np.ndarray, "row horizon"], years: Years, event: Event) -> float:
    """Antolini's C: risks are compared until the end of the year in which the first event of the pair is."""
    place = find_horizon(years, risk.shape[1])
    ranked = np.stack([_rank(column) for column in risk.T], axis=1)
    return _ask_torchsurv(ranked[:, place], years, event)


def c_index_mirai(risk: Float[np.ndarray, "row horizon"], years: Years, event: Event, survival: Survival) -> float:
    """Mirai's C with S of `fit_mirai_survival`; NaN without a pair."""
    once = np.ones((len(risk), 1), np.float32)
    later = weigh_by_events(place_as_mirai(years, event, risk.shape[1])[0], survival)
    return float(resample_concordance(*compare_as_mirai(risk, years, event), once, later=later)[0])


def find_horizon(years: Years, num_horizons: int) -> Int64[np.ndarray, " row"]:
    """The horizon in which a time lies: 0 within the first year; the last for all that is later."""
    return np.minimum(np.floor(years).astype(np.int64), num_horizons - 1)


def compare_pairs(
    score: Score | Float[np.ndarray, "row horizon"], years: Years, event: Event
) -> tuple[Int64[np.ndarray, " event"], Float32[np.ndarray, "event row"], Bool[np.ndarray, "event row"]]:
    """Of each row with an event: who it is; against every other 1, 1/2 or 0; and with whom it makes a pair.

    Scores of several horizons are compared at that in which the event is.
    """
    first = np.flatnonzero(event)
    if score.ndim == 2:
        place = find_horizon(years[first], score.shape[1])
        own, others = score[first, place][:, None], score[:, place].T
    else:
        own, others = score[first][:, None], score[None, :]
    return _keep_pairs(first, own, others, years, event)


def compare_as_mirai(
    risk: Float[np.ndarray, "row horizon"], years: Years, event: Event
) -> tuple[Int64[np.ndarray, " event"], Float32[np.ndarray, "event row"], Bool[np.ndarray, "event row"]]:
    """`compare_pairs` at Mirai's times, risks at that of the later."""
    place, sick = place_as_mirai(years, event, risk.shape[1])
    first = np.flatnonzero(sick)
    return _keep_pairs(first, risk[first][:, place], risk[np.arange(len(risk)), place], place, sick)


def _keep_pairs(
    first: Int64[np.ndarray, " event"], own: np.ndarray, others: np.ndarray, time: np.ndarray, event: Event
) -> tuple[Int64[np.ndarray, " event"], Float32[np.ndarray, "event row"], Bool[np.ndarray, "event row"]]:
    won = np.where(own > others, np.float32(1), np.where(own == others, np.float32(0.5), np.float32(0)))
    start = time[first][:, None]
    comparable = (start < time) | ((start == time) & ~event)
    return first, np.where(comparable, won, np.float32(0)), comparable


def resample_concordance(
    first: Int[np.ndarray, " event"],
    won: Float32[np.ndarray, "event row"],
    comparable: Bool[np.ndarray, "event row"],
    multiplicity: Float[np.ndarray, "row resample"],
    *,
    earlier: Float64[np.ndarray, " row"] | None = None,
    later: Float64[np.ndarray, " row"] | None = None,
) -> Float64[np.ndarray, " resample"]:
    """C under multiplicities m: pairs count m_i m_j times. NaN where there is none.

    Args:
        first, won, comparable: of `compare_pairs`.
        earlier, later: weights, squared here, of the pair's first and second member; 1 where not given.
    """
    multiplicity = multiplicity.astype(np.float64)
    of_first = multiplicity[first] if earlier is None else multiplicity[first] * earlier[first, None] ** 2
    of_second = multiplicity if later is None else multiplicity * later[:, None] ** 2
    hits, pairs = np.zeros(multiplicity.shape[1]), np.zeros(multiplicity.shape[1])
    for start in range(0, len(first), _EVENTS_AT_ONCE):
        part = slice(start, start + _EVENTS_AT_ONCE)
        hits += np.einsum("er,er->r", of_first[part], won[part].astype(np.float64) @ of_second)
        pairs += np.einsum("er,er->r", of_first[part], comparable[part].astype(np.float64) @ of_second)
    return np.divide(hits, pairs, out=np.full(len(hits), np.nan), where=pairs > 0)


def _rank(score: Score) -> Float64[np.ndarray, " row"]:
    """Places in order, equal for equal scores: torchsurv calls all scores equal that differ by less than 1e-8."""
    return np.unique(score, return_inverse=True)[1].astype(np.float64)


def _ask_torchsurv(
    score: Float64[np.ndarray, " row"] | Float64[np.ndarray, "row row"],
    years: Years,
    event: Event,
    weight: Float64[np.ndarray, " row"] | None = None,
) -> float:
    from .torchsurv_metrics import ConcordanceIndex

    # Without a pair of any weight it divides by zero, and without an event it refuses.
    counts = event if weight is None else event & (weight > 0)
    if not counts.any() or years[counts].min() > years.max() or not _has_pair(years, event, counts):
        return float("nan")
    # Double precision throughout: weights of single precision beside times of double are an error in torchsurv.
    arrays = (torch.from_numpy(np.ascontiguousarray(one)) for one in (score, event, years.astype(np.float64)))
    given = None if weight is None else torch.from_numpy(weight)
    return float(ConcordanceIndex()(*arrays, weight=given, instate=False))


def _has_pair(years: Years, event: Event, counts: Event) -> bool:
    start = years[counts].min()
    return bool((years > start).any() or ((years == start) & ~event).any())
