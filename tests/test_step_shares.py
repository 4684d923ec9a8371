"""How often kinds of studies are drawn, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from hilum.spreading import spread_patients
from hilum.step_shares import count_draws, limit_draws, weigh_kinds

MULTI, FOUND = np.array([False, True, False, True]), np.array([False, False, True, True])


@pytest.mark.parametrize(
    ("num", "share", "most", "weight"),
    [
        ([90, 10], 0.5, 100.0, 9.0),
        ([90, 10], 0.5, 4.0, 4.0),
        ([90, 10], 0.1, 4.0, 1.0),  # they are a tenth
        ([90, 10], 0.05, 4.0, 1.0),  # and are never drawn less often
        ([0, 10], 0.5, 4.0, 1.0),
        ([90, 0], 0.5, 4.0, 1.0),
        ([90, 10], 1.0, 4.0, 4.0),
    ],
)
def test_one_kind_by_hand(num: list[int], share: float, most: float, weight: float) -> None:
    found = weigh_kinds(np.array(num), [(np.array([False, True]), share)], most)
    np.testing.assert_allclose(found, [1, weight])


def test_two_wanted_shares_hold_together_and_within_one_limit() -> None:
    """Independent: a fifth of two views, a tenth with findings. Half and half: 4 and 9 times, both 36 times."""
    num = np.array([720, 180, 80, 20])
    wanted = [(MULTI, 0.5), (FOUND, 0.5)]
    np.testing.assert_allclose(weigh_kinds(num, wanted, 1000.0), [1, 4, 9, 36])
    np.testing.assert_allclose(weigh_kinds(num, wanted, 8.0), [1, 4, 2, 8])  # findings give way
    mixed = np.array([700, 20, 30, 60])
    drawn = mixed * weigh_kinds(mixed, [(MULTI, 0.3), (FOUND, 0.4)], 1e6)
    assert drawn[MULTI].sum() / drawn.sum() >= 0.3 - 1e-6
    assert drawn[FOUND].sum() / drawn.sum() >= 0.4 - 1e-6


def test_an_epoch_is_as_long_as_before() -> None:
    assert count_draws(np.array([90, 10]), np.array([180, 20]), np.array([1.0, 9])).tolist() == [50, 50]
    # 60 views of one each and 40 of 20 studies: with findings twice as often, 100 views are 43 and 2 x 29.
    assert count_draws(np.array([60, 20]), np.array([60, 40]), np.array([1.0, 2])).tolist() == [43, 29]
    # A single study that is due a third of a draw is drawn; what a share of 1 leaves nothing is not.
    num = np.array([1, 30])
    assert count_draws(num, num, weigh_kinds(num, [(np.array([False, True]), 0.99)], 4.0)).tolist() == [1, 31]
    assert count_draws(num, num, weigh_kinds(num, [(np.array([False, True]), 1.0)], 1e9)).tolist() == [0, 31]


@pytest.mark.parametrize("num", range(1, 9))
@pytest.mark.parametrize("draws", range(1, 20))
def test_no_study_is_drawn_more_often_than_its_limit(num: int, draws: int) -> None:
    """Passes over studies in the worst order: the last of one is the first of the next."""
    passes = [np.roll(np.arange(num)[:: 1 - 2 * (one % 2)], 0) for one in range(40 * draws // num + 2)]
    drawn = np.concatenate(passes)
    most = max(np.bincount(drawn[one * draws : (one + 1) * draws]).max() for one in range(40))
    assert most <= limit_draws(draws, num) <= -(-draws // num) + 1


def test_even_kinds_by_hand() -> None:
    """Three steps; patients 0 and 1 have a finding in one breast, patient 2 in two; all others have two views."""
    patient = np.array([0, 0, 1, 1, 2, 2, 3, 4, 5])
    found = np.array([True, False, True, False, True, True, False, False, False])
    step = spread_patients(np.full(9, 2), patient, np.arange(9).astype(np.uint64), 3, [found])
    # Patient 2 first: steps 0 and 1. Patients 0 and 1: one to step 2, one to a step of one. Then by views.
    assert sorted(np.bincount(step[found], minlength=3).tolist()) == [1, 1, 2]
    assert np.bincount(step).tolist() == [3, 3, 3]
    assert step[4] != step[5]
    assert step[0] != step[1]
    assert step[2] != step[3]
