r"""The additive-hazard head: risks of cancer within 1 to 5 years that never fall with the years (Yala 2021; L 3.4).

=====================  ==========================================
paper symbol           name here
=====================  ==========================================
h                      `vector`, of an exam
b(h)                   `start`
ReLU(w_s . h + c_s)    `hazard`
logit_t                `logit` of cancer within t years
mask_t                 `target` is not NaN
=====================  ==========================================
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from hilum.batch import pool_by_owner
from hilum.vocabulary import LATERALITIES, VIEW_KINDS

from .exam_views import ExamViews
from .hazards import Hazard, join_breasts

Pooling = Literal["mean", "attention"]
POOLINGS: tuple[Pooling, ...] = get_args(Pooling)
_WIDTH, _HEADS, _DROPOUT = 64, 4, 0.1
_LEAST_RISK = 1e-4


def accumulate_hazards(start: Float[Tensor, " exam"], hazard: Float[Tensor, "exam year"]) -> Float[Tensor, "exam year"]:
    r"""Logits of cancer within t years.

    .. math:: \mathrm{logit}_t = b + \sum_{s \le t} \mathrm{ReLU}(u_s)

    Start -2 and hazards 1, -3, 0.5: -1, -1, -0.5.
    """
    return start.unsqueeze(1) + hazard.relu().cumsum(dim=1)


def find_risk(logit: Float[Tensor, "exam year"]) -> Float[Tensor, "exam year"]:
    """Probabilities of cancer within t years, none below that of the year before."""
    # Sigmoids of equal logits may differ in the last bit, by whether a vector register or the rest computes them.
    return logit.sigmoid().cummax(dim=1).values


def measure_masked_loss(
    logit: Float[Tensor, "exam year"],
    target: Float[Tensor, "exam year"],
    weight: Float[Tensor, "exam year"] | None = None,
) -> Float[Tensor, ""]:
    r"""Binary cross-entropy over the years that are known; a target that is NaN is not.

    .. math:: \frac{\sum_{it} m_{it} w_{it} \, \mathrm{BCE}(\mathrm{logit}_{it}, y_{it})}{\sum_{it} m_{it} w_{it}}

    Logits 0, 0 and targets 1, NaN: log 2. 0 where nothing is known. The weights are 1 where not given, as in Mirai's
    loss; those of `follow_up.weigh_years` undo what censoring does to it.
    """
    known = (~target.isnan()).to(logit.dtype)
    if weight is not None:
        known = known * weight
    loss = F.binary_cross_entropy_with_logits(logit, target.nan_to_num(0), reduction="none")
    total = known.sum()
    return (loss * known).sum() / torch.where(total > 0, total, torch.ones_like(total))


class MeanOfViews(nn.Module):
    """An exam's vector: the mean of its views, and where earlier exams are read its change since their mean."""

    def __init__(self, width: int, earlier: bool) -> None:
        super().__init__()
        self.earlier = earlier
        self.width = 2 * width if earlier else width

    def forward(self, views: ExamViews) -> Float[Tensor, "exam dim"]:
        own = views.years_before == 0
        now = pool_by_owner(views.vectors[own], views.owner[own], len(views))
        if not self.earlier:
            return now
        before = pool_by_owner(views.vectors[~own], views.owner[~own], len(views))
        has = torch.zeros(len(views), 1).index_fill(0, views.owner[~own], 1.0)
        return torch.cat([now, (now - before) * has], dim=1)


