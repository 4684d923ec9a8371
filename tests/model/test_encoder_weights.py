"""Encoders on disk: the same numbers back, and plain words where a file does not fit."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from hilum.config import EncoderConfig
from hilum.errors import UserError
from hilum.model.encoder import Encoder
from hilum.model.places import find_weights
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
    assert load_weights_into(other, path, mean=0.5, std=0.25) == ()
    assert all(torch.equal(*pair) for pair in zip(encoder.parameters(), other.parameters(), strict=True))


def test_a_run_that_normalises_otherwise_starts_as_the_same_function_of_the_image(saved: tuple[Encoder, Path]) -> None:
    encoder, path = saved
    other = Encoder(TINY)
    load_weights_into(other, path, mean=0.3, std=0.2)
    pixels, kind = torch.rand(2, 1, 32, 32), torch.tensor([0, 1])
    found, expected = (
        model.encode((pixels - mean) / std, kind).tokens
        for model, mean, std in ((other, 0.3, 0.2), (encoder, 0.5, 0.25))
    )
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_a_view_table_that_the_file_lacks_starts_at_zero(tmp_path: Path) -> None:
    plain, other = Encoder(replace(TINY, view_embedding=False)), Encoder(replace(TINY, num_view_kinds=5))
    save_encoder(plain, tmp_path / "plain", {"mean": 0.5, "std": 0.25, "image_policy": None})
    assert load_weights_into(other, tmp_path / "plain", mean=0.5, std=0.25) == ("view_embed",)
    pixels, kind = torch.randn(2, 1, 32, 32), torch.tensor([1, 4])
    assert torch.equal(other.encode(pixels, kind).tokens, plain.encode(pixels, kind).tokens)
    assert other.view_embed is not None
    assert other.view_embed.requires_grad


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mlp_ratio": 2.0}, r"mlp_ratio is 4.0 there and 2.0 here; .*6 of 39 .*fc1\.weight is 96x24 and not 48x24"),
        ({"qk_norm": False}, r"qk_norm is True there.*8 unknown .*q_norm.*Add --encoder.qk-norm to the command"),
        ({"depth": 3}, r"depth is 2 there and 3 here; 16 missing .*blocks\.2\.norm1\.weight.*Add --encoder.depth 2 to"),
        (
            {"final_norm_eps": 1e-5},
            r"weights.safetensors: .* is 1e-06 there and 1e-05 here\. Add --encoder.final-norm-eps 1e-06",
        ),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_weights_of_another_architecture_are_refused_by_setting_name_and_shape(
    change: dict, message: str, saved: tuple[Encoder, Path]
) -> None:
    other = Encoder(replace(TINY, **change))
    before = {name: value.clone() for name, value in other.state_dict().items()}
    with pytest.raises(UserError, match=message):
        load_weights_into(other, saved[1], mean=0.5, std=0.25)
    assert all(torch.equal(value, before[name]) for name, value in other.state_dict().items())


def test_a_file_that_contradicts_its_own_config_is_refused(saved: tuple[Encoder, Path], tmp_path: Path) -> None:
    with safe_open(saved[1], framework="pt") as file:
        metadata = file.metadata()
    save_file({"norm.weight": torch.ones(7)}, tmp_path / "odd", metadata=metadata)
    for load in (load_encoder, partial(load_weights_into, Encoder(TINY), mean=0.5, std=0.25)):
        with pytest.raises(UserError, match=r"its own config: 1 of 39 .*norm.weight is 7 and not 24\); 38 missing"):
            load(tmp_path / "odd")


def test_files_that_are_not_an_encoder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        load_encoder(tmp_path / "absent.safetensors")
    (tmp_path / "text").write_text("not weights")
    with pytest.raises(UserError, match="not a whole safetensors file"):
        load_encoder(tmp_path / "text")
    save_file({"weight": torch.zeros(2)}, tmp_path / "foreign")
    with pytest.raises(UserError, match="not an encoder written by Hilum"):
        load_encoder(tmp_path / "foreign")


def test_a_file_whose_numbers_are_not_those_written_is_refused(saved: tuple[Encoder, Path]) -> None:
    """P 12 item 13: one bit of one weight, which every shape and name agrees with."""
    _, path = saved
    content = bytearray(path.read_bytes())
    content[-2] ^= 1
    path.write_bytes(content)
    for load in (load_encoder, partial(load_weights_into, Encoder(TINY), mean=0.5, std=0.25)):
        with pytest.raises(UserError, match="its content is not what was written"):
            load(path)


def test_a_truncated_file_is_refused(saved: tuple[Encoder, Path]) -> None:
    _, path = saved
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match="not a whole safetensors file"):
        load_encoder(path)


def test_a_missing_path_and_an_unfinished_run_are_told_apart(tmp_path: Path):
    (tmp_path / "running").mkdir()
    (tmp_path / "running" / "config.json").write_text("{}")
    (tmp_path / "other").mkdir()
    for name, message in (
        ("nowhere", "there is no such file or folder"),
        ("running", "not finished.*--resume"),
        ("other", "no run"),
    ):
        with pytest.raises(UserError, match=f"{name}: .*{message}"):
            find_weights(tmp_path / name)
