"""What our ECG encoder learns from: hidden stretches of a record, and its two halves that must find each other.

Two crops of 4.8 s, one from each half of a record, no beat in both; half of each is hidden. One pass over both gives

| term | what it is |
|---|---|
| reconstruction | mean over hidden samples of all leads of (predicted - true)^2 (masked autoencoders, He et al.) |
| contrast | InfoNCE of the crops' vectors against other patients' (`contrast.py`; as CLOCS, Kiyasseh et al. 2021) |

All chance of a step is drawn from one generator that is seeded by the step: a resumed run draws what an uninterrupted
one does, and nothing of a generator is saved.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from hilum.config.ecg import EcgPretrainingConfig
from hilum.model.ecg_encoder import STRIDE, EcgEncoder, pool_places
from hilum.signals.record import LEADS

from .contrast import measure_contrast

PATCH = 20  # samples at 100 Hz that are hidden together
CROP = 480  # samples of a crop
_PROJECTED = 64


@dataclass(frozen=True)
class Crops:
    """Two crops of each record: the first of all records, then the second of all."""

    true: Float[Tensor, "crop 12 time"]
    shown: Float[Tensor, "crop 12 time"]  # with gain and noise, 0 where hidden
    hidden: Bool[Tensor, "crop patch"]
    patient: Int64[Tensor, " crop"]


def draw_crops(
    records: Float[Tensor, "record 12 time"],
    patient: Int64[Tensor, " record"],
    config: EcgPretrainingConfig,
    generator: torch.Generator,
) -> Crops:
    """Cut, disturb and hide; a crop shows its record's first or second half, wherever it starts in it."""
    num, time = len(records), records.shape[2]
    room = time // 2 - CROP
    assert room >= 0, f"records of {time} samples have no two crops of {CROP}"
    start = torch.randint(room + 1, (2, num), generator=generator) + torch.tensor([[0], [time // 2]])
    place = start.flatten()[:, None] + torch.arange(CROP)
    true = records.repeat(2, 1, 1).gather(2, place[:, None].expand(-1, records.shape[1], -1))
    gain = torch.exp(config.gain * torch.randn((*true.shape[:2], 1), generator=generator))
    noise = config.noise * torch.randn(true.shape, generator=generator)
    num_patches = CROP // PATCH
    order = torch.rand((2 * num, num_patches), generator=generator).argsort(dim=1)
    hidden = order < round(config.mask_ratio * num_patches)
    shown = (true * gain + noise).masked_fill(spread_patches(hidden), 0.0)
    return Crops(true, shown, hidden, patient.repeat(2))


def spread_patches(hidden: Bool[Tensor, "crop patch"]) -> Bool[Tensor, "crop 1 time"]:
    """For each sample, whether its patch is hidden."""
    return hidden.repeat_interleave(PATCH, dim=1)[:, None]


def measure_hidden_error(
    predicted: Float[Tensor, "crop lead time"],
    true: Float[Tensor, "crop lead time"],
    hidden: Bool[Tensor, "crop 1 time"],
) -> Float[Tensor, ""]:
    """Mean squared error over the hidden samples of all leads; what is seen does not enter. 0 where nothing is hidden.

    Example: one lead, true 1, 2, 3, predicted 0, 2, 5, the last two hidden: (0 + 4) / 2 = 2.
    """
    items = (predicted - true).square() * hidden
    return items.sum() / (hidden.sum() * true.shape[1]).clamp(min=1)


class EcgObjective(nn.Module):
    """The encoder, and the two heads that are thrown away after pretraining."""

    def __init__(self, config: EcgPretrainingConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = EcgEncoder(config.encoder)
        self.predict = nn.Linear(PATCH // STRIDE * config.encoder.width, len(LEADS) * PATCH)
        self.project = nn.Sequential(
            nn.Linear(self.encoder.width, 4 * _PROJECTED), nn.GELU(), nn.Linear(4 * _PROJECTED, _PROJECTED)
        )

    def forward(self, crops: Crops) -> dict[str, Float[Tensor, ""]]:
        """The losses by name, unweighted; those of weight 0 are not computed."""
        places = self.encoder.encode(crops.shown)
        losses = {}
        if self.config.reconstruction_weight:
            hidden = spread_patches(crops.hidden)
            losses["reconstruction"] = measure_hidden_error(self.reconstruct(places), crops.true, hidden)
        if self.config.contrast_weight:
            vectors, num = self.project(pool_places(places)), len(crops.patient) // 2
            first = torch.arange(num)
            pairs = torch.stack([torch.cat([first, first + num]), torch.cat([first + num, first])])
            items = measure_contrast(vectors, crops.patient, pairs, vectors, crops.patient, self.config.temperature)
            losses["contrast"] = items.mean()
        return losses

    def reconstruct(self, places: Float[Tensor, "crop channel place"]) -> Float[Tensor, "crop 12 time"]:
        """Samples of every patch, by one linear layer from the patch's places."""
        patches = places.unflatten(2, (-1, PATCH // STRIDE)).transpose(1, 2).flatten(2)
        return self.predict(patches).unflatten(2, (len(LEADS), PATCH)).transpose(1, 2).flatten(2)


def weigh_losses(losses: dict[str, Float[Tensor, ""]], config: EcgPretrainingConfig) -> Float[Tensor, ""]:
    """The one number that is minimised."""
    weights = {"reconstruction": config.reconstruction_weight, "contrast": config.contrast_weight}
    return sum((weights[name] * loss for name, loss in losses.items()), start=torch.zeros(()))
