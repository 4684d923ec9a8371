"""Cross-view reconstruction: a view's patches from the visible tokens of all views of its study (M 7.3 D)."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from batches import make_batch, take_studies
from hilum.config import Config, CrossDecoder, DataConfig, EncoderConfig, MaskConfig
from hilum.config import Reconstruction as ReconstructionConfig
from hilum.errors import UserError
from hilum.model.decoders import build_decoder
from hilum.model.encoder import Encoder, Features
from hilum.model.masking import Mask, draw_masks
from hilum.objective.reconstruction import list_sources
from hilum.training.effects import check_effects

ENCODER = EncoderConfig(image_size=32, patch_size=8, width=24, depth=2, heads=3)
DECODER = CrossDecoder(width=16, depth=2, heads=2, predict=1.0, other_views=1.0)


def test_sources_by_hand() -> None:
    """Studies of 1, 3 and 2 views: a view first reads itself, then the others of its study in their order."""
    expected = [[0, -1, -1], [1, 2, 3], [2, 1, 3], [3, 1, 2], [4, 5, -1], [5, 4, -1]]
    assert list_sources(make_batch([1, 3, 2]), 1.0, seed=0).tolist() == expected
    assert list_sources(make_batch([1, 3, 2]), 0.0, seed=0).tolist() == [[view] for view in range(6)]


def test_studies_are_drawn_anew_and_each_by_itself() -> None:
    batch = make_batch([2] * 400)
    reads = list_sources(batch, 0.5, seed=0)[::2, 1] >= 0
    assert 0.4 < reads.float().mean() < 0.6
    again = list_sources(replace(batch, draw=batch.draw + 1), 0.5, seed=0)[::2, 1] >= 0
    assert 0.4 < (reads == again).float().mean() < 0.6
    chosen = [7, 3, 250]
    part = list_sources(take_studies(batch, chosen), 0.5, seed=0)
    assert (part[::2, -1] >= 0).tolist() == reads[chosen].tolist() or not reads[chosen].any()


def decode(views: list[int], share: float):
    torch.manual_seed(0)
    encoder, decoder = Encoder(ENCODER), build_decoder(DECODER, ENCODER)
    batch = make_batch(views)
    mask = draw_masks(batch, num_patches=16, ratio=0.75, seed=0)
    features = encoder.encode(batch.pixels, batch.view_kind, mask, return_layers=True)
    return decoder, batch, mask, features, list_sources(batch, share, seed=0)


def test_it_is_a_loop_over_views_that_reads_each_source_in_turn() -> None:
    decoder, batch, mask, features, sources = decode([1, 3, 2], 1.0)
    found = decoder(features, mask, batch.view_kind, sources=sources).pixels
    # A layer's weights add up to 1 at the start, so what is added to all layers is added to their weighted sum.
    told = [layer + decoder.other_view_token for layer in features.layers]
    for view, row in enumerate(sources.tolist()):
        others = [source for source in row[1:] if source >= 0]
        layers = [
            torch.cat([own[view], *(other[source] for source in others)])[None]
            for own, other in zip(features.layers, told, strict=True)
        ]
        alone = Features(features.tokens[[view]], tuple(layers))
        one = Mask(mask.visible[[view]], mask.masked[[view]])
        expected = decoder(alone, one, batch.view_kind[[view]]).pixels[0]
        torch.testing.assert_close(found[view], expected, atol=1e-5, rtol=1e-4)


def test_only_views_of_the_same_study_are_read() -> None:
    decoder, batch, mask, features, sources = decode([2, 2], 1.0)
    before = decoder(features, mask, batch.view_kind, sources=sources).pixels
    moved = tuple(torch.cat([layer[:1] + 1.0, layer[1:]]) for layer in features.layers)
    after = decoder(features._replace(layers=moved), mask, batch.view_kind, sources=sources).pixels
    changed = (before != after).flatten(1).any(dim=1)
    assert changed.tolist() == [True, True, False, False]


def test_alone_it_is_the_plain_decoder() -> None:
    decoder, batch, mask, features, sources = decode([1, 2], 0.0)
    assert torch.equal(
        decoder(features, mask, batch.view_kind, sources=sources).pixels,
        decoder(features, mask, batch.view_kind).pixels,
    )


def test_it_is_refused_where_no_study_shows_two_views() -> None:
    config = Config(
        recipe="mvmae",
        preset="hilum",
        size="tiny",
        encoder=ENCODER,
        mask=MaskConfig(ratio=0.75),
        data=DataConfig(max_views=1),
        terms={"reconstruction": ReconstructionConfig(decoder=DECODER)},
    )
    with pytest.raises(UserError, match="other_views reads the other views"):
        check_effects(config)
