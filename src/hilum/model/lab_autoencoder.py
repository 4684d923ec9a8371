"""The denoising auto-encoder of laboratory values (P 1.2), and what it is called there.

| P 1.2 | name here |
|---|---|
| x: percentiles in [0, 1] | share |
| m: 1 observed, 0 missing | observed |
| z: 256 numbers | the encoder's output |
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from .init import initialize


class LabEncoder(nn.Module):
    """Percentiles and their flags to one vector a row: linear, LayerNorm, GELU, linear; no norm at the end.

    184,064 parameters for 50 laboratory values. What stands in missing slots is multiplied away in here, so that it can
    never reach the vector; with `mask_missing` off it does, as in the released code, which trains with zeros there and
    makes teacher vectors with mean percentiles (P 1.2, bug).
    """

    def __init__(self, num_labs: int, hidden: int = 512, width: int = 256, *, mask_missing: bool = True) -> None:
        super().__init__()
        self.mask_missing = mask_missing
        self.fc1 = nn.Linear(2 * num_labs, hidden)
        self.norm = nn.LayerNorm(hidden)
        self.fc2 = nn.Linear(hidden, width)
        initialize(self, "released")

    def forward(self, share: Float[Tensor, "row lab"], observed: Bool[Tensor, "row lab"]) -> Float[Tensor, "row dim"]:
        # Not a product: nothing times zero is nothing, but not for what is not a number.
        shown = share.where(observed, 0.0) if self.mask_missing else share
        hidden = self.fc1(torch.cat([shown, observed.to(share.dtype)], dim=1))
        return self.fc2(F.gelu(self.norm(hidden)))


class LabDecoder(nn.Module):
    """A vector to percentiles of all laboratory values: linear, GELU, linear, sigmoid. 157,234 parameters for 50."""

    def __init__(self, num_labs: int, hidden: int = 512, width: int = 256) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, num_labs)
        initialize(self, "released")

    def forward(self, vector: Float[Tensor, "row dim"]) -> Float[Tensor, "row lab"]:
        return self.fc2(F.gelu(self.fc1(vector))).sigmoid()


class LabAutoencoder(nn.Module):
    """Encoder and decoder; forward gives the reconstructed percentiles and the vectors."""

    def __init__(self, num_labs: int, hidden: int = 512, width: int = 256, *, mask_missing: bool = True) -> None:
        super().__init__()
        self.encoder = LabEncoder(num_labs, hidden, width, mask_missing=mask_missing)
        self.decoder = LabDecoder(num_labs, hidden, width)

    def forward(
        self, share: Float[Tensor, "row lab"], observed: Bool[Tensor, "row lab"]
    ) -> tuple[Float[Tensor, "row lab"], Float[Tensor, "row dim"]]:
        vector = self.encoder(share, observed)
        return self.decoder(vector), vector
