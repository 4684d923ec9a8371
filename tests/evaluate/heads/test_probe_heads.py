"""Heads on frozen features: each finds what is planted for it, and their arithmetic is what they say."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from plain_metrics import score_auroc
from shown import TINY

from hilum.errors import UserError
from hilum.evaluate.controls import embed_pixels
from hilum.evaluate.features import embed_cache
from hilum.evaluate.heads import attentive
from hilum.evaluate.heads.attentive import fit_attentive
from hilum.evaluate.heads.fit import fit_head
from hilum.evaluate.heads.knn import fit_neighbours, vote
from hilum.evaluate.heads.linear import fit_probes
from hilum.evaluate.probe.crossval import crossvalidate_probe
from hilum.evaluate.probe.protocol import Arm, ProbeProtocol
from hilum.evaluate.probe.report import report_probes
from hilum.evaluate.probe.run import probe_encoder
from hilum.evaluate.record import record_probe
from hilum.evaluate.result import read_result
from hilum.evaluate.rows import Rows
from hilum.evaluate.scoring.estimates import score_macro
from hilum.evaluate.task import read_findings_task, read_task
from hilum.evaluate.tokens import cut_pixels
from hilum.model.heads import AttentivePool

NAN = float("nan")


def build_rows(features: torch.Tensor, target: torch.Tensor, owner: torch.Tensor | None = None) -> Rows:
    owner = torch.arange(len(target)) if owner is None else owner
    return Rows(np.arange(len(target)), target, features, owner, torch.zeros(len(owner), dtype=torch.long))


def test_votes_by_hand():
    """Two neighbours at cosines 1 and 0.93: weights e and 1 after division by 0.07, up to a factor."""
    angle = math.acos(0.93)
    examples = torch.tensor([[1.0, 0.0], [math.cos(angle), math.sin(angle)], [-1.0, 0.0]])
    target = torch.tensor([[1.0, NAN], [0.0, 1.0], [0.0, 0.0]])
    said = vote(torch.tensor([[1.0, 0.0]]), examples, target, 2)
    # First finding: known 3, one positive: prevalence 1.5 / 4; second: known 2, one positive: 1.5 / 3, neighbours 1, 2.
    first = 2 / 3 * math.e / (1 + math.e) + 1 / 3 * 1.5 / 4
    weight = 1 / (1 + math.exp((-1 - 0.93) / 0.07))
    second = 2 / 3 * weight + 1 / 3 * 0.5
    assert torch.sigmoid(said)[0].tolist() == pytest.approx([first, second], abs=1e-5)


def test_votes_against_a_slow_loop():
    generator = torch.Generator().manual_seed(0)
    query, examples = (torch.nn.functional.normalize(torch.randn(n, 5, generator=generator), dim=1) for n in (7, 40))
    target = (torch.rand(40, 3, generator=generator) < 0.4).float()
    target[torch.rand(40, 3, generator=generator) < 0.3] = NAN
    said = torch.sigmoid(vote(query, examples, target, 6))
    for row in range(7):
        for finding in range(3):
            known = [i for i in range(40) if not math.isnan(target[i, finding])]
            near = sorted(known, key=lambda i: -float(query[row] @ examples[i]))[:6]
            weights = [math.exp(float(query[row] @ examples[i]) / 0.07) for i in near]
            voted = sum(w * float(target[i, finding]) for w, i in zip(weights, near, strict=True)) / sum(weights)
            prevalence = (sum(float(target[i, finding]) for i in known) + 0.5) / (len(known) + 1)
            assert said[row, finding].item() == pytest.approx(6 / 7 * voted + prevalence / 7, abs=1e-4)


def test_neighbours_see_what_no_line_can():
    """Present where two coordinates have the same sign: a line scores chance."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(400, 2, generator=generator)
    y = (x[:, :1] * x[:, 1:] > 0).float()
    train, test = build_rows(x[:300], y[:300]), build_rows(x[300:], y[300:])
    near = fit_neighbours(train, [10.0])[0].score_rows(test)
    line = fit_probes(train, [1.0])[0].score_rows(test)
    assert score_auroc(test.target[:, 0].numpy(), near[:, 0].numpy()) > 0.9
    assert abs(score_auroc(test.target[:, 0].numpy(), line[:, 0].numpy()) - 0.5) < 0.2


def test_neighbours_meet_in_the_mean_of_views():
    x = torch.randn(6, 4, generator=torch.Generator().manual_seed(1))
    y = torch.tensor([[1.0], [0.0], [1.0]])
    head = fit_neighbours(build_rows(x, y, torch.tensor([0, 0, 1, 1, 2, 2])), [2.0])[0]
    both = build_rows(x[:2], y[:1], torch.tensor([0, 0]))
    swapped = build_rows(x[:2].flip(0), y[:1], torch.tensor([0, 0]))
    assert torch.allclose(head.score_rows(both), head.score_rows(swapped))
    one = head.score_rows(both, torch.tensor([True, False]))
    assert torch.allclose(one, head.score_rows(build_rows(x[:1], y[:1])))


