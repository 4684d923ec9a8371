"""The policy soft: an uncertain state teaches half, and no metric sees it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from hilum.evaluate.console import name_results
from hilum.evaluate.controls import embed_pixels
from hilum.evaluate.finetune.run import finetune_encoder
from hilum.evaluate.finetune.settings import FinetuneSettings
from hilum.evaluate.fusion import masked_cross_entropy
from hilum.evaluate.heads.logistic import fit_logistic
from hilum.evaluate.probe.run import has_one_class, probe_encoder
from hilum.evaluate.record import record_finetuned, record_probe
from hilum.evaluate.rows import pool_rows, shuffle_targets, take_rows
from hilum.evaluate.scoring.estimates import score_macro
from hilum.evaluate.task import read_findings_task


@pytest.fixture(scope="module")
def tasks(shown_cache):
    return {policy: read_findings_task(shown_cache, uncertain=policy) for policy in ("soft", "ignore", "zeros")}


@pytest.fixture(scope="module")
def uncertain(shown_cache):
    return shown_cache.table()["Edema"].to_numpy() == -1


def test_training_takes_a_half_where_scores_take_nothing(tasks, uncertain) -> None:
    soft, edema = tasks["soft"], tasks["soft"].names.index("Edema")
    assert (soft.training_target[uncertain, edema] == 0.5).all()
    assert np.isnan(soft.target[uncertain, edema]).all()
    np.testing.assert_array_equal(soft.target, tasks["ignore"].target)
    np.testing.assert_array_equal(soft.training_target[~uncertain], soft.target[~uncertain])
    for policy in ("ignore", "zeros"):
        np.testing.assert_array_equal(tasks[policy].training_target, tasks[policy].target)
    assert soft.policy == {"uncertain": "soft", "blank": "zeros", "soft_target": 0.5}
    assert name_results("probe", soft, representation="auto") == "probe-uncertain-soft"


def test_a_study_that_is_only_uncertain_is_trained_on_and_not_tested_on(shown_cache, uncertain) -> None:
    task = read_findings_task(shown_cache, ("Edema",), uncertain="soft", blank="ignore")
    train, test = (np.isin(np.flatnonzero(uncertain), task.rows(split)) for split in ("train", "test"))
    assert train.sum() == (task.split[uncertain] == 0).sum() > 0
    assert not test.any()


def test_a_half_is_fitted_as_half_a_positive_and_half_a_negative() -> None:
    """Against a general optimiser, and against every soft row written twice with half a weight."""
    generator = np.random.default_rng(0)
    x = generator.normal(size=(80, 3))
    y = (x[:, 0] + generator.normal(size=80) > 0).astype(float)
    y[::7] = 0.5

    def loss(w: np.ndarray) -> float:
        z = x @ w[:3] + w[3]
        return float((np.logaddexp(0, z) - y * z).sum() + (w[:3] ** 2).sum() / (2 * 0.1))

    best = minimize(loss, np.zeros(4), tol=1e-12).x
    fit = fit_logistic(torch.from_numpy(x), torch.from_numpy(y)[:, None], torch.tensor([0.1]), tolerance=1e-9)
    np.testing.assert_allclose([*fit.weight[:, 0], fit.intercept[0]], best, atol=1e-5)


def test_cross_entropy_of_a_half_by_hand() -> None:
    """softplus(z) - z/2: ln 2 at 0, where its gradient is 0; at 2 it is 2.126928 - 1."""
    logit = torch.tensor([[0.0, 2.0]], requires_grad=True)
    loss = masked_cross_entropy(logit, torch.tensor([[0.5, 0.5]]))
    assert loss.item() == pytest.approx((0.693147 + 1.126928) / 2, abs=1e-6)
    loss.backward()
    assert logit.grad is not None
    assert logit.grad[0, 0] == 0


def test_the_probe_learns_from_it_and_is_scored_without_it(shown_cache, tasks, uncertain) -> None:
    pixels = embed_pixels(shown_cache, side=8, progress=False)
    soft, ignore = (probe_encoder(pixels, tasks[policy], name=policy) for policy in ("soft", "ignore"))
    edema = tasks["soft"].names.index("Edema")
    assert soft.setting != ignore.setting or not torch.allclose(soft.probe.weight, ignore.probe.weight)
    assert set(np.unique(soft.test.target[~np.isnan(soft.test.target)])) == {0.0, 1.0}
    assert np.isnan(soft.test.target[uncertain[soft.test.row], edema]).all()
    assert 0 <= score_macro(soft.test, min_positives=2)[0] <= 1
    assert record_probe(soft, num_resamples=20).protocol["labels"]["uncertain"] == "soft"


def test_shuffled_labels_keep_both_targets_of_a_row_together(shown_cache, tasks) -> None:
    rows = take_rows(
        embed_pixels(shown_cache, side=8, progress=False), tasks["soft"], tasks["soft"].rows("train"), "mean"
    )
    shuffled = shuffle_targets(rows, torch.Generator().manual_seed(0))
    known = ~torch.isnan(shuffled.target)
    assert torch.equal(shuffled.target[known], shuffled.training_target[known])
    assert torch.equal(pool_rows(shuffled, "study")[1].nan_to_num(9), shuffled.training_target.nan_to_num(9))
    assert not torch.equal(shuffled.training_target.nan_to_num(9), rows.training_target.nan_to_num(9))


def test_fine_tuning_learns_from_it_and_is_scored_without_it(shown_cache, encoder, tasks, uncertain) -> None:
    tuned = {
        policy: finetune_encoder(
            shown_cache, encoder, tasks[policy], FinetuneSettings(epochs=1, views_per_step=32, precision="32-true"),
            name=policy, mean=shown_cache.mean, std=shown_cache.std, progress=False,
        )
        for policy in ("soft", "ignore")
    }  # fmt: skip
    assert tuned["soft"].history[0]["loss"] != tuned["ignore"].history[0]["loss"]
    edema = tasks["soft"].names.index("Edema")
    assert np.isnan(tuned["soft"].test.target[uncertain[tuned["soft"].test.row], edema]).all()
    assert record_finetuned(tuned["soft"], num_resamples=20).protocol["labels"]["soft_target"] == 0.5


def test_one_class_is_all_zeros_or_all_ones() -> None:
    for values, expected in (([0, 0], True), ([1, NAN], True), ([NAN, NAN], True), ([0, 0.5], False), ([0, 1], False)):
        assert has_one_class(torch.tensor(values, dtype=torch.float32)) is expected


NAN = float("nan")
