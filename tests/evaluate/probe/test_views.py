"""What a second view adds, other fusions, weighted positives and label subsets: by hand, by loop, and as planted."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression

from hilum.errors import UserError
from hilum.evaluate.controls import embed_pixels
from hilum.evaluate.fusion import (
    fit_temperatures,
    fuse_views,
    masked_cross_entropy,
    scale_views,
    weigh_positives,
)
from hilum.evaluate.heads.linear import fit_probes
from hilum.evaluate.heads.logistic import fit_logistic
from hilum.evaluate.probe.efficiency import stack_repeats
from hilum.evaluate.probe.fusions import score_fusions
from hilum.evaluate.probe.gate import Gate, fit_gate, share_within
from hilum.evaluate.probe.label_subsets import find_rarest, order_strata, pick_labelled
from hilum.evaluate.probe.run import probe_encoder
from hilum.evaluate.probe.views import compare_views
from hilum.evaluate.record import record_probe
from hilum.evaluate.rows import Rows, part_by_count, take_rows
from hilum.evaluate.scoring.estimates import estimate_difference
from hilum.evaluate.task import read_findings_task, read_task

NAN = float("nan")


@pytest.fixture(scope="module")
def pixels(shown_cache):
    return embed_pixels(shown_cache, side=8, progress=False)


def test_two_views_of_the_same_studies_see_more_than_one(shown_cache, pixels):
    """Fracture shows in lateral views only, and these are second in the list."""
    task = read_task(shown_cache, "Fracture")
    found = compare_views(pixels, task, name="pixels", label_count=60, num_seeds=2)
    assert [len(probes) for probes in found.values()] == [2, 2]
    counts = np.bincount(pixels.study)
    for one, two in zip(*found.values(), strict=True):
        assert np.array_equal(one.test.row, two.test.row)
        assert (counts[one.test.row] == 2).all()
        assert one.counts["test_views"] == len(one.test.row)
        assert two.counts["test_views"] == 2 * len(two.test.row)
        assert one.num_train == two.num_train
        assert 60 <= one.num_train <= 61
    sides = [stack_repeats([probe.test for probe in found[seen]]) for seen in ("two views", "one view")]
    gain = estimate_difference(*sides, ("auroc",), num_resamples=50, min_positives=5)[-1]
    assert gain.of == "macro"
    assert gain.low > 0
    assert [len(probes) for probes in compare_views(pixels, task, name="pixels").values()] == [1, 1]


def test_soft_labels_of_studies_without_two_views_take_no_part(shown_cache, pixels):
    task = read_task(shown_cache, "Fracture", uncertain="soft")
    soft = np.full_like(task.target, 0.5)  # every study says something in training, whatever is scored
    (one,), (two,) = compare_views(pixels, replace(task, soft=soft), name="pixels").values()
    twos = (np.bincount(pixels.study, minlength=len(task.target)) == 2) & (task.split == 0)
    assert one.num_train == two.num_train == twos.sum() < (task.split == 0).sum()


def test_views_that_cannot_be_counted_are_refused(shown_cache, pixels):
    with pytest.raises(UserError, match="is one of images"):
        compare_views(pixels, read_task(shown_cache, "kind"), name="pixels")
    capped = replace(pixels, made_by={**pixels.made_by, "max_views": 2})
    with pytest.raises(UserError, match="at most 2 views of a study"):
        compare_views(capped, read_task(shown_cache, "Edema"), name="pixels")
    with pytest.raises(UserError, match="5,000 labelled studies with two views were asked for; training has"):
        compare_views(pixels, read_task(shown_cache, "Edema"), name="pixels", label_count=5000)


def test_parts_by_number_of_views_are_the_same_studies(shown_cache, pixels):
    task = read_task(shown_cache, "Edema")
    rows = take_rows(pixels, task, task.rows("test"), "mean")
    parts = part_by_count(task, rows)
    assert list(parts) == ["1", "all"]  # no study has three views
    part, first = parts["1"]
    assert first.sum() == len(part)
    assert (torch.bincount(part.owner) == 2).all()
    assert first.tolist() == [True, False] * len(part)
    # With a third view given to the first of them, "2" is its first two.
    third = replace(part, owner=torch.cat([torch.zeros(1, dtype=torch.long), part.owner]),
                    features=torch.cat([part.features[:1], part.features]),
                    view_kind=torch.cat([part.view_kind[:1], part.view_kind]))  # fmt: skip
    assert part_by_count(task, third)["2"][1].tolist()[:5] == [True, True, False, True, True]


def test_other_fusions_stand_beside_the_mean_of_logits(shown_cache, pixels):
    task = read_findings_task(shown_cache)
    result = record_probe(
        probe_encoder(pixels, task, name="pixels", fuse_otherwise=True), num_resamples=20, min_positives=5
    )
    for slice in ("mean_probability", "temperature", "gated"):
        assert result.find("auroc", slice=f"fused by {slice}").value > 0.7
        assert result.find("brier_error", slice=f"fused by {slice}").value < 0.3
    assert result.find("auroc", slice="several views, seen: 1").value is not None


def test_a_kind_that_guesses_gets_a_high_temperature():
    """Frontal views know (logit 2 where the odds are e^4), lateral ones are noise."""
    generator = torch.Generator().manual_seed(0)
    y = (torch.rand(2000, 1, generator=generator) < 0.5).double()
    knows = torch.where(torch.rand(2000, 1, generator=generator) < 1 / (1 + math.exp(-2)), 2 * y - 1, 1 - 2 * y) * 2
    noise = 3 * torch.randn(2000, 1, generator=generator, dtype=torch.float64)
    logit, owner = torch.cat([knows, noise]), torch.arange(2000).repeat(2)
    kind = torch.arange(2).repeat_interleave(2000)
    temperature = fit_temperatures(logit, owner, kind, y, torch.zeros(1))
    assert temperature[0].item() == pytest.approx(0.5, abs=0.1)  # half of the mean is the noise's: doubled, it is right
    assert temperature[1] > 20
    assert temperature[2:].tolist() == pytest.approx([1.0] * (len(temperature) - 2))


def test_temperatures_of_logits_close_to_the_prior_are_not_zero():
    """A strongly regularised head says a thirtieth of what it should: the temperature that scales it back is 1/30."""
    generator = torch.Generator().manual_seed(0)
    y = (torch.rand(400, 6, generator=generator) < 0.2).double()
    knows = torch.where(torch.rand(400, 6, generator=generator) < 1 / (1 + math.exp(-1)), 2 * y - 1, 1 - 2 * y)
    prior = torch.full((6,), math.log(0.2 / 0.8), dtype=torch.float64)
    owner, kind = torch.arange(400), torch.zeros(400, dtype=torch.long)
    temperature = fit_temperatures(prior + knows / 30, owner, kind, y, prior)
    assert temperature[0].item() == pytest.approx(1 / 30, rel=0.2)
    certain = fit_temperatures(prior + (2 * y - 1) * 1e-3, owner, kind, y, prior)
    assert certain[0].item() == pytest.approx(1e-3), "told apart without error: as low as one may be, and not 0"


def test_temperatures_scale_what_a_view_adds_to_the_prior():
    scaled = scale_views(torch.tensor([[1.0, -1.0], [1.0, -3.0]]), torch.tensor([2.0, 0.5]), torch.tensor([0.0, -2.0]))
    assert scaled.tolist() == [[0.5, -1.5], [2.0, -4.0]]


def test_shares_of_views():
    share = share_within(torch.tensor([0.0, 0.0, 5.0, math.log(3.0), 0.0]), torch.tensor([0, 0, 1, 2, 2]), 3)
    assert share.tolist() == pytest.approx([0.5, 0.5, 1.0, 0.75, 0.25])


def test_a_gate_begins_as_the_mean_and_learns_whom_to_believe():
    """The first feature of a view says whether its logit is the answer or noise."""
    generator = torch.Generator().manual_seed(0)

    def draw(num):
        y = (torch.rand(num, 1, generator=generator) < 0.5).float()
        owner = torch.arange(num).repeat_interleave(2)
        knows = torch.rand(2 * num, 1, generator=generator) < 0.5
        noise = 3 * torch.randn(2 * num, 1, generator=generator)
        logit = torch.where(knows, 3 * (2 * y[owner] - 1), noise)
        features = torch.cat([2 * knows.float() - 1, torch.randn(2 * num, 3, generator=generator)], dim=1)
        return features, logit, owner, y

    train, val, test = draw(400), draw(200), draw(400)
    assert torch.allclose(Gate(4)(*test[:3], 400), fuse_views(*test[1:3], 400), atol=1e-6)
    gated = fit_gate(train, val)(*test[:3], 400)
    plain = fuse_views(*test[1:3], 400)
    loss, plain_loss = (masked_cross_entropy(logit, test[3]).item() for logit in (gated, plain))
    assert loss < 0.75 * plain_loss
    # Where nothing can be learned the gate stays what it was.
    wrong = (val[0], val[1], val[2], 1 - val[3])
    assert torch.allclose(fit_gate(train, wrong)(*test[:3], 400), plain, atol=1e-6)


def test_a_gate_is_trained_on_studies_with_several_views_drawn_from_all(monkeypatch: pytest.MonkeyPatch):
    """200 studies, the even ones with two views; the first feature of a view is its study's number."""
    generator = torch.Generator().manual_seed(0)
    owner = torch.arange(200).repeat_interleave(torch.tensor([2, 1]).repeat(100))
    features = torch.cat([owner[:, None].float(), torch.randn(len(owner), 2, generator=generator)], dim=1)
    target = (torch.rand(200, 1, generator=generator) < 0.5).double()
    rows = Rows(np.arange(200), target, features, owner, torch.zeros(len(owner), dtype=torch.long))
    (probe,) = fit_probes(rows, [1.0])
    seen = []

    def fit_and_note(train, val, **how):
        seen.append((train, val))
        return fit_gate(train, val, **how)

    monkeypatch.setattr("hilum.evaluate.probe.fusions.fit_gate", fit_and_note)
    monkeypatch.setattr("hilum.evaluate.probe.fusions._MOST_STUDIES", 30)
    said = [score_fusions(probe, rows, rows, rows, seed=seed)["gated"] for seed in (0, 0, 1)]
    number = (probe.standardize.mean, probe.standardize.std)
    drawn = []
    for (shown, logit, shown_owner, shown_target), val in seen:
        study = (shown[:, 0].double() * number[1][0] + number[0][0]).round().long()
        assert torch.equal(torch.bincount(shown_owner), torch.full((30,), 2)), "with both of their views"
        assert torch.equal(shown_target, target[study[::2]])
        assert torch.allclose(logit, probe.score_views(features[torch.isin(owner, study)]))
        assert len(val[3]) == 200, "validation is whole"
        drawn.append(sorted(set(study.tolist())))
        assert (drawn[-1][0] < 40, drawn[-1][-1] >= 160) == (True, True), "from the first archive to the last"
    assert drawn[0] == drawn[1] != drawn[2]
    assert torch.equal(said[0], said[1])


