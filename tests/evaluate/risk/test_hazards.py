"""Hazards other than additive ones, and heads of each side: by hand, by loops, and what they learn."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from test_hazard_head import BASE, make_exams
from test_risk_report import cache  # noqa: F401 (a fixture)

from hilum.cache import Cache
from hilum.errors import UserError
from hilum.evaluate.result import read_result
from hilum.evaluate.risk.arms import RiskArm
from hilum.evaluate.risk.fit import Setting, fit_risk
from hilum.evaluate.risk.follow_up import build_targets, read_follow_up
from hilum.evaluate.risk.hazards import (
    RELATIVE,
    RiskModel,
    find_discrete_risk,
    join_breasts,
    measure_discrete_nll,
    measure_partial_likelihood,
)
from hilum.evaluate.risk.head import HeadOfEachSide, RiskHead, find_risk
from hilum.evaluate.risk.risk_report import report_risk, run_risk_report
from hilum.evaluate.risk.scoring import RiskPlan
from hilum.report.page import write_report

NAN = float("nan")
SETTING = Setting("mean", "mean", 0.3)


def test_the_likelihood_of_discrete_time_by_hand() -> None:
    """A cancer in the second year (its later years say nothing more), and a follow-up of one year; one of none."""
    assert float(measure_discrete_nll(torch.zeros(1, 3), torch.tensor([[0.0, 1.0, 1.0]]))) == pytest.approx(
        2 * math.log(2)
    )
    logit = torch.tensor([[0.0, 1.0, 9.0], [-2.0, 5.0, -5.0], [7.0, 7.0, 7.0]])
    target = torch.tensor([[0.0, 1.0, 1.0], [0.0, NAN, NAN], [NAN, NAN, NAN]])
    by_hand = (math.log(2) + math.log1p(math.exp(-1)) + math.log1p(math.exp(-2))) / 2
    assert float(measure_discrete_nll(logit, target)) == pytest.approx(by_hand, abs=1e-6)
    assert float(measure_discrete_nll(logit[2:], target[2:])) == 0


def test_the_likelihood_of_discrete_time_is_a_slow_loops() -> None:
    rng = np.random.default_rng(0)
    years, event, logit = rng.uniform(0, 7, 30), rng.random(30) < 0.5, rng.normal(size=(30, 5))
    total, num = 0.0, 0
    for when, sick, row in zip(years, event, logit, strict=True):
        hazard = 1 / (1 + np.exp(-row))
        free = min(int(when), 5)  # whole years without
        likelihood = np.prod(1 - hazard[:free]) * (hazard[free] if sick and free < 5 else 1)
        if free or sick:
            total, num = total - math.log(likelihood), num + 1
    found = measure_discrete_nll(torch.from_numpy(logit).float(), torch.from_numpy(build_targets(years, event)))
    assert float(found) == pytest.approx(total / num, rel=1e-5)


def test_risks_of_discrete_time_by_hand() -> None:
    assert find_discrete_risk(torch.zeros(1, 3))[0].tolist() == pytest.approx([0.5, 0.75, 0.875])
    assert bool((find_discrete_risk(torch.randn(50, 5) * 30).diff(dim=1) >= 0).all())


def test_the_partial_likelihood_by_hand() -> None:
    """Cancers after 1 and 3 years, one censored at 2: the first among three, the other alone. Equal times by Efron."""
    log_hazard, years = torch.tensor([0.0, 1.0, 2.0]), torch.tensor([1.0, 2.0, 3.0])
    found = measure_partial_likelihood(log_hazard, years, torch.tensor([True, False, True]))
    assert float(found) == pytest.approx(math.log(1 + math.e + math.e**2) / 2, abs=1e-6)
    tied = measure_partial_likelihood(log_hazard, torch.ones(3), torch.tensor([True, True, False]))
    every = 1 + math.e + math.e**2
    assert float(tied) == pytest.approx((math.log(every) + math.log(every - (1 + math.e) / 2) - 1) / 2, abs=1e-6)
    assert float(measure_partial_likelihood(log_hazard, years, torch.zeros(3, dtype=torch.bool))) == 0


def test_an_exam_has_the_risk_of_either_breast() -> None:
    left, right = torch.tensor([[-2.0, -1.0]]), torch.tensor([[-3.0, 0.5]])
    either = 1 - (1 - left.sigmoid()) * (1 - right.sigmoid())
    torch.testing.assert_close(join_breasts("additive", left, right).sigmoid(), either)
    torch.testing.assert_close(join_breasts("logistic", left, torch.full_like(left, -torch.inf)), left)
    assert float(join_breasts("cox", torch.tensor([[0.0]]), torch.tensor([[0.0]]))) == pytest.approx(math.log(2))


def test_a_breast_is_read_by_the_head_of_its_side_alone() -> None:
    """What is there of a side moves the exam through that side's head; an exam of one breast has that one's risk."""
    exams, _ = make_exams(12, 0)
    torch.manual_seed(0)
    heads = [RiskHead(6, 0, torch.tensor(BASE), pooling="mean") for _ in range(2)]
    apart = HeadOfEachSide(*heads, "additive").eval()
    right = exams.laterality == 2
    with torch.no_grad():
        whole = apart(exams)
        for exam in range(12):
            own = exams.owner == exam
            sides = [side for side, of in enumerate((~right, right)) if (of & own).any()]
            alone = [
                heads[side].numbers(exams.vectors[own & (right == bool(side))].mean(dim=0, keepdim=True))
                for side in sides
            ]
            expected = join_breasts("additive", *alone) if len(alone) == 2 else alone[0]
            torch.testing.assert_close(whole[exam : exam + 1], expected)
        assert len({len(exams.laterality[exams.owner == exam].unique()) for exam in range(12)}) == 2
    apart.train()
    apart(exams).sum().backward()
    assert all(bool(one.grad.isfinite().all()) for one in apart.parameters())


@pytest.mark.parametrize("hazard", ["additive", "logistic", "cox"])
@pytest.mark.parametrize("sides", ["together", "apart"])
def test_every_model_learns_who_is_at_risk(hazard, sides, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hilum.evaluate.risk.fit._STEPS", 250)
    base = [0.15, 0.25, 0.3, 0.35, 0.4]
    train, val, (test, rate) = make_exams(300, 3)[0], make_exams(150, 4)[0], make_exams(300, 5)
    fitted = fit_risk(train, val, base, SETTING, model=RiskModel(hazard, sides))
    risk = fitted.predict(test)
    assert risk.shape == (300, 5)
    assert (np.diff(risk, axis=1) >= 0).all()
    assert np.corrcoef(np.argsort(np.argsort(risk[:, -1])), np.argsort(np.argsort(rate)))[0, 1] > 0.8
    if hazard != "cox":
        true = 1 - np.exp(-rate[:, None] * np.arange(1, 6))
        assert np.abs(risk.mean(axis=0) - true.mean(axis=0)).max() < 0.08


def test_heads_start_at_the_observed_risks() -> None:
    head = RiskHead(6, 0, torch.tensor(BASE), pooling="mean", hazard="logistic")
    with torch.no_grad():
        head.numbers.weight.zero_()
        found = find_discrete_risk(head(make_exams(3, 2)[0]))
    np.testing.assert_allclose(found.numpy(), np.tile(BASE, (3, 1)), rtol=0.02)


def test_cox_ranks_and_leaves_errors_of_absolute_risk_undefined_and_says_why(
    cache: Cache,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("hilum.evaluate.risk.fit._STEPS", 40)
    monkeypatch.setattr("hilum.evaluate.risk.curves._RESAMPLES", 2)
    plan = RiskPlan(cache, read_follow_up(cache), ("mean",), 0, {}, 2, model=RiskModel("cox"))
    path = report_risk(plan, [RiskArm("age", "table", None, True)], tmp_path / "cox", progress=False)
    (arm,) = json.loads(path.read_bytes())["arms"]
    result = read_result(path.parent / arm["path"])
    assert result.protocol["kind"] == "risk by Cox's proportional hazards"
    assert result.protocol["loss"] == "negative partial log-likelihood"
    for metric, of in (("c_index_uno", "risk"), ("auc_ipcw", "2 years"), ("brier_error_recalibrated", "2 years")):
        assert result.find(metric, of).value is not None, metric
    for metric, of in (("brier_error", "2 years"), ("calibration_gap", "5 years"), ("integrated_brier_error", None)):
        found = result.find(metric, of or "1 year to 5 years")
        assert (found.value, found.reason) == (None, RELATIVE)
    assert RELATIVE in result.notes
    assert all(not year["points"] for year in arm["calibration"])
    assert any(year["points"] for year in arm["recalibrated"])
    write_report([tmp_path / "cox"], tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text("utf-8")
    assert "hazards relative to other women" in page
    assert "An additive-hazard" not in page


def test_a_mask_that_changes_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--mask-after-event has no effect on --hazard logistic"):
        run_risk_report(tmp_path, ["run"], hazard="logistic", mask_after_event=True)


def test_sides_are_taken_apart_and_earlier_exams_go_with_theirs() -> None:
    exams, _ = make_exams(8, 1, earlier=True)
    for right in (False, True):
        breasts, exam = exams.take_side(right=right)
        assert bool(((breasts.laterality == 2) == right).all())
        assert len(breasts) == len(exam)
        torch.testing.assert_close(breasts.target, exams.target[exam], equal_nan=True)
        for place, row in enumerate(exam.tolist()):
            mine = exams.vectors[(exams.owner == row) & ((exams.laterality == 2) == right)]
            torch.testing.assert_close(breasts.vectors[breasts.owner == place], mine)
    with torch.no_grad():
        head = RiskHead(6, 0, torch.tensor(BASE), pooling="attention", earlier=True).eval()
        risk = find_risk(HeadOfEachSide(head, head, "additive")(replace(exams)))
    assert bool(risk.isfinite().all())
