"""From predicted risks of test exams to estimates with intervals by patient: the numbers of a risk evaluation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from jaxtyping import Bool, Float, Float32, Int64

from hilum.evaluate.bootstrap import NUM_RESAMPLES, draw_multiplicities, read_interval
from hilum.evaluate.intervals import Resampled, Weighted
from hilum.evaluate.result import to_number

from . import concordance, time_dependent
from .concordance import CIndex, compare_pairs, resample_concordance, weigh_by_censoring, weigh_by_events
from .follow_up import NUM_YEARS, list_windows
from .kaplan_meier import Side, Survival, fit_censoring, fit_survival

AUC_YEARS = (2, 5)


@dataclass(frozen=True)
class Predicted:
    """Exams with their predicted risks and what became of them."""

    risk: Float32[np.ndarray, "exam year"]
    years: Float[np.ndarray, " exam"]
    event: Bool[np.ndarray, " exam"]
    patient: Int64[np.ndarray, " exam"]

    def take(self, kept: Bool[np.ndarray, " exam"]) -> Predicted:
        """Some of the exams."""
        return Predicted(self.risk[kept], self.years[kept], self.event[kept], self.patient[kept])


@dataclass(frozen=True)
class Reference:
    """Curves of the training exams, which weigh those tested."""

    censoring: Survival
    survival: Survival

    @classmethod
    def fit(cls, years: Float[np.ndarray, " exam"], event: Bool[np.ndarray, " exam"]) -> Reference:
        """Of exams and what became of them."""
        return cls(fit_censoring(years, event), fit_survival(years, event))


def name_years(year: int) -> str:
    """What an estimate of a horizon is of."""
    return f"{year} year{'' if year == 1 else 's'}"


def estimate_risk(
    found: Predicted,
    reference: Reference,
    *,
    uno_weight: Side = "before",
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> list[Resampled]:
    """Every metric of the test exams; those of discrimination also without cancers that came soon.

    All call the same resamples of patients, so that two models of the same exams are paired. The risk within 5 years
    ranks women for the C-indices of Harrell, Uno and Mirai; Uno's ends at 5 years.
    """
    estimates = []
    for slice, kept in list_windows(found.years, found.event).items():
        part = found.take(kept)
        build = partial(_estimate, part, slice=slice, num_resamples=num_resamples, seed=seed)
        for name in concordance.C_INDICES:
            value, number = _find_c_index(name, part, reference, uno_weight)
            estimates.append(build(f"c_index_{name}", "risk", value, number, int(part.event.sum())))
        for year in AUC_YEARS:
            outcome = (part.risk[:, year - 1], part.years, part.event, float(year))
            case, control = time_dependent.find_known(*outcome[1:])
            for name, value, censoring in (
                ("auc_ipcw", time_dependent.auc_ipcw(*outcome, reference.censoring), reference.censoring),
                ("auc_mirai", time_dependent.auc_mirai(*outcome), None),
            ):
                number = partial(time_dependent.resample_auc, *outcome, censoring=censoring)
                estimates.append(
                    build(name, name_years(year), value, number, int(case.sum()), num=int((case | control).sum()))
                )
    return estimates + _estimate_absolute(found, reference, num_resamples, seed)


def _find_c_index(name: CIndex, part: Predicted, reference: Reference, uno_weight: Side) -> tuple[float, Weighted]:
    """Its value, and what gives it under multiplicities."""
    last, outcome = part.risk[:, -1], (part.years, part.event)
    pairs = compare_pairs(part.risk if name == "antolini" else last, *outcome)
    match name:
        case "harrell":
            return concordance.c_index_harrell(last, *outcome), partial(resample_concordance, *pairs)
        case "uno":
            weight = weigh_by_censoring(part.years, reference.censoring, float(NUM_YEARS), uno_weight)
            number = partial(resample_concordance, *pairs, earlier=weight)
            return concordance.c_index_uno(last, *outcome, weight), number
        case "antolini":
            return concordance.c_index_antolini(part.risk, *outcome), partial(resample_concordance, *pairs)
        case "mirai":
            weight = weigh_by_events(part.years, reference.survival)
            number = partial(resample_concordance, *pairs, later=weight)
            return concordance.c_index_mirai(last, *outcome, weight), number


def _estimate_absolute(found: Predicted, reference: Reference, num_resamples: int, seed: int) -> list[Resampled]:
    """Whether the risks themselves hold, year by year: Brier error, predicted minus observed, and the top tenth."""
    build = partial(_estimate, found, slice="all", num_resamples=num_resamples, seed=seed)
    estimates, briers = [], []
    for year in range(1, NUM_YEARS + 1):
        outcome = (found.risk[:, year - 1], found.years, found.event, float(year))
        cases, of = int(time_dependent.find_known(*outcome[1:])[0].sum()), name_years(year)
        brier = partial(time_dependent.resample_brier, *outcome, censoring=reference.censoring)
        gap = partial(time_dependent.resample_calibration, *outcome)
        briers.append(brier)
        value = time_dependent.brier_error(*outcome, reference.censoring)
        estimates.append(build("brier_error", of, value, brier, cases))
        estimates.append(build("calibration_gap", of, _once(gap, found), gap, cases))

    def integrate(weight: Float[np.ndarray, "exam resample"]) -> Float[np.ndarray, " resample"]:
        return np.trapezoid(np.stack([brier(weight=weight) for brier in briers]), axis=0) / (NUM_YEARS - 1)

    recall = partial(time_dependent.resample_decile_recall, *outcome)
    of = f"{name_years(1)} to {name_years(NUM_YEARS)}"
    estimates.append(build("integrated_brier_error", of, _once(integrate, found), integrate, cases))
    estimates.append(build("decile_recall", name_years(NUM_YEARS), _once(recall, found), recall, cases))
    return estimates


def _once(number: Callable[..., np.ndarray], found: Predicted) -> float:
    return float(number(weight=np.ones((len(found.years), 1), np.float32))[0])


def _estimate(
    part: Predicted,
    metric: str,
    of: str,
    value: float,
    number: Weighted,
    positives: int,
    *,
    slice: str,
    num_resamples: int,
    seed: int,
    num: int | None = None,
) -> Resampled:
    undefined = bool(np.isnan(value))
    resamples = np.zeros(0)
    if not undefined:
        drawn = draw_multiplicities(part.patient, num_resamples, seed)
        resamples = np.concatenate([number(weight) for weight in drawn])
    interval = read_interval(resamples)
    return Resampled(
        metric=metric,
        of=of,
        value=to_number(value),
        low=interval.low if interval else None,
        high=interval.high if interval else None,
        num=len(part.years) if num is None else num,
        positives=positives,
        reason="too few cancers, or nobody followed for long enough" if undefined else None,
        slice=slice,
        resamples=resamples,
    )