def test_weights_of_positives_by_hand():
    target = torch.full((1000, 4), 0.0)
    target[:100, 0], target[:2, 1], target[:600, 2] = 1, 1, 1
    assert weigh_positives(target).tolist() == pytest.approx([9, 10, 1, 1])  # rare, very rare, common, never
    target[:, 0] = NAN
    target[:3, 0] = torch.tensor([1.0, 0.25, 0.25])
    assert weigh_positives(target)[0].item() == pytest.approx(1.0)  # 1.5 of both: soft targets count in parts


def test_weighted_loss_by_loop_and_at_its_best():
    """One logit for all of 10 positives and 90 negatives: the weighted loss is least at the true odds, 1 : 9."""
    logit = torch.randn(6, 2, generator=torch.Generator().manual_seed(0))
    target = torch.tensor([[1, 0], [0, NAN], [0.3, 1], [NAN, NAN], [0, 1], [1, 0]])
    weight = torch.tensor([4.0, 2.0])
    total, num = 0.0, 0
    for row in range(6):
        for finding in range(2):
            y, w = target[row, finding].item(), weight[finding].item()
            if not math.isnan(y):
                p = 1 / (1 + math.exp(-logit[row, finding].item() - math.log(w)))
                total -= w * y * math.log(p) + (1 - y) * math.log(1 - p)
                num += 1
    assert masked_cross_entropy(logit, target, weight).item() == pytest.approx(total / num, rel=1e-5)
    target = (torch.arange(100) < 10).double()[:, None]
    one = torch.tensor(math.log(1 / 9), dtype=torch.float64, requires_grad=True)
    masked_cross_entropy(one.expand(100, 1), target, weigh_positives(target)).backward()
    assert abs(one.grad.item()) < 1e-12


