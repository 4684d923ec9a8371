"""Any number that can be computed with multiplicities of rows, and its interval by patient."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import field, replace

import numpy as np
from jaxtyping import Float, Int
from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from hilum.evaluate.result import Estimate, to_number

from .bootstrap import LEVEL, NUM_RESAMPLES, draw_multiplicities, read_interval

NO_SPREAD = "resamples have no spread"  # how a reason for having no interval ends
# How often each row counts, a column for each resample -> the number in each resample; NaN where it is not defined.
Weighted = Callable[[Float[np.ndarray, "row resample"]], Float[np.ndarray, " resample"]]


@dataclass(frozen=True, config=ConfigDict(extra="forbid", arbitrary_types_allowed=True))
class Resampled(Estimate):
    """An estimate with what it was on each resample of the patients: two of the same rows can be averaged, or paired,
    number by number. A record keeps the estimate alone."""

    resamples: np.ndarray = field(default_factory=lambda: np.zeros(0), compare=False, repr=False)

    @property
    def plain(self) -> Estimate:
        """What a record keeps."""
        return Estimate(**{name: getattr(self, name) for name in Estimate.__dataclass_fields__})


def resample(
    number: Weighted, patient: Int[np.ndarray, " row"], num_resamples: int = NUM_RESAMPLES, seed: int = 0
) -> Float[np.ndarray, " resample"]:
    """The number in each resample of patients; the same patients and seed give the same resamples."""
    parts = [number(weight) for weight in draw_multiplicities(patient, num_resamples, seed)]
    return np.concatenate(parts) if parts else np.zeros(0)


def resample_mean(
    values: Float[np.ndarray, " row"], weight: Float[np.ndarray, "row resample"]
) -> Float[np.ndarray, " resample"]:
    """Mean over rows."""
    return values @ weight.astype(np.float64) / weight.sum(axis=0, dtype=np.float64)


def count_once(num: int) -> Float[np.ndarray, "row 1"]:
    """Every row as often as it is there: what gives the number itself."""
    return np.ones((num, 1), np.float32)


def estimate_weighted(
    number: Weighted,
    patient: Int[np.ndarray, " row"],
    *,
    metric: str,
    of: str,
    slice: str = "all",
    num: int | None = None,
    positives: int | None = None,
    biased: bool = False,
    undefined: str = "not defined on these rows",
    value: float | None = None,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> Resampled:
    """The number of all rows with its interval; a difference of two numbers of the same rows is paired by itself.

    Args:
        number: gives it under multiplicities.
        metric, of, slice, positives: as in `Estimate`.
        num: rows behind it, all where not given.
        biased: a number that repeated rows alone move (so that resamples lie beside the estimate): resamples are moved
            back by the mean of that, as those of a calibration error are.
        undefined: the reason where there is no number.
        value: the number of all rows as a library computes it, which has no multiplicities; NaN: there is none.
    """
    value = float(number(count_once(len(patient)))[0]) if value is None else value
    resamples = np.zeros(0) if np.isnan(value) else resample(number, patient, num_resamples, seed)
    if biased and not np.isnan(resamples).all():
        resamples = resamples - (np.nanmean(resamples) - value)
    interval = read_interval(resamples)
    return Resampled(
        metric=metric,
        of=of,
        value=to_number(value),
        low=interval.low if interval else None,
        high=interval.high if interval else None,
        num=len(patient) if num is None else num,
        positives=positives,
        reason=undefined if np.isnan(value) else None,
        slice=slice,
        resamples=resamples,
    )


def widen_certain(
    estimate: Estimate, scored: Float[np.ndarray, " row"], patient: Int[np.ndarray, " row"], *, is_share: bool
) -> Estimate:
    """Where all rows scored 0, or all 1, resamples are all the same and would claim certainty. A share then gets the
    exact interval (Clopper and Pearson 1934) of as many draws as patients, a difference none."""
    if np.ptp(scored) or scored[0] not in (0, 1):
        return estimate
    if not is_share:
        return replace(estimate, low=None, high=None, reason=f"all rows scored the same: {NO_SPREAD}")
    reach = 1 - ((1 - LEVEL) / 2) ** (1 / len(np.unique(patient)))
    low, high = (0.0, reach) if scored[0] == 0 else (1 - reach, 1.0)
    return replace(estimate, low=low, high=high, reason=None)
