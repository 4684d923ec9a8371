"""Decoders: the paper's parameter count, other encoders' sizes, patches where they belong."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from hilum.config import EncoderConfig
from hilum.errors import UserError
from hilum.model.encoder import Encoder
from hilum.model.image_encoder import Features, ImageEncoder
from hilum.model.segmentation import LightDecoder, build_decoder, choose_channels, lay_out, read_layers
from hilum.model.towers.catalogue import TowerSpec
from hilum.recipes import build_recipe

TINY = EncoderConfig(image_size=32, patch_size=8, width=24, depth=3, heads=3)


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_the_light_decoder_of_vit_b_has_the_papers_parameters() -> None:
    """P 3.5, P 12-1: 1,769,728 of the convolution and 131,200 + 32,832 + 8,224 + 129 of four doublings."""
    with torch.device("meta"):
        encoder = Encoder(EncoderConfig())
        decoder = build_decoder("light", encoder, 1)
        assert count(decoder) == 1_942_113
        assert [count(layer) for layer in decoder.layers if count(layer)] == [1_769_728, 131_200, 32_832, 8_224, 129]
        assert decoder([torch.zeros(2, 196, 768)]).shape == (2, 1, 224, 224)


@pytest.mark.parametrize("size", ["nano", "tiny", "small", "base", "large"])
def test_every_size_of_encoder_has_a_decoder_that_is_small_beside_it(size: str) -> None:
    with torch.device("meta"):
        encoder = Encoder(build_recipe("mvmae", "hilum", size).encoder)
        decoder = build_decoder("light", encoder, 3)
        assert count(decoder) < 0.1 * count(encoder)
        grid, pixels = decoder.grid, encoder.image_size
        assert decoder([torch.zeros(1, grid * grid, encoder.width)]).shape == (1, 3, pixels, pixels)


def test_channels_are_a_third_of_the_width() -> None:
    assert [choose_channels(width) for width in (768, 384, 192, 128, 1024, 32)] == [256, 128, 64, 48, 256, 16]


@pytest.mark.parametrize(
    ("grid", "size", "doublings"), [(16, 224, 4), (16, 128, 3), (8, 32, 2), (7, 112, 4), (4, 4, 1)]
)
def test_other_patches_get_the_doublings_they_need(grid: int, size: int, doublings: int) -> None:
    decoder = LightDecoder(48, grid, size, 2)
    assert sum(isinstance(layer, nn.ConvTranspose2d) for layer in decoder.layers) == doublings
    assert decoder([torch.zeros(1, grid * grid, 48)]).shape == (1, 2, size, size)


def test_patches_lie_row_by_row_where_they_were_cut() -> None:
    """Only the token of row 1, column 2 of a 4 x 4 grid says anything: so does its own part of the image, and no more
    than a patch around it (the 3 x 3 convolution)."""
    torch.manual_seed(0)
    decoder = LightDecoder(24, 4, 32, 1)
    tokens = torch.zeros(1, 16, 24)
    silent = decoder([tokens])
    tokens[0, 1 * 4 + 2] = torch.randn(24)
    said = (decoder([tokens]) - silent)[0, 0].abs().detach()
    assert (said > 1e-6)[8:16, 16:24].any()
    assert not (said > 0)[24:].any()
    assert not (said > 0)[:, :8].any()
    assert torch.equal(lay_out(torch.arange(16.0)[None, :, None], 4)[0, 0], torch.arange(16.0).reshape(4, 4))


def test_layers_are_evenly_spread_and_end_with_the_tokens() -> None:
    torch.manual_seed(0)
    encoder = Encoder(EncoderConfig(image_size=32, patch_size=8, width=24, depth=8, heads=3)).eval()
    pixels, kind = torch.randn(2, 1, 32, 32), torch.zeros(2, dtype=torch.int64)
    features = encoder.encode(pixels, kind, return_layers=True)
    found = read_layers(encoder, pixels, kind, 4)
    for layer, place in zip(found, (2, 4, 6, 8), strict=True):
        assert torch.equal(layer, features.layers[place][:, 1:])
    assert torch.equal(read_layers(encoder, pixels, kind, 1)[0], features.tokens[:, 1:])
    shallow = Encoder(TINY).eval()
    assert len(read_layers(shallow, pixels, kind, 4)) == 4


def test_the_stronger_decoder_reads_four_layers_at_any_even_grid() -> None:
    pytest.importorskip("segmentation_models_pytorch")
    torch.manual_seed(0)
    for config in (TINY, EncoderConfig(image_size=56, patch_size=14, width=24, depth=4, heads=3)):
        encoder = Encoder(config).eval()
        decoder = build_decoder("dpt", encoder, 2).eval()
        pixels, kind = torch.randn(2, 1, config.image_size, config.image_size), torch.zeros(2, dtype=torch.int64)
        layers = list(read_layers(encoder, pixels, kind, decoder.num_layers))
        drawn = decoder(layers)
        assert drawn.shape == (2, 2, config.image_size, config.image_size)
        for place in range(4):
            other = [layer + (at == place) for at, layer in enumerate(layers)]
            assert not torch.equal(decoder(other), drawn), f"layer {place} is read"
    with pytest.raises(UserError, match="3 x 3 is odd"):
        build_decoder("dpt", Encoder(EncoderConfig(image_size=24, patch_size=8, width=24, depth=1, heads=3)), 1)


def test_public_encoders_have_decoders_too_where_they_see_the_whole_square() -> None:
    tower = TowerSpec("timm:test_vit", "random").load()
    if tower.image_size == tower.config.preprocessing.size:
        decoder = build_decoder("light", tower, 1)
        pixels = torch.rand(1, 1, tower.image_size, tower.image_size)
        drawn = decoder(read_layers(tower, pixels, torch.zeros(1, dtype=torch.int64), 1))
        assert drawn.shape[2:] == pixels.shape[2:]
    else:
        with pytest.raises(UserError, match="cuts margins off"):
            build_decoder("light", tower, 1)


class Odd(ImageEncoder):
    """Twelve tokens that are no square."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.config, self.image_size, self.width, self.depth, self.has_class_token = None, 32, 24, 1, False

    def encode(self, pixels, view_kind):
        return Features(torch.zeros(len(pixels), 12, 24))

    def number_layer(self, name):
        return 0

    def list_branches(self):
        return []


def test_tokens_that_are_no_square_are_refused() -> None:
    with pytest.raises(UserError, match="12 tokens of a view are no square grid"):
        build_decoder("light", Odd(), 1)