def test_weighted_regression_is_that_of_repeated_rows():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(60, 3, generator=generator, dtype=torch.float64)
    y = (torch.rand(60, 1, generator=generator) < 0.3).double()
    weighted = fit_logistic(x, y, torch.tensor([0.5]), positive_weight=torch.tensor([3.0]), tolerance=1e-9)
    times = 1 + 2 * y[:, 0].long()
    oracle = LogisticRegression(C=0.5, tol=1e-10, max_iter=1000)
    oracle.fit(x.repeat_interleave(times, 0).numpy(), y.repeat_interleave(times, 0)[:, 0].numpy())
    assert weighted.weight[:, 0].tolist() == pytest.approx(oracle.coef_[0].tolist(), abs=1e-5)
    assert weighted.intercept.item() == pytest.approx(oracle.intercept_[0], abs=1e-5)
    # Soft targets are both classes in parts, weighted or not.
    soft = fit_logistic(x, 0.75 * y, torch.tensor([0.5]), positive_weight=torch.tensor([3.0]), tolerance=1e-9)
    z = x @ soft.weight + soft.intercept
    loss = F.binary_cross_entropy_with_logits(z, 0.75 * y, pos_weight=torch.tensor([3.0]), reduction="sum")
    near = F.binary_cross_entropy_with_logits(z + 1e-3, 0.75 * y, pos_weight=torch.tensor([3.0]), reduction="sum")
    lower = F.binary_cross_entropy_with_logits(z - 1e-3, 0.75 * y, pos_weight=torch.tensor([3.0]), reduction="sum")
    assert loss < min(near, lower)


