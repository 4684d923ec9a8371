"""Masks compared: hand-worked overlaps, distances by brute force, the rule of empty masks, patients and batches."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hilum.evaluate.scoring.resamples import collect_resamples, estimate_resamples, subtract
from hilum.evaluate.segmentation.loss import measure_mask_loss
from hilum.evaluate.segmentation.metrics import (
    Areas,
    count_areas,
    find_border,
    measure_border_distances,
    score_dice,
    score_iou,
)
from hilum.evaluate.segmentation.scores import MaskScores, average_dice, estimate_masks, score_masks

seeds = st.integers(0, 2**32 - 1)


def draw_masks(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Random blobs, at times none."""
    return rng.random(shape) < rng.choice([0.0, 0.05, 0.4, 0.9])


def test_overlap_by_hand():
    """Two of three predicted pixels are among the four true ones: IoU 2 / 5, Dice 4 / 7."""
    predicted, true = np.zeros((1, 3, 4), bool), np.zeros((1, 3, 4), bool)
    predicted[0, 0, :3] = True
    true[0, 0, 1:] = True
    true[0, 1, 3] = True
    areas = count_areas(predicted, true)
    assert [part.tolist() for part in areas] == [[2], [3], [4]]
    assert score_iou(areas).tolist() == pytest.approx([0.4])
    assert score_dice(areas).tolist() == pytest.approx([4 / 7])


def test_borders_by_hand():
    mask = np.ones((4, 5), bool)
    border = find_border(mask)
    assert not border[1:3, 1:4].any()
    assert border.sum() == 14
    assert find_border(np.zeros((3, 3), bool)).sum() == 0


def test_distances_by_hand():
    """Two upright lines of four pixels, three columns apart; on pixels 2 mm wide that is 6 mm."""
    predicted, true = np.zeros((6, 8), bool), np.zeros((6, 8), bool)
    predicted[1:5, 1] = True
    true[1:5, 4] = True
    assert measure_border_distances(predicted, true) == (3.0, 3.0)
    assert measure_border_distances(predicted, true, (1.0, 2.0)) == (6.0, 6.0)
    true[1:5, 1] = True  # the predicted line is right, the other line is missed
    average, far = measure_border_distances(predicted, true)
    assert average == pytest.approx((4 * 3 + 8 * 0) / 12)
    assert far == pytest.approx(3.0)


def loop_distances(predicted: np.ndarray, true: np.ndarray, spacing: tuple[float, float]) -> tuple[float, float]:
    """Every pixel of one border against every pixel of the other."""

    def list_border(mask):
        height, width = mask.shape
        found = []
        for i in range(height):
            for j in range(width):
                around = [(i - 1, j), (i + 1, j), (i, j - 1), (i, j + 1)]
                if mask[i, j] and not all(0 <= a < height and 0 <= b < width and mask[a, b] for a, b in around):
                    found.append((i * spacing[0], j * spacing[1]))
        return found

    borders = list_border(predicted), list_border(true)
    there = [min(math.dist(a, b) for b in borders[1]) for a in borders[0]]
    back = [min(math.dist(a, b) for a in borders[0]) for b in borders[1]]
    return (sum(there) + sum(back)) / (len(there) + len(back)), max(np.quantile(there, 0.95), np.quantile(back, 0.95))


@settings(deadline=None, max_examples=30)
@given(seeds, st.sampled_from([(1.0, 1.0), (0.7, 2.5)]))
def test_distances_are_those_of_a_loop(seed, spacing):
    rng = np.random.default_rng(seed)
    predicted, true = draw_masks(rng, 9, 7), draw_masks(rng, 9, 7)
    found = measure_border_distances(predicted, true, spacing)
    if predicted.any() and true.any():
        assert found == pytest.approx(loop_distances(predicted, true, spacing))
        assert measure_border_distances(true, predicted, spacing) == pytest.approx(found)
        assert measure_border_distances(true, true, spacing) == (0.0, 0.0)


