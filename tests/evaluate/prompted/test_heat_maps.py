"""Heat maps of prompts: similarity, the way to the source's pixels, the pointing game, the test of random weights."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from jaxtyping import TypeCheckError

from hilum.config import ConvEncoderConfig
from hilum.evaluate.prompted.heat import Prompted, map_prompts, spread_map
from hilum.evaluate.prompted.heat_report import Rules, estimate_mean
from hilum.evaluate.prompted.lesions import mark_box, mark_mask
from hilum.evaluate.prompted.place_centres import find_place_centres
from hilum.evaluate.prompted.pointing import find_maxima, score_centre, score_chance, score_hit, widen
from hilum.evaluate.prompted.randomisation import (
    APART,
    correlate_ranks,
    judge_randomisation,
    list_cascade,
    measure_structure,
    randomise,
)
from hilum.evaluate.prompted.similarity import average_prompts, compare_prompts
from hilum.evaluate.result import Estimate
from hilum.evaluate.scoring.intervals import estimate_weighted, widen_certain
from hilum.evaluate.subject import build_random
from hilum.imaging.affine import map_from_source, map_heat_to_source, map_to_source
from hilum.imaging.mammography.frame import find_breast_pixels, frame_breast

SMALL = ConvEncoderConfig(
    backbone="test_resnet", image_height=96, image_width=64, stride=16, tokenizer="all", width=32, depth=1, heads=2,
    projection=8,
)  # fmt: skip

# --- similarity


def test_a_logit_by_hand() -> None:
    """(3, 4) is at cosines 0.6 and 0.8 of the axes: 10 x (0.6 - 0.8) = -2, whatever the lengths."""
    found = compare_prompts(torch.tensor([[3.0, 4.0], [-1.0, 0.0]]), torch.tensor([[7.0, 0.0]]), torch.eye(2)[1:], 10.0)
    np.testing.assert_allclose(found, [-2.0, -10.0], rtol=1e-6)
    # An ensemble of (1, 0) and (0, 1) points between them, however long its prompts are.
    np.testing.assert_allclose(average_prompts(torch.tensor([[9.0, 0.0], [0.0, 0.1]])), [math.sqrt(0.5)] * 2, rtol=1e-6)


def test_logits_agree_with_a_slow_loop() -> None:
    torch.manual_seed(0)
    vectors, present, absent = torch.randn(5, 6), torch.randn(3, 6), torch.randn(4, 6)

    def unit(vector: list[float]) -> list[float]:
        length = math.sqrt(sum(one * one for one in vector))
        return [one / length for one in vector]

    def ensemble(prompts: torch.Tensor) -> list[float]:
        units = [unit(one.tolist()) for one in prompts]
        return unit([sum(column) / len(units) for column in zip(*units, strict=True)])

    slow = []
    for vector in vectors:
        v = unit(vector.tolist())
        cosines = [sum(a * b for a, b in zip(v, ensemble(side), strict=True)) for side in (present, absent)]
        slow.append(14.0 * (cosines[0] - cosines[1]))
    np.testing.assert_allclose(compare_prompts(vectors, present, absent, 14.0), slow, rtol=1e-5)


# --- maps


def test_a_map_on_a_grid_of_three_by_two_by_hand() -> None:
    """Tokens that are places: a place's value is the logit of its own token, and pixels lie between the centres."""
    encoder = build_random(replace(SMALL, tokenizer="none", depth=0, dropout=0.0, positions=False, pooling="mean"))
    with torch.no_grad():
        encoder.project.weight.copy_(torch.eye(8, encoder.width))
        encoder.project.bias.zero_()
    pixels = torch.randn(2, 1, 48, 32)
    asked = {"mass": Prompted(torch.eye(8)[:1], torch.eye(8)[1:2], 5.0)}
    found = map_prompts(encoder, pixels, asked, mixed=False)["mass"]
    with torch.no_grad():
        tokens = encoder.make_map(pixels)[:, :8]
    assert found.shape == tokens[:, 0].shape == (2, 3, 2)
    for view in range(2):
        for row in range(3):
            for column in range(2):
                token = tokens[view, :, row, column]
                by_hand = 5 * float(token[0] - token[1]) / float(token.norm())
                assert found[view, row, column] == pytest.approx(by_hand, rel=1e-4, abs=1e-5)
    # Centres at pixels 1 and 4 of six: flat up to 1, a third a pixel between them, flat from 4.
    spread = spread_map(np.array([[0.0], [3.0]]), np.array([1.0, 4.0]), np.array([0.0]), (6, 2))
    np.testing.assert_allclose(spread, np.array([[0, 0, 1, 2, 3, 3]] * 2).T, atol=1e-12)


