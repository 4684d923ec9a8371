"""Metrics of survival against loops, lifelines and torchsurv, ties included; and what censoring does to two of them."""

from __future__ import annotations

import warnings
from typing import get_args

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from survival_loops import loop_auc, loop_brier, loop_concordance, loop_mirai, loop_survival

from hilum.evaluate.risk.concordance import (
    c_index_antolini,
    c_index_harrell,
    c_index_mirai,
    c_index_uno,
    compare_as_mirai,
    compare_pairs,
    fit_mirai_survival,
    place_as_mirai,
    resample_concordance,
    weigh_by_censoring,
    weigh_by_events,
)
from hilum.evaluate.risk.estimates import Predicted, Reference, estimate_risk
from hilum.evaluate.risk.kaplan_meier import Side, fit_censoring, fit_survival, resample_risk
from hilum.evaluate.risk.time_dependent import (
    auc_ipcw,
    auc_mirai,
    brier_error,
    resample_auc,
    resample_brier,
    resample_calibration,
    resample_decile_recall,
)

with warnings.catch_warnings():  # of the packages that lifelines imports
    warnings.simplefilter("ignore")
    from lifelines import KaplanMeierFitter
    from lifelines.utils import concordance_index
    from torchsurv.stats.ipcw import get_ipcw

C, T = 1e-9, 1e-6  # tolerances of C-indices and own functions; of what torchsurv computes in single precision


