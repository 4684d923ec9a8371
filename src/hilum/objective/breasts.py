"""Which rows of a batch are the two views of one breast, and which its texts.

A breast is a study and a laterality. Where an archive names no laterality (chests), it is the whole study. A breast of
which one view is missing has a place there of -1; of several views of a kind the first is taken.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from hilum.batch import StudyBatch
from hilum.vocabulary import VIEW_KINDS, ViewKind

from .gather import Gather


class Breasts(NamedTuple):
    """The breasts of a batch that have one of the two views at least, in the order of studies and lateralities."""

    study: Int64[Tensor, " breast"]
    laterality: Int64[Tensor, " breast"]
    views: Int64[Tensor, "breast 2"]  # row of the first and of the second kind of view; -1: there is none


class Rows(NamedTuple):
    """How this process's rows (breasts) stand to those of all processes."""

    own: Int64[Tensor, " row"]  # column of each row itself
    allowed: Bool[Tensor, "row column"]  # whom it is compared with: itself, and breasts of other patients


def find_breasts(batch: StudyBatch, kinds: tuple[ViewKind, ViewKind]) -> Breasts:
    """The breasts of a batch and their views of these kinds."""
    of_kind = batch.view_kind[:, None] == torch.tensor([VIEW_KINDS.index(kind) for kind in kinds]).to(batch.study)
    shown = of_kind.any(dim=1)
    name = torch.stack([batch.study[shown], batch.laterality[shown]], dim=1)
    breasts, place = name.unique(dim=0, return_inverse=True)
    row = torch.arange(batch.num_views, device=place.device)[shown]
    none = batch.num_views
    places = torch.where(of_kind[shown], row[:, None], none)
    views = torch.full((len(breasts), 2), none, device=row.device).scatter_reduce(
        0, place[:, None].expand(-1, 2), places, "amin"
    )
    return Breasts(breasts[:, 0], breasts[:, 1], views.where(views < none, -1))


def find_texts(batch: StudyBatch, breasts: Breasts, num_texts: int) -> Int64[Tensor, "breast text"]:
    """Rows of the descriptions of each breast, the first `num_texts`; one with fewer shows its last again, none: -1."""
    texts = batch.descriptions
    fits = (texts.owner == breasts.study[:, None]) & (
        (texts.laterality == breasts.laterality[:, None]) | (texts.laterality == 0)
    )
    row = torch.arange(len(texts.owner), device=fits.device)
    order = torch.where(fits, row, len(row)).sort(dim=1).values
    wanted = torch.arange(num_texts, device=fits.device).clamp(max=fits.sum(dim=1, keepdim=True) - 1)
    if not len(row):
        return wanted.clamp(max=-1)
    return torch.where(wanted >= 0, order.gather(1, wanted.clamp(min=0)), -1)


def compare_rows(batch: StudyBatch, breasts: Breasts, chosen: Tensor, gather: Gather) -> Rows:
    """The chosen breasts among those that all processes chose.

    Breasts of one patient never are negatives of each other, neither the other side nor another day (L 1.5); nor is a
    study that a step draws twice.
    """
    study = breasts.study[chosen]
    names = torch.stack([batch.key[study], batch.draw[study], breasts.laterality[chosen]], dim=1)
    patient = batch.patient[study]
    everyone, patients = gather(names), gather(patient)
    itself = (names[:, None] == everyone[None]).all(dim=2)
    return Rows(itself.int().argmax(dim=1) if len(everyone) else study, (patient[:, None] != patients) | itself)
