"""What segmentation decoders minimise: cross-entropy of pixels plus soft Dice of each image (P 3.5)."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from hilum.objective.term import Sum, sum_items

SMOOTH = 1.0  # pixels


class MaskLoss(NamedTuple):
    """Sums over the known masks of a batch, and how many there are: the same mean for any split of a batch."""

    cross_entropy: Sum
    dice: Sum

    @property
    def mean(self) -> Float[Tensor, ""]:
        """Both terms, each with weight 1; 0 where no mask is known."""
        return (self.cross_entropy.value + self.dice.value) / self.dice.count.clamp(min=1)


def measure_mask_loss(
    logit: Float[Tensor, "view structure height width"],
    mask: Bool[Tensor, "view structure height width"],
    known: Bool[Tensor, "view structure"],
) -> MaskLoss:
    r"""Binary cross-entropy and soft Dice error, image by image and structure by structure.

    .. math:: \mathrm{BCE}_i = -\frac{1}{|\Omega|} \sum_x t_x \log p_x + (1 - t_x) \log (1 - p_x), \qquad
        \mathrm{Dice}_i = 1 - \frac{2 \sum_x p_x t_x + 1}{\sum_x p_x + \sum_x t_x + 1}

    Milletari et al. 2016 for the soft Dice, with one pixel added above and below the line so that two empty masks
    agree. The released code pools the Dice over the batch, which lets large masks speak for small ones and makes the
    loss depend on the batch; here it is each image's own.
    """
    target = mask.to(logit.dtype)
    entropy = F.binary_cross_entropy_with_logits(logit, target, reduction="none").mean(dim=(2, 3))
    probability = torch.sigmoid(logit)
    both = (probability * target).sum(dim=(2, 3))
    either = probability.sum(dim=(2, 3)) + target.sum(dim=(2, 3))
    dice = 1 - (2 * both + SMOOTH) / (either + SMOOTH)
    return MaskLoss(sum_items(entropy[known]), sum_items(dice[known]))
