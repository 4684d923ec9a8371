"""An encoder with a linear head, from pixels to the findings of a study: what fine-tuning trains (M 4.1)."""

from __future__ import annotations

from typing import Any

import numpy as np
import timm.layers
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from hilum.augment import prepare
from hilum.batch import StudyBatch
from hilum.cache import Cache
from hilum.config import CropConfig
from hilum.errors import UserError
from hilum.evaluate.fusion import fuse_views
from hilum.evaluate.grouping import group_views, keep_owners, list_studies
from hilum.evaluate.subject import name_refused
from hilum.loader import iterate_studies
from hilum.model.conv_encoder import list_batch_norms
from hilum.model.heads import NUM_VECTORS, AttentivePool, Pooling, read_tokens
from hilum.model.image_encoder import ImageEncoder


class StudyClassifier(nn.Module):
    """Encoder, one linear head for every view, mean of logits over the views of a study, or of whatever else owns the
    views of a batch (`grouping.py`).

    With `frozen_statistics`, batch normalisations stay in evaluation mode in training; their scale and shift learn.
    """

    def __init__(
        self,
        encoder: ImageEncoder,
        num_findings: int,
        representation: Pooling = "mean",
        *,
        frozen_statistics: bool = False,
    ) -> None:
        super().__init__()
        self.frozen_statistics = frozen_statistics
        if representation in ("class", "both") and not encoder.has_class_token:
            raise UserError(f"This encoder has no class token, which '{representation}' reads. Read mean, 2x2 or 4x4.")
        reads_regions = representation in ("2x2", "4x4")
        self.shape = encoder.find_grid(encoder.count_patches()) if reads_regions else None
        if reads_regions and self.shape is None:
            raise UserError(f"This encoder's tokens are no places, which '{representation}' reads. Read mean or max.")
        self.encoder = encoder
        self.representation: Pooling = representation
        attends = representation == "attentive"
        self.pool = AttentivePool(encoder.width, encoder.count_patches()) if attends else None
        self.head = nn.Linear(encoder.width * (1 if attends else NUM_VECTORS[representation]), num_findings)
        nn.init.trunc_normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)

    def train(self, mode: bool = True) -> StudyClassifier:
        """A module that is told to train would move the running statistics of frozen normalisations too (L 3.2)."""
        super().train(mode)
        if self.frozen_statistics:
            for norm in list_batch_norms(self):
                norm.eval()
        return self

    def read_views(
        self, pixels: Float[Tensor, "view 1 height width"], view_kind: Int64[Tensor, " view"]
    ) -> Float[Tensor, "view read"]:
        """What the head reads of prepared views."""
        tokens = self.encoder.encode(pixels, view_kind).tokens
        if self.representation == "attentive":
            assert self.pool is not None
            return self.pool(tokens[:, int(self.encoder.has_class_token) :])
        return read_tokens(tokens, self.representation, self.encoder.has_class_token, self.shape)

    def score_views(self, batch: StudyBatch) -> Float[Tensor, "view finding"]:
        """Logits of prepared views."""
        return self.head(self.read_views(batch.pixels, batch.view_kind).to(self.head.weight.dtype))

    def forward(self, batch: StudyBatch) -> Float[Tensor, "study finding"]:
        return fuse_views(self.score_views(batch), batch.study, batch.num_studies)


@torch.inference_mode()
def score_rows(
    classifier: StudyClassifier,
    cache: Cache,
    rows: Int64[np.ndarray, " row"],
    owner: Int64[np.ndarray, " view"],
    *,
    mean: float,
    std: float,
    crop: CropConfig | None = None,
    max_views: int | None = None,
    views_per_batch: int = 256,
    precision: str = "32-true",
) -> Float[np.ndarray, "row finding"]:
    """The classifier's logits of rows that own views of the cache, in the order of `rows`, nothing random.

    Args:
        owner: the row of each view of the cache, see `grouping.list_owners`.
        max_views: at most so many views of a study, always the same ones; each row needs one among them.
    """
    device = next(classifier.parameters()).device
    classifier.eval()
    said, found = [], []
    seen, owner = classifier.encoder, keep_owners(owner, rows)
    for batch in iterate_studies(
        cache,
        list_studies(cache, owner),
        views_per_batch=seen.limit_views(views_per_batch),
        crop=crop,
        max_views=max_views,
    ):
        batch = prepare(
            batch, size=seen.image_size, mean=mean, std=std, device=device, interpolation=seen.interpolation
        )
        batch = group_views(batch, owner)
        autocast = torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16-mixed")
        with autocast, name_refused(cache, batch):
            said.append(classifier(batch).double().cpu().numpy())
        found.append(batch.row.cpu().numpy())
    row = np.concatenate(found)
    order = np.argsort(row)
    place = order[np.searchsorted(row, rows, sorter=order).clip(max=len(row) - 1)]
    assert np.array_equal(row[place], rows), "every row has a view that is shown"
    return np.concatenate(said)[place]


def group_by_layer(classifier: StudyClassifier, weight_decay: float, layer_decay: float) -> list[dict[str, Any]]:
    """AdamW groups with a `scale` of the learning rate: 1 for the head and the last norm, layer_decay for the last
    block, layer_decay**2 for the one before, and least for patches, positions and tokens (Clark et al. 2020, BEiT).

    Matrices decay, vectors and tokens do not.
    """
    depth = classifier.encoder.depth
    groups: dict[tuple[int, bool], dict[str, Any]] = {}
    for name, parameter in classifier.named_parameters():
        part, _, rest = name.partition(".")
        layer = depth + 1 if part in ("head", "pool") else classifier.encoder.number_layer(rest)
        decays = parameter.ndim > 1 and name.endswith(".weight")
        group = {"params": [], "scale": layer_decay ** (depth + 1 - layer), "weight_decay": decays * weight_decay}
        groups.setdefault((layer, decays), group)["params"].append(parameter)
    return list(groups.values())


def add_drop_path(encoder: ImageEncoder, probability: float) -> list[RemovableHandle]:
    """Let training skip residual branches of single views, more often in later blocks (Huang et al. 2016).

    Attached as hooks, because the encoder of pretraining has no such thing; remove them afterwards.
    """
    hooks = []
    layers = encoder.list_branches()
    for place, branches in enumerate(layers):
        rate = probability * (place + 1) / len(layers)
        for branch in branches:

            def drop(module: nn.Module, _inputs: Any, output: Tensor, rate: float = rate) -> Tensor:
                return timm.layers.drop_path(output, rate, module.training)

            hooks.append(branch.register_forward_hook(drop))
    return hooks
