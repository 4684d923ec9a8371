"""The joint solver finds scikit-learn's optimum, column by column."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from hilum.evaluate.heads.logistic import fit_logistic, fit_standardizer

NAN = float("nan")


def _simulate(num: int, dim: int, findings: int, seed: int = 0):
    """Strongly correlated features of very different scale, targets with gaps."""
    generator = torch.Generator().manual_seed(seed)
    scales = torch.logspace(0, -3, dim)[:, None]
    mixing = torch.randn(dim, dim, generator=generator) * scales
    features = torch.randn(num, dim, generator=generator) @ mixing * 5 + 3
    x = fit_standardizer(features)(features)
    truth = torch.randn(dim, findings, generator=generator, dtype=torch.float64) / dim**0.5
    target = (torch.rand(num, findings, generator=generator) < torch.sigmoid(x @ truth - 1.5)).float()
    target[torch.rand(num, findings, generator=generator) < 0.1] = NAN
    return x, target


@pytest.mark.parametrize(("num", "dim"), [(300, 40), (60, 100)])
def test_every_column_is_scikit_learns_solution(num, dim):
    x, target = _simulate(num, dim, 3)
    strengths = [1e-4, 1e-2, 1.0]
    fit = fit_logistic(x, target.repeat(1, 3), torch.tensor(strengths).repeat_interleave(3), tolerance=1e-7)
    assert fit.converged
    said = fit(x).numpy()
    for column in range(9):
        y = target[:, column % 3].numpy()
        known = ~np.isnan(y)
        reference = LogisticRegression(C=strengths[column // 3], tol=1e-9, max_iter=20000)
        reference.fit(x[known].numpy(), y[known])
        assert said[:, column] == pytest.approx(reference.decision_function(x.numpy()), abs=1e-3)


def test_the_default_tolerance_is_at_the_optimum():
    """The gradient of the objective, written out, is nothing beside its parts."""
    x, target = _simulate(200, 30, 2)
    fit = fit_logistic(x, target, torch.tensor([0.1, 0.1]))
    known = ~torch.isnan(target)
    residual = torch.where(known, torch.sigmoid(fit(x)) - target.nan_to_num(), 0.0)
    gradient = x.T @ residual + fit.weight / 0.1
    assert gradient.abs().max() < 1e-3 * (fit.weight / 0.1).abs().max()
    assert residual.sum(dim=0).abs().max() < 0.01


def test_columns_do_not_know_of_each_other():
    x, target = _simulate(100, 20, 4)
    together = fit_logistic(x, target, torch.ones(4), tolerance=1e-9)
    for column in range(4):
        alone = fit_logistic(x, target[:, [column]], torch.ones(1), tolerance=1e-9)
        assert together(x)[:, column] == pytest.approx(alone(x)[:, 0], abs=1e-5)


def test_one_class_scores_everybody_alike():
    x, target = _simulate(50, 10, 4)
    target[:, 0], target[:, 1], target[:, 2] = 0, NAN, torch.where(torch.arange(50) < 20, 1, NAN)
    fit = fit_logistic(x, target, torch.ones(4))
    assert (fit.weight[:, :3] == 0).all()
    assert fit.intercept[:3].numpy() == pytest.approx([np.log(0.5 / 50.5), 0, np.log(20.5 / 0.5)])
    assert fit.weight[:, 3].abs().max() > 0


def test_constant_features_do_no_harm():
    x = torch.randn(40, 5)
    x[:, 2] = 0.1
    standardize = fit_standardizer(x)
    assert standardize.std[2] == 1
    target = (x[:, :1] > 0).float()
    fit = fit_logistic(standardize(x), target, torch.tensor([10.0]))
    assert fit.weight[2, 0].abs() < 1e-9
    assert torch.isfinite(fit(standardize(x))).all()


def test_separable_classes_and_weak_penalty_converge():
    x = torch.cat([torch.randn(30, 3) - 4, torch.randn(30, 3) + 4])
    target = (torch.arange(60) >= 30).float()[:, None]
    fit = fit_logistic(fit_standardizer(x)(x), target, torch.tensor([1e3]))
    assert fit.converged
    assert ((fit(fit_standardizer(x)(x)) > 0).float() == target).all()