class AttentionOverViews(nn.Module):
    """An exam's vector: one transformer block over its views and those of earlier exams, then their mean.

    Each view is projected, and told its kind, its side and how many years it is before the exam. A view that an exam
    lacks has no row.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = _WIDTH
        self.project = nn.Linear(width, _WIDTH)
        self.kind = nn.Embedding(len(VIEW_KINDS), _WIDTH)
        self.side = nn.Embedding(len(LATERALITIES), _WIDTH)
        self.years = nn.Linear(1, _WIDTH, bias=False)
        for module in (self.kind, self.side, self.years):
            nn.init.normal_(module.weight, std=0.02)
        self.block = nn.TransformerEncoderLayer(
            _WIDTH, _HEADS, 2 * _WIDTH, _DROPOUT, activation="gelu", batch_first=True, norm_first=True
        )
        self.norm = nn.LayerNorm(_WIDTH)

    def forward(self, views: ExamViews) -> Float[Tensor, "exam dim"]:
        token = self.project(views.vectors) + self.kind(views.view_kind) + self.side(views.laterality)
        token = token + self.years(views.years_before.unsqueeze(1))
        place = find_places(views.owner)
        longest = int(place.max()) + 1
        padded = token.new_zeros(len(views), longest, _WIDTH)
        padded[views.owner, place] = token
        empty = torch.ones(len(views), longest, dtype=torch.bool)
        empty[views.owner, place] = False
        seen = self.norm(self.block(padded, src_key_padding_mask=empty))
        return pool_by_owner(seen[views.owner, place], views.owner, len(views))


def find_places(owner: Int64[Tensor, " view"]) -> Int64[Tensor, " view"]:
    """The place of each view within its owner; owners ascend."""
    return torch.arange(len(owner)) - torch.searchsorted(owner, owner)


class AdditiveHazards(nn.Module):
    """A vector to logits of cancer within 1 to 5 years, of `base` for everybody at first."""

    def __init__(self, dim: int, base: Float[Tensor, " year"]) -> None:
        super().__init__()
        self.start, self.hazard = nn.Linear(dim, 1), nn.Linear(dim, len(base))
        logit = base.clamp(_LEAST_RISK, 1 - _LEAST_RISK).logit()
        with torch.no_grad():
            for layer in (self.start, self.hazard):
                layer.weight.normal_(std=0.01)
            # Hazards above 0 at first, or their ReLU would never wake up.
            self.hazard.bias.copy_(torch.cat([logit.new_full((1,), 0.1), logit.diff()]).clamp(min=0.02))
            self.start.bias.copy_(logit[:1] - self.hazard.bias[:1])

    def forward(self, vector: Float[Tensor, "exam dim"]) -> Float[Tensor, "exam year"]:
        return accumulate_hazards(self.start(vector).squeeze(1), self.hazard(vector))


def _build_numbers(hazard: Hazard, dim: int, base: Float[Tensor, " year"]) -> nn.Module:
    """A vector to the numbers of a hazard, at first those of `base` for everybody."""
    if hazard == "additive":
        return AdditiveHazards(dim, base)
    layer = nn.Linear(dim, len(base)) if hazard == "logistic" else nn.Linear(dim, 1, bias=False)
    with torch.no_grad():
        layer.weight.normal_(std=0.01)
        if layer.bias is not None:
            before = torch.cat([base.new_zeros(1), base[:-1]])
            layer.bias.copy_(((base - before) / (1 - before)).clamp(_LEAST_RISK, 1 - _LEAST_RISK).logit())
    return layer


class RiskHead(nn.Module):
    """Views of exams, what a table says of them, or both, to the numbers of a hazard, see `hazards.py`.

    Args:
        width: of a view's vector; 0: views are not read.
        num_table: numbers that a table has of each exam.
        base: the risks that it starts from for everybody, such as those observed in training.
        pooling, earlier: how views become one vector, and whether those of earlier exams are among them.
        hazard: what the numbers stand for: of additive hazards, logits of cancer within 1 to 5 years.
    """

    def __init__(
        self,
        width: int,
        num_table: int,
        base: Float[Tensor, " year"],
        *,
        pooling: Pooling,
        earlier: bool = False,
        hazard: Hazard = "additive",
    ) -> None:
        super().__init__()
        self.pool = MeanOfViews(width, earlier) if pooling == "mean" or not width else AttentionOverViews(width)
        self.num = 1 if hazard == "cox" else len(base)
        self.numbers = _build_numbers(hazard, self.pool.width + num_table, base)

    def forward(self, views: ExamViews) -> Float[Tensor, "exam of"]:
        return self.numbers(torch.cat([self.pool(views), views.table], dim=1))


class HeadOfEachSide(nn.Module):
    """A head for left breasts and one for right ones, whose numbers become one of the exam (`hazards.join_breasts`).

    A breast without a view of the exam itself takes no part; views of no known side are read as left ones.
    """

    def __init__(self, left: RiskHead, right: RiskHead, hazard: Hazard) -> None:
        super().__init__()
        self.left, self.right, self.hazard = left, right, hazard

    def forward(self, views: ExamViews) -> Float[Tensor, "exam of"]:
        return join_breasts(self.hazard, self._read(self.left, views, False), self._read(self.right, views, True))

    def _read(self, head: RiskHead, views: ExamViews, right: bool) -> Float[Tensor, "exam of"]:
        breasts, exam = views.take_side(right=right)
        none = views.vectors.new_full((len(views), head.num), -torch.inf)
        return none.index_copy(0, exam, head(breasts)) if len(exam) else none
