r"""Metrics of the risk until one horizon: AUC(t), Brier error, calibration, and who is in the top tenth (L 3.5).

A horizon of h years is all before h: who has cancer at T < h is a case, who is known to be free until h a control.
Who left before h without cancer is neither. What that takes away is given back by weights 1 / G, the Kaplan-Meier curve
of follow-up of the training exams (IPCW), or is not (Mirai's AUC). Weighted metrics of a horizon that no training exam
was followed for are not known: the curve ends before it.

.. math:: \mathrm{AUC}(h) = \frac{\sum_{ij} [T_i < h \le T_j] \delta_i G(T_i-)^{-1}
   ([r_i > r_j] + \tfrac12 [r_i = r_j])}{\sum_{ij} [T_i < h \le T_j] \delta_i G(T_i-)^{-1}}

.. math:: \mathrm{Brier}(h) = \frac1n \sum_i \frac{[T_i < h] \delta_i}{G(T_i-)} (1 - r_i)^2
   + \frac{[T_i \ge h]}{G(h-)} r_i^2

(Uno 2007; Graf 1999.) Values of both are torchsurv's; the `resample_` functions have multiplicities of patients, and
with each row once give the same.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64

from hilum.evaluate.scoring.bootstrap import resample_auroc

from .concordance import weigh_by_censoring
from .kaplan_meier import Survival, resample_risk

TOP = 0.1

Score = Float[np.ndarray, " row"]
Years = Float[np.ndarray, " row"]
Event = Bool[np.ndarray, " row"]


def find_known(years: Years, event: Event, horizon: float) -> tuple[Bool[np.ndarray, " row"], Bool[np.ndarray, " row"]]:
    """Who is a case of the horizon, and who is a control."""
    return event & (years < horizon), years >= horizon


def auc_mirai(score: Score, years: Years, event: Event, horizon: float) -> float:
    """Plain AUROC of cases and controls, everybody else left out, as Mirai reports it; NaN without one of them."""
    return float(resample_auc(score, years, event, horizon, np.ones((len(score), 1), np.float32))[0])


def auc_ipcw(score: Score, years: Years, event: Event, horizon: float, censoring: Survival) -> float:
    """Cumulative/dynamic AUC with weights of censoring on the cases; NaN without cases, controls or the curve there."""
    case, control = find_known(years, event, horizon)
    if not case.any() or not control.any() or horizon > censoring.last:
        return float("nan")
    from .torchsurv_metrics import Auc

    weight = torch.from_numpy(weigh_by_censoring(years, censoring))
    ranked = torch.from_numpy(np.unique(score, return_inverse=True)[1].astype(np.float64))
    found = Auc()(
        ranked, torch.from_numpy(event), _as_times(years), weight=weight, new_time=_end_before(horizon),
        weight_new_time=_weigh_end(horizon, censoring), instate=False,
    )  # fmt: skip
    return float(found)


def resample_auc(
    score: Score,
    years: Years,
    event: Event,
    horizon: float,
    weight: Float[np.ndarray, "row resample"],
    censoring: Survival | None = None,
) -> Float64[np.ndarray, " resample"]:
    """AUC(h) under multiplicities: Mirai's, or with the curve of follow-up IPCW."""
    case, control = find_known(years, event, horizon)
    kept = case | control
    if not case.any() or not control.any() or (censoring is not None and horizon > censoring.last):
        return np.full(weight.shape[1], np.nan)
    weight = weight[kept].astype(np.float64)
    if censoring is not None:
        weight[case[kept]] *= weigh_by_censoring(years, censoring)[case][:, None]
    return resample_auroc(case[kept].astype(np.float64), score[kept].astype(np.float64), weight)


def brier_error(risk: Score, years: Years, event: Event, horizon: float, censoring: Survival) -> float:
    """IPCW Brier error of the risk until a horizon; NaN where nobody of training, or of these, was followed until then.

    Without controls it would be of the cases alone: nobody stands for those who left.
    """
    end = _weigh_end(horizon, censoring)
    case, control = find_known(years, event, horizon)
    if not event.any() or float(end) == 0 or not (control.any() or case.all()):
        return float("nan")
    from .torchsurv_metrics import BrierScore

    weight = torch.from_numpy(weigh_by_censoring(years, censoring))
    free = torch.from_numpy(1 - risk.astype(np.float64)).unsqueeze(1)
    found = BrierScore()(
        free, torch.from_numpy(event), _as_times(years), new_time=_end_before(horizon), weight=weight,
        weight_new_time=end, instate=False,
    )  # fmt: skip
    return float(found)


def resample_brier(
    risk: Score,
    years: Years,
    event: Event,
    horizon: float,
    weight: Float[np.ndarray, "row resample"],
    censoring: Survival,
) -> Float64[np.ndarray, " resample"]:
    """IPCW Brier error under multiplicities."""
    case, control = find_known(years, event, horizon)
    end = float(_weigh_end(horizon, censoring))
    if end == 0 or not event.any():
        return np.full(weight.shape[1], np.nan)
    risk = risk.astype(np.float64)
    error = case * weigh_by_censoring(years, censoring) * (1 - risk) ** 2 + control * end * risk**2
    weight = weight.astype(np.float64)
    known = (control @ weight > 0) | (~case @ weight == 0)
    return np.divide(error @ weight, weight.sum(axis=0), out=np.full(weight.shape[1], np.nan), where=known)


def resample_calibration(
    risk: Score, years: Years, event: Event, horizon: float, weight: Float[np.ndarray, "row resample"]
) -> Float64[np.ndarray, " resample"]:
    """Mean predicted risk minus the observed one (1 - Kaplan-Meier): above 0 where it says too much."""
    observed = resample_risk(years, event, np.array([float(horizon)]), weight)[0]
    return (risk.astype(np.float64) @ weight.astype(np.float64)) / weight.sum(axis=0) - observed


def resample_decile_recall(
    risk: Score, years: Years, event: Event, horizon: float, weight: Float[np.ndarray, "row resample"]
) -> Float64[np.ndarray, " resample"]:
    """The share of the horizon's cases among the tenth of exams with the highest risk (rounded up; L 3.5).

    The tenth is that of all rows, in every resample. Who ties with the last of it counts in part.
    """
    case, _ = find_known(years, event, horizon)
    order = np.argsort(-risk, kind="stable")
    edge = risk[order[int(np.ceil(TOP * len(risk))) - 1]]
    above, level = risk > edge, risk == edge
    share = above + level * ((np.ceil(TOP * len(risk)) - above.sum()) / level.sum())
    weight = weight.astype(np.float64)
    cases = case @ weight
    return np.divide((case * share) @ weight, cases, out=np.full(weight.shape[1], np.nan), where=cases > 0)


def _as_times(years: Years) -> torch.Tensor:
    return torch.from_numpy(years.astype(np.float64))


def _end_before(horizon: float) -> torch.Tensor:
    """The last moment before a horizon, in the single precision that torchsurv compares times in."""
    return torch.tensor([float(np.nextafter(np.float32(horizon), np.float32(0)))], dtype=torch.float64)


def _weigh_end(horizon: float, censoring: Survival) -> torch.Tensor:
    """1 / G(h-); 0 where nobody was followed until then."""
    return torch.from_numpy(weigh_by_censoring(np.array([float(horizon)]), censoring))
