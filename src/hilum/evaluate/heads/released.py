"""The linear head as released code trains it, by AdamW in small steps: to reproduce its numbers, not to be good.

One linear layer on raw features, which nothing standardises. Every image is a row of its own with its study's targets.
Binary cross-entropy of findings, cross-entropy of classes. The head of each epoch is kept, so that validation chooses
among them; a study's answer is the mean of its views' logits, as of the other linear head.

RELEASED, of PaCX-MAE (P 3.2): an image is shown mirrored or not as the epoch's lot falls; the frozen encoder's answers
to both ways are stored, which is exactly what encoding the images again in every epoch gives (P 7.5).

SGD_PARITY, of Mammo-CLIP (L 3.2): AdamW 5e-5, weight decay 1e-4, steps of 8 images, 30 epochs, positives weighted by
the negatives for each of them. On purpose it is still a linear probe of a frozen encoder, and so not all of the
original, whose encoder was frozen by its gradients alone:
  - statistics of batch normalisation do not move and nothing is dropped out: features are of evaluation mode;
  - images are not augmented: each has one vector, which is stored;
  - the epoch is chosen on validation and not on the test split (the task `mammo-clip:mass` does that, and says so).
Of rate and decay L says no more: the rate stays, and the bias decays as the weights do, as AdamW does by default.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from hilum.errors import UserError
from hilum.evaluate.fusion import Fusion, fuse_views, masked_cross_entropy, weigh_positives
from hilum.evaluate.rows import Rows, TrainOn


@dataclass(frozen=True)
class ReleasedSettings:
    """By default the released code's of PaCX-MAE (P 3.2, P 6); what `result.json` says of them are these names."""

    optimizer: str = "AdamW"
    lr: float = 3e-3
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.01
    bias_decay: float = 0.0
    epochs: int = 40
    images_per_step: int = 512
    flip_probability: float = 0.5
    schedule: Literal["cosine", "constant"] = "cosine"
    weigh_positives: bool = False
    """Positives of a finding count as often as it has negatives for each of them among the training rows."""

    def schedule_lr(self, epoch: int) -> float:
        """The rate of an epoch, counted from 0: `lr`, or a cosine from it to 0, no warm-up.

        Example: of 40 epochs the first has 0.003, the 21st 0.0015, the last 0.0000046.
        """
        if self.schedule == "constant":
            return self.lr
        return 0.5 * self.lr * (1 + math.cos(math.pi * epoch / self.epochs))

    @property
    def choices(self) -> tuple[float, ...]:
        """The epochs that validation chooses among."""
        return tuple(float(epoch) for epoch in range(1, self.epochs + 1))


RELEASED = ReleasedSettings()
SGD_PARITY = ReleasedSettings(
    lr=5e-5, weight_decay=1e-4, bias_decay=1e-4, epochs=30, images_per_step=8, flip_probability=0.0,
    schedule="constant", weigh_positives=True,
)  # fmt: skip


class ReleasedTraining:
    """The layer, its optimiser and its schedule. The order of images, and which of them an epoch mirrors, depend on the
    seed alone and not on where features come from."""

    def __init__(
        self, width: int, num_targets: int, *, exclusive: bool = False, seed: int = 0, how: ReleasedSettings = RELEASED
    ) -> None:
        self.how, self.exclusive = how, exclusive
        self._random = torch.Generator().manual_seed(seed)
        self.head = nn.Linear(width, num_targets)
        bound = width**-0.5  # as PyTorch fills a linear layer by default, of a generator of its own
        for part in self.head.parameters():
            nn.init.uniform_(part, -bound, bound, generator=self._random)
        decaying = [
            {"params": [self.head.weight], "weight_decay": how.weight_decay},
            {"params": [self.head.bias], "weight_decay": how.bias_decay},
        ]
        self._optimizer = torch.optim.AdamW(decaying, lr=how.lr, betas=how.betas)

    def begin_epoch(self, epoch: int, num_images: int) -> list[tuple[Int64[Tensor, " some"], Bool[Tensor, " some"]]]:
        """The steps of an epoch, counted from 0: the images of each, and which of these are mirrored."""
        for group in self._optimizer.param_groups:
            group["lr"] = self.how.schedule_lr(epoch)
        order = torch.randperm(num_images, generator=self._random)
        mirrored = torch.rand(num_images, generator=self._random) < self.how.flip_probability
        size = self.how.images_per_step
        return list(zip(order.split(size), mirrored.split(size), strict=True))

    def step(
        self,
        features: Float[Tensor, "image dim"],
        target: Float[Tensor, "image finding"],
        positive_weight: Float[Tensor, " finding"] | None = None,
    ) -> None:
        """One update from the features of the images as they are shown; a NaN target has no loss."""
        logit = self.head(features)
        if self.exclusive:
            loss = _measure_classes(logit, target)
        elif positive_weight is None:
            loss = masked_cross_entropy(logit, target)
        else:
            loss = weighted_cross_entropy(logit, target, positive_weight)
        self._optimizer.zero_grad()
        loss.backward()
        self._optimizer.step()


