"""The image tower: shapes at the paper's size, one channel for three, gradient caching, weights in and out."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from hilum.config import ConvEncoderConfig
from hilum.errors import UserError
from hilum.model.conv_encoder import ConvEncoder, build_backbone, count_places, fold_channels, list_batch_norms
from hilum.model.conv_weights import load_conv_encoder, save_conv_encoder, start_conv_encoder

TINY = ConvEncoderConfig(
    backbone="test_byobnet", image_height=96, image_width=64, num_tokens=4, width=16, depth=1, heads=2, projection=8,
    dropout=0.0,
)  # fmt: skip


def build(config: ConvEncoderConfig = TINY, seed: int = 0) -> ConvEncoder:
    torch.manual_seed(seed)
    encoder = ConvEncoder(config)
    with torch.no_grad():  # as if it had seen images: fresh statistics are 0 and 1
        for norm in list_batch_norms(encoder):
            norm.running_mean.normal_(0, 0.1)
            norm.running_var.uniform_(0.5, 1.5)
    return encoder


@pytest.mark.parametrize(("backbone", "channels"), [("resnet34", 512), ("tf_efficientnet_b5", 2048)])
def test_at_the_papers_size_both_networks_have_48_x_29_places(backbone: str, channels: int) -> None:
    with torch.device("meta"):
        encoder = ConvEncoder(ConvEncoderConfig(backbone=backbone))
        feature_map = encoder.make_map(torch.zeros(1, 1, 1520, 912))
        found = encoder.tokenize(feature_map)
    assert feature_map.shape == (1, channels, 48, 29)
    assert found.tokens.shape == (1, 256, 512)
    assert 48 * 29 == 1392 == encoder.tokens.mix.in_features


@pytest.mark.parametrize(
    ("stride", "num_tokens", "places"), [(32, 128, (48, 29)), (16, 512, (95, 57)), (8, 1024, (190, 114))]
)
def test_finer_maps_and_other_numbers_of_tokens(stride: int, num_tokens: int, places: tuple[int, int]) -> None:
    with torch.device("meta"):
        config = ConvEncoderConfig(
            backbone="resnet18", tokenizer="resampler", stride=stride, num_tokens=num_tokens, depth=1
        )
        encoder = ConvEncoder(config)
        found = encoder.tokenize(encoder.make_map(torch.zeros(1, 1, 1520, 912)))
    assert found.grid[:2] == places == count_places(encoder.config)
    assert found.tokens.shape == (1, num_tokens, 512)


@pytest.mark.parametrize("size", [(97, 65), (33, 50), (161, 40)])
def test_odd_sizes(size: tuple[int, int]) -> None:
    config = replace(TINY, image_height=size[0], image_width=size[1])
    features = build(config).eval().encode(torch.randn(2, 1, *size))
    assert features.tokens.shape == (2, 4, 16)
    assert features.embedding.shape == (2, 8)


@pytest.mark.parametrize("name", ["resnet18", "tf_efficientnet_b0"])
def test_one_channel_is_three_that_hold_the_same(name: str) -> None:
    torch.manual_seed(0)
    three = timm.create_model(name, num_classes=0, global_pool="").eval()
    one, _ = build_backbone(name, 32)
    one.load_state_dict(fold_channels(one, three.state_dict()))
    grey = torch.randn(1, 1, 65, 70)
    torch.testing.assert_close(one.eval()(grey), three(grey.expand(-1, 3, -1, -1)), atol=1e-4, rtol=1e-4)


def embed(encoder: ConvEncoder, pixels: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """A loss that compares all views with each other, and its gradient."""
    encoder.zero_grad()
    vectors = torch.nn.functional.normalize(encoder.encode(pixels).embedding, dim=1)
    loss = (vectors @ vectors.T / 0.1).logsumexp(1).sum()
    loss.backward()
    return loss.detach(), {name: one.grad.clone() for name, one in encoder.named_parameters()}


@pytest.mark.parametrize("chunk", [1, 2, 3])
def test_gradient_caching_is_the_plain_gradient(chunk: int) -> None:
    plain = build(replace(TINY, statistics="frozen")).train()
    cached = build(replace(TINY, statistics="frozen", chunk=chunk)).train()
    pixels = torch.randn(5, 1, 96, 64)
    (loss, gradients), (other_loss, others) = embed(plain, pixels), embed(cached, pixels)
    torch.testing.assert_close(other_loss, loss)
    for name, gradient in gradients.items():
        torch.testing.assert_close(others[name], gradient, atol=1e-5, rtol=1e-4, msg=name)


def test_gradient_caching_replays_dropout_and_moves_statistics_once() -> None:
    """Against the same chunks computed plainly, with the same draws; batch statistics are those of a chunk."""
    cached, plain = build(replace(TINY, dropout=0.5, chunk=2)).train(), build(replace(TINY, dropout=0.5)).train()
    pixels = torch.randn(4, 1, 96, 64)
    torch.manual_seed(7)
    loss, gradients = embed(cached, pixels)
    torch.manual_seed(7)
    plain.zero_grad()
    vectors = torch.cat([plain.encode(part).embedding for part in pixels.split(2)])
    vectors = torch.nn.functional.normalize(vectors, dim=1)
    expected = (vectors @ vectors.T / 0.1).logsumexp(1).sum()
    expected.backward()
    torch.testing.assert_close(loss, expected.detach())
    for name, parameter in plain.named_parameters():
        torch.testing.assert_close(gradients[name], parameter.grad, atol=1e-5, rtol=1e-4, msg=name)
    for name, buffer in plain.named_buffers():
        assert torch.equal(dict(cached.named_buffers())[name], buffer), name
    torch.manual_seed(8)
    assert embed(cached, pixels)[0] != loss


def test_a_second_backward_pass_gives_the_same_and_moves_nothing() -> None:
    """As the meter of gradients asks for: each term's own, then the sum's."""
    encoder = build(replace(TINY, chunk=2)).train()
    loss = encoder.encode(torch.randn(4, 1, 96, 64)).embedding.square().sum()
    before = {name: buffer.clone() for name, buffer in encoder.named_buffers()}
    first, second = (
        torch.autograd.grad(loss, list(encoder.parameters()), retain_graph=retain) for retain in (True, False)
    )
    assert all(map(torch.equal, first, second))
    assert all(torch.equal(buffer, before[name]) for name, buffer in encoder.named_buffers())


def test_frozen_statistics_stay_and_other_views_change_nothing() -> None:
    encoder = build(replace(TINY, statistics="frozen")).train()
    before = {name: buffer.clone() for name, buffer in encoder.named_buffers()}
    pixels = torch.randn(3, 1, 96, 64)
    together = encoder.encode(pixels).embedding
    assert all(torch.equal(buffer, before[name]) for name, buffer in encoder.named_buffers())
    torch.testing.assert_close(encoder.encode(pixels[:1]).embedding, together[:1])
    moving = build().train()
    moving.encode(pixels)
    assert any(not torch.equal(buffer, before[name]) for name, buffer in moving.named_buffers())


def test_a_file_brings_the_same_bits_back(tmp_path: Path) -> None:
    encoder = build(replace(TINY, pooling="gem", tokenizer="resampler"))
    save_conv_encoder(encoder, tmp_path / "weights.safetensors", {"mean": 0.5, "std": 0.2})
    again, about = load_conv_encoder(tmp_path / "weights.safetensors")
    assert again.config == encoder.config
    assert about["mean"] == 0.5
    for name, value in encoder.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name
    pixels = torch.randn(1, 1, 96, 64)
    assert torch.equal(again.encode(pixels).embedding, encoder.eval().encode(pixels).embedding)
    save_conv_encoder(again, tmp_path / "again.safetensors", {"mean": 0.5, "std": 0.2})
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "weights.safetensors").read_bytes()
    other = build(seed=1)
    with pytest.raises(UserError, match=r"encoder.tokenizer is resampler there and token_linear here"):
        start_conv_encoder(other, tmp_path / "weights.safetensors")
    same = build(replace(encoder.config, chunk=2, statistics="frozen"), seed=1)
    assert start_conv_encoder(same, tmp_path / "weights.safetensors") == ()
    assert torch.equal(same.project.weight, encoder.project.weight)


def test_a_file_whose_numbers_are_not_those_written_is_refused(tmp_path: Path) -> None:
    """P 12 item 13: one bit of one weight, which every shape and name agrees with."""
    path = tmp_path / "weights.safetensors"
    save_conv_encoder(build(), path, {"mean": 0.5, "std": 0.2})
    content = bytearray(path.read_bytes())
    content[-2] ^= 1
    path.write_bytes(content)
    for load in (load_conv_encoder, partial(start_conv_encoder, build(seed=1))):
        with pytest.raises(UserError, match="its content is not what was written"):
            load(path)


def test_it_starts_from_a_file_of_timms(tmp_path: Path) -> None:
    published = timm.create_model("test_byobnet")
    save_file(published.state_dict(), tmp_path / "model.safetensors")
    encoder = build()
    kept = encoder.project.weight.clone()
    assert start_conv_encoder(encoder, tmp_path / "model.safetensors") == ("tokens", "blocks", "pool", "project")
    assert torch.equal(encoder.project.weight, kept)
    first = next(name for name, part in published.named_modules() if isinstance(part, torch.nn.Conv2d))
    folded = encoder.backbone.state_dict()[f"{first}.weight"]
    torch.testing.assert_close(folded, published.state_dict()[f"{first}.weight"].sum(1, keepdim=True))
    other = timm.create_model("test_resnet")
    save_file(other.state_dict(), tmp_path / "other.safetensors")
    with pytest.raises(UserError, match=r"other.safetensors: not the weights of this encoder: of its \d+ tensors \d+"):
        start_conv_encoder(encoder, tmp_path / "other.safetensors")


def test_what_is_no_convolutional_network_is_refused() -> None:
    with pytest.raises(UserError, match=r"no model 'resnet35'. Did you mean"):
        build_backbone("resnet35", 32)
    with pytest.raises(UserError, match=r"encoder.stride=8: \w+ has maps of strides"):
        build_backbone("test_vit", 8)
    with pytest.raises(UserError, match="no convolutional network"):
        ConvEncoder(replace(TINY, backbone="test_vit", image_height=160, image_width=160)).encode(
            torch.zeros(1, 1, 160, 160)
        )


def test_heads_that_do_not_divide_the_tokens_are_refused() -> None:
    with pytest.raises(UserError, match=r"width_256 gives tokens of 256 numbers, .* encoder.heads=6: .*such as 8"):
        ConvEncoder(replace(TINY, tokenizer="width_256", heads=6))
