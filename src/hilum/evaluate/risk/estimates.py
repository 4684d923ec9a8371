"""From predicted risks of test exams to estimates with intervals by patient: the numbers of a risk evaluation."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Float32, Int64

from hilum.evaluate.scoring.bootstrap import NUM_RESAMPLES
from hilum.evaluate.scoring.intervals import Resampled, Weighted, estimate_weighted

from . import concordance, time_dependent
from .concordance import (
    CIndex,
    compare_as_mirai,
    compare_pairs,
    fit_mirai_survival,
    place_as_mirai,
    resample_concordance,
    weigh_by_censoring,
    weigh_by_events,
)
from .follow_up import NUM_YEARS, list_windows
from .hazards import RELATIVE
from .kaplan_meier import Side, Survival, fit_censoring

AUC_YEARS = (2, 5)
_MOST_SQUARED = 10_000  # exams of which torchsurv gets a matrix of risks of each at the time of each: 0.8 GB
_UNDEFINED = "too few cancers, or nobody followed for long enough"


@dataclass(frozen=True)
class Predicted:
    """Exams with their predicted risks and what became of them."""

    risk: Float32[np.ndarray, "exam year"]
    years: Float[np.ndarray, " exam"]
    event: Bool[np.ndarray, " exam"]
    patient: Int64[np.ndarray, " exam"]
    is_relative: bool = False  # they rank exams, and are no probabilities

    def take(self, kept: Bool[np.ndarray, " exam"]) -> Predicted:
        """Some of the exams."""
        return Predicted(self.risk[kept], self.years[kept], self.event[kept], self.patient[kept], self.is_relative)


@dataclass(frozen=True)
class Reference:
    """Curves of the training exams, which weigh those tested."""

    censoring: Survival
    survival: Survival  # over Mirai's times

    @classmethod
    def fit(cls, years: Float[np.ndarray, " exam"], event: Bool[np.ndarray, " exam"]) -> Reference:
        """Of exams and what became of them."""
        return cls(fit_censoring(years, event), fit_mirai_survival(years, event, NUM_YEARS))


def name_years(year: int) -> str:
    """What an estimate of a horizon is of."""
    return f"{year} year{'' if year == 1 else 's'}"


def name_c_index(name: CIndex, uno_weight: Side) -> str:
    """What a C-index is called in tables: Uno's says where its weights are not the usual ones."""
    return f"C ({name}, at)" if name == "uno" and uno_weight == "at" else f"C ({name})"