def test_tokens_that_are_sums_of_places_are_drawn_where_they_read() -> None:
    """Reading A: of two tokens that read one half of the places each, the one that is like the prompt is bright."""
    encoder = build_random(
        replace(SMALL, tokenizer="token_linear", num_tokens=2, image_height=48, image_width=32, depth=0)
    )
    half = torch.tensor([[1.0, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 1]])
    with torch.no_grad():
        encoder.tokens.mix.weight.copy_(half)
    pixels = torch.randn(1, 1, 48, 32)
    with torch.no_grad():
        tokens = encoder.project(encoder.read_map(encoder.make_map(pixels)).tokens)[0]
    asked = {"mass": Prompted(tokens[:1], tokens[1:], 1.0)}
    found = map_prompts(encoder, pixels, asked, mixed=False)["mass"][0].ravel()
    cosine = float(torch.nn.functional.cosine_similarity(tokens[:1], tokens[1:]))
    np.testing.assert_allclose(found, [1 - cosine] * 3 + [cosine - 1] * 3, rtol=1e-4)


@pytest.mark.parametrize(
    ("backbone", "first"), [("test_resnet", 0.0), ("test_convnext", 15.5)], ids=["padded", "patches"]
)
def test_places_lie_where_the_network_reads(backbone: str, first: float) -> None:
    """Odd convolutions padded alike begin over pixel 0, patches of 32 pixels in the middle of the first."""
    config = replace(SMALL, backbone=backbone, stride=32, image_height=320, image_width=192)
    rows, columns = find_place_centres(config, (10, 6))
    np.testing.assert_allclose(rows, first + 32 * np.arange(10), atol=4.0)
    np.testing.assert_allclose(columns, first + 32 * np.arange(6), atol=4.0)


# --- the way back


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_bright_token_lands_on_the_lesion_of_the_source(side: str) -> None:
    """Through crop, mirroring, resizing and padding: the maximum is within half a place of where the lesion was put."""
    picture = np.zeros((500, 420), np.float32)
    rows, columns = np.mgrid[:500, :420]
    picture[np.hypot((rows - 250) / 1.5, columns) < 140] = 0.5  # chest wall at the left, 420 x 140 px
    lesion = (180, 60)
    picture = np.ascontiguousarray(picture[:, ::-1]) if side == "right" else picture
    lesion = (lesion[0], 419 - lesion[1]) if side == "right" else lesion
    framed = frame_breast(picture, (200, 120))
    assert framed.chest_wall == side
    box = np.array([lesion[0] - 15, lesion[1] - 15, lesion[0] + 16, lesion[1] + 16], np.float64)
    centres = np.arange(3.5, 200, 8.0), np.arange(3.5, 120, 8.0)  # places of 8 cached pixels
    here = map_from_source(framed.affine, np.array([lesion], np.float64))[0]
    places = np.zeros((25, 15))
    places[np.abs(centres[0] - here[0]).argmin(), np.abs(centres[1] - here[1]).argmin()] = 1.0
    heat = spread_map(places, *centres, (200, 120))
    breast = find_breast_pixels((framed.pixels * 65535).astype(np.uint16))
    # The place's centre lies between four pixels.
    peak = map_to_source(framed.affine, np.argwhere(find_maxima(heat, breast)).astype(float)).mean(axis=0)
    half = 4 * np.abs(framed.affine).max()
    assert np.abs(peak - lesion).max() <= half + 1
    whole = map_heat_to_source(framed.affine, heat, picture.shape)
    assert np.abs(np.argwhere(whole >= whole.max() - 1e-9).mean(axis=0) - lesion).max() <= half + 1
    marked = mark_box(framed.affine, (200, 120), box)
    assert score_hit(heat, marked, breast) == 1
    mask = np.zeros(picture.shape, bool)
    mask[lesion[0] - 15 : lesion[0] + 16, lesion[1] - 15 : lesion[1] + 16] = True
    np.testing.assert_array_equal(mark_mask(framed.affine, (200, 120), mask), marked)
    other = mark_box(framed.affine, (200, 120), box + [0, 60, 0, 60])
    assert score_hit(heat, other, breast) == 0
    tiny = np.array([lesion[0], lesion[1], lesion[0] + 0.2, lesion[1] + 0.2])
    assert mark_box(framed.affine, (200, 120), tiny).sum() == 1  # smaller than a cached pixel, but not lost


