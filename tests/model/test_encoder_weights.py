"""Encoders on disk: the same numbers back, and plain words where a file does not fit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from hilum.config import EncoderConfig
from hilum.errors import UserError
from hilum.model.encoder import Encoder
from hilum.model.weights import load_encoder, load_weights_into, save_encoder

TINY = EncoderConfig(image_size=32, patch_size=8, width=24, depth=2, heads=3)


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Encoder, Path]:
    encoder = Encoder(TINY)
    save_encoder(encoder, tmp_path / "weights.safetensors", {"mean": 0.5, "std": 0.25, "image_policy": "voi-1"})
    return encoder, tmp_path / "weights.safetensors"


def test_encoder_comes_back_bit_for_bit(saved: tuple[Encoder, Path]) -> None:
    encoder, path = saved
    before = torch.get_rng_state()
    loaded, metadata = load_encoder(path)
    assert torch.equal(before, torch.get_rng_state())
    assert loaded.config == TINY
    assert (metadata["mean"], metadata["std"], metadata["image_policy"]) == (0.5, 0.25, "voi-1")
    assert not loaded.training
    pixels, kind = torch.randn(2, 1, 32, 32), torch.tensor([0, 1])
    assert torch.equal(loaded.encode(pixels, kind).tokens, encoder.encode(pixels, kind).tokens)
    assert all(parameter.requires_grad for parameter in loaded.parameters())


def test_same_weights_give_same_bytes(saved: tuple[Encoder, Path], tmp_path: Path) -> None:
    encoder, path = saved
    save_encoder(encoder, tmp_path / "again", {"image_policy": "voi-1", "std": 0.25, "mean": 0.5})
    assert path.read_bytes() == (tmp_path / "again").read_bytes()


def test_a_run_can_start_from_weights_of_its_own_architecture(saved: tuple[Encoder, Path]) -> None:
    encoder, path = saved
    other = Encoder(TINY)
    load_weights_into(other, path)
    assert all(torch.equal(*pair) for pair in zip(encoder.parameters(), other.parameters(), strict=True))


def test_weights_of_another_architecture_are_refused_by_name_and_shape(saved: tuple[Encoder, Path]) -> None:
    _, path = saved
    with pytest.raises(UserError, match=r"7 of another shape .*blocks\.0\.mlp\.fc1\.weight is 96x24 and not 48x24"):
        load_weights_into(Encoder(replace(TINY, mlp_ratio=2.0, num_view_kinds=5, depth=3)), path)
    with pytest.raises(UserError, match=r"8 unknown .*q_norm"):
        load_weights_into(Encoder(replace(TINY, qk_norm=False)), path)
    with pytest.raises(UserError, match=r"16 missing .*blocks\.2\.norm1\.weight"):
        load_weights_into(Encoder(replace(TINY, depth=3)), path)


def test_files_that_are_not_an_encoder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        load_encoder(tmp_path / "absent.safetensors")
    (tmp_path / "text").write_text("not weights")
    with pytest.raises(UserError, match="not a whole safetensors file"):
        load_encoder(tmp_path / "text")
    save_file({"weight": torch.zeros(2)}, tmp_path / "foreign")
    with pytest.raises(UserError, match="not an encoder written by Hilum"):
        load_encoder(tmp_path / "foreign")


def test_a_truncated_file_is_refused(saved: tuple[Encoder, Path]) -> None:
    _, path = saved
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match="not a whole safetensors file"):
        load_encoder(path)
