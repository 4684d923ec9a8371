from __future__ import annotations

import time
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hilum.errors import UserError
from hilum.keyed_random import make_keys
from hilum.sampler import StudySampler, choose_views, deal


def make_sampler(num_views, views_per_step=16, floor=0.0, seed=0) -> StudySampler:
    num_views = np.asarray(num_views, np.int64)
    return StudySampler(num_views, make_keys("study", np.arange(len(num_views))), views_per_step, seed, floor)


archives = st.lists(st.sampled_from([1, 1, 1, 2, 2, 3, 4, 7]), min_size=1, max_size=120)


@settings(deadline=None)
@given(archives, st.integers(14, 60), st.integers(0, 5))
def test_without_a_floor_an_epoch_draws_every_study_once(num_views, views_per_step, epoch) -> None:
    sampler = make_sampler(num_views, views_per_step)
    drawn = [sampler.draw_step(epoch, step) for step in range(sampler.steps_per_epoch)]
    assert sorted(np.concatenate([part.study for part in drawn])) == list(range(len(num_views)))
    assert all((part.draw == epoch).all() for part in drawn)


@settings(deadline=None)
@given(archives, st.integers(14, 60), st.floats(0.01, 1.0))
def test_every_batch_holds_the_floor_and_the_passes_are_complete(num_views, views_per_step, floor) -> None:
    num_views = np.array([*num_views, 2])
    sampler = make_sampler(num_views, views_per_step, floor)
    if (num_views >= 2).mean() < floor:
        drawn = [sampler.draw_step(epoch, step) for epoch in range(3) for step in range(sampler.steps_per_epoch)]
        for part in drawn:
            assert (num_views[part.study] >= 2).mean() >= floor - 1e-9
        # A study's draws are 0, 1, 2, ... in order of time, and no study is two draws ahead of another of its kind.
        study, draw = (np.concatenate(column) for column in zip(*drawn, strict=True))
        times = np.zeros(len(num_views), int)
        for one in range(len(num_views)):
            assert (draw[study == one] == np.arange((study == one).sum())).all()
            times[one] = (study == one).sum()
        for kind in (num_views >= 2, num_views < 2):
            if kind.any():
                assert times[kind].max() - times[kind].min() <= 1


def test_batches_are_near_constant_in_views_not_in_studies() -> None:
    """As many studies of each size as PadChest has (45 % with two views or more), and a tail up to 11 views."""
    rng = np.random.default_rng(0)
    num_views = rng.choice([1, 2, 3, 4, 11], p=[0.55, 0.40, 0.03, 0.015, 0.005], size=20_000)
    for floor in (0.0, 0.7):
        sampler = make_sampler(num_views, 64, floor)
        views = [num_views[sampler.draw_step(0, step).study].sum() for step in range(sampler.steps_per_epoch)]
        in_order = np.add.reduceat(num_views, np.arange(0, len(num_views), 40))[:-1]  # 40 studies at random
        # With a floor the studies are counted, and a batch in three holds one of the 11 views.
        assert np.std(views) < (0.8 if floor else 0.35) * np.std(in_order)
        assert abs(np.mean(views) - 64) < 1


def test_an_epoch_draws_as_many_views_as_the_data_holds() -> None:
    num_views = np.array([1] * 900 + [2] * 100)
    for floor in (0.0, 0.3, 0.9, 1.0):
        sampler = make_sampler(num_views, 50, floor)
        drawn = [num_views[sampler.draw_step(0, step).study].sum() for step in range(sampler.steps_per_epoch)]
        assert abs(sum(drawn) - num_views.sum()) <= 0.04 * num_views.sum()
        assert max(drawn) <= 52


def test_a_plan_is_a_function_of_seed_epoch_and_step() -> None:
    num_views = [1, 2, 3, 1, 1, 1, 2, 1] * 30
    walked, jumped = make_sampler(num_views, 16, 0.5), make_sampler(num_views, 16, 0.5)
    steps = [(epoch, step) for epoch in range(3) for step in range(walked.steps_per_epoch)]
    plan = {at: walked.draw_step(*at) for at in steps}
    for at in reversed(steps):  # another sampler that never was at the start
        for left, right in zip(plan[at], jumped.draw_step(*at), strict=True):
            np.testing.assert_array_equal(left, right)
    other = make_sampler(num_views, 16, 0.5, seed=1)
    assert any(set(other.draw_step(*at).study) != set(plan[at].study) for at in steps)
    assert not np.array_equal(plan[0, 0].study, plan[1, 0].study)


def test_the_order_of_the_list_of_studies_does_not_matter() -> None:
    num_views = np.array([1, 2, 3, 1, 1, 1, 2, 1] * 20)
    key = make_keys("study", np.arange(len(num_views)))
    order = np.random.default_rng(0).permutation(len(num_views))
    one, other = StudySampler(num_views, key, 12, 0), StudySampler(num_views[order], key[order], 12, 0)
    for step in range(one.steps_per_epoch):
        np.testing.assert_array_equal(one.draw_step(2, step).study, order[other.draw_step(2, step).study])


