"""What the released code's report loss gets wrong, for the preset that shows it (M 2.6, bugs 2 and 3).

Bug 2: reading the predictions for the log replaces ignored targets by padding, in the tensor itself; so from the
second slot of a study on, all places are targets. Bug 3: availability (study, 1) times loss (study,) is a square, and
every study's loss becomes its availability times the mean over all; texts that nobody wrote ("default") count.

The released code also decodes the empty slots' black images, which are no rows here: the mean of a slot is over the
views there are.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from .gather import Gather
from .reconstruction import NUM_SLOTS


def overwrite_targets(
    tokens: Int64[Tensor, "row place"],
    counted: Bool[Tensor, "row place"],
    slot: Int64[Tensor, " row"],
    length: int,
    pad: int,
) -> tuple[Int64[Tensor, "row length"], Bool[Tensor, "row length"]]:
    """Targets at all `length` places: as they are in slot 0, padding wherever none was counted in later ones."""
    room = length - tokens.shape[1]
    tokens, counted = F.pad(tokens, (0, room)), F.pad(counted, (0, room))
    return torch.where(counted, tokens, pad), counted | (slot > 0)[:, None]


def sum_over_slots(
    slot: Int64[Tensor, " row"], available: Bool[Tensor, " row"], gather: Gather
) -> tuple[Float[Tensor, " slot"], Float[Tensor, " slot"]]:
    """How many views each slot holds in all processes, and how many of them have a report."""
    own = torch.stack([torch.bincount(rows, minlength=NUM_SLOTS) for rows in (slot, slot[available])]).float()
    num_rows, num_available = gather(own[None]).sum(dim=0)
    return num_rows, num_available


def share_slot_losses(
    losses: Float[Tensor, " row"],
    slot: Int64[Tensor, " row"],
    rows_of_slot: Float[Tensor, " slot"],
    available_of_slot: Float[Tensor, " slot"],
) -> Float[Tensor, " row"]:
    """Each view's part of the loss, to be added up and divided by the number of studies.

    The loss is the mean over three slots of (studies with view and report / studies) x (mean loss of the slot):
    availability [1, 0, 1, 1] and losses [1, 100, 2, 3] give 3/4 x 26.5 = 19.875 in their slot (M 8-24).
    """
    return losses * (available_of_slot / rows_of_slot.clamp(min=1))[slot] / NUM_SLOTS
