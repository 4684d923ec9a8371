"""InfoNCE between two looks at the same images: distillation's control that has no teacher (P 7.4, control d).

What PaCX-MAE gains over its masked autoencoder may come from the images of the second stage alone. This term sees the
same images by the same low-rank updates, head, temperature and number of negatives as the teachers' contrast, and what
stands in the teacher's place is another look at the image (SimCLR, Chen et al. 2020, eq. 1) or another image of the
study.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from hilum.batch import StudyBatch
from hilum.config import EncoderConfig
from hilum.config import ImageContrast as ImageContrastConfig
from hilum.model.encoder import Features
from hilum.model.heads import NUM_VECTORS, DistillationHead, Representation, read_tokens
from hilum.model.masking import Mask

from .contrast import contrast_pairs
from .gather import Gather
from .headed import HeadedTerm, LearnedScale, start_scales
from .term import Sum, sum_items


class ImageContrast(LearnedScale, HeadedTerm):
    """Mean over ordered pairs of looks; both directions of a pair are in it, so that it is symmetric.

    Negatives are the looks at other studies, of all processes. A study drawn again within a step is no negative of
    itself.
    """

    def __init__(self, config: ImageContrastConfig, encoder: EncoderConfig, seed: int = 0) -> None:
        super().__init__(config.reads, config.dropout, seed)
        self.pairs, self.feature = config.pairs, config.feature
        self.label_smoothing = config.label_smoothing
        self.masks_patient = config.same_patient == "masked"
        self.log_scale = start_scales(config.temperature)
        self.head = DistillationHead(NUM_VECTORS[config.feature] * encoder.width, config.width, config.dropout)

    def list_pairs(self, batch: StudyBatch) -> Int64[Tensor, "2 pair"]:
        """The ordered pairs of looks that are to find each other."""
        pairs = batch.pairs()
        if self.pairs == "all":
            return pairs
        same_image = batch.view_row[pairs[0]] == batch.view_row[pairs[1]]
        return pairs[:, same_image == (self.pairs == "image")]

    def count(self, batch: StudyBatch) -> float:
        return float(self.list_pairs(batch).shape[1])

    def project(self, features: Features, batch: StudyBatch) -> Float[Tensor, "view dim"]:
        """A vector of each look, before it is scaled to unit length."""
        representation: Representation = self.feature
        with self.repeat_dropout(batch):
            return self.head(read_tokens(features.tokens, representation).float()).float()

    def forward(self, features: Features, mask: Mask, batch: StudyBatch, gather: Gather) -> dict[str, Sum]:
        vectors = self.project(features, batch)
        temperature = (-self.log_scale[0]).exp()
        with torch.autocast(vectors.device.type, enabled=False):
            items = contrast_pairs(
                vectors, self.list_pairs(batch), gather(vectors), self._leave_out(batch, gather), temperature,
                self.label_smoothing,
            )  # fmt: skip
        items = torch.cat([self.reach_all(features)[None], items])
        scale = self.log_scale.detach().exp()
        return {"loss": sum_items(items, self.count(batch)), "scale": sum_items(scale)}

    def _leave_out(self, batch: StudyBatch, gather: Gather) -> Bool[Tensor, "view row"]:
        """Rows that are no negatives of a look: those of its study, and of its patient where these are masked."""
        key, patient = batch.key[batch.study], batch.patient[batch.study]
        same = key[:, None] == gather(key)[None]
        return same | (patient[:, None] == gather(patient)[None]) if self.masks_patient else same
