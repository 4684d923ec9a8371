"""The laboratory auto-encoder: its size, and that what is missing is missing."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from hilum.model.lab_autoencoder import LabAutoencoder, LabDecoder, LabEncoder


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_parameters_are_the_published_numbers() -> None:
    """P 12, item 1."""
    assert count(LabEncoder(50)) == 184_064
    assert count(LabDecoder(50)) == 157_234


def encode_slowly(encoder: LabEncoder, share: list[float], observed: list[bool]) -> list[float]:
    """P 1.2 for one row, number by number: concat, linear, LayerNorm, GELU, linear."""
    state = {name: value.tolist() for name, value in encoder.state_dict().items()}
    inputs = [x * m for x, m in zip(share, observed, strict=True)] + [float(m) for m in observed]
    hidden = [
        bias + sum(weight * x for weight, x in zip(row, inputs, strict=True))
        for row, bias in zip(state["fc1.weight"], state["fc1.bias"], strict=True)
    ]
    mean = sum(hidden) / len(hidden)
    variance = sum((x - mean) ** 2 for x in hidden) / len(hidden)
    normed = [
        (x - mean) / math.sqrt(variance + 1e-5) * scale + shift
        for x, scale, shift in zip(hidden, state["norm.weight"], state["norm.bias"], strict=True)
    ]
    active = [x * 0.5 * (1 + math.erf(x / math.sqrt(2))) for x in normed]
    return [
        bias + sum(weight * x for weight, x in zip(row, active, strict=True))
        for row, bias in zip(state["fc2.weight"], state["fc2.bias"], strict=True)
    ]


def draw(num_rows: int, num_labs: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    observed = torch.rand(num_rows, num_labs, generator=generator) < 0.6
    return torch.rand(num_rows, num_labs, generator=generator), observed


def test_the_encoder_is_the_papers() -> None:
    torch.manual_seed(0)
    encoder = LabEncoder(4, hidden=6, width=3)
    share, observed = draw(5, 4)
    with torch.no_grad():
        encoder.norm.weight.uniform_(0.5, 2)
        encoder.norm.bias.uniform_(-1, 1)
        vectors = encoder(share, observed)
    for row in range(5):
        expected = encode_slowly(encoder, share[row].tolist(), observed[row].tolist())
        assert vectors[row].tolist() == pytest.approx(expected, abs=1e-5)


def test_reconstructions_are_shares() -> None:
    torch.manual_seed(0)
    reconstruction, vector = LabAutoencoder(4, hidden=6, width=3)(*draw(5, 4))
    assert reconstruction.shape == (5, 4)
    assert vector.shape == (5, 3)
    assert ((reconstruction > 0) & (reconstruction < 1)).all()


@pytest.mark.parametrize("other", [0.9, -3.0, math.inf, math.nan])
def test_what_stands_in_a_missing_slot_never_reaches_the_vector(other: float) -> None:
    """P 12, item 11."""
    torch.manual_seed(0)
    share, observed = draw(5, 50)
    encoder = LabEncoder(50)
    with torch.no_grad():
        assert torch.equal(encoder(share, observed), encoder(share.where(observed, other), observed))
        assert not torch.equal(encoder(share, observed), encoder(share.where(~observed, 0.9), observed))


def test_the_released_codes_encoder_sees_placeholders() -> None:
    """P 7.1 row 3, reproduced behind a switch."""
    torch.manual_seed(0)
    share, observed = draw(5, 50)
    encoder = LabEncoder(50, mask_missing=False)
    with torch.no_grad():
        changed = (encoder(share, observed) - encoder(share.where(observed, 0.9), observed)).abs().amax(dim=1)
        assert (changed > 1e-3).all()
        zeroed = share.where(observed, 0.0)
        masked = LabEncoder(50)
        masked.load_state_dict(encoder.state_dict())
        assert torch.equal(encoder(zeroed, observed), masked(share, observed))
