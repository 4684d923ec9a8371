"""Late fusion: one answer for a study from the answers of its views.

Every view is classified by the same head, and the study's answer is a mean over the views that exist (M 4.1): of
logits (the released code, and ours) or of probabilities (the paper's words). A view that does not exist has no row, so
it has no influence either.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from scipy.optimize import minimize
from torch import Tensor

from hilum.batch import pool_by_owner
from hilum.vocabulary import VIEW_KINDS

Fusion = Literal["mean_logit", "mean_probability"]
Rare = Literal["as-is", "weighted"]  # how positives of rare findings count in training
MAX_POSITIVE_WEIGHT = 10.0


def fuse_views(
    logit: Float[Tensor, "view finding"], study: Int64[Tensor, " view"], num_studies: int, fusion: Fusion = "mean_logit"
) -> Float[Tensor, "study finding"]:
    """The study's logits from its views' logits; every study has at least one view.

    Example (M 8-27): views with logits 2 and 0 give probability sigmoid(1) = 0.731059 with `mean_logit`, and
    (sigmoid(2) + sigmoid(0)) / 2 = 0.690399 with `mean_probability`.
    """
    assert bool((torch.bincount(study, minlength=num_studies) > 0).all()), "a study without a view cannot be scored"
    if fusion == "mean_logit":
        return pool_by_owner(logit, study, num_studies)
    probability = pool_by_owner(torch.sigmoid(logit.double()), study, num_studies)
    return torch.logit(probability, eps=1e-12).to(logit.dtype)


def scale_views(
    logit: Float[Tensor, "view finding"], temperature: Float[Tensor, " view"], prior: Float[Tensor, " finding"]
) -> Float[Tensor, "view finding"]:
    """prior + (logit - prior) / temperature: what a view adds to the prior counts less, the prior itself stays.

    Otherwise a study's logit would move with which kinds of view it has, whatever they show.
    """
    return prior + (logit - prior) / temperature[:, None]


def fit_temperatures(
    logit: Float[Tensor, "view finding"],
    study: Int64[Tensor, " view"],
    view_kind: Int64[Tensor, " view"],
    target: Float[Tensor, "study finding"],
    prior: Float[Tensor, " finding"],
) -> Float[Tensor, " kind"]:
    """One temperature for each kind of view, so that `scale_views` with them predicts `target` best.

    Temperature scaling (Guo et al. 2017) before the mean instead of after it: a kind of view that is often wrong gets a
    high temperature and thereby a small weight. Fitted on studies the classifier did not learn from; a kind that does
    not occur keeps 1. None is below 1e-3 or above 1e3.
    """
    prior = prior.double()
    logit, target = logit.double(), target.double()

    def measure(point: np.ndarray) -> tuple[float, np.ndarray]:
        cold = torch.tensor(point, requires_grad=True)
        fused = fuse_views(scale_views(logit, (-cold).exp()[view_kind], prior), study, len(target))
        # So weak that it only decides where the data say nothing (all logits 0, classes told apart without error).
        loss = masked_cross_entropy(fused, target) + 1e-4 * cold.square().sum()
        loss.backward()
        assert cold.grad is not None
        return loss.item(), cold.grad.numpy()

    # Within bounds: the loss is flat on the way from a strongly regularised head, and a step of L-BFGS without them
    # ends where a temperature is 0 in floating point.
    bounds = [(-math.log(1e3), math.log(1e3))] * len(VIEW_KINDS)
    found = minimize(measure, np.zeros(len(VIEW_KINDS)), jac=True, method="L-BFGS-B", bounds=bounds)
    return torch.from_numpy(-found.x).exp()


def weigh_positives(
    target: Float[Tensor, "row finding"], cap: float = MAX_POSITIVE_WEIGHT, least: float = 1.0
) -> Float[Tensor, " finding"]:
    """How often a positive of each finding is to count in training: negatives per positive, from `least` to `cap`.

    Of 1,000 rows with 100 positives each counts 9 times; with 2 of them, 10 times and not 499. A finding without
    positives counts once. Soft targets count as their parts of both classes.
    """
    known = ~torch.isnan(target)
    positives = torch.where(known, target, 0.0).sum(dim=0)
    negatives = known.sum(dim=0) - positives
    return torch.where(positives > 0, negatives / positives.clamp(min=1e-12), 1.0).clamp(least, cap)


def masked_cross_entropy(
    logit: Float[Tensor, "row finding"],
    target: Float[Tensor, "row finding"],
    positive_weight: Float[Tensor, " finding"] | None = None,
) -> Float[Tensor, ""]:
    """Binary cross-entropy, mean over the known (row, finding) pairs; a NaN target has no loss and no gradient.

    With `positive_weight` w positives count w times (in the sum, not in the number it is divided by), and log w is
    added to the logit that is judged: the odds that minimise the weighted loss are w times the true ones, so that
    without it the classifier would say w times the odds it has seen (King and Zeng 2001, prior correction). Targets
    between 0 and 1 count as their parts of both classes.

    For fused training the rows are studies. For training view by view they are the views that exist, each with its
    study's targets; the released code meant that, but averaged before it masked, so that absent views of a padded
    batch were trained too (M 4.1, M 8-28). Without a known target the loss is 0 with its graph intact.
    """
    known = ~torch.isnan(target)
    if positive_weight is not None:
        logit = logit + positive_weight.log().to(logit.dtype)
    loss = F.binary_cross_entropy_with_logits(
        logit, torch.where(known, target, 0.0), reduction="none", pos_weight=positive_weight
    )
    return (loss * known).sum() / known.sum().clamp(min=1)
