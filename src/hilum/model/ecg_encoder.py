"""Our own encoder of ECGs, for users who train one on their own records, and its file.

Why convolutions: a wave means the same wherever in the ten seconds it lies, which a transformer must learn for each
place from records that a user has few of; and after the preprocessing's 40 Hz a hundred samples a second tell all.
The vector of a record is the mean, the deviation and the maximum over time of what the last block says: what is always
there, how much it varies, and what was there once, such as one wide beat.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import TypeAdapter, ValidationError
from torch import Tensor, nn

from hilum.config.ecg import EcgEncoderConfig
from hilum.errors import UserError
from hilum.signals.record import LEADS

from .weights import check_content, read_metadata, read_own_tensors, write_tensors

FORMAT = "hilum-ecg-encoder-1"
THINNING = 5  # samples at 500 Hz for one at 100 Hz
THIN_RATE = 100  # samples a second
STRIDE = 4  # samples at 100 Hz for one place of the encoder's output
_GROUP = 16  # channels of a grouped convolution
_CONFIG = TypeAdapter(EcgEncoderConfig)


def thin(leads: Float[Tensor, "record lead time"]) -> Float[Tensor, "record lead thin_time"]:
    """From 500 to 100 samples a second: means of five. What was filtered to 40 Hz loses little by it."""
    return F.avg_pool1d(leads, THINNING)


class ResidualBlock(nn.Module):
    """x + W2 gelu(W1 conv(norm(x))): a grouped convolution over time, then two layers at each place."""

    def __init__(self, width: int, kernel_size: int) -> None:
        super().__init__()
        # One norm for all channels and times of a record: the calm between beats stays calm.
        self.norm = nn.GroupNorm(1, width)
        self.conv = nn.Conv1d(width, width, kernel_size, padding=kernel_size // 2, groups=width // _GROUP)
        self.expand = nn.Conv1d(width, 2 * width, 1)
        self.contract = nn.Conv1d(2 * width, width, 1)

    def forward(self, x: Float[Tensor, "record channel place"]) -> Float[Tensor, "record channel place"]:
        return x + self.contract(F.gelu(self.expand(self.conv(self.norm(x)))))


class EcgEncoder(nn.Module):
    """Twelve leads of any length to places of 0.04 s, and those to one vector."""

    def __init__(self, config: EcgEncoderConfig) -> None:
        super().__init__()
        assert config.kernel_size % 2, "an odd kernel keeps the length"
        self.config = config
        half = config.width // 2
        self.stem = nn.Sequential(
            nn.Conv1d(len(LEADS), half, 15, stride=2, padding=7),
            nn.GELU(),
            nn.Conv1d(half, config.width, 7, stride=2, padding=3),
        )
        self.blocks = nn.Sequential(*(ResidualBlock(config.width, config.kernel_size) for _ in range(config.depth)))
        self.norm = nn.GroupNorm(1, config.width)

    @property
    def width(self) -> int:
        """Length of a record's vector."""
        return 3 * self.config.width

    def encode(self, thinned: Float[Tensor, "record 12 thin_time"]) -> Float[Tensor, "record channel place"]:
        """What the last block says of each place of `STRIDE` samples at 100 Hz."""
        return F.gelu(self.norm(self.blocks(self.stem(thinned))))

    def forward(self, leads: Float[Tensor, "record 12 time"]) -> Float[Tensor, "record dim"]:
        """One vector for each record, prepared by `hilum.signals.prepare`."""
        return pool_places(self.encode(thin(leads)))


def pool_places(places: Float[Tensor, "record channel place"]) -> Float[Tensor, "record dim"]:
    """Mean, standard deviation and maximum over time, side by side.

    Example: a channel that says 1, 1, 4 gives 2, sqrt(2) and 4.
    """
    return torch.cat([places.mean(dim=2), places.std(dim=2, correction=0), places.amax(dim=2)], dim=1)


def save_ecg_encoder(encoder: EcgEncoder, path: Path, metadata: Mapping[str, Any]) -> None:
    """Write weights in 32 bit, config and `metadata` (what JSON can hold); equal weights give equal bytes."""
    weights = {name: value.detach().float().cpu().contiguous() for name, value in encoder.state_dict().items()}
    config = _CONFIG.dump_python(encoder.config, mode="json")
    write_tensors(path, weights, {"format": FORMAT, "encoder": config, **metadata})


def load_ecg_encoder(path: Path) -> tuple[EcgEncoder, dict[str, Any]]:
    """The encoder in evaluation mode with frozen parameters, and its metadata.

    Raises:
        UserError: no such file, of another format, weights that do not fit its config, or that are not what was
            written.
    """
    header = read_metadata(path)
    if header.get("format") != FORMAT:
        raise UserError(
            f"{path}: not an ECG encoder written by Hilum (its format is {header.get('format')!r}, not {FORMAT!r})."
        )
    weights = read_own_tensors(path)
    try:
        with torch.device("meta"):  # shapes only: first values would be drawn for nothing
            encoder = EcgEncoder(_CONFIG.validate_python(header["encoder"]))
        encoder.load_state_dict(weights, assign=True)
    except (ValidationError, RuntimeError) as error:
        first = str(error).splitlines()[0]
        raise UserError(f"{path}: its weights do not fit its own config ({first}). Copy the file again.") from error
    check_content(path, header, weights)
    return encoder.requires_grad_(False).eval(), header
