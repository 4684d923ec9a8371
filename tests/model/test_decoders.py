"""Decoders: what they predict, what it costs, and that cross-attention's queries are independent."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from batches import make_batch
from hilum.config import CrossDecoder, EncoderConfig, SelfDecoder
from hilum.model.decoders import build_decoder
from hilum.model.encoder import Encoder, Features
from hilum.model.heads import Projector, pool_tokens
from hilum.model.masking import Mask, draw_masks
from hilum.recipes import build_recipe

TINY = EncoderConfig(image_size=32, patch_size=8, width=24, depth=3, heads=3)
SELF = SelfDecoder(width=24, depth=2, heads=3)
CROSS = CrossDecoder(width=16, depth=2, heads=2, predict=0.5)


def build(config: SelfDecoder | CrossDecoder, *, ratio: float = 0.75):
    torch.manual_seed(0)
    encoder, decoder = Encoder(TINY), build_decoder(config, TINY)
    batch = make_batch([2, 1])
    mask = draw_masks(batch, num_patches=16, ratio=ratio, seed=0)
    features = encoder.encode(batch.pixels, batch.view_kind, mask, return_layers=True)
    return encoder, decoder, batch, mask, features


def test_size_of_the_released_decoder() -> None:
    config = build_recipe("mvmae", "code", "base")
    with torch.device("meta"):
        decoder = build_decoder(config.terms["reconstruction"].decoder, config.encoder)
    assert sum(parameter.numel() for parameter in decoder.parameters()) == 28_705_280
    assert len(list(decoder.parameters())) == 71
    assert isinstance(decoder.embed, nn.Identity)


@pytest.mark.parametrize("config", [SELF, replace(SELF, width=12), CROSS], ids=["self", "narrow", "cross"])
def test_all_weights_of_decoder_and_encoder_are_reached(config: SelfDecoder | CrossDecoder) -> None:
    encoder, decoder, batch, mask, features = build(config)
    prediction = decoder(features, mask, batch.view_kind)
    prediction.pixels.square().sum().backward()
    unreached = [name for model in (encoder, decoder) for name, value in model.named_parameters() if value.grad is None]
    assert unreached == []


@pytest.mark.parametrize("config", [SELF, CROSS], ids=["self", "cross"])
def test_a_prediction_belongs_to_its_patch_whatever_the_order(config: SelfDecoder | CrossDecoder) -> None:
    _, decoder, batch, mask, features = build(config)
    first = decoder(features, mask, batch.view_kind, predict_all=True)
    turned = decoder(features, Mask(mask.visible, mask.masked.flip(1)), batch.view_kind, predict_all=True)
    assert torch.equal(turned.patches, first.patches.flip(1))
    torch.testing.assert_close(turned.pixels, first.pixels.flip(1))


@pytest.mark.parametrize("config", [SELF, CROSS], ids=["self", "cross"])
def test_the_kind_of_view_and_the_position_matter(config: SelfDecoder | CrossDecoder) -> None:
    _, decoder, batch, mask, features = build(config)
    first = decoder(features, mask, batch.view_kind).pixels
    other = decoder(features, mask, (batch.view_kind + 1) % 3).pixels
    assert (first - other).abs().amax(dim=(1, 2)).min() > 1e-3
    assert (first[:, 0] - first[:, 1]).abs().amax(dim=1).min() > 1e-3


@pytest.mark.parametrize("config", [SELF, CROSS], ids=["self", "cross"])
def test_a_view_is_decoded_by_itself(config: SelfDecoder | CrossDecoder) -> None:
    _, decoder, batch, mask, features = build(config)
    expected = decoder(features, mask, batch.view_kind).pixels[1:2]
    alone = Features(features.tokens[1:2], tuple(layer[1:2] for layer in features.layers))
    found = decoder(alone, Mask(mask.visible[1:2], mask.masked[1:2]), batch.view_kind[1:2]).pixels
    torch.testing.assert_close(found, expected)


def test_self_decoder_adds_position_and_view_to_the_class_token_too() -> None:
    _, decoder, batch, mask, features = build(SELF)
    seen = []
    decoder.blocks[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    decoder(features, mask, batch.view_kind)
    expected = features.tokens[:, 0] + decoder.pos_embed[0, 0] + decoder.view_embed[batch.view_kind]
    torch.testing.assert_close(seen[0][:, 0], expected)
    last = mask.masked[:, -1]
    expected = decoder.mask_token[0, 0] + decoder.pos_embed[0, 1 + last] + decoder.view_embed[batch.view_kind]
    torch.testing.assert_close(seen[0][:, -1], expected)


def test_a_shared_view_table_is_the_encoders_and_learns_from_both() -> None:
    """Eq. 3: the vector that the encoder added to the patches is added to all tokens of the decoder."""
    encoder, decoder, batch, mask, features = build(replace(SELF, shared_view_table=True))
    assert build_decoder(SELF, TINY).state_dict().keys() - decoder.state_dict().keys() == {"view_embed"}
    seen = []
    decoder.blocks[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    decoder(features, mask, batch.view_kind).pixels.square().sum().backward()
    shared = encoder.view_embed[batch.view_kind]
    torch.testing.assert_close(seen[0][:, 0], features.tokens[:, 0] + decoder.pos_embed[0, 0] + shared)
    last = mask.masked[:, -1]
    torch.testing.assert_close(seen[0][:, -1], decoder.mask_token[0, 0] + decoder.pos_embed[0, 1 + last] + shared)
    with_decoder = encoder.view_embed.grad.clone()
    encoder.view_embed.grad = None
    detached = encoder.encode(batch.pixels, batch.view_kind, mask)
    detached = detached._replace(view_vectors=detached.view_vectors.detach())
    decoder(detached, mask, batch.view_kind).pixels.square().sum().backward()
    assert not torch.allclose(with_decoder, encoder.view_embed.grad)


def test_queries_of_the_cross_decoder_do_not_see_each_other() -> None:
    _, decoder, batch, mask, features = build(CROSS)
    first = decoder(features, mask, batch.view_kind, predict_all=True).pixels
    changed = mask.masked.clone()
    changed[:, 3] = mask.visible[:, 0]
    second = decoder(features, Mask(mask.visible, changed), batch.view_kind, predict_all=True).pixels
    same = (first == second).all(dim=2)
    assert same.sum(dim=0).tolist() == [3, 3, 3, 0] + [3] * 8


@pytest.mark.parametrize(("predict", "queries"), [(0.25, 44), (0.5, 88), (1.0, 177), (0.001, 1)])
def test_part_of_177_masked_patches_is_predicted(predict: float, queries: int) -> None:
    encoder = EncoderConfig(image_size=14, patch_size=1, width=8, depth=1, heads=1)
    decoder = build_decoder(CrossDecoder(width=8, depth=1, heads=1, predict=predict), encoder)
    batch = make_batch([1], size=14)
    mask = draw_masks(batch, num_patches=196, ratio=0.9, seed=0)
    features = Encoder(encoder).encode(batch.pixels, batch.view_kind, mask, return_layers=True)
    prediction = decoder(features, mask, batch.view_kind)
    assert torch.equal(prediction.patches, mask.masked[:, :queries])
    assert decoder(features, mask, batch.view_kind, predict_all=True).patches.shape == (1, 177)


def test_each_cross_layer_reads_its_own_sum_of_encoder_layers() -> None:
    _, decoder, batch, mask, features = build(CROSS)
    assert torch.equal(decoder.layer_weights, torch.full((2, 4), 0.25))
    with torch.no_grad():
        decoder.layer_weights.copy_(torch.tensor([[1.0, 0, 0, 0], [0, 0, 2.0, -1.0]]))
    seen = []
    for block in decoder.blocks:
        block.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[1]))
    decoder(features, mask, batch.view_kind)
    torch.testing.assert_close(seen[0], features.layers[0])
    torch.testing.assert_close(seen[1], 2 * features.layers[2] - features.layers[3])


@pytest.mark.parametrize(
    ("config", "gflop"),
    [
        (SelfDecoder(), {177: 11.71}),
        (CrossDecoder(width=512, depth=8, heads=16), {49: 2.34, 98: 4.42, 177: 7.78}),
        (CrossDecoder(width=768, depth=4, heads=12), {49: 2.53, 98: 4.88, 177: 8.65}),
    ],
    ids=["self", "cross 512x8", "cross 768x4"],
)
def test_cost_of_a_view(config: SelfDecoder | CrossDecoder, gflop: dict[int, float]) -> None:
    with torch.device("meta"):
        decoder = build_decoder(config, EncoderConfig())
        features = Features(torch.empty(1, 20, 768), tuple(torch.empty(1, 20, 768) for _ in range(13)))
        kind = torch.empty(1, dtype=torch.int64)
    mask = draw_masks(make_batch([1], size=1), num_patches=196, ratio=0.9, seed=0).to("meta")
    for queries, expected in gflop.items():
        decoder.predict = queries / 177
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            prediction = decoder(features, mask, kind)
        assert prediction.patches.shape == (1, queries)
        assert counter.get_total_flops() / 1e9 == pytest.approx(expected, rel=0.05)


def test_pooling_by_hand() -> None:
    features = Features(torch.tensor([[[6.0], [1.0], [2.0]]]))
    assert [pool_tokens(features, feature).item() for feature in ("class", "mean", "all")] == [6.0, 1.5, 3.0]


def test_projector_is_linear_at_its_end_and_blind_to_the_batch() -> None:
    torch.manual_seed(0)
    rows = torch.randn(5, 8)
    projector = Projector(8, (6, 4), "xavier")
    assert [type(layer).__name__ for layer in projector] == ["Linear", "BlockNorm", "GELU", "Linear"]
    torch.testing.assert_close(projector(rows)[2:3], projector(rows[2:3]))
    assert torch.equal(Projector(8, (), "xavier")(rows), rows)
