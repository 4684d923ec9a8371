"""Our own ECG encoder: what its vector is made of, and its file."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from hilum.config.ecg import EcgEncoderConfig
from hilum.errors import UserError
from hilum.model.ecg_encoder import STRIDE, EcgEncoder, load_ecg_encoder, pool_places, save_ecg_encoder, thin

CONFIG = EcgEncoderConfig(width=16, depth=2)


@pytest.fixture
def encoder() -> EcgEncoder:
    torch.manual_seed(0)
    return EcgEncoder(CONFIG).eval()


def test_pooling_by_hand():
    found = pool_places(torch.tensor([[[1.0, 1.0, 4.0], [0.0, 0.0, 0.0]]]))
    torch.testing.assert_close(found, torch.tensor([[2.0, 0.0, 2.0**0.5, 0.0, 4.0, 0.0]]))


def test_thinning_takes_means_of_five():
    assert thin(torch.arange(10.0)[None, None]).flatten().tolist() == [2, 7]


def test_a_vector_for_each_record_by_itself(encoder: EcgEncoder):
    leads = torch.randn(3, 12, 5000)
    found = encoder(leads)
    assert found.shape == (3, encoder.width) == (3, 48)
    torch.testing.assert_close(encoder(leads[1:2]), found[1:2])
    assert encoder.encode(thin(leads)).shape == (3, 16, 1000 // STRIDE)


def test_what_is_later_is_later(encoder: EcgEncoder):
    """Moved by whole places, a wave in the middle moves what is said of it, and the vector stays."""
    thinned = torch.zeros(2, 12, 1000)
    thinned[0, :, 480:500] = torch.randn(12, 20)
    thinned[1] = thinned[0].roll(10 * STRIDE, dims=1)
    first, second = encoder.encode(thinned)
    torch.testing.assert_close(second[:, 60:200], first[:, 50:190], atol=1e-4, rtol=1e-4)


def test_every_lead_and_every_place_counts(encoder: EcgEncoder):
    leads = torch.randn(1, 12, 5000, requires_grad=True)
    encoder(leads).square().sum().backward()
    assert leads.grad is not None
    assert (leads.grad.abs().sum(dim=2) > 0).all()
    assert (leads.grad.abs().sum(dim=1) > 0).float().mean() > 0.99


def test_the_file_gives_the_encoder_back(encoder: EcgEncoder, tmp_path: Path):
    for name in ("a", "b"):
        save_ecg_encoder(encoder, tmp_path / f"{name}.safetensors", {"pretraining": {"num_records": 3}})
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    found, about = load_ecg_encoder(tmp_path / "a.safetensors")
    assert about["pretraining"] == {"num_records": 3}
    assert found.config == CONFIG
    assert not any(parameter.requires_grad for parameter in found.parameters())
    leads = torch.randn(2, 12, 5000)
    torch.testing.assert_close(found(leads), encoder(leads))


def test_other_files_are_refused(encoder: EcgEncoder, tmp_path: Path):
    path = tmp_path / "a.safetensors"
    save_ecg_encoder(encoder, path, {})
    weights = load_file(path)
    save_file(weights, path)
    with pytest.raises(UserError, match="not an ECG encoder written by Hilum"):
        load_ecg_encoder(path)
    save_ecg_encoder(encoder, path, {"encoder": {"width": 32, "depth": 2, "kernel_size": 9}})
    with pytest.raises(UserError, match="its weights do not fit its own config"):
        load_ecg_encoder(path)
    save_ecg_encoder(encoder, path, {"encoder": {"width": 17}})
    with pytest.raises(UserError, match="its weights do not fit its own config"):
        load_ecg_encoder(path)
    save_ecg_encoder(encoder, path, {})
    content = bytearray(path.read_bytes())
    content[-2] ^= 1  # P 12 item 13: one bit of one weight, which every shape and name agrees with
    path.write_bytes(content)
    with pytest.raises(UserError, match="its content is not what was written"):
        load_ecg_encoder(path)
    path.write_bytes(b"nothing")
    with pytest.raises(UserError, match="not a whole safetensors file"):
        load_ecg_encoder(path)