def test_neighbours_change_from_pass_to_pass() -> None:
    sampler = make_sampler([1] * 64 + [2] * 64, 16)
    batches = [frozenset(sampler.draw_step(epoch, 0).study.tolist()) for epoch in range(20)]
    assert len(set(batches)) == 20


def test_no_multi_view_study_warns_once_and_goes_on() -> None:
    with pytest.warns(UserWarning, match="No study has two views") as caught:
        sampler = make_sampler([1] * 40, 8, 0.5)
    assert len(caught) == 1
    for step in range(sampler.steps_per_epoch):
        assert len(sampler.draw_step(0, step).study) == 8


def test_a_floor_below_what_the_data_offer_changes_nothing() -> None:
    num_views = [1, 2] * 50
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plain, floored = make_sampler(num_views, 16), make_sampler(num_views, 16, 0.5)
    for step in range(plain.steps_per_epoch):
        np.testing.assert_array_equal(plain.draw_step(0, step).study, floored.draw_step(0, step).study)


def test_a_floor_gives_way_before_few_multi_view_studies_drown_the_rest() -> None:
    num_views = np.array([2] * 20 + [1] * 780)
    key = make_keys("study", np.arange(len(num_views)))
    sampler = StudySampler(num_views, key, 100, 0, 0.5, 4.0)
    assert sampler.floor == pytest.approx(4 * 20 / (4 * 20 + 780))  # 9.3 % of the draws, 2.5 % of the studies
    drawn = np.concatenate([sampler.draw_step(e, s).study for e in range(40) for s in range(sampler.steps_per_epoch)])
    times = np.bincount(drawn, minlength=len(num_views))
    assert times[:20].mean() / times[20:].mean() == pytest.approx(4.0, rel=0.15)  # whole studies a step
    unlimited = StudySampler(num_views, key, 100, 0, 0.5)
    assert unlimited.floor == 0.5


# --- no two of one patient in a step


@st.composite
def patients(draw) -> tuple[np.ndarray, np.ndarray, int]:
    """Views and patient of each breast, and views a step: from one exam a woman to many, in any order."""
    num = draw(st.integers(1, 60))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    patient = rng.integers(0, draw(st.integers(1, 40)), num)
    return rng.choice([1, 2, 2, 2, 4], num), patient, draw(st.integers(4, 40))


def make_apart(num_views: np.ndarray, patient: np.ndarray, views_per_step: int, seed: int = 0) -> StudySampler:
    key = make_keys("study", np.arange(len(num_views)))
    return StudySampler(num_views, key, views_per_step, seed, patient=patient)