# --- the pointing game


def score_slowly(heat, lesion, breast) -> tuple[float, float]:
    """Hit and chance, pixel by pixel."""
    inside = [(row, column) for row in range(heat.shape[0]) for column in range(heat.shape[1]) if breast[row, column]]
    most = max(heat[place] for place in inside)
    best = [place for place in inside if heat[place] == most]
    return sum(bool(lesion[one]) for one in best) / len(best), sum(bool(lesion[one]) for one in inside) / len(inside)


def test_the_pointing_game_agrees_with_a_slow_loop() -> None:
    rng = np.random.default_rng(0)
    found = []
    for _ in range(50):
        heat = rng.integers(0, 12, (7, 6)).astype(np.float64)  # several maxima now and then
        lesion, breast = rng.random((7, 6)) < 0.2, rng.random((7, 6)) < 0.7
        slow = score_slowly(heat, lesion, breast)
        assert (score_hit(heat, lesion, breast), score_chance(lesion, breast)) == pytest.approx(slow)
        found.append(slow[0])
    assert {0.0, 1.0} < set(found)  # hits, misses and shares


def test_a_map_that_says_nothing_scores_what_chance_does() -> None:
    breast, lesion = np.ones((4, 5), bool), np.zeros((4, 5), bool)
    lesion[0, :3] = True
    flat = spread_map(np.full((2, 2), 0.3), np.array([0.7, 2.1]), np.array([0.2, 3.3]), (4, 5))
    assert score_hit(flat, lesion, breast) == pytest.approx(score_chance(lesion, breast)) == pytest.approx(0.15)
    assert score_centre(lesion, breast) == 0
    assert score_centre(lesion | (np.indices((4, 5))[0] == 2), breast) == 1


def test_a_tolerance_is_in_millimetres_both_ways() -> None:
    lesion = np.zeros((9, 9), bool)
    lesion[4, 4] = True
    wide = widen(lesion, 2.0, (1.0, 0.5))
    for row in range(9):
        for column in range(9):
            assert wide[row, column] == (math.hypot(row - 4, (column - 4) / 2) <= 2), (row, column)
    assert widen(lesion, 0.0, (1.0, 1.0)) is lesion


def test_no_hit_at_all_is_not_certainty() -> None:
    """Of 7 patients without a hit the rate is below 1 - 0.025^(1/7) = 0.4096 with 97.5 %."""
    found, patient = Estimate("pointing_hit", "mass", 0.0, 0.0, 0.0, num=14), np.arange(14) // 2
    never, always = np.zeros(14), np.ones(14)
    assert widen_certain(found, never, patient, is_share=True).high == pytest.approx(0.40962, abs=1e-5)
    assert widen_certain(found, always, patient, is_share=True).low == pytest.approx(1 - 0.40962, abs=1e-5)
    less = widen_certain(found, never, patient, is_share=False)
    assert (less.low, less.high) == (None, None)
    assert widen_certain(found, np.eye(14)[0], patient, is_share=True) is found


# --- random weights


def test_structure_agrees_with_a_slow_loop() -> None:
    rng = np.random.default_rng(1)
    first, second = rng.random((9, 8)), rng.random((9, 8))
    inside = rng.random((9, 8)) < 0.8

    def stretch(values):
        kept = [values[place] for place in zip(*np.nonzero(inside), strict=True)]
        return np.clip((values - min(kept)) / (max(kept) - min(kept)), 0, 1)

    x, y = stretch(first), stretch(second)

    def mirror(place: int, size: int) -> int:
        return -place - 1 if place < 0 else 2 * size - place - 1 if place >= size else place

    values = []
    for row, column in zip(*np.nonzero(inside), strict=True):
        window = [(mirror(row + i, 9), mirror(column + j, 8)) for i in range(-3, 4) for j in range(-3, 4)]
        a, b = ([one[place] for place in window] for one in (x, y))
        ma, mb = sum(a) / 49, sum(b) / 49
        va, vb = sum((v - ma) ** 2 for v in a) / 49, sum((v - mb) ** 2 for v in b) / 49
        cov = sum((v - ma) * (w - mb) for v, w in zip(a, b, strict=True)) / 49
        values.append((2 * ma * mb + 1e-4) * (2 * cov + 9e-4) / ((ma * ma + mb * mb + 1e-4) * (va + vb + 9e-4)))
    assert measure_structure(first, second, inside) == pytest.approx(sum(values) / len(values), abs=1e-9)
    assert measure_structure(first, 3 * first + 1, inside) == pytest.approx(1.0)