def test_attention_begins_as_the_mean_and_shares_sum_to_one():
    pool = AttentivePool(12, 5)
    tokens = torch.randn(3, 5, 12)
    assert len(pool.query) == 4  # of 8: what 12 channels can be shared by
    assert torch.allclose(pool(tokens), tokens.mean(dim=1), atol=1e-6)
    torch.nn.init.normal_(pool.query)
    torch.nn.init.normal_(pool.place)
    torch.nn.init.normal_(pool.value.weight)
    share = pool.attend(tokens)
    assert torch.allclose(share.sum(dim=2), torch.ones(3, 4))
    expected = torch.zeros(3, 12)
    for view in range(3):
        for query in range(4):
            said = torch.stack([pool.query[query] @ tokens[view, t] / 12**0.5 + pool.place[query, t] for t in range(5)])
            read = (said.softmax(0)[:, None] * tokens[view]).sum(0)
            expected[view, 3 * query : 3 * query + 3] = pool.value.weight[3 * query : 3 * query + 3] @ read
    assert torch.allclose(pool(tokens), expected, atol=1e-5)


def plant_tokens(num: int, seed: int) -> Rows:
    """16 tokens of noise; a finding is a mark in one of them, wherever it lies, and half studies have a second view."""
    generator = torch.Generator().manual_seed(seed)
    owner = torch.arange(num).repeat_interleave(torch.arange(num) % 2 + 1)
    y = (torch.rand(num, 1, generator=generator) < 0.5).float()
    x = torch.randn(len(owner), 16, 8, generator=generator)
    place = torch.randint(16, (len(owner),), generator=generator)
    x[torch.arange(len(owner)), place, 0] += 4 * y[owner, 0]
    return build_rows(x.half(), y, owner)


def test_attention_finds_one_token_among_many():
    train, test = plant_tokens(500, 0), plant_tokens(200, 1)
    attended = fit_attentive(train, [1e-2])[0].score_rows(test)[:, 0].numpy()
    mean = build_rows(train.features.float().mean(1), train.target, train.owner)
    linear = fit_probes(mean, [0.1])[0]
    said = linear.score_rows(build_rows(test.features.float().mean(1), test.target, test.owner))[:, 0].numpy()
    truth = test.target[:, 0].numpy()
    assert score_auroc(truth, attended) > 0.9
    assert score_auroc(truth, attended) > score_auroc(truth, said) + 0.05


def test_attentive_heads_are_the_same_each_time_and_ignore_unknown_targets():
    train = plant_tokens(80, 0)
    target = torch.cat([train.target, torch.full_like(train.target, NAN)], dim=1)
    rows = build_rows(train.features, target, train.owner)
    one, again = (fit_attentive(rows, [1e-2], weighted=True)[0] for _ in range(2))
    assert torch.equal(one.score_rows(rows), again.score_rows(rows))
    assert torch.isfinite(one.score_rows(rows)).all()
    assert (one.head.linear.weight[1] == 0).all()
    assert (one.head.linear.weight[0] != 0).all()


def test_rates_are_trained_together_and_learn_what_they_would_alone(monkeypatch: pytest.MonkeyPatch):
    """Tokens of a step are read once for all rates, and no head knows of the others; studies in two batches an epoch,
    two findings, one with rare positives and unknown targets."""
    rows = plant_tokens(70, 0)
    second = (torch.rand(70, 1, generator=torch.Generator().manual_seed(2)) < 0.2).float()
    second[::3] = NAN
    rows = build_rows(rows.features, torch.cat([rows.target, second], dim=1), rows.owner)
    read = attentive.read_standardized
    calls = []
    monkeypatch.setattr(attentive, "read_standardized", lambda *given: calls.append(1) or read(*given))
    rates = (1e-3, 1e-2)
    together = fit_attentive(rows, rates, weighted=True)
    assert len(calls) == attentive.LEAST_STEPS
    for rate, head in zip(rates, together, strict=True):
        alone = fit_attentive(rows, [rate], weighted=True)[0]
        assert torch.allclose(head.score_rows(rows), alone.score_rows(rows), atol=1e-3)
    said = [head.score_rows(rows) for head in together]
    assert (said[0] - said[1]).abs().max() > 0.1, "rates matter"


def test_small_steps_run_on_one_thread(monkeypatch: pytest.MonkeyPatch):
    read, seen = attentive.read_standardized, []
    monkeypatch.setattr(
        attentive, "read_standardized", lambda *given: seen.append(torch.get_num_threads()) or read(*given)
    )
    monkeypatch.setattr(attentive, "LEAST_STEPS", 20)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        fit_attentive(plant_tokens(9, 0), [1e-2])
        monkeypatch.setattr(attentive, "_FEW_NUMBERS", 9 * 16 * 8)  # of 13 views, 9 and more are in a step
        fit_attentive(plant_tokens(9, 0), [1e-2])
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert seen == [1] * 20 + [2] * 20


