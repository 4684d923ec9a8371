"""How well images and teachers' vectors of the same studies find each other, for the log (P 2.7, P 3.4)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from .meters import measure_std


@torch.no_grad()
def score_pairs(
    student: Float[Tensor, "row dim"],
    teacher: Float[Tensor, "row dim"],
    patient: Int64[Tensor, " row"],
    scale: float,
    *,
    masks_patient: bool,
) -> dict[str, float]:
    """Figures of paired rows, each compared with all; none with fewer than two rows.

    Returns:
        `info_nce` (nats, without label smoothing, mean of both directions); `information` = ln N - info_nce, which
        bounds the mutual information from below, with N the columns that a row is compared with; `info_nce_share` =
        info_nce / ln N, 1 by guessing; `retrieval` and `retrieval_top5`, the share of images that find their own
        teacher's vector first or among five, and `retrieval_chance`; `positive_cosine`, `negative_cosine`;
        `student_std`, `teacher_std` (1 is isotropic, 0 a collapse), `student_norm`, `teacher_norm`; `scale`.
    """
    num_rows = len(student)
    if num_rows < 2:
        return {}
    cosine = F.normalize(student.double(), dim=1) @ F.normalize(teacher.double(), dim=1).T
    own = torch.eye(num_rows, dtype=torch.bool, device=cosine.device)
    compared = own | (patient[:, None] != patient[None, :]) if masks_patient else torch.ones_like(own)
    scores = (scale * cosine).masked_fill(~compared, -torch.inf)
    both = (scores.log_softmax(dim=1).diagonal() + scores.T.log_softmax(dim=1).diagonal()) / 2
    columns = compared.sum(dim=1).double().log().mean()
    loss = -float(both.mean())
    rank = (scores > scores.diagonal()[:, None]).sum(dim=1)
    negatives = cosine[compared & ~own]
    found = {
        "info_nce": loss,
        "information": float(columns) - loss,
        "retrieval": float((rank == 0).double().mean()),
        "retrieval_top5": float((rank < 5).double().mean()),
        "retrieval_chance": float((1 / compared.sum(dim=1)).mean()),
        "positive_cosine": float(cosine.diagonal().mean()),
        "student_std": measure_std(student),
        "teacher_std": measure_std(teacher),
        "student_norm": float(student.norm(dim=1).mean()),
        "teacher_norm": float(teacher.norm(dim=1).mean()),
        "scale": scale,
    }
    if columns > 0:
        found |= {"info_nce_share": loss / float(columns), "negative_cosine": float(negatives.mean())}
    return found


@torch.no_grad()
def score_predictions(prediction: Float[Tensor, "row dim"], teacher: Float[Tensor, "row dim"]) -> dict[str, float]:
    """Figures of predicted vectors over all rows; none with fewer than two.

    Returns:
        `cosine`; `centred_cosine`, with the mean of the teacher's rows taken off both, which a constant prediction
        cannot raise (P 3.4: the published alignment); `constant_cosine`, what predicting that mean alone would reach.
    """
    if len(teacher) < 2:
        return {}
    prediction, teacher = F.normalize(prediction.double(), dim=1), F.normalize(teacher.double(), dim=1)
    mean = teacher.mean(dim=0, keepdim=True)
    return {
        "cosine": float(F.cosine_similarity(prediction, teacher).mean()),
        "centred_cosine": float(F.cosine_similarity(prediction - mean, teacher - mean).mean()),
        "constant_cosine": float(F.cosine_similarity(mean, teacher).mean()),
    }
