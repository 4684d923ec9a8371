"""What a report draws of predicted risks: cancers over the years in groups of risk, and predicted beside observed."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float, Int64

from hilum.evaluate.result import to_number
from hilum.evaluate.scoring.bootstrap import draw_multiplicities, read_interval

from .estimates import Predicted
from .follow_up import NUM_YEARS
from .kaplan_meier import resample_risk

GROUPS = ("low", "middle", "high")
_BINS, _RESAMPLES = 5, 500
_POINTS_A_YEAR = 12


def describe_groups(found: Predicted) -> list[dict[str, Any]]:
    """Thirds of the exams by their risk within 5 years: observed risk (1 - Kaplan-Meier) month by month, its interval
    by patient, and how many are still followed at the start of each year."""
    until = np.arange(NUM_YEARS * _POINTS_A_YEAR + 1) / _POINTS_A_YEAR
    groups = []
    for place, name in enumerate(GROUPS):
        part = found.take(split_evenly(found.risk[:, -1], len(GROUPS)) == place)
        if not len(part.years):
            continue
        groups.append(
            {
                "name": name,
                "num": len(part.years),
                "cancers": int((part.event & (part.years < NUM_YEARS)).sum()),
                "mean_risk": float(part.risk[:, -1].mean()),
                "followed": [int((part.years >= year).sum()) for year in range(NUM_YEARS + 1)],
                "years": until.tolist(),
                **_observe(part, until),
            }
        )
    return groups


def describe_calibration(found: Predicted) -> list[dict[str, Any]]:
    """For each year, fifths of the exams by their risk until then: mean predicted, observed, and its interval; no
    fifths where what is predicted is no risk."""
    years = []
    for year in range(1, NUM_YEARS + 1):
        risk = found.risk[:, year - 1]
        place, points = split_evenly(risk, _BINS), []
        for number in range(0 if found.is_relative else _BINS):
            part = found.take(place == number)
            if len(part.years):
                seen = _observe(part, np.array([float(year)]))
                points.append(
                    {"predicted": float(risk[place == number].mean()), "num": len(part.years)}
                    | {name: values[0] for name, values in seen.items()}
                )
        years.append({"year": year, "points": points})
    return years


def split_evenly(risk: Float[np.ndarray, " exam"], num: int) -> Int64[np.ndarray, " exam"]:
    """The part of each exam, 0 the lowest risks, in parts as equal as they can be that tear no equal risks apart."""
    values, place = np.unique(risk, return_inverse=True)
    counts = np.bincount(place, minlength=len(values))
    middle = np.cumsum(counts) - counts / 2
    return np.minimum((middle / len(risk) * num).astype(np.int64), num - 1)[place]


def _observe(part: Predicted, until: Float[np.ndarray, " time"]) -> dict[str, list[float | None]]:
    once = np.ones((len(part.years), 1), np.float32)
    value = resample_risk(part.years, part.event, until, once)[:, 0]
    drawn = draw_multiplicities(part.patient, _RESAMPLES)
    resampled = np.concatenate([resample_risk(part.years, part.event, until, weight) for weight in drawn], axis=1)
    intervals = [None if np.isnan(one) else read_interval(row) for one, row in zip(value, resampled, strict=True)]
    return {
        "observed": [to_number(one) for one in value],
        "low": [None if one is None else one.low for one in intervals],
        "high": [None if one is None else one.high for one in intervals],
    }