@dataclass(frozen=True)
class ReleasedProbe:
    """The head after an epoch: multiply, fuse."""

    weight: Float[Tensor, "finding dim"]
    bias: Float[Tensor, " finding"]
    fusion: Fusion
    exclusive: bool  # whether the targets are classes, one to a row

    def score_rows(self, rows: Rows, keep: Bool[Tensor, " view"] | None = None) -> Float[Tensor, "row finding"]:
        """Logits of studies, of images as they are, from all their views or those in `keep`; of classes each against
        all others (`contrast_classes`)."""
        features, owner = (rows.features, rows.owner) if keep is None else (rows.features[keep], rows.owner[keep])
        logit = F.linear(features.float(), self.weight, self.bias).double()
        fused = fuse_views(logit, owner, len(rows), self.fusion)
        return contrast_classes(fused) if self.exclusive else fused


def fit_released(
    rows: Rows,
    epochs: Sequence[float] | None = None,
    train_on: TrainOn = "view",
    fusion: Fusion = "mean_logit",
    *,
    seed: int = 0,
    how: ReleasedSettings = RELEASED,
) -> list[ReleasedProbe]:
    """The heads after each of these epochs, counted from 1, of one training; of all where not given.

    Args:
        rows: with the features of both ways of showing each view, if some are to be mirrored.
        seed: of the first weights, the order and the flips.

    Raises:
        UserError: features of mirrored views are missing, or studies are to be trained on: the code knows images only.
    """
    if train_on != "view":
        raise UserError("The released probe is trained on images, each with its study's targets, not on studies.")
    mirrored = rows.mirrored if how.flip_probability else rows.features
    if mirrored is None:
        raise UserError("The released probe mirrors training images, and these features have none of mirrored images.")
    ways = torch.stack([rows.features, mirrored]).float()
    target = rows.training_target.float()[rows.owner]
    weight_of_positives = weigh_positives(target, cap=math.inf, least=0.0) if how.weigh_positives else None
    training = ReleasedTraining(ways.shape[2], target.shape[1], exclusive=rows.exclusive, seed=seed, how=how)
    kept: dict[int, ReleasedProbe] = {}
    for epoch in range(how.epochs):
        for image, is_mirrored in training.begin_epoch(epoch, len(target)):
            training.step(ways[is_mirrored.long(), image], target[image], weight_of_positives)
        weight, bias = (part.detach().clone() for part in training.head.parameters())
        kept[epoch + 1] = ReleasedProbe(weight, bias, fusion, rows.exclusive)
    return [kept[int(epoch)] for epoch in epochs or kept]


def contrast_classes(logit: Float[Tensor, "row class"]) -> Float[Tensor, "row class"]:
    """The logit of each class against all others together: its sigmoid is the softmax of the class.

    z_k - log sum_{j != k} exp(z_j). Example: logits 0, 0 and log 2 have probabilities 1/4, 1/4 and 1/2, so -log 3,
    -log 3 and 0.
    """
    others = logit[:, None, :].repeat(1, logit.shape[1], 1)
    others.diagonal(dim1=1, dim2=2).fill_(-torch.inf)
    return logit - others.logsumexp(dim=2)


def weighted_cross_entropy(
    logit: Float[Tensor, "row finding"],
    target: Float[Tensor, "row finding"],
    positive_weight: Float[Tensor, " finding"],
) -> Float[Tensor, ""]:
    """Binary cross-entropy in which positives count `positive_weight` times, mean over the known pairs.

    Without the prior correction of `fusion.masked_cross_entropy`: probabilities are of a balanced world.
    Example: logits 0, a positive of weight 3 and a negative give (3 log 2 + log 2) / 2.
    """
    known = ~target.isnan()
    loss = F.binary_cross_entropy_with_logits(
        logit, torch.where(known, target, 0.0), reduction="none", pos_weight=positive_weight
    )
    return (loss * known).sum() / known.sum().clamp(min=1)


def _measure_classes(logit: Float[Tensor, "row class"], target: Float[Tensor, "row class"]) -> Float[Tensor, ""]:
    """Cross-entropy, mean over the rows whose class is known."""
    known = ~target.isnan().any(dim=1)
    said = -(F.log_softmax(logit, dim=1) * torch.where(known[:, None], target, 0.0)).sum(dim=1)
    return said.sum() / known.sum().clamp(min=1)