def estimate_risk(
    found: Predicted,
    reference: Reference,
    *,
    recalibrated: Predicted | None = None,
    uno_weight: Side = "before",
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> list[Resampled]:
    """Every metric of the test exams; those of discrimination also without cancers that came soon.

    The errors of absolute risk are those of `recalibrated` risks too, as brier_error_recalibrated and so on.

    All call the same resamples of patients, so that two models of the same exams are paired. The risk within 5 years
    ranks women for the C-indices of Harrell and Uno; Uno's ends at 5 years, or where training is followed no longer.
    Values that torchsurv computes are torchsurv's. `uno_weight`: see `weigh_by_censoring`.
    """
    how: dict[str, Any] = {"num_resamples": num_resamples, "seed": seed, "undefined": _UNDEFINED}
    estimates = []
    for slice, kept in list_windows(found.years, found.event).items():
        part = found.take(kept)
        build = partial(estimate_weighted, patient=part.patient, slice=slice, **how)
        for name in concordance.C_INDICES:
            value, number = _find_c_index(name, part, reference, uno_weight)
            cancers = int(part.event.sum())
            estimates.append(build(number, metric=f"c_index_{name}", of="risk", positives=cancers, value=value))
        for year in AUC_YEARS:
            outcome = (part.risk[:, year - 1], part.years, part.event, float(year))
            case, control = time_dependent.find_known(*outcome[1:])
            about: dict[str, Any] = {
                "of": name_years(year),
                "positives": int(case.sum()),
                "num": int((case | control).sum()),
            }
            plain = partial(time_dependent.resample_auc, *outcome)
            ipcw = time_dependent.auc_ipcw(*outcome, reference.censoring)
            estimates.append(
                build(partial(plain, censoring=reference.censoring), metric="auc_ipcw", value=ipcw, **about)
            )
            estimates.append(build(plain, metric="auc_mirai", **about))
    estimates += _estimate_errors(found, reference, **how) + [_estimate_recall(found, **how)]
    return estimates + (_estimate_errors(recalibrated, reference, "_recalibrated", **how) if recalibrated else [])


def _find_c_index(
    name: CIndex, part: Predicted, reference: Reference, uno_weight: Side
) -> tuple[float | None, Weighted]:
    """torchsurv's value, and what gives it under multiplicities; of Mirai's index and of many exams' Antolini's, only
    the latter."""
    last, outcome = part.risk[:, -1], (part.years, part.event)
    match name:
        case "harrell":
            pairs = compare_pairs(last, *outcome)
            return concordance.c_index_harrell(last, *outcome), partial(resample_concordance, *pairs)
        case "uno":
            weight = weigh_by_censoring(part.years, reference.censoring, float(NUM_YEARS), uno_weight)
            number = partial(resample_concordance, *compare_pairs(last, *outcome), earlier=weight)
            return concordance.c_index_uno(last, *outcome, weight), number
        case "antolini":
            pairs = compare_pairs(part.risk, *outcome)
            few = len(part.years) <= _MOST_SQUARED
            value = concordance.c_index_antolini(part.risk, *outcome) if few else None
            return value, partial(resample_concordance, *pairs)
        case "mirai":
            weight = weigh_by_events(place_as_mirai(*outcome, NUM_YEARS)[0], reference.survival)
            return None, partial(resample_concordance, *compare_as_mirai(part.risk, *outcome), later=weight)


def _estimate_errors(found: Predicted, reference: Reference, suffix: str = "", **how: Any) -> list[Resampled]:
    """Whether the risks themselves hold, year by year: Brier error and predicted minus observed."""
    if found.is_relative:
        how["undefined"] = RELATIVE
    build = partial(estimate_weighted, patient=found.patient, **how)
    estimates, briers = [], []
    for year in range(1, NUM_YEARS + 1):
        outcome = (found.risk[:, year - 1], found.years, found.event, float(year))
        about: dict[str, Any] = {"of": name_years(year), "positives": _count_cases(found, year)}
        brier = partial(time_dependent.resample_brier, *outcome, censoring=reference.censoring)
        briers.append(brier)
        none = np.nan if found.is_relative else None
        value = none if found.is_relative else time_dependent.brier_error(*outcome, reference.censoring)
        estimates.append(build(brier, metric=f"brier_error{suffix}", value=value, **about))
        gap = partial(time_dependent.resample_calibration, *outcome)
        estimates.append(build(gap, metric=f"calibration_gap{suffix}", value=none, **about))

    def integrate(weight: Float[np.ndarray, "exam resample"]) -> Float[np.ndarray, " resample"]:
        return np.trapezoid(np.stack([brier(weight=weight) for brier in briers]), axis=0) / (NUM_YEARS - 1)

    about["of"] = f"{name_years(1)} to {name_years(NUM_YEARS)}"
    return [*estimates, build(integrate, metric=f"integrated_brier_error{suffix}", value=none, **about)]


def _estimate_recall(found: Predicted, **how: Any) -> Resampled:
    """Of the cancers within 5 years, how many are among the tenth at highest risk."""
    outcome = (found.risk[:, -1], found.years, found.event, float(NUM_YEARS))
    recall = partial(time_dependent.resample_decile_recall, *outcome)
    of, cases = name_years(NUM_YEARS), _count_cases(found, NUM_YEARS)
    return estimate_weighted(recall, found.patient, metric="decile_recall", of=of, positives=cases, **how)


def _count_cases(found: Predicted, year: int) -> int:
    return int(time_dependent.find_known(found.years, found.event, float(year))[0].sum())