def test_ranks_by_hand() -> None:
    first = np.array([1.0, 2.0, 3.0, 4.0])
    assert correlate_ranks(first, np.array([10.0, 20.0, 40.0, 30.0])) == pytest.approx(0.8)  # 1 - 6 x 2 / (4 x 15)
    assert correlate_ranks(first, -(first**3)) == pytest.approx(1.0)  # upside down, the same edges
    assert correlate_ranks(first, np.zeros(4)) == 0
    assert correlate_ranks(np.zeros(4), first) == 1  # nothing to lose


def judge(pairs: list[tuple[np.ndarray, np.ndarray]]) -> tuple[bool, str]:
    alike = np.array([correlate_ranks(*pair) for pair in pairs])
    patient = np.arange(len(pairs)) // 2

    def mean(weight: np.ndarray) -> np.ndarray:
        return alike @ weight / weight.sum(axis=0)

    return judge_randomisation(estimate_weighted(mean, patient, metric="map_rank_correlation", of="mass"))


def test_an_edge_detector_does_not_pass_the_test_of_random_weights() -> None:
    """Adebayo et al. 2018: what depends on the image alone stays as it is when weights are forgotten."""
    rng = np.random.default_rng(2)
    images = [rng.random((12, 8)) for _ in range(30)]
    edges = [np.abs(np.diff(image, axis=0)).ravel() for image in images]
    passes, why = judge([(one, one) for one in edges])
    assert not passes
    assert "does not end below 0.5" in why
    assert not judge([(one, -one + 0.1 * rng.random(one.shape)) for one in edges])[0]  # nor turned upside down
    assert not judge([(np.zeros(9), rng.random(9)) for _ in edges])[0]  # nor one that is flat
    passes, why = judge([(one, rng.random(one.shape)) for one in edges])
    assert passes, why


def test_weights_are_forgotten_from_the_top_down() -> None:
    encoder = build_random(SMALL, seed=3)
    steps = list_cascade(encoder)
    assert list(steps) == ["projection", "transformer", "tokenizer", "backbone"]
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    fresh = build_random(SMALL, seed=APART + 9).state_dict()
    for parts in steps.values():
        for name, value in randomise(encoder, parts, seed=9).state_dict().items():
            expected = fresh if name.split(".")[0] in parts else before
            assert torch.equal(value, expected[name]), name
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())
    plain = replace(SMALL, tokenizer="none", depth=0, dropout=0.0, positions=False, pooling="mean")
    assert list(list_cascade(build_random(plain))) == ["projection", "backbone"]


def test_random_weights_are_not_those_a_run_began_with() -> None:
    """A run of seed 0 with little training is what it began with; maps are to be compared with those of others."""
    began = build_random(SMALL, seed=0)
    other = randomise(began, ("backbone", "project"), seed=0)
    for one, two in zip(began.parameters(), other.parameters(), strict=True):
        if one.ndim == 4 and one.numel() > 500:
            assert abs(np.corrcoef(one.detach().flatten(), two.detach().flatten())[0, 1]) < 0.3


def test_a_single_patient_has_no_interval_and_passes_nothing() -> None:
    value, rules = np.array([0.1, 0.2]), Rules(50)
    about = {"metric": "map_rank_correlation", "of": "mass", "slice": "random=backbone"}
    one = estimate_mean(value, np.array([7, 7]), rules, **about)
    assert (one.value, one.low, one.high) == (pytest.approx(0.15), None, None)
    assert judge_randomisation(one)[0] is False
    assert judge_randomisation(estimate_mean(value, np.array([7, 8]), rules, **about))[0]


def test_shapes_are_checked() -> None:
    with pytest.raises(TypeCheckError):
        compare_prompts(torch.zeros(2, 3), torch.zeros(1, 4), torch.zeros(1, 3), 1.0)