def test_the_rule_of_empty_masks():
    none, some = np.zeros((3, 4), bool), np.zeros((3, 4), bool)
    some[1, 1] = True
    assert measure_border_distances(none, none) == (0.0, 0.0)
    for pair in ((none, some), (some, none)):
        assert measure_border_distances(*pair) == (5.0, 5.0)
        assert measure_border_distances(*pair, (2.0, 2.0)) == (10.0, 10.0)
        assert (score_iou(count_areas(*pair)), score_dice(count_areas(*pair))) == (0, 0)
    assert (score_iou(count_areas(none, none)), score_dice(count_areas(none, none))) == (1, 1)


def make_scores(seed: int = 0, num: int = 40, wrong: float = 0.1) -> MaskScores:
    rng = np.random.default_rng(seed)
    truth = np.random.default_rng(99)
    true = truth.random((num, 2, 10, 10)) < 0.4
    true[truth.random((num, 2)) < [0.0, 0.5]] = False
    predicted = true ^ (rng.random(true.shape) < wrong)
    known = np.ones((num, 2), bool)
    known[:3, 0] = False
    return score_masks(
        predicted, true, known, structures=("lungs", "effusion"), patient=np.arange(num) // 4, view_row=np.arange(num)
    )


def test_scores_do_not_depend_on_how_images_are_batched():
    """P 12-15: the released code averages over batches what it pools within them."""
    rng = np.random.default_rng(1)
    true, predicted = draw_masks(rng, 12, 1, 8, 8), rng.random((12, 1, 8, 8)) < 0.4
    rest = {"structures": ("lungs",)}
    whole = score_masks(predicted, true, np.ones((12, 1), bool), patient=np.arange(12), view_row=np.arange(12), **rest)
    estimates = estimate_masks(whole, num_resamples=20)
    for size in (1, 5):
        parts = [
            score_masks(predicted[part], true[part], np.ones((len(part), 1), bool), patient=part, view_row=part, **rest)
            for part in np.split(np.arange(12), range(size, 12, size))
        ]
        joined = MaskScores(
            ("lungs",),
            Areas(*(np.concatenate(column) for column in zip(*(part.areas for part in parts), strict=True))),
            *(
                np.concatenate([getattr(part, name) for part in parts])
                for name in ("surface_distance", "hausdorff_95", "known", "patient", "view_row")
            ),
        )
        assert estimate_masks(joined, num_resamples=20) == estimates


def test_estimates_are_means_of_images_and_pools_of_pixels():
    scores = make_scores()
    found = {(e.metric, e.of, e.slice): e for e in estimate_masks(scores, num_resamples=100)}
    dice, known = scores.read("dice"), scores.known
    present = known & (scores.areas.true > 0)
    for place, name in enumerate(scores.structures):
        for slice, keep in (("all", known), ("structure present", present)):
            rows = keep[:, place]
            assert found["dice", name, slice].value == pytest.approx(dice[rows, place].mean())
            assert found["hausdorff_95", name, slice].value == pytest.approx(scores.hausdorff_95[rows, place].mean())
            sums = [part[rows, place].sum() for part in scores.areas]
            assert found["dice_pooled", name, slice].value == pytest.approx(2 * sums[0] / (sums[1] + sums[2]))
            assert found["iou_pooled", name, slice].value == pytest.approx(sums[0] / (sums[1] + sums[2] - sums[0]))
            one = found["iou", name, slice]
            assert one.low < one.value < one.high
            assert (one.num, one.positives) == (rows.sum(), present[:, place].sum())
    macro = found["dice", "macro", "all"]
    assert macro.value == pytest.approx(np.mean([found["dice", name, "all"].value for name in scores.structures]))
    assert macro.value == pytest.approx(average_dice(scores))
    assert macro.num == 2
    assert found["dice", "effusion", "all"].value != pytest.approx(found["dice", "effusion", "structure present"].value)


def test_what_nobody_has_is_undefined_and_does_not_enter_the_mean():
    scores = make_scores()
    empty = Areas(*(part * [1, 0] for part in scores.areas))
    found = {(e.metric, e.of, e.slice): e for e in estimate_masks(replace(scores, areas=empty), num_resamples=20)}
    nobody = found["dice", "effusion", "structure present"]
    assert (nobody.value, nobody.num, nobody.reason) == (None, 0, "no image with a known mask of it")
    assert found["dice", "macro", "structure present"].num == 1
    assert found["dice", "effusion", "all"].value == 1


