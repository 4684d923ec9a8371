r"""What the numbers of a risk head stand for, their losses, and the risk of an exam from those of its breasts (L 3.4).

=========  ========================================  ==============================================================
hazard     a head's numbers                          loss
=========  ========================================  ==============================================================
additive   logits of cancer within t years           masked cross-entropy, `head.measure_masked_loss`
logistic   logits of cancer in year t, if free of    likelihood of discrete time (Brown 1975; Gensheimer and
           it until then                             Narasimhan 2019)
cox        one logarithm of the hazard relative to   partial likelihood (Cox 1972), Efron's where times are equal;
           other women's                             by torchsurv
=========  ========================================  ==============================================================
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from hilum.errors import UserError

from .follow_up import NUM_YEARS

Hazard = Literal["additive", "logistic", "cox"]
Sides = Literal["together", "apart"]
NAMES: dict[str, str] = {
    "additive": "additive hazards", "logistic": "logistic hazards", "cox": "Cox's proportional hazards"
}  # fmt: skip
LOSSES: dict[str, str] = {
    "additive": "masked cross-entropy, weighted for censoring",
    "logistic": "negative log-likelihood of discrete time",
    "cox": "negative partial log-likelihood",
}
RELATIVE = (
    "Cox's model tells hazards relative to other women's, which rank them, and no risk within t years: Brier error and "
    "predicted minus observed are not defined but for recalibrated risks, whose level validation gives."
)


@dataclass(frozen=True)
class RiskModel:
    """What is fitted."""

    hazard: Hazard = "additive"
    sides: Sides = "together"  # apart: a head for left breasts, another for right ones

    def check(self, *, mask_after_event: bool) -> None:
        """Raises UserError for a mask that would change nothing."""
        if mask_after_event and self.hazard != "additive":
            raise UserError(
                f"--mask-after-event has no effect on --hazard {self.hazard}, whose loss reads no year after a "
                "cancer's: leave it out."
            )


USUAL = RiskModel()


def measure_discrete_nll(logit: Float[Tensor, "exam year"], target: Float[Tensor, "exam year"]) -> Float[Tensor, ""]:
    r"""Negative log-likelihood of the years until cancer or the end of follow-up, the mean over exams.

    .. math:: -\frac1N \sum_i \Big[ \sum_{t < k_i} \log(1 - h_{it}) + \delta_i \log h_{ik_i} \Big]

    Where k is the year of the cancer (:math:`\delta = 1`), or the first that is not known whole. A target is 1 from the
    cancer's year on, NaN where not known (`follow_up.build_targets`). Logits 0, 0, 0 and targets 0, 1, 1: 2 log 2. The
    likelihood allows for censoring by itself: targets need no weights. 0 where nothing is known.
    """
    before = torch.cat([torch.zeros_like(target[:, :1]), target[:, :-1]], dim=1)
    at_risk = ~target.isnan() & (before == 0)
    loss = F.binary_cross_entropy_with_logits(logit, target.nan_to_num(0), reduction="none")
    return (loss * at_risk).sum() / at_risk.any(dim=1).sum().clamp(min=1)


def find_discrete_risk(logit: Float[Tensor, "exam year"]) -> Float[Tensor, "exam year"]:
    r"""Risks within t years, :math:`1 - \prod_{s \le t} (1 - h_s)`. Logits 0, 0: 1/2, 3/4."""
    return -torch.expm1(F.logsigmoid(-logit).cumsum(dim=1))


def measure_partial_likelihood(
    log_hazard: Float[Tensor, " exam"], years: Float[Tensor, " exam"], event: Bool[Tensor, " exam"]
) -> Float[Tensor, ""]:
    r"""Negative partial log-likelihood, the mean over events: torchsurv's, 0 without any.

    .. math:: -\frac1{|E|} \sum_{i \in E} \Big[ \eta_i - \log \sum_{T_j \ge T_i} e^{\eta_j} \Big]
    """
    if not bool(event.any()):
        return log_hazard.sum() * 0
    from .torchsurv_metrics import neg_partial_log_likelihood

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Ties in `time` detected", category=UserWarning)  # said of every step
        total = neg_partial_log_likelihood(log_hazard, event, years, ties_method="efron", reduction="sum")
    return total / event.sum()  # its own mean is over times, of which equal ones are one


def spread_relative(log_hazard: Float[Tensor, "exam 1"]) -> Float[Tensor, "exam year"]:
    """The relative hazard on a scale of 0 to 1, the same for every year: it ranks exams and is no probability, until a
    year's recalibration, which is a logistic map of the logarithm, makes it one."""
    return log_hazard.sigmoid().expand(-1, NUM_YEARS)


def join_breasts(hazard: Hazard, left: Float[Tensor, "exam of"], right: Float[Tensor, "exam of"]) -> Tensor:
    r"""A head's numbers of an exam, from those of its breasts; -inf of a breast that is not there.

    Cancers of the two are taken as independent: odds of either are :math:`(1 + e^l)(1 + e^r) - 1`; hazards add.
    Logits 0 and 0: log 3, which is 3/4.
    """
    if hazard == "cox":
        return torch.logaddexp(left, right)
    return torch.stack([left, right, left + right]).logsumexp(dim=0)