def has_room(num_views: np.ndarray, patient: np.ndarray, views_per_step: int) -> bool:
    """Whether the largest fits in steps that share the views evenly."""
    steps = -(-num_views.sum() // views_per_step)
    return np.bincount(patient).max() > steps or num_views.sum() / steps >= num_views.max()


@settings(deadline=None)
@given(patients().filter(lambda one: has_room(*one)), st.integers(0, 3))
def test_apart_an_epoch_has_every_breast_once_and_a_step_no_two_of_a_patient(drawn, epoch) -> None:
    num_views, patient, views_per_step = drawn
    sampler = make_apart(num_views, patient, views_per_step)
    steps = [sampler.draw_step(epoch, step) for step in range(sampler.steps_per_epoch)]
    assert sorted(np.concatenate([step.study for step in steps]).tolist()) == list(range(len(num_views)))
    for step in steps:
        assert len(step.study)
        assert len(set(patient[step.study].tolist())) == len(step.study)
        assert (step.draw == epoch).all()
    views = [num_views[step.study].sum() for step in steps]
    assert max(views) - min(views) <= num_views.max()
    assert sampler.steps_per_epoch == max(-(-num_views.sum() // views_per_step), np.bincount(patient).max())
    assert sampler.least_studies <= min(len(sampler.draw_step(0, step).study) for step in range(len(steps)))


@settings(deadline=None, max_examples=25)
@given(patients().filter(lambda one: has_room(*one)))
def test_apart_a_plan_is_a_function_of_seed_epoch_and_step_and_not_of_the_lists_order(drawn) -> None:
    num_views, patient, views_per_step = drawn
    walked, jumped = make_apart(*drawn), make_apart(*drawn)
    at = [(epoch, step) for epoch in range(2) for step in range(walked.steps_per_epoch)]
    plan = {one: walked.draw_step(*one) for one in at}
    order = np.random.default_rng(0).permutation(len(num_views))
    key = make_keys("study", np.arange(len(num_views)))[order]
    other = StudySampler(num_views[order], key, views_per_step, 0, patient=99 - patient[order])
    for one in reversed(at):  # resumed anywhere
        np.testing.assert_array_equal(plan[one].study, jumped.draw_step(*one).study)
        np.testing.assert_array_equal(plan[one].study, order[other.draw_step(*one).study])


def test_apart_neighbours_change_with_epoch_and_seed() -> None:
    num_views, patient = np.full(128, 2), np.arange(128) // 2
    sampler, other = make_apart(num_views, patient, 32), make_apart(num_views, patient, 32, seed=1)
    steps = [frozenset(one.draw_step(epoch, 0).study.tolist()) for one in (sampler, other) for epoch in range(10)]
    assert len(set(steps)) == 20
    assert all(len(step) == 16 for step in steps)
    met = {len(steps[0] & step) for step in steps[1:]}
    assert max(met) <= 8  # of 16, where chance gives 2


def test_apart_two_breasts_of_many_women_are_planned_in_seconds() -> None:
    num_views, patient = np.full(200_000, 2), np.arange(200_000) // 2
    begin = time.process_time()
    sampler = make_apart(num_views, patient, 144)
    sampler.draw_step(0, 5)
    assert time.process_time() - begin < 3.0


# --- half of a step with findings


@st.composite
def found_patients(draw) -> tuple[np.ndarray, np.ndarray | None, np.ndarray, int]:
    """Views, patient (or nobody's), findings and views a step; some have findings."""
    num_views, patient, views_per_step = draw(patients())
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    found = rng.random(len(num_views)) < draw(st.sampled_from([0.1, 0.5, 1.0]))
    found[rng.integers(len(found))] = True
    return num_views, patient if draw(st.booleans()) else None, found, views_per_step


def make_balanced(num_views, patient, found, views_per_step, share, most=4.0, floor=0.0) -> StudySampler:
    key = make_keys("study", np.arange(len(num_views)))
    return StudySampler(num_views, key, views_per_step, 0, floor, most, patient, found, share)


def fits(drawn: tuple) -> bool:
    num_views, patient, _, views_per_step = drawn
    return has_room(num_views, np.arange(len(num_views)) if patient is None else patient, views_per_step)


@settings(deadline=None, max_examples=60)
@given(found_patients().filter(fits), st.sampled_from([0.1, 0.5, 0.9, 1.0]), st.sampled_from([1.0, 4.0, 1e9]))
def test_every_step_has_its_share_of_findings_and_no_two_of_a_patient(drawn, share, most) -> None:
    num_views, patient, found, _ = drawn
    sampler = make_balanced(*drawn, share, most)
    who = np.arange(len(found)) if patient is None else patient
    study, draw = [], []
    for epoch in range(3):
        steps = [sampler.draw_step(epoch, step) for step in range(sampler.steps_per_epoch)]
        for step in steps:
            assert len(set(who[step.study].tolist())) == len(step.study)
        with_finding = [int(found[step.study].sum()) for step in steps]
        assert max(with_finding) - min(with_finding) <= 1
        drawn_views = sum(num_views[step.study].sum() for step in steps)
        assert abs(drawn_views - num_views.sum()) <= 2 * num_views.max()  # two kinds, whole draws
        study += [step.study for step in steps]
        draw += [step.draw for step in steps]
    # Each kind goes on with its passes: draws are counted without a gap, and no one is two ahead of another.
    study, draw = np.concatenate(study), np.concatenate(draw)
    times = np.bincount(study, minlength=len(found))
    for one in range(len(found)):
        assert sorted(draw[study == one].tolist()) == list(range(times[one]))
    for kind in (found, ~found):
        assert not kind.any() or np.ptp(times[kind]) <= 1


@settings(deadline=None, max_examples=20)
@given(found_patients().filter(fits), st.sampled_from([0.5, 0.9]))
def test_a_balanced_plan_is_a_function_of_seed_epoch_and_step_and_not_of_the_lists_order(drawn, share) -> None:
    num_views, patient, found, views_per_step = drawn
    walked, jumped = make_balanced(*drawn, share), make_balanced(*drawn, share)
    at = [(epoch, step) for epoch in range(2) for step in range(walked.steps_per_epoch)]
    plan = {one: walked.draw_step(*one) for one in at}
    order = np.random.default_rng(0).permutation(len(num_views))
    key = make_keys("study", np.arange(len(num_views)))[order]
    whose = None if patient is None else 99 - patient[order]
    other = StudySampler(num_views[order], key, views_per_step, 0, 0.0, 4.0, whose, found[order], share)
    for one in reversed(at):  # resumed anywhere
        for left, right in zip(plan[one], jumped.draw_step(*one), strict=True):
            np.testing.assert_array_equal(left, right)
        np.testing.assert_array_equal(plan[one].study, order[other.draw_step(*one).study])


def test_half_of_every_step_has_findings_where_a_tenth_of_the_breasts_have() -> None:
    """A thousand women of two breasts, two views each: of 18 breasts a step 9, each 9 times as often as another."""
    patient, found = np.arange(2000) // 2, np.arange(2000) % 10 == 3
    sampler = make_balanced(np.full(2000, 2), patient, found, 36, 0.5, 100.0)
    steps = [sampler.draw_step(0, step).study for step in range(sampler.steps_per_epoch)]
    assert sampler.steps_per_epoch == 112
    assert {int(found[step].sum()) for step in steps} == {8, 9}  # 17.9 breasts a step
    assert {len(step) for step in steps} == {17, 18}
    assert sampler.findings == (200, 2000, 0.5, pytest.approx(9.0))
    limited = make_balanced(np.full(2000, 2), patient, found, 36, 0.5, 4.0)
    assert limited.findings == (200, 2000, pytest.approx(800 / 2600, abs=1e-3), pytest.approx(4.0, rel=0.01))


def test_findings_and_a_floor_of_two_views_hold_in_every_step_together() -> None:
    rng = np.random.default_rng(0)
    num_views, found = rng.choice([1, 2], p=[0.8, 0.2], size=1000), rng.random(1000) < 0.1
    sampler = make_balanced(num_views, None, found, 40, 0.4, 100.0, floor=0.5)
    assert sampler.floor == 0.5
    for step in range(sampler.steps_per_epoch):
        study = sampler.draw_step(1, step).study
        assert len(set(study.tolist())) == len(study)
        assert abs((num_views[study] >= 2).sum() - 0.5 * len(study)) <= 1.5
        assert abs(found[study].sum() - 0.4 * len(study)) <= 1.5
    limited = make_balanced(num_views, None, found, 40, 0.4, 3.0, floor=0.5)
    assert limited.floor < 0.5
    drawn = np.concatenate([limited.draw_step(e, s).study for e in range(9) for s in range(limited.steps_per_epoch)])
    times = np.bincount(drawn, minlength=1000)
    assert times.max() / times.min() < 4  # three times, of whole draws


def test_balanced_breasts_of_many_women_are_planned_in_seconds() -> None:
    num_views, patient = np.full(100_000, 2), np.arange(100_000) // 2
    begin = time.process_time()
    make_balanced(num_views, patient, np.arange(100_000) % 10 == 3, 144, 0.5).draw_step(5, 5)
    assert time.process_time() - begin < 4.0


def test_nothing_to_draw_from_and_a_study_larger_than_a_step_are_errors() -> None:
    with pytest.raises(UserError, match="split is empty"):
        make_sampler([])
    with pytest.raises(UserError, match=r"^8 views a step \(steps of 6, .*for studies of up to 11 views: raise"):
        make_sampler([1, 11], 8)


def test_capped_views_are_the_same_every_run_and_reach_every_image_over_draws() -> None:
    """M 8, test 7."""
    key = -(2**62) + 12345
    chosen = [choose_views(5, 3, key, 0, 0) for _ in range(10)]
    assert all(np.array_equal(one, chosen[0]) for one in chosen)
    assert len(chosen[0]) == 3
    assert (np.diff(chosen[0]) > 0).all()
    np.testing.assert_array_equal(choose_views(3, 3, key, 0, 7), [0, 1, 2])
    np.testing.assert_array_equal(choose_views(11, None, key, 0, 7), np.arange(11))
    for num_views in (4, 11):
        counts = np.bincount(
            np.concatenate([choose_views(num_views, 3, key, 0, draw) for draw in range(1_000)]), minlength=num_views
        )
        expected = 3_000 / num_views
        assert (np.abs(counts - expected) < 5 * np.sqrt(expected)).all()


@settings(deadline=None)
@given(st.lists(st.integers(1, 11), min_size=1, max_size=80), st.integers(1, 8))
def test_dealing_keeps_the_set_and_balances_the_views(num_views, num_parts) -> None:
    num_views = np.array(num_views)
    parts = deal(num_views, num_parts)
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(num_views)))
    loads = [num_views[part].sum() for part in parts]
    # The longest-processing-time rule: no part is ahead of another by more than one study.
    assert max(loads) - min(loads) <= num_views.max()


def test_planning_an_epoch_of_300_000_studies_takes_well_under_a_second() -> None:
    num_views = np.random.default_rng(0).choice([1, 2, 3], p=[0.6, 0.38, 0.02], size=300_000)
    sampler = make_sampler(num_views, 1024, 0.5)
    begin = time.process_time()
    for step in range(sampler.steps_per_epoch):
        sampler.draw_step(40, step)
    assert time.process_time() - begin < 3.0  # 0.4 s on an idle core
