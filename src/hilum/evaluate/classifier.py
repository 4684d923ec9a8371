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
from hilum.loader import iterate_studies
from hilum.model.heads import NUM_VECTORS, AttentivePool, Pooling, Representation, read_tokens
from hilum.model.image_encoder import ImageEncoder

from .fusion import fuse_views
from .linear import LinearProbe
from .subject import name_refused


class StudyClassifier(nn.Module):
    """Encoder, one linear head for every view, mean of logits over the views of a study."""

    def __init__(self, encoder: ImageEncoder, num_findings: int, representation: Pooling = "mean") -> None:
        super().__init__()
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


def freeze_probe(encoder: ImageEncoder, probe: LinearProbe, representation: Representation) -> StudyClassifier:
    """The fitted probe as a classifier from pixels: the same answers as from stored features (M 8-31)."""
    classifier = StudyClassifier(encoder, len(probe.intercept), representation)
    classifier.head = probe.fold()
    return classifier.eval()


@torch.inference_mode()
def score_studies(
    classifier: StudyClassifier,
    cache: Cache,
    rows: Int64[np.ndarray, " study"],
    *,
    mean: float,
    std: float,
    crop: CropConfig | None = None,
    max_views: int | None = None,
    views_per_batch: int = 256,
    precision: str = "32-true",
) -> Float[np.ndarray, "study finding"]:
    """The classifier's logits of studies, in the order of `rows`, nothing random."""
    device = next(classifier.parameters()).device
    classifier.eval()
    said = []
    seen = classifier.encoder
    for batch in iterate_studies(
        cache, rows, views_per_batch=seen.limit_views(views_per_batch), crop=crop, max_views=max_views
    ):
        batch = prepare(
            batch, size=seen.image_size, mean=mean, std=std, device=device, interpolation=seen.interpolation
        )
        autocast = torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16-mixed")
        with autocast, name_refused(cache, batch):
            said.append(classifier(batch).double().cpu().numpy())
    return np.concatenate(said)


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
