"""The encoder: a plain ViT where nothing is masked, and views that know nothing of each other."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
import timm
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from batches import make_batch
from hilum.config import EncoderConfig
from hilum.model.attention import attend
from hilum.model.encoder import Encoder
from hilum.model.init import build_sincos
from hilum.model.masking import draw_masks
from hilum.recipes import build_recipe

TINY = EncoderConfig(image_size=32, patch_size=8, width=24, depth=3, heads=3)


@pytest.fixture
def encoder() -> Encoder:
    torch.manual_seed(0)
    return Encoder(TINY)


def test_size_of_the_released_encoder() -> None:
    with torch.device("meta"):
        encoder = Encoder(build_recipe("mvmae", "code", "base").encoder)
    assert sum(parameter.numel() for parameter in encoder.parameters()) == 85_410_048
    assert len(list(encoder.parameters())) == 199
    assert encoder.norm.eps == 1e-5
    assert {module.eps for module in encoder.blocks.modules() if isinstance(module, nn.LayerNorm)} == {1e-6}


@pytest.mark.parametrize("qk_norm", [True, False])
def test_without_masking_it_is_timms_vit_on_the_same_weights(qk_norm: bool) -> None:
    torch.manual_seed(0)
    encoder = Encoder(replace(TINY, qk_norm=qk_norm))
    vit = timm.models.VisionTransformer(
        img_size=32, patch_size=8, in_chans=1, num_classes=0, embed_dim=24, depth=3, num_heads=3, global_pool="",
        no_embed_class=True, qk_norm=qk_norm, norm_layer=partial(nn.LayerNorm, eps=1e-6),
    )  # fmt: skip
    state = encoder.state_dict()
    view_embed = state.pop("view_embed")
    vit.load_state_dict(state)
    batch = make_batch([3, 1])
    with torch.no_grad():
        tokens = encoder.encode(batch.pixels, batch.view_kind).tokens
        for kind in range(3):  # timm knows no view kinds: to it, they are part of the position
            chosen = batch.view_kind == kind
            vit.pos_embed.copy_(state["pos_embed"] + view_embed[kind])
            torch.testing.assert_close(tokens[chosen], vit.forward_features(batch.pixels[chosen]))


def test_mask_of_ratio_zero_is_no_mask_for_any_seed(encoder: Encoder) -> None:
    batch = make_batch([2, 1])
    expected = encoder.encode(batch.pixels, batch.view_kind).tokens
    for seed in range(3):
        mask = draw_masks(batch, num_patches=16, ratio=0.0, seed=seed)
        assert torch.equal(encoder.encode(batch.pixels, batch.view_kind, mask).tokens, expected)


def test_only_visible_pixels_are_read(encoder: Encoder) -> None:
    batch = make_batch([2])
    batch.pixels.requires_grad_()
    mask = draw_masks(batch, num_patches=16, ratio=0.75, seed=0)
    encoder.encode(batch.pixels, batch.view_kind, mask).tokens.square().sum().backward()
    touched = batch.pixels.grad.reshape(2, 4, 8, 4, 8).abs().sum(dim=(2, 4)).flatten(1) > 0
    assert torch.equal(touched.nonzero()[:, 1].reshape(2, -1), mask.visible)


def test_patches_get_position_and_view_vector_and_the_class_token_neither(encoder: Encoder) -> None:
    batch = make_batch([2])
    mask = draw_masks(batch, num_patches=16, ratio=0.5, seed=0)
    features = encoder.encode(batch.pixels, batch.view_kind, mask, return_layers=True)
    embedded = features.layers[0]
    assert torch.equal(embedded[:, 0], encoder.cls_token[0].expand(2, -1))
    whole = encoder.patch_embed.proj(batch.pixels).flatten(2).transpose(1, 2)
    whole = whole + encoder.pos_embed + encoder.view_embed[batch.view_kind][:, None]
    for view in range(2):
        torch.testing.assert_close(embedded[view, 1:], whole[view, mask.visible[view]])


def test_layers_are_the_input_and_every_block_and_end_in_the_tokens(encoder: Encoder) -> None:
    batch = make_batch([1])
    features = encoder.encode(batch.pixels, batch.view_kind, return_layers=True)
    assert len(features.layers) == 1 + TINY.depth
    torch.testing.assert_close(encoder.blocks[0](features.layers[0]), features.layers[1])
    assert features.layers[-1] is features.tokens
    assert encoder.encode(batch.pixels, batch.view_kind).layers == ()


def test_view_kind_matters_and_unused_kinds_get_no_gradient(encoder: Encoder) -> None:
    batch = make_batch([1, 1], kinds=[0, 2])
    tokens = encoder.encode(batch.pixels, batch.view_kind).tokens
    swapped = encoder.encode(batch.pixels, batch.view_kind.flip(0)).tokens
    assert not torch.allclose(tokens, swapped, atol=1e-3)
    tokens.square().sum().backward()
    assert encoder.view_embed.grad.abs().sum(dim=1).gt(0).tolist() == [True, False, True]


def test_views_without_view_embedding_differ_in_nothing_but_pixels() -> None:
    encoder = Encoder(replace(TINY, view_embedding=False))
    batch = make_batch([1, 1], kinds=[0, 1])
    same = encoder.encode(batch.pixels[:1].repeat(2, 1, 1, 1), batch.view_kind).tokens
    assert torch.equal(same[0], same[1])


def test_a_view_knows_nothing_of_the_rest_of_the_batch(encoder: Encoder) -> None:
    batch = make_batch([3, 1, 2])
    mask = draw_masks(batch, num_patches=16, ratio=0.5, seed=0)
    tokens = encoder.encode(batch.pixels, batch.view_kind, mask).tokens
    order = torch.tensor([4, 0, 2])
    chosen = type(mask)(mask.visible[order], mask.masked[order])
    alone = encoder.encode(batch.pixels[order], batch.view_kind[order], chosen).tokens
    torch.testing.assert_close(alone, tokens[order])


def test_first_values_follow_the_setting() -> None:
    torch.manual_seed(0)
    released = Encoder(replace(TINY, width=192, init="released"))
    assert float(released.blocks[0].attn.qkv.weight.detach().std()) == pytest.approx(192**-0.5 / 3**0.5, rel=0.02)
    assert float(released.blocks[0].attn.qkv.bias.detach().abs().max()) > 0
    assert float(released.pos_embed.detach().std()) == pytest.approx(0.02, rel=0.1)
    xavier = Encoder(replace(TINY, width=192, init="xavier"))
    assert float(xavier.patch_embed.proj.weight.detach().std()) == pytest.approx((2 / (64 + 192)) ** 0.5, rel=0.02)
    assert float(xavier.blocks[0].attn.qkv.bias.detach().abs().max()) == 0
    assert torch.equal(xavier.pos_embed, build_sincos(16, 192))
    for encoder in (released, xavier):
        assert float(encoder.cls_token.detach().std()) == pytest.approx(0.02, rel=0.2)


def test_sincos_codes_row_and_column() -> None:
    codes = build_sincos(9, 8)[0].reshape(3, 3, 8)
    assert torch.allclose(codes[:, :1, :4].expand(-1, 3, -1), codes[:, :, :4])
    assert torch.allclose(codes[:1, :, 4:].expand(3, -1, -1), codes[:, :, 4:])
    assert codes[2, 0, 0] == pytest.approx(torch.tensor(2.0).sin().item())
    assert codes[2, 0, 1] == pytest.approx(torch.tensor(0.02).sin().item(), abs=1e-6)
    assert torch.equal(build_sincos(10, 8)[0, 0], torch.zeros(8))
    assert torch.equal(build_sincos(10, 8)[0, 1:], build_sincos(9, 8)[0])


def test_cost_of_a_view() -> None:
    with torch.device("meta"):
        encoder = Encoder(EncoderConfig())
        pixels, kind = torch.empty(1, 1, 224, 224), torch.empty(1, dtype=torch.int64)
    for visible, gflop in [(13, 2.46), (19, 3.49), (49, 8.66), (196, 34.97)]:
        mask = draw_masks(make_batch([1], size=1), num_patches=196, ratio=1 - visible / 196, seed=0).to("meta")
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            encoder.encode(pixels, kind, mask)
        assert counter.get_total_flops() / 1e9 == pytest.approx(gflop, rel=0.05)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_both_ways_of_attention_agree(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(2, 3, 7, 8, generator=generator).to(dtype) for _ in range(3))
    expected = torch.softmax(query.float() @ key.float().mT / 8**0.5, dim=-1) @ value.float()
    with torch.enable_grad():
        trained = attend(query, key, value)
    with torch.no_grad():
        asked = attend(query, key, value)
    for found in (trained, asked):
        torch.testing.assert_close(found.float(), expected, atol=0.02 if dtype == torch.bfloat16 else 1e-6, rtol=0.02)


def test_bfloat16_autocast_stays_near_full_precision(encoder: Encoder) -> None:
    batch = make_batch([2])
    expected = encoder.encode(batch.pixels, batch.view_kind).tokens
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = encoder.encode(batch.pixels, batch.view_kind).tokens
    torch.testing.assert_close(found.float(), expected, atol=0.1, rtol=0.1)


def test_blocks_add_in_the_precision_of_their_products_and_features_leave_in_32_bit(encoder: Encoder) -> None:
    batch = make_batch([1, 2])
    for enabled, dtype in ((True, torch.bfloat16), (False, torch.float32)):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            features = encoder.encode(batch.pixels, batch.view_kind, return_layers=True)
        assert {layer.dtype for layer in features.layers[:-1]} == {dtype}
        assert features.tokens.dtype == torch.float32
