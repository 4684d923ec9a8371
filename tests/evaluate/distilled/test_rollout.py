"""Rollout: two tokens and two layers by hand, a slow reference, and what stays the same whatever else is shown."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from shown import TINY

from hilum.augment import prepare
from hilum.cache import Cache
from hilum.config import CropConfig
from hilum.errors import UserError
from hilum.evaluate.distilled.rollout import (
    cover_patches,
    estimate_shares,
    measure_shares,
    read_rollout,
    roll_out,
    roll_out_pixels,
    roll_out_views,
)
from hilum.evaluate.segmentation.squares import read_squares, square_masks
from hilum.loader import iterate_studies
from hilum.model.encoder import Encoder
from hilum.model.towers.catalogue import TowerSpec


def test_two_tokens_two_layers_by_hand():
    """Layer 1 reads (0.5, 0.5 | 0, 1), layer 2 (0.2, 0.8 | 1, 0), one head each.

    With the identity, rows halved: A1 = (0.75, 0.25 | 0, 1), A2 = (0.6, 0.4 | 0.5, 0.5).
    A2 A1 = (0.45, 0.15 + 0.4 | 0.375, 0.125 + 0.5).
    """
    first, second = torch.tensor([[[[0.5, 0.5], [0, 1]]]]), torch.tensor([[[[0.2, 0.8], [1, 0]]]])
    rolled = roll_out([first, second])
    torch.testing.assert_close(rolled, torch.tensor([[[0.45, 0.55], [0.375, 0.625]]]))
    torch.testing.assert_close(roll_out([second]), torch.tensor([[[0.6, 0.4], [0.5, 0.5]]]))
    torch.testing.assert_close(read_rollout(rolled, "class"), torch.tensor([[1.0]]))


def test_heads_are_fused_by_mean_or_maximum_by_hand():
    """Heads (1, 0) and (0, 1): their mean (0.5, 0.5) with the identity is (1.5, 0.5) / 2; their maximum (1, 1) gives
    (2, 1) / 3."""
    attention = torch.tensor([[[[1.0, 0], [0, 1]], [[0, 1], [1, 0]]]])
    torch.testing.assert_close(roll_out([attention], "mean")[0, 0], torch.tensor([0.75, 0.25]))
    torch.testing.assert_close(roll_out([attention], "max")[0, 0], torch.tensor([2 / 3, 1 / 3]))


def loop_rollout(layers: np.ndarray, heads: str) -> np.ndarray:
    """(token, token) of one view from (layer, head, token, token), entry by entry."""
    num = layers.shape[2]
    rolled = [[float(i == j) for j in range(num)] for i in range(num)]
    for layer in layers:
        fused = [[0.0] * num for _ in range(num)]
        for i in range(num):
            for j in range(num):
                column = [head[i, j] for head in layer]
                fused[i][j] = (sum(column) / len(column) if heads == "mean" else max(column)) + float(i == j)
            total = sum(fused[i])
            fused[i] = [value / total for value in fused[i]]
        rolled = [[sum(fused[i][k] * rolled[k][j] for k in range(num)) for j in range(num)] for i in range(num)]
    return np.array(rolled)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.integers(1, 3), st.sampled_from(["mean", "max"]))
def test_rollout_is_that_of_a_loop(seed, num_layers, num_heads, heads):
    generator = torch.Generator().manual_seed(seed)
    layers = torch.randn(num_layers, 2, num_heads, 4, 4, generator=generator).softmax(dim=-1)
    rolled = roll_out(layers, heads)
    for view in range(2):
        wanted = loop_rollout(layers[:, view].double().numpy(), heads)
        assert rolled[view].numpy() == pytest.approx(wanted, abs=1e-5)
    assert rolled.sum(dim=-1).numpy() == pytest.approx(np.ones((2, 4)), abs=1e-5)
    for reader, rows in (("class", [0]), ("mean", [1, 2, 3])):
        row = np.mean([rolled[:, i, 1:].numpy() for i in rows], axis=0)
        found = read_rollout(rolled, reader).numpy()
        assert found == pytest.approx(row / row.sum(axis=1, keepdims=True), abs=1e-5)
    half = (read_rollout(rolled, "class") + read_rollout(rolled, "mean")) / 2
    torch.testing.assert_close(read_rollout(rolled, "both"), half)


def test_weights_of_attention_are_those_within_the_block(encoder: Encoder):
    """Reading values by them gives the layer's own output, also with normalised queries and keys."""
    torch.manual_seed(0)
    attention, tokens = encoder.blocks[0].attn, torch.randn(3, 17, 32)
    weights = attention.weigh(tokens)
    assert weights.shape == (3, 2, 17, 17)
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones(3, 2, 17))
    _, _, value = attention.split_heads(tokens)
    read = attention.proj((weights @ value).transpose(1, 2).flatten(2))
    torch.testing.assert_close(read, attention(tokens), atol=1e-5, rtol=1e-4)