def test_a_weighted_probe_still_says_the_true_prevalence(shown_cache, pixels):
    task = read_task(shown_cache, "Fracture")
    rows = take_rows(pixels, task, task.rows("train"), "mean")
    rare = replace(rows, target=torch.where(torch.arange(len(rows))[:, None] % 4 > 0, 0.0, rows.target))
    plain, weighted = (fit_probes(rare, [1e-3], weighted=choice)[0] for choice in (False, True))
    assert weigh_positives(rare.target)[0] > 4
    for probe in (plain, weighted):
        said = torch.sigmoid(probe.score_rows(rare)).mean()
        assert said.item() == pytest.approx(rare.target.mean().item(), abs=0.05)
    assert not torch.allclose(plain.weight, weighted.weight)


def test_rarest_findings_by_hand():
    """Owner 0: common and rare; 1: common; 2: nothing known; 3: common."""
    target = np.array([[1, 0], [0, 1], [1, 0], [NAN, NAN], [1, 0]])
    assert find_rarest(target, np.array([0, 0, 1, 2, 3])).tolist() == [1, 0, -1, 0]


def test_every_prefix_holds_each_stratum_in_proportion():
    names = [f"p{i}" for i in range(1000)]
    stratum = np.where(np.arange(1000) < 30, 2, np.where(np.arange(1000) < 300, 1, -1))
    order = np.argsort(order_strata(names, stratum, "x"), kind="stable")
    for size in (50, 100, 333, 700, 1000):
        for one, num in ((2, 30), (1, 270), (-1, 700)):
            found = (stratum[order[:size]] == one).sum()
            assert abs(found - size * num / 1000) <= 2, (size, one)
    assert order.tolist() != np.argsort(order_strata(names, stratum, "y"), kind="stable").tolist()


def test_label_subsets_hold_rare_findings_and_are_nested(shown_cache):
    """M 8-31: whole patients, the smaller in the larger, and a finding of 4 patients in 53 among the first 27."""
    task = read_findings_task(shown_cache, ("Edema",))
    target = np.zeros_like(task.target)
    train = task.rows("train")
    groups = list(dict.fromkeys(task.group.gather(train)))
    marked = np.isin(task.group.to_numpy(), groups[:4])
    target[marked] = 1
    rare = replace(task, target=target)
    for seed in range(5):
        picked = pick_labelled(rare, [len(train) // 4, len(train) // 2, len(train)], seed)
        for smaller, larger in pairwise(picked.values()):
            assert set(smaller) <= set(larger)
            assert (np.diff(smaller) > 0).all()
        half = picked[len(train) // 2]
        assert 1 <= len(set(task.group.gather(half)) & set(groups[:4])) <= 3
        for count, rows in picked.items():
            assert count <= len(rows) <= count + 1  # two studies a patient
    with pytest.raises(UserError, match="labelled studies were asked for; training has"):
        pick_labelled(rare, [10**6], 0)