def draw(seed: int, num: int = 60, *, whole: bool = False) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Risks of five years, years and events, with ties of risks; of times too where years are whole."""
    rng = np.random.default_rng(seed)
    rate = np.exp(rng.normal(-1.5, 1, num))
    steps = np.arange(1, 6)[None] * (0.5 + rng.random((num, 5)))
    risk = np.round(1 - np.exp(-rate[:, None] * np.maximum.accumulate(steps, axis=1)), 2).astype(np.float32)
    came, left = rng.exponential(1 / rate), rng.uniform(0.5, 9, num)
    years = np.minimum(came, left)
    years = np.floor(years) if whole else years.astype(np.float32).astype(np.float64)
    return risk, years, came <= left


# --- Kaplan-Meier


def test_kaplan_meier_of_four_women() -> None:
    years, event = np.array([1.0, 2, 2, 3]), np.array([True, True, False, False])
    free = fit_survival(years, event)
    np.testing.assert_allclose(free.read(np.array([0.5, 1, 1.5, 2, 9])), [1, 0.75, 0.75, 0.5, 0.5], atol=1e-15)
    np.testing.assert_allclose(free.read(np.array([1.0, 2]), "before"), [1, 0.75], atol=1e-15)
    # Her follow-up ends at 2, after the cancer of another at 2: one of two left leaves.
    np.testing.assert_allclose(fit_censoring(years, event).read(np.array([1.0, 2, 3])), [1, 0.5, 0], atol=1e-15)


@pytest.mark.parametrize("whole", [False, True])
def test_kaplan_meier_is_the_loops_and_lifelines(whole: bool) -> None:
    _, years, event = draw(3, whole=whole)
    at = np.array([0.0, 0.7, 1.0, 2.0, 3.3, 5.0])
    oracle = KaplanMeierFitter().fit(years, event).survival_function_at_times(at).to_numpy()
    np.testing.assert_allclose(fit_survival(years, event).read(at), oracle, rtol=0, atol=C)
    for side in ("before", "at"):
        loops = [loop_survival(years, event, t, censoring=True, before=side == "before") for t in at]
        np.testing.assert_allclose(fit_censoring(years, event).read(at, side), loops, rtol=0, atol=C)
    once = np.ones((len(years), 1))
    loops = [1 - loop_survival(years, event, t, before=True) for t in at[1:]]
    np.testing.assert_allclose(resample_risk(years, event, at[1:], once)[:, 0], loops, rtol=0, atol=C)


def test_observed_risk_is_not_known_where_nobody_is_left() -> None:
    years, event = np.array([1.0, 2.0]), np.array([True, False])
    found = resample_risk(years, event, np.array([2.0, 2.5]), np.array([[1.0, 2], [1, 1]]))
    np.testing.assert_allclose(found, [[1 / 2, 2 / 3], [np.nan, np.nan]])


# --- C-indices


def test_concordance_of_three_women() -> None:
    score, years, event = np.array([3.0, 1, 2]), np.array([1.0, 2, 3]), np.array([True, True, False])
    assert c_index_harrell(score, years, event) == pytest.approx(2 / 3)
    assert c_index_uno(score, years, event, np.array([1.0, 2, 0])) == pytest.approx(2 / (2 + 4))  # weights squared
    risk = np.array([[0.1, 0.9], [0.2, 0.3], [0.1, 0.5]])  # until 1 and 2 years
    # The first event, at 1, is in the second year: 0.9 beats both; the second, at 2, is later than all: 0.3 < 0.5.
    assert c_index_antolini(risk, years, event) == pytest.approx(2 / 3)
    assert c_index_antolini(risk, years - 0.5, event) == pytest.approx(0.5 / 3)  # now in the first: 0.1 < 0.2, a tie


def test_mirais_concordance_of_four_women() -> None:
    """Cancers in the first and second year, one free for 2.5 years, one for half a year, who takes no part.

    Places 0, 1, 1. S is 2/3 from 0 on and 1/3 from 1 on: all three pairs are at place 1 and weigh the same.
    """
    risk = np.array([[0.9, 0.4], [0.1, 0.5], [0.1, 0.5], [0.0, 0.0]])
    years, event = np.array([0.0, 1.5, 2.5, 0.5]), np.array([True, True, False, False])
    assert place_as_mirai(years, event, 2)[0].tolist() == [0, 1, 1, -1]
    survival = fit_mirai_survival(years, event, 2)
    assert survival.share.tolist() == pytest.approx([2 / 3, 1 / 3])
    # At the later time she of the first year has the least risk; the other two are a tie.
    assert c_index_mirai(risk, years, event, survival) == pytest.approx(0.5 / 3)
    late = place_as_mirai(np.array([7.0, 0.4]), np.array([True, False]), 5)
    assert [one.tolist() for one in late] == [[4, -1], [False, False]]  # cancer in the eighth year: free for five


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("seed", [0, 1])
def test_every_c_index_is_its_loop(seed: int, whole: bool) -> None:
    risk, years, event = draw(seed, whole=whole)
    _, train_years, train_event = draw(seed + 9, 80, whole=whole)
    last = risk[:, -1]

    def at_last(i, t):
        return last[i]

    found = c_index_harrell(last, years, event)
    assert found == pytest.approx(loop_concordance(at_last, years, event), abs=C)
    assert found == pytest.approx(concordance_index(years, -last, event), abs=C)
    censoring = fit_censoring(train_years, train_event)
    for side in ("before", "at"):
        ahead = [loop_survival(train_years, train_event, t, censoring=True, before=side == "before") for t in years]
        weight = [1 / one if one else 0 for one in ahead]
        uno = c_index_uno(last, years, event, weigh_by_censoring(years, censoring, 5.0, side))
        assert uno == pytest.approx(loop_concordance(at_last, years, event, earlier=weight, until=5.0), abs=C)
    mirai = c_index_mirai(risk, years, event, fit_mirai_survival(train_years, train_event, 5))
    assert mirai == pytest.approx(loop_mirai(risk, years, event, train_years, train_event), abs=C)
    curve = loop_concordance(lambda i, t: risk[i, min(int(t), 4)], years, event)
    assert c_index_antolini(risk, years, event) == pytest.approx(curve, abs=C)


def test_weights_before_and_at_differ_for_whole_years_only() -> None:
    for whole in (False, True):
        risk, years, event = draw(5, 300, whole=whole)
        censoring = fit_censoring(years, event)
        before, at = (
            c_index_uno(risk[:, 4], years, event, weigh_by_censoring(years, censoring, 5.0, s))
            for s in ("before", "at")
        )
        assert (abs(before - at) > 1e-4) == whole


@pytest.mark.parametrize("whole", [False, True])
def test_weights_at_each_cancer_are_those_of_torchsurv(whole: bool) -> None:
    """torchsurv counts in single precision: weights agree to 5e-5 of each, the index to 1e-6."""
    risk, years, event = draw(11, 300, whole=whole)
    years = years.astype(np.float32)  # torchsurv finds a time among the others to their precision
    theirs = get_ipcw(torch.from_numpy(event), torch.from_numpy(years)).double().numpy()
    found = weigh_by_censoring(years, fit_censoring(years, event), side="at")
    np.testing.assert_allclose(found, theirs, rtol=5e-5)
    assert c_index_uno(risk[:, 4], years, event, found) == pytest.approx(
        c_index_uno(risk[:, 4], years, event, theirs), abs=1e-6
    )


def test_uno_at_each_cancer_by_hand() -> None:
    """Cancers at 1 and 2, one leaves at 1 and one at 3: G is 1 before 1, and 2/3 from 1 on (the cancer comes first).

    The first cancer wins two pairs and loses one, of weight 1 before and 9/4 at; the second wins one of weight 9/4.
    """
    score, years, event = np.array([2.0, 3, 1, 0]), np.array([1.0, 2, 1, 3]), np.array([True, True, False, False])
    censoring = fit_censoring(years, event)
    found = {
        side: c_index_uno(score, years, event, weigh_by_censoring(years, censoring, side=side))
        for side in get_args(Side)
    }
    assert found["before"] == pytest.approx((2 + 9 / 4) / (3 + 9 / 4))
    assert found["at"] == pytest.approx((2 + 1) / (3 + 1))


def test_scores_that_torchsurv_calls_equal_are_told_apart() -> None:
    score, years, event = np.array([2e-9, 1e-9]), np.array([1.0, 2]), np.array([True, False])
    assert c_index_harrell(score, years, event) == 1.0


def test_a_concordance_without_pairs_is_not_defined() -> None:
    score, years = np.array([1.0, 2]), np.array([1.0, 2])
    assert np.isnan(c_index_harrell(score, years, np.array([False, False])))
    assert np.isnan(c_index_harrell(score, years, np.array([False, True])))  # she is the last
    assert np.isnan(c_index_uno(score, years, np.array([True, False]), np.zeros(2)))


@pytest.mark.parametrize("whole", [False, True])
def test_multiplicities_are_rows_given_several_times(whole: bool) -> None:
    risk, years, event = draw(7, 60, whole=whole)
    count = np.random.default_rng(0).integers(0, 4, len(years))
    again = np.repeat(np.arange(len(years)), count)
    weight = np.stack([count, np.ones_like(count)], axis=1).astype(np.float32)
    censoring, survival = fit_censoring(years, event), fit_mirai_survival(years, event, 5)
    uno = weigh_by_censoring(years, censoring, 5.0)
    mirai, later = compare_as_mirai(risk, years, event), weigh_by_events(place_as_mirai(years, event, 5)[0], survival)
    for rows, place in ((again, 0), (np.arange(len(years)), 1)):
        score, y, e = risk[rows, 4], years[rows], event[rows]
        pairs = compare_pairs(risk[:, 4], years, event)
        expected = {
            c_index_harrell(score, y, e): resample_concordance(*pairs, weight),
            c_index_uno(score, y, e, uno[rows]): resample_concordance(*pairs, weight, earlier=uno),
            c_index_mirai(risk[rows], y, e, survival): resample_concordance(*mirai, weight, later=later),
            c_index_antolini(risk[rows], y, e): resample_concordance(*compare_pairs(risk, years, event), weight),
        }
        for value, found in expected.items():
            assert found[place] == pytest.approx(value, abs=C)
        for year in (2.0, 5.0):
            own = (risk[:, 4], years, event, year)
            assert resample_auc(*own, weight)[place] == pytest.approx(auc_mirai(score, y, e, year), abs=C)
            found = resample_auc(*own, weight, censoring)[place]
            assert found == pytest.approx(auc_ipcw(score, y, e, year, censoring), abs=T)
            found = resample_brier(*own, weight, censoring)[place]
            assert found == pytest.approx(brier_error(score, y, e, year, censoring), abs=T)


def test_uno_finds_the_true_index_under_censoring_and_harrell_drifts() -> None:
    """Scores that tell of the first year alone: the more leave early, the more pairs are of that year."""
    rng, num, until, turn = np.random.default_rng(1), 3000, 5.0, 1.0
    score = rng.normal(0, 1, num)
    early, late = 0.15 * np.exp(1.5 * score), np.full(num, 0.15)
    came = draw_times(rng, early, late, turn)
    true = find_true_index(score, early, late, turn, until)
    off = []
    for share in (0.2, 0.4, 0.6):
        left = draw_leaving(rng, came, share)
        years, event = np.minimum(came, left), came <= left
        assert np.mean(~event) == pytest.approx(share, abs=0.01)
        pairs = compare_pairs(score, years, event)
        once = np.ones((num, 1))
        weight = weigh_by_censoring(years, fit_censoring(years, event), until)
        assert resample_concordance(*pairs, once, earlier=weight)[0] == pytest.approx(true, abs=0.02)
        off.append(resample_concordance(*pairs, once)[0] - true)
    assert abs(off[-1]) > 0.02
    assert np.ptp(off) > 0.04


def draw_times(rng, early: np.ndarray, late: np.ndarray, turn: float) -> np.ndarray:
    """Times of a rate that changes at `turn`."""
    drawn = rng.exponential(size=len(early))
    return np.where(drawn < early * turn, drawn / early, turn + (drawn - early * turn) / late)


def draw_leaving(rng, came: np.ndarray, share: float) -> np.ndarray:
    """Exponential times of leaving, at the rate by which that share leaves before the event."""
    drawn, low, high = rng.exponential(size=len(came)), 1e-4, 10.0
    for _ in range(50):
        rate = (low + high) / 2
        low, high = (low, rate) if (drawn / rate < came).mean() > share else (rate, high)
    return drawn / low


def find_true_index(score, early, late, turn: float, until: float) -> float:
    """P(r_i > r_j | T_i < T_j, T_i < until) over all pairs, by integrating both pieces."""
    hits = total = 0.0
    for i in range(len(score)):
        first, second = early[i] + early, late[i] + late
        chance = early[i] / first * (1 - np.exp(-first * turn))
        chance = chance + np.exp(-first * turn) * late[i] / second * (1 - np.exp(-second * (until - turn)))
        chance[i] = 0
        total += chance.sum()
        hits += chance[score[i] > score].sum()
    return hits / total


# --- one horizon


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("year", [1.0, 2.0, 5.0])
def test_auc_and_brier_are_their_loops(whole: bool, year: float) -> None:
    risk, years, event = draw(11, whole=whole)
    _, train_years, train_event = draw(12, 80, whole=whole)
    score, censoring = risk[:, int(year) - 1], fit_censoring(train_years, train_event)
    plain = auc_mirai(score, years, event, year)
    assert plain == pytest.approx(loop_auc(score, years, event, year), abs=C)
    case, control = event & (years < year), years >= year
    assert plain == pytest.approx(roc_auc_score(case[case | control], score[case | control]), abs=C)
    weight = [1 / loop_survival(train_years, train_event, t, censoring=True, before=True) for t in years]
    end = 1 / loop_survival(train_years, train_event, year, censoring=True, before=True)
    ipcw = auc_ipcw(score, years, event, year, censoring)
    assert ipcw == pytest.approx(loop_auc(score, years, event, year, weight), abs=T)
    brier = brier_error(score, years, event, year, censoring)
    assert brier == pytest.approx(loop_brier(score, years, event, year, weight, end), abs=T)


def test_a_horizon_is_all_before_it() -> None:
    """A cancer after exactly two years is of the third; follow-up of exactly two years is free of cancer for two."""
    score, years, event = np.array([0.9, 0.5, 0.1]), np.array([1.0, 2.0, 2.0]), np.array([True, True, False])
    assert auc_mirai(score, years, event, 2.0) == 1.0
    censoring = fit_censoring(years, event)
    assert auc_ipcw(score, years, event, 2.0, censoring) == 1.0
    # Nobody has left before 2: all weights are 1, and two are controls.
    assert brier_error(score, years, event, 2.0, censoring) == pytest.approx((0.1**2 + 0.5**2 + 0.1**2) / 3, abs=T)
    assert np.isnan(auc_ipcw(score, years, event, 0.5, censoring))  # no case
    assert np.isnan(brier_error(score, years, event, 2.5, censoring))  # nobody is followed so long


def test_horizons_that_nobody_of_training_is_followed_for_are_not_known() -> None:
    """The last of training is a cancer at 3: G stays above 0 there, and says nothing of later."""
    censoring = fit_censoring(np.array([1.0, 2, 3]), np.array([False, True, True]))
    score, years = np.array([0.9, 0.2, 0.3, 0.1]), np.array([1.5, 4.0, 6.0, 6.0])
    event, once = np.array([True, True, False, False]), np.ones((4, 1))
    for horizon, known in ((3.0, True), (5.0, False)):
        outcome = (score, years, event, horizon)
        found = [auc_ipcw(*outcome, censoring), *resample_auc(*outcome, once, censoring)]
        found += [brier_error(*outcome, censoring), *resample_brier(*outcome, once, censoring)]
        assert (~np.isnan(found)).tolist() == [known] * 4
    # The cancer at 4 is later than training knows: Uno's index is of the first alone, who beats everybody.
    weight = weigh_by_censoring(years, censoring, 5.0)
    assert weight.tolist() == pytest.approx([1.5, 0, 0, 0])
    assert c_index_uno(score, years, event, weight) == 1.0


def test_a_brier_error_of_cases_alone_is_not_known() -> None:
    """Training is followed for long, those tested are not: one has cancer, all others left before the horizon."""
    censoring = fit_censoring(np.array([2.0, 9.0]), np.array([False, False]))
    years, event, risk = np.array([1.0, 1.5, 3.0]), np.array([True, False, False]), np.array([0.9, 0.4, 0.2])
    weight = np.array([[1.0, 1], [1, 0], [1, 0]])  # the second resample drew the case alone
    assert np.isnan(brier_error(risk, years, event, 5.0, censoring))
    np.testing.assert_allclose(resample_brier(risk, years, event, 5.0, weight, censoring), [np.nan, 0.01])
    assert brier_error(risk, years, event, 3.0, censoring) == pytest.approx((0.01 + 2 * 0.04) / 3, abs=T)


def test_calibration_and_the_top_tenth_by_hand() -> None:
    years, event = np.array([1.0, 3, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6]), np.array([True, True] + [False] * 10)
    risk = np.array([0.8, 0.1, 0.7] + [0.1] * 9)
    once = np.ones((12, 1))
    assert resample_calibration(risk, years, event, 5.0, once)[0] == pytest.approx(2.5 / 12 - 2 / 12)
    assert resample_decile_recall(risk, years, event, 5.0, once)[0] == 0.5  # two of twelve: 0.8 and 0.7
    level = np.full(12, 0.3)  # nobody is above anybody: two twelfths of each cancer
    assert resample_decile_recall(level, years, event, 5.0, once)[0] == pytest.approx(2 / 12)


def test_many_exams_have_the_same_antolini(monkeypatch: pytest.MonkeyPatch) -> None:
    risk, years, event = draw(4)
    found, reference = Predicted(risk, years, event, np.arange(60)), Reference.fit(years, event)

    def estimate() -> float | None:
        estimates = estimate_risk(found, reference, num_resamples=2)
        return next(one.value for one in estimates if one.metric == "c_index_antolini")

    few = estimate()
    monkeypatch.setattr("hilum.evaluate.risk.estimates._MOST_SQUARED", 10)
    assert estimate() == pytest.approx(few, abs=C)


def test_estimates_name_every_index_and_say_why_one_is_missing() -> None:
    risk, years, event = draw(2, 150)
    found = Predicted(risk, years, event, np.arange(150) // 2)
    estimates = estimate_risk(found, Reference.fit(years, event), num_resamples=50)
    by = {(one.metric, one.of, one.slice): one for one in estimates}
    assert len(by) == len(estimates)
    slices = ("all", "cancer=after 90 days", "cancer=after 180 days", "cancer=after 1 year")
    for slice in slices:
        for name in ("harrell", "uno", "antolini", "mirai"):
            one = by[f"c_index_{name}", "risk", slice]
            assert one.low < one.value < one.high
        assert {by[name, f"{year} years", slice].reason for name in ("auc_ipcw", "auc_mirai") for year in (2, 5)} == {
            None
        }
    cancers = [by["c_index_harrell", "risk", slice].positives for slice in slices]
    assert cancers == [int((event & (years > end)).sum()) for end in (-1, 90 / 365.25, 180 / 365.25, 1)]
    assert by["integrated_brier_error", "1 year to 5 years", "all"].value == pytest.approx(
        np.trapezoid([by["brier_error", f"{y} year{'s' if y > 1 else ''}", "all"].value for y in range(1, 6)]) / 4,
        abs=T,
    )
    short = Predicted(risk, np.minimum(years, 1.5), event & (years < 1.5), np.arange(150))
    late = next(
        one
        for one in estimate_risk(short, Reference.fit(short.years, short.event), num_resamples=5)
        if (one.metric, one.of) == ("auc_ipcw", "5 years")
    )
    assert (late.value, late.reason) == (None, "too few cancers, or nobody followed for long enough")