def show(cache: Cache, rows: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    pixels = read_squares(cache, rows, size=32, mean=cache.mean, std=cache.std, crop=CropConfig(mode="center"))
    return pixels, torch.from_numpy(cache.views["view_kind"][rows])


def test_every_layer_counts_and_a_start_layer_leaves_out_those_before(shown_cache: Cache, encoder: Encoder):
    pixels, kind = show(shown_cache, np.arange(3))
    layers = encoder.encode(pixels, kind, return_layers=True).layers
    attention = [block.attn.weigh(block.norm1(tokens)) for block, tokens in zip(encoder.blocks, layers, strict=False)]
    for start in (0, 1):
        for reader in ("class", "mean"):
            found = roll_out_pixels(encoder, pixels, kind, reader=reader, start_layer=start)
            torch.testing.assert_close(found, read_rollout(roll_out(attention[start:]), reader))
    with pytest.raises(UserError, match="layers 0 to 1"):
        roll_out_pixels(encoder, pixels, kind, start_layer=2)


def test_a_views_rollout_depends_on_nothing_else_in_the_batch(shown_cache: Cache, encoder: Encoder):
    rows = np.array([5, 0, 9])
    how = {"mean": shown_cache.mean, "std": shown_cache.std, "crop": CropConfig(mode="center")}
    together = roll_out_views(shown_cache, encoder, rows, **how)
    alone = [roll_out_views(shown_cache, encoder, rows[i : i + 1], **how)[0] for i in range(3)]
    assert together == pytest.approx(np.stack(alone), abs=1e-6)
    assert together == pytest.approx(roll_out_views(shown_cache, encoder, rows, **how, batch_views=2), abs=1e-6)
    other = roll_out_views(shown_cache, encoder, rows, **{**how, "mean": 0.0, "std": 1.0})
    assert not np.allclose(together, other), "how pixels are normalised matters, so it has no default"


def test_a_patch_that_every_token_reads_is_found_where_it_is(shown_cache: Cache):
    """Planted by hand: the position of patch 6 is a key that one head's constant query matches; nothing else acts.
    The class token then has of each layer (half of head 1, even over 17 tokens; half of head 0, on patch 6 alone)."""
    torch.manual_seed(0)
    encoder = Encoder(replace(TINY, qk_norm=False, view_embedding=False)).eval()
    with torch.no_grad():
        encoder.pos_embed.zero_()
        encoder.pos_embed[0, 6, 0] = 1000.0
        for block in encoder.blocks:
            for layer in (block.attn.qkv, block.attn.proj, block.mlp.fc2):
                layer.weight.zero_()
                layer.bias.zero_()
            block.attn.qkv.bias[0] = 100.0  # query of head 0
            block.attn.qkv.weight[32:64] = torch.eye(32)  # keys are the tokens
    found = roll_out_pixels(encoder, *show(shown_cache, np.arange(2)))
    assert found.argmax(dim=1).tolist() == [6, 6]
    one = torch.eye(17) / 2 + 0.25 / 17
    one[:, 7] += 0.25
    row = (one @ one)[0, 1:]
    torch.testing.assert_close(found, (row / row.sum()).expand(2, -1), atol=1e-4, rtol=1e-3)


def test_squares_are_what_the_encoder_is_shown(shown_cache: Cache):
    for mode in ("center", "squash"):
        crop = CropConfig(mode=mode)
        batch = next(iterate_studies(shown_cache, np.arange(6), views_per_batch=100, crop=crop))
        wanted = prepare(batch, size=24, mean=0.4, std=0.2).pixels
        rows = batch.view_row.numpy()
        order = np.random.default_rng(0).permutation(len(rows))
        found = read_squares(shown_cache, rows[order], size=24, mean=0.4, std=0.2, crop=crop)
        assert torch.equal(found, wanted[order])
    with pytest.raises(UserError, match="center or squash"):
        read_squares(shown_cache, rows, size=24, mean=0.4, std=0.2, crop=CropConfig())


def test_masks_lie_where_the_image_does():
    """A mask of another resolution than the square, wider than high: the centre's left half is its left half."""
    mask = np.zeros((20, 40), bool)
    mask[:, 10:20] = True
    (center,), (whole,) = (square_masks([mask], size=8, crop=CropConfig(mode=mode)) for mode in ("center", "squash"))
    assert center[:, :4].all()
    assert not center[:, 4:].any()
    assert whole[:, 2:4].all()
    assert whole.sum() == 16
    assert square_masks([], size=8, crop=CropConfig(mode="center")).shape == (0, 8, 8)


def test_shares_by_hand():
    """A mask over the left half and a quarter: patches of 2 x 2 covered 1, 0.5, 1, 0; rollout (0.1, 0.2, 0.3, 0.4)."""
    mask = np.zeros((1, 4, 4), bool)
    mask[0, :, :2] = True
    mask[0, 0, 2:] = True
    cover = cover_patches(mask, 4)
    assert cover.tolist() == [[1, 0.5, 1, 0]]
    assert measure_shares(np.array([[0.1, 0.2, 0.3, 0.4]]), cover).tolist() == pytest.approx([0.5])


def test_what_looks_everywhere_alike_has_the_masks_area():
    rng = np.random.default_rng(0)
    masks = rng.random((40, 8, 8)) < 0.3
    masks[:4] = False
    even, patient = np.full((40, 16), 1 / 16), np.arange(40) // 2
    inside = cover_patches(masks, 16) + 1e-3
    inside /= inside.sum(axis=1, keepdims=True)
    share, area = estimate_shares(even, {"heart": masks}, patient, num_resamples=100)
    assert (share.metric, share.slice, share.num) == ("rollout_share", "all", 36)
    assert (area.metric, area.slice) == ("area_share", "all")
    assert share.value == pytest.approx(area.value)
    looked, _ = estimate_shares(inside, {"heart": masks}, patient, slice="class token", num_resamples=100)
    assert looked.slice == "class token"
    assert looked.low > area.high
    (none,) = estimate_shares(even, {"bone": np.zeros((40, 8, 8), bool)}, patient)
    assert none.reason == "no view has such a mask"


def test_an_encoder_of_another_library_is_refused(shown_cache: Cache):
    tower = TowerSpec("timm:test_resnet", "random").load()
    with pytest.raises(UserError, match="Hilum's own vision transformer"):
        roll_out_pixels(tower, torch.zeros(1, 1, tower.image_size, tower.image_size), torch.zeros(1, dtype=torch.int64))


def test_tiny_is_what_these_tests_assume():
    assert (TINY.num_patches, TINY.depth, TINY.image_size) == (16, 2, 32)
