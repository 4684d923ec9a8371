"""Kappa and balanced accuracy of ordered classes: by hand, by a loop, by scikit-learn; and where they appear."""

from __future__ import annotations

import time
import warnings
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import Float
from sklearn.metrics import balanced_accuracy_score, cohen_kappa_score

from hilum.cache import Cache
from hilum.evaluate.paper.parts import estimate_parts, take_findings
from hilum.evaluate.scoring.class_metrics import resample_balanced_accuracy, resample_quadratic_kappa
from hilum.evaluate.scoring.estimates import (
    OF_CLASSES,
    average_parts,
    estimate_difference,
    estimate_scores,
)
from hilum.evaluate.scoring.scores import Scores, read_scores, write_scores
from hilum.evaluate.task import read_task

NAN = float("nan")
ONCE = np.ones((4, 1), np.float32)


def stand(classes: list[int], num: int = 3) -> Float[np.ndarray, "row cls"]:
    """One where a row's class stands."""
    return np.eye(num)[classes]


def loop_kappa(true: np.ndarray, said: np.ndarray, num: int) -> float:
    """Cohen 1968, cell by cell."""
    cells, rows, columns = Counter(zip(true, said, strict=True)), Counter(true), Counter(said)
    seen = chance = 0.0
    for i in range(num):
        for j in range(num):
            seen += (i - j) ** 2 * cells[i, j]
            chance += (i - j) ** 2 * rows[i] * columns[j] / len(true)
    return 1 - seen / chance if chance else NAN


def test_by_hand() -> None:
    """The examples of the docstrings."""
    found = resample_quadratic_kappa(stand([0, 1, 2, 2]), stand([0, 1, 1, 2]), ONCE)
    np.testing.assert_allclose(found, [0.8])
    found = resample_balanced_accuracy(stand([0, 0, 1, 2]), stand([0, 1, 1, 1]), ONCE)
    np.testing.assert_allclose(found, [0.5])


def test_ends_of_the_scales() -> None:
    true = stand([0, 1, 1, 2])
    assert resample_quadratic_kappa(true, true, ONCE) == [1]
    assert resample_quadratic_kappa(true, stand([2, 1, 1, 0]), ONCE) == [-1]
    assert resample_quadratic_kappa(true, stand([1, 1, 1, 1]), ONCE) == [0]
    assert np.isnan(resample_quadratic_kappa(stand([1] * 4), stand([1] * 4), ONCE)).all()
    assert resample_balanced_accuracy(true, stand([1] * 4), ONCE) == [pytest.approx(1 / 3)]
    assert resample_balanced_accuracy(stand([1] * 4), stand([1, 1, 0, 2]), ONCE) == [0.5]  # of the one class there is
    assert np.isnan(resample_balanced_accuracy(true, true, 0 * ONCE)).all()


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(2, 5))
def test_they_are_those_of_scikit_learn_on_repeated_rows(seed: int, num: int) -> None:
    rng = np.random.default_rng(seed)
    size = int(rng.integers(1, 30))
    true, logit = rng.integers(0, num, size), rng.integers(0, 4, (size, num)) / 4  # with ties: the first class
    weight = rng.integers(0, 3, (size, 4)).astype(np.float32)
    kappa, accuracy = (
        metric(stand(true.tolist(), num), logit, weight)
        for metric in (resample_quadratic_kappa, resample_balanced_accuracy)
    )
    for column in range(4):
        times = weight[:, column].astype(int)
        y, said = np.repeat(true, times), np.repeat(logit.argmax(1), times)
        if not len(y):
            assert np.isnan([kappa[column], accuracy[column]]).all()
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # 0 / 0, and classes that are said of no row of theirs
            expected = cohen_kappa_score(y, said, labels=list(range(num)), weights="quadratic")
            assert accuracy[column] == pytest.approx(balanced_accuracy_score(y, said))
        assert kappa[column] == pytest.approx(loop_kappa(y, said, num), nan_ok=True)
        assert kappa[column] == pytest.approx(expected, nan_ok=True)


