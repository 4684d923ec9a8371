"""Alignment of the views of one study against other patients' studies (InfoNCE).

| symbol (van den Oord et al. 2018 eq. 4; SimCLR, Chen et al. 2020 eq. 1) | name here |
|---|---|
| z_i, z_j: unit vectors of a pair | vectors at `pairs` |
| z_k, k != i: the rest of the batch | `everyone`, but for rows of the anchor's own patient |
| tau | temperature |
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from hilum.batch import StudyBatch
from hilum.config import ContrastAlignment as ContrastAlignmentConfig
from hilum.config import EncoderConfig
from hilum.model.encoder import Features
from hilum.model.heads import Feature, Projector, pool_tokens
from hilum.model.masking import Mask

from .gather import Gather
from .term import Sum, Term, count_pairs, sum_items


def measure_contrast(
    vectors: Float[Tensor, "view dim"],
    patient: Int64[Tensor, " view"],
    pairs: Int64[Tensor, "2 pair"],
    everyone: Float[Tensor, "row dim"],
    everyone_patient: Int64[Tensor, " row"],
    temperature: float,
    archives: tuple[Int64[Tensor, " view"], Int64[Tensor, " row"]] | None = None,
) -> Float[Tensor, " pair"]:
    """-log( e^{s_uv} / (e^{s_uv} + sum_k e^{s_uk}) ) for each ordered pair (u, v), with s the cosine over temperature.

    k runs over the rows of all processes that show another patient. Further views of the same study, and other studies
    of the same patient, are neither positive nor negative. Without any other patient the item is 0.

    archives: the archive of each view and of each of everyone's rows, where only rows of the view's own are negatives.
    """
    left_out = patient[:, None] == everyone_patient[None, :]
    if archives is not None:
        left_out |= archives[0][:, None] != archives[1][None, :]
    return contrast_pairs(vectors, pairs, everyone, left_out, temperature)


def contrast_pairs(
    vectors: Float[Tensor, "view dim"],
    pairs: Int64[Tensor, "2 pair"],
    everyone: Float[Tensor, "row dim"],
    left_out: Bool[Tensor, "view row"],
    temperature: Float[Tensor, ""] | float,
    label_smoothing: float = 0.0,
) -> Float[Tensor, " pair"]:
    r"""The cross-entropy of finding v for each ordered pair (u, v) among v and the rows not left out for u.

    .. math:: -(1 - \epsilon) \log p_v - \frac{\epsilon}{1 + K} \sum_{k \in \{v\} \cup N_u} \log p_k, \qquad
        p_k = \frac{e^{s_{uk}}}{e^{s_{uv}} + \sum_{n \in N_u} e^{s_{un}}}

    with s the cosine over temperature, N_u the K negatives of u and epsilon the smoothing. Without negatives it is 0.
    """
    vectors, everyone = F.normalize(vectors, dim=1), F.normalize(everyone, dim=1)
    scores = vectors @ everyone.T / temperature
    # Finite, so that an anchor without negatives has gradient 0 and not NaN.
    negatives = scores.masked_fill(left_out, torch.finfo(scores.dtype).min / 2).logsumexp(dim=1)
    positive = (vectors[pairs[0]] * vectors[pairs[1]]).sum(dim=1) / temperature
    found = F.softplus(negatives[pairs[0]] - positive)
    if not label_smoothing:
        return found
    total, num = scores.masked_fill(left_out, 0.0).sum(dim=1), (~left_out).sum(dim=1)
    evenly = (positive + total[pairs[0]]) / (1 + num[pairs[0]])
    return found + label_smoothing * (positive - evenly)


class ContrastAlignment(Term):
    """InfoNCE over the ordered pairs that exist, negatives from all processes (M 7.3 A ii)."""

    def __init__(self, config: ContrastAlignmentConfig, encoder: EncoderConfig) -> None:
        super().__init__()
        self.projector = Projector(encoder.width, config.projector, encoder.init)
        self.feature: Feature = config.feature
        self.temperature = config.temperature
        self.within_archive = config.negatives == "archive"

    def count(self, batch: StudyBatch) -> float:
        return count_pairs(batch)

    def forward(self, features: Features, mask: Mask, batch: StudyBatch, gather: Gather) -> dict[str, Sum]:
        vectors = self.projector(pool_tokens(features, self.feature)).float()
        patient, archive = batch.patient[batch.study], batch.dataset[batch.study]
        archives = (archive, gather(archive)) if self.within_archive else None
        with torch.autocast(vectors.device.type, enabled=False):
            items = measure_contrast(
                vectors, patient, batch.pairs(), gather(vectors), gather(patient), self.temperature, archives
            )
        return {"loss": sum_items(items)}
