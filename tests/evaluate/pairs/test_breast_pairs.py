"""Pairs of breasts: duplicates as hits, the woman's other breast, several exposures; by hand and by loops."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hilum.breast_views import BreastViews
from hilum.evaluate.pairs.breasts import average_views, choose_texts
from hilum.evaluate.pairs.matching import estimate_matching, find_other_breast, measure_own_nearer, rank_views
from hilum.evaluate.pairs.retrieval import estimate_retrieval, fuse_kinds, rank_texts
from hilum.evaluate.result import Estimate
from hilum.evaluate.slices import withhold_of_few
from hilum.text.descriptions import TextRows, hash_text

seeds = st.integers(0, 2**32 - 1)


def find(estimates: list, metric: str, slice: str):
    return next(one for one in estimates if (one.metric, one.slice) == (metric, slice))


def cos(a: np.ndarray, b: np.ndarray) -> float:
    length = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / length) if length else 0.0


def rank_slowly(scores: list[float], right: list[bool]) -> list[float]:
    """Probability that a right one is among the first k, for every k, of candidates with these scores."""
    best = max(score for score, is_right in zip(scores, right, strict=True) if is_right)
    before = sum(score > best + 1e-12 for score in scores)
    level = [is_right for score, is_right in zip(scores, right, strict=True) if abs(score - best) <= 1e-12]
    found = []
    for k in range(1, len(scores) + 1):
        missed, wrong = 1.0, level.count(False)
        for place in range(min(max(k - before, 0), len(level))):
            missed *= max(wrong - place, 0) / (len(level) - place)
        found.append(1 - missed)
    return found


# --- retrieval


def test_identical_descriptions_count_as_hits_by_hand() -> None:
    """Four breasts; the images of the first point at the text of the third, which says the same in other words (same
    facts), those of the second at the fourth's, which has other facts but the same words; the last at the second's."""
    text = np.eye(4)
    image = text[[2, 3, 2, 1]]
    facts, words, patient = np.array([0, 1, 0, 3]), np.array([0, 1, 2, 1]), np.arange(4)
    ranks = rank_texts(image, text, facts, words, patient)
    assert ranks.better.tolist() == [0, 0, 0, 0]
    assert (ranks.num_right.tolist(), ranks.num.tolist()) == ([2, 2, 2, 2], [4, 4, 4, 4])
    alone = rank_texts(image, text, facts, np.arange(4), patient)
    assert alone.num_right.tolist() == [2, 1, 2, 1]
    assert alone.better.tolist() == [0, 1, 0, 1]
    estimates = estimate_retrieval(image, text, facts, np.arange(4), patient, num_resamples=10)
    assert find(estimates, "recall_at_1", "image to text").value == pytest.approx(0.5)
    assert find(estimates, "chance_at_1", "image to text").value == pytest.approx((0.5 + 0.25 + 0.5 + 0.25) / 4)
    assert find(estimates, "median_rank", "image to text").value == 1
    assert find(estimates, "recall_at_5", "image to text").value == 1


@settings(deadline=None, max_examples=10)
@given(seeds)
def test_retrieval_agrees_with_a_loop(seed: int) -> None:
    rng, num = np.random.default_rng(seed), 12
    image, text = rng.integers(-2, 3, (2, num, 2)).astype(float)
    facts, words, patient = rng.integers(0, 5, num), rng.integers(0, 9, num), np.arange(num) // 2
    estimates = estimate_retrieval(image, text, facts, words, patient, num_resamples=2)
    for way, (query, candidate) in {"image to text": (image, text), "text to image": (text, image)}.items():
        within = [
            rank_slowly(
                [cos(query[i], candidate[j]) for j in range(num)],
                [bool(facts[i] == facts[j] or words[i] == words[j]) for j in range(num)],
            )
            for i in range(num)
        ]
        shares = np.mean(within, axis=0)
        for k in (1, 5, 10):
            assert find(estimates, f"recall_at_{k}", way).value == pytest.approx(shares[k - 1])
        assert find(estimates, "median_rank", way).value == 1 + np.argmax(shares >= 0.5 - 1e-9)


def test_constant_vectors_do_what_chance_does() -> None:
    facts = np.array([0] * 25 + list(range(1, 26)))  # half of all breasts are described alike
    patient, text = np.arange(50) // 2, np.random.default_rng(0).normal(size=(50, 8))
    estimates = estimate_retrieval(np.ones((50, 8)), np.ones((50, 8)), facts, facts, patient, num_resamples=5)
    for way in ("image to text", "text to image"):
        for k in (1, 5, 10):
            chance = find(estimates, f"chance_at_{k}", way).value
            assert find(estimates, f"recall_at_{k}", way).value == pytest.approx(chance)
        assert find(estimates, "median_rank", way).value == find(estimates, "chance_median_rank", way).value
    assert find(estimates, "chance_at_1", way).value == pytest.approx((25 * 0.5 + 25 * 0.02) / 50)
    alike = np.full((50, 2, 3), 0.1) * np.arange(1, 51)[:, None, None]  # of one direction, but for the last bits
    estimates = estimate_matching(alike, patient, 1 + np.arange(50) % 2, patient, num_resamples=5)
    for metric in ("ipsilateral_auc", "ipsilateral_auc_pooled"):
        assert find(estimates, metric, "MLO to CC").value == 0.5
    assert find(estimates, "recall_at_10", "MLO to CC").value == pytest.approx(0.2)
    perfect = estimate_retrieval(text, 3 * text, facts, facts, patient, num_resamples=5)
    whole = find(perfect, "recall_at_1", "text to image")
    assert (whole.value, whole.high) == (1, 1)
    assert whole.low == pytest.approx(0.025 ** (1 / 25))  # exact, of 25 women: resamples would claim certainty
    few = [part[:5] for part in (text, text, facts, facts, patient)]
    assert find(estimate_retrieval(*few, num_resamples=5), "recall_at_5", "text to image").low == 1  # of five, five


# --- matching


def test_matching_by_hand() -> None:
    """A woman with two exams and one with one. The CC of breast 0 is nearest to the MLO of the same breast at the other
    exam (2, left out), then to that of its other side (1), then to its own."""
    study, laterality = np.array([0, 0, 1, 1, 2, 2]), np.array([1, 2, 1, 2, 1, 2])
    patient = np.array([0, 0, 0, 0, 1, 1])
    mlo = np.eye(6)
    cc = np.eye(6)
    cc[0] = [0.5, 0.6, 0.8, 0, 0, 0]
    ranks = rank_views(cc, mlo, patient, laterality)
    assert ranks.better.tolist() == [1, 0, 0, 0, 0, 0]
    assert ranks.num.tolist() == [5, 5, 5, 5, 6, 6]
    assert find_other_breast(study).tolist() == [1, 0, 3, 2, 5, 4]
    views = np.stack([cc, mlo], axis=1)
    estimates = estimate_matching(views, study, laterality, patient, num_resamples=20)
    assert find(estimates, "recall_at_1", "CC to MLO").value == pytest.approx(5 / 6)
    assert find(estimates, "chance_at_1", "CC to MLO").value == pytest.approx((4 / 5 + 2 / 6) / 6)
    assert find(estimates, "ipsilateral_auc", "CC to MLO").value == pytest.approx(5 / 6)
    # Of 36 pairs one is lost: 0.5 / 1.118 of breast 0 against the 0.6 / 1.118 of its other side.
    assert find(estimates, "ipsilateral_auc_pooled", "CC to MLO").value == pytest.approx(35 / 36)
    # The MLO of breast 0 finds its own CC first; that of breast 1 lies at 0.54 of breast 0's CC, at 1 of its own.
    assert find(estimates, "recall_at_1", "MLO to CC").value == 1
    assert find(estimates, "ipsilateral_auc", "MLO to CC").value == 1
    assert find(estimates, "ipsilateral_auc", "MLO to CC").num == 6


@settings(deadline=None, max_examples=10)
@given(seeds)
def test_matching_agrees_with_a_loop(seed: int) -> None:
    rng = np.random.default_rng(seed)
    study = np.repeat(np.arange(7), 2)[rng.permutation(14)[:11]]
    study.sort()
    laterality = np.array([1 + (place > 0 and study[place] == study[place - 1]) for place in range(11)])
    patient, num = study // 2, 11
    views = rng.integers(-2, 3, (num, 2, 2)).astype(float)
    estimates = estimate_matching(views, study, laterality, patient, num_resamples=2)
    for way, (a, b) in {"CC to MLO": (0, 1), "MLO to CC": (1, 0)}.items():
        hits, own, wrong = [], [], []
        for i in range(num):
            same = [patient[i] == patient[j] and laterality[i] == laterality[j] for j in range(num)]
            seen = [j for j in range(num) if j == i or not same[j]]
            within = rank_slowly([cos(views[i, a], views[j, b]) for j in seen], [j == i for j in seen])
            hits.append(within[min(4, len(within) - 1)])
            for j in range(num):
                if j != i and study[j] == study[i]:
                    own.append(cos(views[i, a], views[i, b]))
                    wrong.append(cos(views[i, a], views[j, b]))
        assert find(estimates, "recall_at_5", way).value == pytest.approx(np.mean(hits))
        if own:
            wins = [(x > y + 1e-12) + 0.5 * (abs(x - y) <= 1e-12) for x, y in zip(own, wrong, strict=True)]
            assert find(estimates, "ipsilateral_auc", way).value == pytest.approx(np.mean(wins))
            pooled = [(x > y + 1e-12) + 0.5 * (abs(x - y) <= 1e-12) for x in own for y in wrong]
            assert find(estimates, "ipsilateral_auc_pooled", way).value == pytest.approx(np.mean(pooled))


def test_the_same_cosine_is_half_a_win() -> None:
    assert measure_own_nearer(np.array([0.5, 0.2, 0.9]), np.array([0.5, 0.9, 0.2])).tolist() == [0.5, 0, 1]


def test_a_woman_without_another_breast_has_no_auc_but_is_matched() -> None:
    views = np.stack([np.eye(3), np.eye(3)], axis=1)
    estimates = estimate_matching(views, np.arange(3), np.ones(3, int), np.arange(3), num_resamples=3)
    assert find(estimates, "recall_at_1", "CC to MLO").value == 1
    lacking = find(estimates, "ipsilateral_auc", "CC to MLO")
    assert (lacking.value, lacking.num, lacking.reason) == (None, 0, "no test exam has both views of both breasts")


def test_sides_that_are_told_apart_without_exception_claim_no_certainty() -> None:
    """Twelve women, each breast alone in its direction: of a share of women the interval is exact, an AUC has none."""
    study, laterality = np.arange(24) // 2, np.tile([1, 2], 12)
    views = np.stack([np.eye(24), np.eye(24)], axis=1)
    estimates = estimate_matching(views, study, laterality, study, num_resamples=9)
    within, pooled = (find(estimates, name, "CC to MLO") for name in ("ipsilateral_auc", "ipsilateral_auc_pooled"))
    assert (within.value, within.high, within.low) == (1, 1, pytest.approx(0.025 ** (1 / 12)))
    assert (pooled.value, pooled.low, pooled.high) == (1, None, None)


def test_too_few_breasts_do_not_hide_another_reason() -> None:
    about = {"num": 3, "slice": "CC to MLO"}
    assert (
        withhold_of_few(Estimate("recall_at_1", "view", 1.0, **about)).reason == "too few: 3 of 30 test rows at least"
    )
    assert withhold_of_few(Estimate("ipsilateral_auc", "view", None, reason="why", **about)).reason == "why"


def test_intervals_draw_women() -> None:
    """Ten women with two breasts each, found in both or in neither: an interval over breasts would be narrower."""
    patient, found = np.arange(20) // 2, np.repeat(np.arange(10) % 2, 2).astype(bool)
    text = np.eye(20)
    image = np.where(found[:, None], text, np.roll(text, 1, axis=1))
    estimates = estimate_retrieval(image, text, np.arange(20), np.arange(20), patient, num_resamples=500)
    of_women = find(estimates, "recall_at_1", "image to text")
    alone = estimate_retrieval(image, text, np.arange(20), np.arange(20), np.arange(20), num_resamples=500)
    of_breasts = find(alone, "recall_at_1", "image to text")
    assert of_women.high - of_women.low > 1.2 * (of_breasts.high - of_breasts.low)


# --- breasts


def build_breasts() -> BreastViews:
    """Breast 0 (study 3, left) has two CC images and one MLO, breast 1 (study 3, right) an MLO, breast 2 a CC."""
    return BreastViews(
        study=np.array([3, 3, 5]), laterality=np.array([1, 2, 1]), key=np.zeros(3, int),
        first=np.array([[0, 2], [0, 3], [4, 0]]), count=np.array([[2, 1], [0, 1], [1, 0]]),
        view=np.array([20, 23, 21, 22, 40]),
    )  # fmt: skip


def test_views_of_a_kind_are_averaged_before_the_two_kinds() -> None:
    view = np.array([40, 23, 22, 21, 20, 99])
    vectors = np.array([[0.0, 2], [0, 5], [-3, 0], [0, -1], [7, 0], [8, 8]])
    found = average_views(vectors, view, build_breasts())
    half = np.sqrt(0.5)
    np.testing.assert_allclose(found, [[[half, half], [0, -1]], [[0, 0], [-1, 0]], [[0, 1], [0, 0]]], atol=1e-12)
    fused = fuse_kinds(found)
    np.testing.assert_allclose(np.linalg.norm(fused, axis=1), 1)
    np.testing.assert_allclose(fused[1:], [[-1, 0], [0, 1]], atol=1e-12)
    with pytest.raises(AssertionError, match="every image of a breast has a vector"):
        average_views(vectors[:3], view[:3], build_breasts())


def test_one_text_of_each_breast_whatever_the_order_of_the_file() -> None:
    """Variants of the left breast of study 3, a text of the whole study 5, one of a study that is not tested."""
    rows = [(3, 1, "one mass", ("mass",)), (3, 1, "a mass", ("mass",)), (5, 0, "a mass", ()), (9, 2, "clear", ())]
    for order in (rows, rows[::-1]):
        study, side, text, facts = zip(*order, strict=True)
        given = TextRows(np.array(study), np.array(side), text, facts, np.zeros(4, bool))
        found = choose_texts(given, build_breasts())
        assert found.breast.tolist() == [0, 2]
        first = min("one mass", "a mass", key=hash_text)
        assert [found.distinct[place] for place in found.text] == [first, "a mass"]
        assert found.facts[0] != found.facts[1]  # facts and words are never the same thing


def test_facts_are_a_set_and_words_stand_for_them_where_there_are_none() -> None:
    given = TextRows(
        np.array([3, 3, 5]), np.array([1, 2, 1]), ("x", "y", "z"), (("a", "b"), ("b", "a", "a"), ()), np.zeros(3, bool)
    )
    found = choose_texts(given, build_breasts())
    assert found.facts[0] == found.facts[1] != found.facts[2]