def test_differences_are_paired():
    good, worse = make_scores(wrong=0.1), make_scores(wrong=0.12)
    ours, theirs = (estimate_masks(scores, num_resamples=100) for scores in (good, worse))
    kept = [collect_resamples(found, scores.rows) for found, scores in ((ours, good), (theirs, worse))]
    there, back = (estimate_resamples(subtract(*pair), ours) for pair in (kept, kept[::-1]))
    for one, other, a, b in zip(there, back, ours, theirs, strict=True):
        assert one.value == pytest.approx(-other.value)
        assert one.value == pytest.approx(a.value - b.value)
    pooled = next(e for e in there if (e.metric, e.of) == ("dice_pooled", "lungs"))
    assert pooled.low > 0
    moved = replace(worse, view_row=worse.view_row + 1)
    with pytest.raises(AssertionError, match="different rows"):
        subtract(kept[0], collect_resamples(theirs, moved.rows))


def test_loss_by_hand():
    """One image of two pixels, logits 0 (probability one half), one of them set: BCE ln 2, Dice 1 - 2 / 3."""
    logit, mask = torch.zeros(1, 1, 1, 2), torch.tensor([[[[True, False]]]])
    loss = measure_mask_loss(logit, mask, torch.ones(1, 1, dtype=torch.bool))
    assert loss.cross_entropy.value.item() == pytest.approx(math.log(2))
    assert loss.dice.value.item() == pytest.approx(1 - (2 * 0.5 + 1) / (1 + 1 + 1))
    assert loss.dice.count.item() == 1
    assert loss.mean.item() == pytest.approx(math.log(2) + 1 / 3)


@settings(deadline=None, max_examples=20)
@given(seeds)
def test_loss_is_that_of_a_loop_and_of_any_split_of_the_batch(seed):
    generator = torch.Generator().manual_seed(seed)
    logit = 3 * torch.randn(5, 2, 3, 4, generator=generator)
    mask = torch.rand(5, 2, 3, 4, generator=generator) < 0.3
    known = torch.rand(5, 2, generator=generator) < 0.7
    whole = measure_mask_loss(logit, mask, known)
    entropy, dice, count = 0.0, 0.0, 0
    for i in range(5):
        for s in range(2):
            if not known[i, s]:
                continue
            p = torch.sigmoid(logit[i, s].double()).flatten().tolist()
            t = mask[i, s].flatten().double().tolist()
            entropy += -sum(b * math.log(a) + (1 - b) * math.log(1 - a) for a, b in zip(p, t, strict=True)) / len(p)
            both = sum(a * b for a, b in zip(p, t, strict=True))
            dice += 1 - (2 * both + 1) / (sum(p) + sum(t) + 1)
            count += 1
    assert whole.cross_entropy.value.item() == pytest.approx(entropy, rel=1e-4)
    assert whole.dice.value.item() == pytest.approx(dice, rel=1e-4, abs=1e-6)
    assert whole.dice.count.item() == whole.cross_entropy.count.item() == count
    parts = [measure_mask_loss(logit[part], mask[part], known[part]) for part in (slice(0, 2), slice(2, 5))]
    assert sum(part.dice.value.item() for part in parts) == pytest.approx(whole.dice.value.item(), rel=1e-5, abs=1e-6)
    assert sum(part.dice.count.item() for part in parts) == count


def test_a_large_mask_does_not_speak_for_a_small_one():
    """Pooled over the batch, missing the small mask would cost next to nothing; by image it costs half of all."""
    mask = torch.zeros(2, 1, 32, 32, dtype=torch.bool)
    mask[0, 0, :, :16] = True
    mask[1, 0, 0, 0] = True
    logit = torch.where(mask, 20.0, -20.0)
    logit[1] = -20.0
    loss = measure_mask_loss(logit, mask, torch.ones(2, 1, dtype=torch.bool))
    assert loss.dice.value.item() == pytest.approx(1 - 1 / 2, abs=1e-3)


def test_without_a_known_mask_the_loss_is_nothing_and_still_has_a_gradient():
    logit = torch.randn(2, 1, 3, 3, requires_grad=True)
    loss = measure_mask_loss(logit, torch.ones(2, 1, 3, 3, dtype=torch.bool), torch.zeros(2, 1, dtype=torch.bool))
    loss.mean.backward()
    assert loss.mean.item() == 0
    assert logit.grad.abs().max() == 0