def test_pixels_are_cut_into_patches():
    picture = np.arange(64, dtype=np.float32).reshape(1, 64)  # 8 x 8
    patches = cut_pixels(picture)
    assert patches.shape == (1, 16, 4)
    assert patches[0, 0].tolist() == [0, 1, 8, 9]
    assert patches[0, 5].tolist() == [18, 19, 26, 27]
    assert patches[0, 15].tolist() == [54, 55, 62, 63]


@pytest.mark.parametrize("head", ["knn", "attentive"])
def test_heads_on_real_features(shown_cache, encoder, head):
    task = read_findings_task(shown_cache)
    features = embed_cache(shown_cache, encoder, precision="32-true", progress=False, keep_tokens=True)
    settings = {"knn": [3.0, 10.0], "attentive": [1e-2]}[head]
    probed = probe_encoder(features, task, name="tiny", head=head, settings=settings)
    assert score_macro(probed.test)[0] > 0.6
    result = record_probe(probed, num_resamples=20)
    assert (result.protocol["head"], result.protocol["kind"]) == (
        head,
        {"knn": "nearest neighbours"}.get(head, "attentive probe"),
    )
    assert result.protocol[{"knn": "neighbours", "attentive": "rate"}[head]] in settings


def test_an_edge_is_noted_only_where_there_is_something_beyond_it(shown_cache):
    pixels, task = embed_pixels(shown_cache, side=8, progress=False), read_task(shown_cache, "Edema")
    for settings, noted in (([1.0, 1.0], False), ([1e4, 1e4], False), ([3.0, 3.0], True)):
        probed = probe_encoder(pixels, task, name="pixels", head="knn", settings=settings)
        assert any("at the edge" in note for note in probed.notes) == noted, settings


def test_tokens_are_stored_once_in_half_the_bits(shown_cache, encoder, monkeypatch):
    options = {"precision": "32-true", "progress": False, "keep_tokens": True}
    features = embed_cache(shown_cache, encoder, **options)
    assert features.tokens.dtype == np.float16
    assert features.tokens.shape == (len(shown_cache.views), TINY.num_patches, TINY.width)
    assert np.allclose(features.tokens.astype(np.float32).mean(axis=1), features.mean, atol=2e-3)
    monkeypatch.setattr("hilum.evaluate.viewing.encode_tokens", lambda *_: pytest.fail("made again"))
    assert np.array_equal(embed_cache(shown_cache, encoder, **options).tokens, features.tokens)
    monkeypatch.undo()
    monkeypatch.setattr("hilum.evaluate.features.MAX_TOKEN_NUMBERS", 4 * TINY.width * len(shown_cache.views))
    small = embed_cache(shown_cache, encoder, **options)
    assert small.tokens is None
    assert small.read_tokens().shape[1] == 4  # 2 x 2 regions stand for them


def test_crossvalidation_takes_any_head(shown_cache):
    pixels = embed_pixels(shown_cache, side=8, progress=False)
    task = read_task(shown_cache, "Edema")
    found = crossvalidate_probe(
        pixels, task, name="pixels", head="knn", num_folds=3, num_repeats=1, settings=[3.0, 10.0]
    )
    assert score_macro(found.scores)[0] > 0.65
    assert set(found.settings) <= {3, 10}


def test_a_report_by_another_head_has_its_controls(shown_cache, encoder, tmp_path):
    task = read_task(shown_cache, "Edema")
    features = embed_cache(shown_cache, encoder, precision="32-true", progress=False, keep_tokens=True)
    arms = [Arm("tiny", "encoder", features), Arm("pixels 32x32", "pixels", embed_pixels(shown_cache, progress=False))]
    protocol = ProbeProtocol(head="knn", counts=[40], num_seeds=1, min_positives=5)
    path = report_probes(shown_cache, arms, task, tmp_path, protocol, progress=False)
    for result in path.parent.glob("cells/*/result.json"):
        assert read_result(result).find("auroc").value is not None


def test_settings_that_do_not_go_together_are_refused(shown_cache):
    pixels, task = embed_pixels(shown_cache, side=8, progress=False), read_findings_task(shown_cache)
    with pytest.raises(UserError, match="attentive head does not read 'mean'"):
        probe_encoder(pixels, task, name="pixels", head="attentive", representation="mean")
    with pytest.raises(UserError, match="tokens are for the attentive head"):
        probe_encoder(pixels, task, name="pixels", representation="tokens")
    with pytest.raises(UserError, match="no loss whose positives"):
        fit_head("knn", plant_tokens(4, 0), [1.0], weighted=True)
    with pytest.raises(UserError, match="--head linear and attentive"):
        ProbeProtocol(head="knn", rare="weighted")
    with pytest.raises(UserError, match="attentive head reads patch tokens"):
        ProbeProtocol(head="attentive", representation="mean")
