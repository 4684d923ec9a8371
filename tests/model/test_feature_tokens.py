"""Readings of "256 tokens": shapes, other sizes, and which places a token reads."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from hilum.config import ConvEncoderConfig
from hilum.errors import UserError
from hilum.model.feature_tokens import build_tokens, choose_token_grid, project_back

SMALL = ConvEncoderConfig(image_height=192, image_width=128, num_tokens=6, width=16, heads=4)
SHAPE = (6, 4)
TOKENIZERS = {
    "none": (24, 12), "token_linear": (6, 16), "channel_linear": (12, 16), "width_256": (24, 256),
    "adaptive_pool": (6, 16), "conv_stride": (6, 16), "resampler": (6, 16), "all": (24, 16),
}  # fmt: skip


def build(tokenizer: str, **changes):
    torch.manual_seed(0)
    return build_tokens(replace(SMALL, tokenizer=tokenizer, **changes), 12, SHAPE)


@pytest.mark.parametrize(("tokenizer", "shape"), TOKENIZERS.items())
def test_shapes_and_how_much_of_each_place_a_token_reads(tokenizer: str, shape: tuple[int, int]) -> None:
    tokens = build(tokenizer)
    feature_map = torch.rand(2, 12, *SHAPE)
    found = tokens(feature_map)
    assert found.tokens.shape == (2, *shape)
    assert tokens.width == shape[1]
    assert found.mask.shape == found.tokens.shape[:2]
    assert found.mask.all()
    assert found.grid[:2] == SHAPE
    shares = tokens.locate(feature_map)
    assert shares.shape[1:] == (shape[0], 24)
    assert (shares >= 0).all()
    torch.testing.assert_close(shares.sum(2), torch.ones_like(shares[:, :, 0]))
    assert torch.allclose(project_back(torch.full((2, shape[0]), 2.0), shares, found.grid), torch.tensor(2.0))


def test_a_place_that_a_token_reads_is_where_its_worth_is_drawn() -> None:
    """A change at one place changes the tokens that `locate` says read it, and no other."""
    for tokenizer in ("all", "adaptive_pool", "conv_stride", "none"):
        tokens = build(tokenizer)
        one = torch.rand(1, 12, *SHAPE)
        other = one.clone()
        other[0, :, 4, 3] += 1
        changed = (tokens(one).tokens != tokens(other).tokens).any(2)[0]
        reads = tokens.locate(one)[0, :, 4 * SHAPE[1] + 3] > 0
        assert torch.equal(changed, reads), tokenizer
        drawn = project_back(changed[None].float(), tokens.locate(one), tokens(one).grid)[0]
        assert drawn[4, 3] == drawn.max() > 0
        assert drawn[0, 0] == 0


def test_token_linear_is_two_linear_layers() -> None:
    tokens = build("token_linear", positions=False)
    feature_map = torch.rand(1, 12, *SHAPE)
    mixed = tokens.mix.weight @ feature_map[0].flatten(1).T + tokens.mix.bias[:, None]
    expected = mixed @ tokens.project.weight.T + tokens.project.bias
    torch.testing.assert_close(tokens(feature_map).tokens[0], expected)


def test_positions_tell_places_apart_and_can_be_off() -> None:
    same = torch.ones(1, 12, *SHAPE)
    assert len(build("all")(same).tokens[0].unique(dim=0)) == 24
    assert len(build("all", positions=False)(same).tokens[0].unique(dim=0)) == 1


@pytest.mark.parametrize("tokenizer", TOKENIZERS)
def test_another_image_size(tokenizer: str) -> None:
    tokens, larger = build(tokenizer), torch.rand(1, 12, 7, 5)
    if tokenizer in ("token_linear", "channel_linear"):
        with pytest.raises(UserError, match=r"7 x 5 places where the tokenizer \w+ has weights for 6 x 4"):
            tokens(larger)
    else:
        assert tokens(larger).grid[:2] == (7, 5)
        assert tokens.locate(larger).shape[2] == 35


def test_token_linear_resamples_if_asked() -> None:
    tokens = build("token_linear", other_sizes="resample")
    assert tokens(torch.rand(1, 12, 7, 5)).tokens.shape == (1, 6, 16)
    assert tokens.locate(torch.rand(1, 12, 7, 5)).shape == (1, 6, 35)
    flat = torch.rand(1, 12, 1, 1)
    tokens.positions = False
    torch.testing.assert_close(tokens(flat.expand(-1, -1, 7, 5)).tokens, tokens(flat.expand(-1, -1, *SHAPE)).tokens)


@pytest.mark.parametrize(
    ("places", "num", "grid"),
    [((48, 29), 256, (16, 16)), ((16, 16), 256, (16, 16)), ((40, 40), 256, (16, 16)), ((3, 2), 256, (3, 2)),
     ((48, 29), 1392, (48, 29)), ((48, 29), 128, (16, 8)), ((29, 48), 128, (8, 16)), ((48, 29), 512, (32, 16)),
     ((48, 29), 1024, (35, 29)), ((31, 29), 100, (10, 10)), ((40, 4), 256, (40, 4)), ((48, 29), 7, (3, 2)),
     ((1, 1), 1, (1, 1))],
)  # fmt: skip
def test_a_grid_has_the_most_regions_is_near_square_and_no_finer_than_the_map(places, num, grid) -> None:
    found = choose_token_grid(*places, num)
    assert found[0] * found[1] <= num
    assert found == grid


@pytest.mark.parametrize(("tokenizer", "grid"), [("adaptive_pool", (16, 16)), ("conv_stride", (16, 10))])
def test_tokens_of_the_full_size(tokenizer: str, grid: tuple[int, int]) -> None:
    """What the help of num_tokens says of 256 tokens of 48 x 29 places, which 1520 x 912 pixels have (L 1.2)."""
    tokens = build_tokens(ConvEncoderConfig(tokenizer=tokenizer, width=8), 4, (48, 29))
    found = tokens(torch.rand(1, 4, 48, 29))
    assert found.grid == (48, 29, *grid)
    assert found.tokens.shape == (1, grid[0] * grid[1], 8)
