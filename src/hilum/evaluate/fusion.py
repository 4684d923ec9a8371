"""Late fusion: one answer for a study from the answers of its views.

Every view is classified by the same head, and the study's answer is a mean over the views that exist (M 4.1): of
logits (the released code, and ours) or of probabilities (the paper's words). A view that does not exist has no row, so
it has no influence either.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from hilum.batch import pool_by_owner

Fusion = Literal["mean_logit", "mean_probability"]


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


def masked_cross_entropy(
    logit: Float[Tensor, "row finding"], target: Float[Tensor, "row finding"]
) -> Float[Tensor, ""]:
    """Binary cross-entropy, mean over the known (row, finding) pairs; a NaN target has no loss and no gradient.

    A target between 0 and 1 (an uncertain state under the policy `soft`) pulls the probability towards itself.

    For fused training the rows are studies. For training view by view they are the views that exist, each with its
    study's targets; the released code meant that, but averaged before it masked, so that absent views of a padded
    batch were trained too (M 4.1, M 8-28). Without a known target the loss is 0 with its graph intact.
    """
    known = ~torch.isnan(target)
    loss = F.binary_cross_entropy_with_logits(logit, torch.where(known, target, 0.0), reduction="none")
    return (loss * known).sum() / known.sum().clamp(min=1)
