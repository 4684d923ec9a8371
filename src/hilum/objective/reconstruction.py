"""Masked reconstruction.

| paper symbol (MVMAE, section 3; M 2.4) | name here |
|---|---|
| x_t, x-hat_t: pixels of a masked patch and their prediction | target, prediction |
| alpha: mask ratio | nominal_ratio (only in the released code's form) |
| L_Rec = (1/alpha) (1/|V|) sum_v sum_{t masked} ||x - x-hat||^2 | `measure_masked_error`, then a mean by `average` |

The paper sums over masked patches and pixels and divides by alpha. With the true masked share in alpha's place that is
patches x pixels times the mean over masked patches and pixels, and this mean is what is computed here: it does not
change with the mask ratio, the image size, or the share of masked patches that is predicted.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from hilum.batch import StudyBatch, pool_by_owner, same_owner_pairs
from hilum.config import CrossDecoder as CrossDecoderConfig
from hilum.config import EncoderConfig
from hilum.config import Reconstruction as ReconstructionConfig
from hilum.keyed_random import draw_uniform, make_keys
from hilum.model.decoders import build_decoder
from hilum.model.encoder import Features
from hilum.model.masking import Mask, put_patches, take_patches

from .gather import Gather
from .term import Sum, Term, sum_items

NUM_SLOTS = 3  # the released code pads every study to three views
PATCH_EPS = 1e-6  # added to a patch's variance (He et al. 2022, section 4.1)


def measure_masked_error(
    prediction: Float[Tensor, "view predicted pixel"], target: Float[Tensor, "view predicted pixel"]
) -> Float[Tensor, " view"]:
    """Mean over the predicted patches and their pixels of the squared error, for each view."""
    return (prediction.float() - target).square().mean(dim=(1, 2))


def normalize_patches(patches: Float[Tensor, "view patch pixel"]) -> Float[Tensor, "view patch pixel"]:
    """Each patch minus its mean, over its standard deviation (He et al. 2022, section 4.1, "normalized pixels")."""
    return (patches - patches.mean(dim=2, keepdim=True)) / _patch_std(patches)


def average_errors(
    errors: Float[Tensor, " view"],
    study: Int64[Tensor, " view"],
    num_studies: int,
    average: Literal["view", "study", "slot"],
    masked_share: float,
    nominal_ratio: float,
) -> Sum:
    """The sum and count whose quotient is the loss.

    view: mean over views. study: mean over studies of the mean over their views (the paper's 1/|V|).
    slot: the released code: each image's squared error is averaged over the whole image and divided by the nominal
        ratio, which is `errors` times masked_share / nominal_ratio (183/196/0.93 = 1.00395); then mean over three
        slots a study, absent ones counted (M 2.4).
    """
    if average == "view":
        return sum_items(errors)
    if average == "study":
        return sum_items(pool_by_owner(errors[:, None], study, num_studies)[:, 0])
    return sum_items(errors * (masked_share / nominal_ratio / NUM_SLOTS), num_studies)


def list_sources(batch: StudyBatch, share: float, seed: int) -> Int64[Tensor, "view source"]:
    """The views whose visible tokens each view is predicted from, itself first; -1 fills up.

    All views of the study for `share` of the studies with two and more, drawn anew each time a study is drawn; the view
    alone for the rest (M 7.3 D).
    """
    key, draw = batch.key.cpu().numpy(), batch.draw.cpu().numpy()
    drawn = draw_uniform(make_keys("cross-view", seed, key, draw), 1)[:, 0] < share
    together = torch.from_numpy(drawn).to(batch.study.device)[batch.study]
    reads = same_owner_pairs(batch.study) & together[:, None]
    num_others = int(reads.sum(dim=1).max())
    view = torch.arange(batch.num_views, device=reads.device)
    # Stable: the views it reads come first, in their order.
    others = reads.long().sort(dim=1, descending=True, stable=True).indices[:, :num_others]
    return torch.cat([view[:, None], others.where(reads.gather(1, others), -1)], dim=1)


class Reconstruction(Term):
    """Predict masked patches from visible ones with a decoder of its own."""

    def __init__(self, config: ReconstructionConfig, encoder: EncoderConfig, mask_ratio: float, seed: int = 0) -> None:
        super().__init__()
        self.other_views = config.decoder.other_views if isinstance(config.decoder, CrossDecoderConfig) else 0.0
        self.seed = seed
        self.decoder = build_decoder(config.decoder, encoder)
        self.reads_layers = self.decoder.reads_layers
        self.normalize_patches = config.normalize_patches
        self.average: Literal["view", "study", "slot"] = config.average
        self.patch_size, self.channels = encoder.patch_size, encoder.channels
        self.mask_ratio = mask_ratio

    def count(self, batch: StudyBatch) -> float:
        return float(batch.num_views if self.average == "view" else batch.num_studies)

    def forward(self, features: Features, mask: Mask, batch: StudyBatch, gather: Gather) -> dict[str, Sum]:
        sources = list_sources(batch, self.other_views, self.seed) if self.other_views else None
        prediction = self.decoder(features, mask, batch.view_kind, sources=sources)
        target = take_patches(batch.pixels, prediction.patches, self.patch_size)
        if self.normalize_patches:
            target = normalize_patches(target)
        target = target.repeat_interleave(self.channels, dim=2)
        errors = measure_masked_error(prediction.pixels, target)
        num_masked, num_visible = mask.masked.shape[1], mask.visible.shape[1]
        loss = average_errors(
            errors,
            batch.study,
            batch.num_studies,
            self.average,
            masked_share=num_masked / (num_masked + num_visible),
            nominal_ratio=self.mask_ratio,
        )
        return {"loss": loss, "view_error": sum_items(errors.detach())}

    @torch.no_grad()
    def paint(self, features: Features, mask: Mask, batch: StudyBatch) -> Float[Tensor, "view 1 height width"]:
        """The views with every masked patch replaced by its prediction; visible patches are the true ones.

        Predictions of normalised patches get the true patch's mean and deviation back, as pictures of masked
        autoencoders usually do: such a picture shows structure, not grey values, that the model knew.
        """
        patches, pixels = self.decoder(features, mask, batch.view_kind, predict_all=True)
        pixels = pixels.float().unflatten(2, (-1, self.channels)).mean(dim=3)
        if self.normalize_patches:
            truth = take_patches(batch.pixels, patches, self.patch_size)
            pixels = pixels * _patch_std(truth) + truth.mean(dim=2, keepdim=True)
        return put_patches(batch.pixels, patches, pixels)


def _patch_std(patches: Float[Tensor, "view patch pixel"]) -> Float[Tensor, "view patch 1"]:
    return (patches.var(dim=2, keepdim=True) + PATCH_EPS).sqrt()
