"""Is the representation alive? Cheap figures on the vectors of a batch, for the log (M 7.4)."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from hilum.batch import VIEW_KINDS


def measure_effective_rank(vectors: Float[Tensor, "row dim"]) -> float:
    """exp of the entropy of the normalised singular values of the centred rows (Roy and Vetterli 2007).

    1 where all rows lie on a line, at most min(rows - 1, dimensions); 0 where all rows are equal.
    """
    values = torch.linalg.svdvals(_centre(vectors.double()))
    if values.sum() == 0:
        return 0.0
    share = values / values.sum()
    return float(torch.exp(torch.special.entr(share).sum()))


def measure_std(vectors: Float[Tensor, "row dim"]) -> float:
    """Mean over dimensions of the standard deviation over rows, of unit vectors times sqrt(dim): 1 is isotropic."""
    unit = F.normalize(vectors.float(), dim=1)
    return float(unit.std(dim=0).mean()) * vectors.shape[1] ** 0.5


def measure_uniformity(vectors: Float[Tensor, "row dim"]) -> float:
    """log of the mean over pairs of rows of exp(-2 ||u - v||^2) on the unit sphere (Wang and Isola 2020, eq. 5).

    0 where all rows are equal, about -4 where they are spread over many dimensions.
    """
    unit = F.normalize(vectors.double(), dim=1)
    return float(torch.pdist(unit).square().mul(-2).exp().mean().log())


class Retrieval(NamedTuple):
    """Share of studies whose frontal view finds its own lateral first, and what guessing would reach."""

    score: float
    chance: float
    num_studies: int


def score_retrieval(
    vectors: Float[Tensor, "view dim"], view_kind: Int64[Tensor, " view"], study: Int64[Tensor, " view"]
) -> Retrieval | None:
    """Frontal to lateral retrieval among the studies that have both, by cosine; None with fewer than two of them.

    The first frontal and the first lateral of a study take part. Each kind is centred first: what all frontals have in
    common says nothing about a study.
    """
    firsts = [_first_of_each(study, view_kind == VIEW_KINDS.index(kind)) for kind in ("frontal", "lateral")]
    both = sorted(set(firsts[0]) & set(firsts[1]))
    if len(both) < 2:
        return None
    frontal, lateral = (
        F.normalize(_centre(vectors[[first[owner] for owner in both]].float()), dim=1) for first in firsts
    )
    found = (frontal @ lateral.T).argmax(dim=1)
    hits = found == torch.arange(len(both), device=found.device)
    return Retrieval(float(hits.float().mean()), 1 / len(both), len(both))


def _first_of_each(study: Int64[Tensor, " view"], wanted: Tensor) -> dict[int, int]:
    first: dict[int, int] = {}
    for view in wanted.nonzero()[:, 0].tolist():
        first.setdefault(int(study[view]), view)
    return first


def _centre(rows: Float[Tensor, "row dim"]) -> Float[Tensor, "row dim"]:
    return rows - rows.mean(dim=0)