def make_scores(seed: int = 0, num: int = 120, noise: float = 1.0) -> Scores:
    """Two rows of each patient; classes c are common, a few rows are unknown."""
    rng = np.random.default_rng(seed)
    true = rng.choice(3, num, p=[0.3, 0.2, 0.5])
    target = stand(true.tolist())
    target[::10] = NAN
    logit = stand(true.tolist())[None] + rng.normal(0, noise, (2, num, 3))
    names = ("BI-RADS=1-2", "BI-RADS=3", "BI-RADS=4-5")
    nothing = np.full(logit.shape, NAN)
    return Scores(names, target, logit, nothing, np.arange(num) // 2, np.arange(num), classes="birads3")


def test_estimates_are_one_number_of_all_classes_over_repeats() -> None:
    scores = make_scores()
    found = {one.metric: one for one in estimate_scores(scores, ("quadratic_kappa", "balanced_accuracy"))}
    assert len(found) == 2
    known = ~np.isnan(scores.target[:, 0])
    true, said = scores.target[known].argmax(1), scores.logit[:, known].argmax(2)
    expected = np.mean([cohen_kappa_score(true, one, weights="quadratic") for one in said])
    kappa = found["quadratic_kappa"]
    assert (kappa.value, kappa.of, kappa.num, kappa.positives) == (pytest.approx(expected), "birads3", 108, None)
    assert kappa.low is not None
    assert kappa.high is not None
    assert 0.05 < kappa.high - kappa.low < 0.5
    assert kappa.low < kappa.value < kappa.high


def test_targets_that_stand_alone_have_none() -> None:
    scores = replace(make_scores(), classes=None)
    assert not estimate_scores(scores, OF_CLASSES)
    assert not estimate_difference(scores, scores, OF_CLASSES)
    assert OF_CLASSES == ("quadratic_kappa", "balanced_accuracy")
    assert take_findings(make_scores(), ["BI-RADS=3"]).classes is None


def test_differences_are_paired_and_parts_are_averaged() -> None:
    scores, worse = make_scores(), make_scores(noise=1.0)
    worse = replace(worse, logit=worse.logit + np.random.default_rng(1).normal(0, 0.5, worse.logit.shape))
    (gap,) = estimate_difference(scores, worse, ("quadratic_kappa",))
    (one,) = estimate_scores(scores, ("quadratic_kappa",))
    (other,) = estimate_scores(worse, ("quadratic_kappa",))
    assert gap.value == pytest.approx(one.value - other.value)
    assert gap.high - gap.low < 1.4 * (one.high - one.low)  # of independent rows it would be about 1.5
    halves = {"x": np.arange(120) < 60, "y": np.arange(120) >= 60}
    rules = {"min_positives": 3, "num_resamples": 20}
    parts = {name: scores.take(member) for name, member in halves.items()}
    found = [estimate_scores(part, ("quadratic_kappa",), **rules)[0] for part in parts.values()]
    mean, values = average_parts(found), [one.value for one in found]
    assert (mean.of, mean.value, mean.num) == ("birads3", pytest.approx(np.mean(values)), 2)
    listed = estimate_parts(scores, halves, None, **rules, metrics=("quadratic_kappa",))
    assert [one.slice for one in listed] == ["dataset=x", "dataset=y", "mean over datasets"]
    assert not estimate_parts(replace(scores, classes=None), halves, None, **rules, metrics=("quadratic_kappa",))


def test_too_few_rows_of_the_classes_are_said_and_enter_no_mean() -> None:
    scores = make_scores()
    few = scores.take(~(scores.target[:, 1:] == 1).any(axis=1) | (np.arange(120) < 12))
    (one,) = estimate_scores(few, ("balanced_accuracy",))
    assert one.value is not None
    assert one.reason.endswith("rows of the classes, 10 of two needed")
    mean = average_parts([one, one])
    assert (mean.value, mean.of) == (None, "birads3")


def test_scores_keep_what_their_classes_are_of(tmp_path: Path) -> None:
    for scores in (make_scores(), replace(make_scores(), classes=None)):
        write_scores(tmp_path / "scores.npz", scores)
        assert read_scores(tmp_path / "scores.npz").classes == scores.classes


def test_a_thousand_resamples_of_thousands_of_breasts_take_a_second() -> None:
    scores = make_scores(num=4_000)
    begin = time.process_time()
    estimate_scores(scores, ("quadratic_kappa",))
    assert time.process_time() - begin < 3.0


def test_birads_is_five_classes_or_what_is_to_be_done(exam_cache: Cache) -> None:
    """Left breasts are 1, 4, 0 (incomplete: not known) and 5, right ones 2."""
    five, three = read_task(exam_cache, "breast:birads5"), read_task(exam_cache, "breast:birads3")
    assert five.names == tuple(f"BI-RADS={one}" for one in "12345")
    assert (five.classes, three.classes) == ("birads5", "birads3")
    assert three.names == ("BI-RADS=1-2", "BI-RADS=3", "BI-RADS=4-5")
    assert read_task(exam_cache, "breast:density").classes == "density"
    assert read_task(exam_cache, "breast:birads").classes is None
    rows = {0: (1, 0), 1: (2, 0), 2: (4, 2), 6: (5, 2)}  # row -> BI-RADS and place of the three
    for row, (birads, place) in rows.items():
        np.testing.assert_array_equal(five.target[row], np.eye(5)[birads - 1])
        np.testing.assert_array_equal(three.target[row], np.eye(3)[place])
    assert np.isnan(five.target[4]).all()
    assert np.isnan(three.target[4]).all()
