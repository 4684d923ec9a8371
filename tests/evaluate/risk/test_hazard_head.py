"""The additive-hazard head: risks that never fall, the masked loss by hand and by a loop, and what it learns."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from hilum.evaluate.risk.exam_views import ExamViews, fit_scale
from hilum.evaluate.risk.fit import Setting, fit_risk
from hilum.evaluate.risk.follow_up import build_targets, weigh_years
from hilum.evaluate.risk.head import POOLINGS, RiskHead, accumulate_hazards, find_risk, measure_masked_loss
from hilum.evaluate.risk.kaplan_meier import fit_censoring

NAN = float("nan")
BASE = [0.02, 0.04, 0.05, 0.07, 0.08]


def test_hazards_add_up_and_are_never_negative() -> None:
    found = accumulate_hazards(torch.tensor([-2.0]), torch.tensor([[1.0, -3.0, 0.5]]))
    assert found.tolist() == [[-1.0, -1.0, -0.5]]


@settings(max_examples=60, deadline=None)
@given(
    arrays(
        np.float32,
        st.tuples(st.integers(1, 9), st.just(6)),
        elements=st.floats(-(2.0**100), 2.0**100, width=32, allow_subnormal=False),
    ),
    st.sampled_from([1.0, 1e-3, 1e-20]),
)
def test_risk_never_falls_with_the_years_whatever_comes_in(drawn: np.ndarray, scale: float) -> None:
    values = torch.from_numpy(drawn) * scale
    risk = find_risk(accumulate_hazards(values[:, 0], values[:, 1:]))
    assert bool((risk.diff(dim=1) >= 0).all())
    assert bool(((risk >= 0) & (risk <= 1)).all())


def test_targets_by_hand() -> None:
    """Found at the exam; in the second year; followed 2.7 years; 0.4; 9; and one that takes no part."""
    years, event = np.array([0, 1.5, 2.7, 0.4, 9, NAN, 7]), np.array([True, True, False, False, False, False, True])
    expected = [[1] * 5, [0, 1, 1, 1, 1], [0, 0, NAN, NAN, NAN], [NAN] * 5, [0] * 5, [NAN] * 5, [0] * 5]
    np.testing.assert_array_equal(build_targets(years, event), expected)
    parity = build_targets(years, event, mask_after_event=True)
    np.testing.assert_array_equal(parity[:2], [[1, NAN, NAN, NAN, NAN], [0, 1, NAN, NAN, NAN]])
    np.testing.assert_array_equal(parity[2:], expected[2:])


def test_years_after_a_cancer_are_read_or_left_out_by_hand() -> None:
    """A cancer in the second year, every logit 0 but that of the fifth year, 1.

    Known ones: four times log 2 and log(1 + e^-1), over 5. As Mirai: log 2 of the two years until it, over 2.
    """
    years, event = np.array([1.5]), np.array([True])
    logit = torch.tensor([[0.0, 0.0, 0.0, 0.0, 1.0]])
    loss = {
        mask: float(measure_masked_loss(logit, torch.from_numpy(build_targets(years, event, mask_after_event=mask))))
        for mask in (False, True)
    }
    assert loss[False] == pytest.approx((4 * math.log(2) + math.log1p(math.exp(-1))) / 5, abs=1e-7)
    assert loss[True] == pytest.approx(math.log(2), abs=1e-7)


def test_the_masked_loss_by_hand() -> None:
    """A cancer in the second of three years and a follow-up of one: log 2, log(1 + e^-1) twice, and log(1 + e^-2)."""
    logit = torch.tensor([[0.0, 1.0, 1.0], [-2.0, 5.0, -5.0]])
    target = torch.tensor([[0.0, 1.0, 1.0], [0.0, NAN, NAN]])
    by_hand = (math.log(2) + 2 * math.log1p(math.exp(-1)) + math.log1p(math.exp(-2))) / 4
    assert float(measure_masked_loss(logit, target)) == pytest.approx(by_hand, abs=1e-7)
    assert float(measure_masked_loss(logit, torch.full((2, 3), NAN))) == 0
    weight = torch.tensor([[3.0, 1.0, 1.0], [1.0, 9.0, 9.0]])
    by_hand = (3 * math.log(2) + 2 * math.log1p(math.exp(-1)) + math.log1p(math.exp(-2))) / 6
    assert float(measure_masked_loss(logit, target, weight)) == pytest.approx(by_hand, abs=1e-7)


def test_weights_of_years_by_hand() -> None:
    """Of four one leaves at 1 and one of two at 2: G is 3/4, then 3/8. A cancer after 1.5 years stands for 4/3."""
    years, event = np.array([1.0, 1.5, 2.0, 6.0]), np.array([False, True, False, False])
    found = weigh_years(years, event, fit_censoring(years, event))
    np.testing.assert_allclose(found[1], [1, 4 / 3, 4 / 3, 4 / 3, 4 / 3], rtol=1e-6)
    np.testing.assert_allclose(found[3], [1, 4 / 3, 8 / 3, 8 / 3, 8 / 3], rtol=1e-6)
    nobody = weigh_years(years[:3], event[:3], fit_censoring(years[:3], event[:3]))
    assert nobody.max() == 10  # nobody is followed for three years


def test_without_weights_later_years_are_said_to_be_worse_than_they_are() -> None:
    train, rate = make_exams(3000, 3)
    val, _ = make_exams(1000, 4)
    true = (1 - np.exp(-rate * 5)).mean()
    setting = Setting("mean", "mean", 0.01)
    plain = [replace(one, weight=torch.ones_like(one.weight)) for one in (train, val)]
    said = [fit_risk(*parts, BASE, setting).predict(train)[:, -1].mean() for parts in ((train, val), plain)]
    assert abs(said[0] - true) < 0.03
    assert said[1] - true > 0.05


@pytest.mark.parametrize("seed", range(3))
def test_the_masked_loss_and_its_gradient_are_the_loops(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    logit = torch.randn(7, 5, generator=generator, dtype=torch.float64).requires_grad_()
    target = (torch.rand(7, 5, generator=generator) < 0.5).double()
    target[torch.rand(7, 5, generator=generator) < 0.4] = NAN
    measure_masked_loss(logit, target).backward()
    total, number, slope = 0.0, 0, np.zeros((7, 5))
    for i in range(7):
        for year in range(5):
            y, p = float(target[i, year]), 1 / (1 + math.exp(-float(logit.detach()[i, year])))
            if not math.isnan(y):
                total -= y * math.log(p) + (1 - y) * math.log(1 - p)
                slope[i, year] = p - y
                number += 1
    assert float(measure_masked_loss(logit.detach(), target)) == pytest.approx(total / number, abs=1e-12)
    assert logit.grad is not None
    np.testing.assert_allclose(logit.grad, slope / number, rtol=0, atol=1e-12)


def make_exams(num: int, seed: int, *, earlier: bool = False) -> tuple[ExamViews, np.ndarray]:
    """Exams of one to four views whose first number tells the rate of cancer; the rate too."""
    rng = np.random.default_rng(seed)
    signal = rng.normal(size=num)
    rate = 0.08 * np.exp(1.5 * signal)
    came, left = rng.exponential(1 / rate), rng.uniform(1, 9, num)
    count = rng.integers(1, 5, num)
    owner = np.repeat(np.arange(num), count)
    vectors = rng.normal(size=(len(owner), 6))
    vectors[:, 0] = signal[owner] + 0.3 * rng.normal(size=len(owner))
    place = np.arange(len(owner)) - np.searchsorted(owner, owner)
    before = np.where(earlier & (place > 1), 2.0, 0.0)
    years, event = np.minimum(came, left), came <= left
    target, weight = build_targets(years, event), weigh_years(years, event, fit_censoring(years, event))
    return ExamViews(
        torch.from_numpy(vectors).float(), torch.from_numpy(owner), torch.from_numpy(3 + place % 2),
        torch.from_numpy(1 + place // 2 % 2), torch.from_numpy(before).float(), torch.zeros(num, 0),
        torch.from_numpy(target), torch.from_numpy(weight), torch.from_numpy(years).float(), torch.from_numpy(event),
    ), rate  # fmt: skip


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("earlier", [False, True])
def test_an_exam_is_scored_alike_beside_others_and_whatever_the_order_of_its_views(pooling, earlier: bool) -> None:
    exams, _ = make_exams(12, 0, earlier=earlier)
    torch.manual_seed(0)
    head = RiskHead(6, 0, torch.tensor(BASE), pooling=pooling, earlier=earlier).eval()
    with torch.no_grad():
        whole = head(exams)
        some = head(exams.take(torch.tensor([7, 2])))
        order = torch.argsort(exams.owner * 10 - torch.arange(len(exams.owner)))  # backwards within each exam
        names = ("vectors", "view_kind", "laterality", "years_before")
        turned = head(replace(exams, **{name: getattr(exams, name)[order] for name in names}))
    torch.testing.assert_close(some, whole[[7, 2]])
    torch.testing.assert_close(turned, whole)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_what_is_read_moves_the_risk(pooling) -> None:
    """Views, their earlier ones and the table: each changes it, so that none is dropped on the way."""
    exams, _ = make_exams(5, 1, earlier=True)
    exams = replace(exams, table=torch.ones(5, 2))
    torch.manual_seed(0)
    head = RiskHead(6, 2, torch.tensor(BASE), pooling=pooling, earlier=True).eval()
    own = exams.years_before == 0
    assert not own.all()
    changed = [
        replace(exams, vectors=exams.vectors + own[:, None] * 1.0 * torch.arange(6)),
        replace(exams, vectors=exams.vectors + ~own[:, None] * 1.0 * torch.arange(6)),
        replace(exams, table=-exams.table),
    ]
    with torch.no_grad():
        before = head(exams)
        for one in changed:
            assert float((head(one) - before).abs().max()) > 1e-6


def test_a_head_starts_at_the_observed_risks() -> None:
    exams, _ = make_exams(9, 2)
    head = RiskHead(6, 0, torch.tensor(BASE), pooling="mean").eval()
    with torch.no_grad():
        head.numbers.start.weight.zero_()
        head.numbers.hazard.weight.zero_()
        np.testing.assert_allclose(find_risk(head(exams)).numpy(), np.tile(BASE, (9, 1)), rtol=0.02)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_it_learns_the_rate_and_says_the_same_again(pooling) -> None:
    train, _ = make_exams(400, 3)
    val, _ = make_exams(200, 4)
    test, rate = make_exams(400, 5)
    setting = Setting("mean", pooling, 0.3)
    fitted = fit_risk(train, val, BASE, setting)
    risk = fitted.predict(test)
    true = 1 - np.exp(-rate[:, None] * np.arange(1, 6))
    assert np.corrcoef(np.argsort(np.argsort(risk[:, -1])), np.argsort(np.argsort(rate)))[0, 1] > 0.85
    assert np.abs(risk.mean(axis=0) - true.mean(axis=0)).max() < 0.06
    few = train.take(torch.arange(40))
    first, again = (fit_risk(few, few, BASE, setting).predict(test) for _ in range(2))
    np.testing.assert_array_equal(first, again)


def test_what_a_table_lacks_says_nothing() -> None:
    exams, _ = make_exams(4, 6)
    table = torch.tensor([[50.0, NAN], [70.0, NAN], [NAN, NAN], [60.0, NAN]])
    scaled = fit_scale(replace(exams, table=table)).apply(replace(exams, table=table))
    assert scaled.table[:, 0].tolist() == pytest.approx([-1.2247, 1.2247, 0, 0], abs=1e-4)
    assert scaled.table[:, 1].tolist() == [0, 0, 0, 0]
