r"""Kaplan-Meier: the share that is free of cancer, or still followed, at a time, under censoring (Kaplan, Meier 1958).

.. math:: S(t) = \prod_{t_k \le t} \left(1 - \frac{d_k}{n_k}\right)

:math:`d_k` events at the time :math:`t_k`, :math:`n_k` who are then free of them and followed. Of those who have their
event and those whose follow-up ends at the same time, the events come first. In double precision, with left limits and
with multiplicities of rows, none of which torchsurv's has (L 3.5).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Float64

Side = Literal["before", "at"]


@dataclass(frozen=True)
class Survival:
    """A Kaplan-Meier curve: `share[k]` holds from `years[k]` on, 1 before the first; past the last it says nothing."""

    years: Float64[np.ndarray, " step"]
    share: Float64[np.ndarray, " step"]

    @property
    def last(self) -> float:
        """The last time at which anybody is seen. `read` goes on with the last share, which nothing vouches for."""
        return float(self.years[-1])

    def read(self, at: Float[np.ndarray, "*time"], side: Side = "at") -> Float64[np.ndarray, "*time"]:
        """S(t), or its limit from the left, S(t-)."""
        place = np.searchsorted(self.years, at, side="left" if side == "before" else "right")
        return np.append(1.0, self.share)[place]


def fit_survival(years: Float[np.ndarray, " row"], event: Bool[np.ndarray, " row"]) -> Survival:
    """The curve of being free of the event.

    Years 1, 2, 2, 3 with events at 1 and at one 2: 3/4 from 1 on, 3/4 x 2/3 = 1/2 from 2 on.
    """
    times, place = np.unique(years, return_inverse=True)
    happened = np.bincount(place, event, len(times))
    at_risk = len(years) - np.append(0, np.cumsum(np.bincount(place))[:-1])
    return Survival(times.astype(np.float64), np.cumprod(1 - happened / at_risk))


def fit_censoring(years: Float[np.ndarray, " row"], event: Bool[np.ndarray, " row"]) -> Survival:
    """G, the curve of still being followed: who has an event at a time is no longer at risk of leaving then."""
    times, place = np.unique(years, return_inverse=True)
    happened = np.bincount(place, event, len(times))
    left = np.bincount(place, ~event, len(times))
    at_risk = len(years) - np.append(0, np.cumsum(happened + left)[:-1]) - happened
    return Survival(times.astype(np.float64), np.cumprod(1 - left / np.maximum(at_risk, 1)))


def resample_risk(
    years: Float[np.ndarray, " row"],
    event: Bool[np.ndarray, " row"],
    until: Float[np.ndarray, " time"],
    weight: Float[np.ndarray, "row resample"],
) -> Float64[np.ndarray, "time resample"]:
    """1 - S(t-) under multiplicities of rows: the observed risk of an event before each of the times `until`.

    NaN at times that nobody reaches without an event: there the curve says nothing.
    """
    order = np.argsort(years, kind="stable")
    years, event, weight = years[order], event[order], weight[order].astype(np.float64)
    steps = np.unique(years[event])
    first = np.searchsorted(years, steps)
    # All from a step on are at risk there; their number is everybody's less those before.
    before = np.concatenate([np.zeros((1, weight.shape[1])), np.cumsum(weight, axis=0)])
    at_risk = before[-1] - before[first]
    events = np.zeros((len(steps), weight.shape[1]))
    np.add.at(events, np.searchsorted(steps, years[event]), weight[event])
    share = np.divide(events, at_risk, out=np.zeros_like(events), where=at_risk > 0)
    free = np.concatenate([np.ones((1, weight.shape[1])), np.cumprod(1 - share, axis=0)])
    risk = 1 - free[np.searchsorted(steps, until, side="left")]
    reached = before[-1] - before[np.searchsorted(years, until)]
    return np.where((reached > 0) | (risk >= 1), risk, np.nan)
