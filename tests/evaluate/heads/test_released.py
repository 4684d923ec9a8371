"""The released probe is trained as P 3.2 says, and stored features are what encoding images again would give."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from shown import TINY

from hilum.augment import prepare
from hilum.cache import Cache
from hilum.config import AugmentConfig, CropConfig
from hilum.errors import UserError
from hilum.evaluate.features import embed_cache
from hilum.evaluate.heads.fit import fit_head
from hilum.evaluate.heads.released import (
    RELEASED,
    SGD_PARITY,
    ReleasedSettings,
    ReleasedTraining,
    contrast_classes,
    fit_released,
    weighted_cross_entropy,
)
from hilum.evaluate.probe.run import probe_encoder
from hilum.evaluate.record import record_probe
from hilum.evaluate.rows import Rows, take_rows
from hilum.evaluate.scoring.choice import measure_macro_auroc
from hilum.evaluate.task import read_findings_task, read_task
from hilum.loader import iterate_studies
from hilum.model.encoder import Encoder
from toy_archive import make_cache

NAN = float("nan")


def make_rows(num_studies: int, num_views: int, dim: int, num_findings: int, *, exclusive: bool = False) -> Rows:
    random = torch.Generator().manual_seed(0)
    owner = torch.cat([torch.arange(num_studies), torch.randint(num_studies, (num_views - num_studies,))]).sort().values
    target = (torch.rand(num_studies, num_findings, generator=random) < 0.4).float()
    if exclusive:
        target = torch.nn.functional.one_hot(torch.randint(num_findings, (num_studies,)), num_findings).float()
    features, mirrored = (torch.randn(num_views, dim, generator=random) for _ in range(2))
    kind = torch.zeros(num_views, dtype=torch.long)
    row = np.arange(num_studies)
    return Rows(row, target, features, owner, kind, mirrored=mirrored, exclusive=exclusive)


def train_slowly(rows: Rows, how: ReleasedSettings, seed: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """AdamW (Loshchilov and Hutter 2019, algorithm 2) written out, in 64 bit, on the same draws: each epoch's heads."""
    draws = ReleasedTraining(rows.features.shape[1], rows.target.shape[1], seed=seed, how=how)
    values = [part.detach().double().numpy().copy() for part in (draws.head.weight, draws.head.bias)]
    decay = (0.01, 0.0)
    first, second = ([np.zeros_like(value) for value in values] for _ in range(2))
    weights, biases, time = [], [], 0
    ways, target = (rows.features.numpy(), rows.mirrored.numpy()), rows.target.numpy()[rows.owner.numpy()]
    for epoch in range(how.epochs):
        rate = 0.003 * (1 + math.cos(math.pi * epoch / how.epochs)) / 2
        for images, mirrored in draws.begin_epoch(epoch, len(target)):
            time += 1
            gradients, num_known = [np.zeros_like(value) for value in values], 0
            for image, is_mirrored in zip(images.tolist(), mirrored.tolist(), strict=True):
                x, y = ways[is_mirrored][image].astype(np.float64), target[image]
                z = values[0] @ x + values[1]
                said = np.exp(z) / np.exp(z).sum() if rows.exclusive else 1 / (1 + np.exp(-z))
                error = np.where(np.isnan(y), 0.0, said - y)
                gradients[0] += np.outer(error, x)
                gradients[1] += error
                num_known += 1 if rows.exclusive else int((~np.isnan(y)).sum())
            for i, gradient in enumerate(gradients):
                first[i] = 0.9 * first[i] + 0.1 * gradient / num_known
                second[i] = 0.999 * second[i] + 0.001 * (gradient / num_known) ** 2
                step = first[i] / (1 - 0.9**time) / (np.sqrt(second[i] / (1 - 0.999**time)) + 1e-8)
                values[i] = values[i] - rate * (step + decay[i] * values[i])
        weights.append(values[0].copy())
        biases.append(values[1].copy())
    return weights, biases


@pytest.mark.parametrize("exclusive", [False, True])
def test_every_epochs_head_is_that_of_a_slow_loop(exclusive: bool) -> None:
    rows = make_rows(50, 70, 6, 3, exclusive=exclusive)
    if not exclusive:
        rows.target[::7, 1] = NAN
    how = replace(RELEASED, epochs=6, images_per_step=32)  # steps of 32, 32 and 6 images
    probes = fit_released(rows, seed=3, how=how)
    for probe, weight, bias in zip(probes, *train_slowly(rows, how, 3), strict=True):
        assert np.abs(probe.weight.numpy() - weight).max() < 2e-5
        assert np.abs(probe.bias.numpy() - bias).max() < 2e-5


def test_the_settings_are_those_stated() -> None:
    """P 3.2; the schedule by hand."""
    assert (RELEASED.lr, RELEASED.betas, RELEASED.weight_decay) == (3e-3, (0.9, 0.999), 0.01)
    assert (RELEASED.epochs, RELEASED.images_per_step, RELEASED.flip_probability) == (40, 512, 0.5)
    rates = [RELEASED.schedule_lr(epoch) for epoch in (0, 20, 39)]
    assert rates == pytest.approx([3e-3, 1.5e-3, 4.6239e-6], rel=1e-4)
    training = ReleasedTraining(2, 1)
    (images, mirrored), (rest, _) = training.begin_epoch(0, 1000)
    assert (len(images), len(rest)) == (512, 488)
    assert 200 < int(mirrored.sum()) < 312
    assert sorted([*images.tolist(), *rest.tolist()]) == list(range(1000))


def test_the_first_update_by_hand() -> None:
    """Adam's first step is the rate times the gradient's sign; before it a weight of 0.5 loses 3e-3 * 0.01 of itself,
    a bias nothing."""
    training = ReleasedTraining(1, 1, how=replace(RELEASED, flip_probability=0.0))
    with torch.no_grad():
        training.head.weight.fill_(0.5)
        training.head.bias.fill_(0.5)
    training.begin_epoch(0, 1)
    training.step(torch.tensor([[2.0]]), torch.tensor([[1.0]]))
    assert training.head.weight.item() == pytest.approx(0.5 * (1 - 3e-5) + 3e-3, abs=1e-7)
    assert training.head.bias.item() == pytest.approx(0.5 + 3e-3, abs=1e-7)


def test_a_study_is_the_mean_of_its_views_and_classes_stand_against_all_others() -> None:
    rows = make_rows(2, 3, 2, 3)
    probe = replace(fit_released(rows, how=replace(RELEASED, epochs=1))[0], exclusive=False)
    logit = rows.features @ probe.weight.T + probe.bias
    expected = torch.stack([logit[rows.owner == study].mean(dim=0) for study in range(2)])
    assert torch.allclose(probe.score_rows(rows).float(), expected, atol=1e-6)
    classes = replace(probe, exclusive=True).score_rows(rows)
    assert torch.allclose(classes.sigmoid().float(), expected.softmax(dim=1), atol=1e-6)
    by_hand = contrast_classes(torch.tensor([[0.0, 0.0, math.log(2)]]))
    assert by_hand[0].tolist() == pytest.approx([-math.log(3), -math.log(3), 0.0], abs=1e-6)


def test_the_settings_of_parity_are_those_stated() -> None:
    """L 3.2; one rate from first to last, no image mirrored."""
    how = SGD_PARITY
    assert (how.lr, how.weight_decay, how.epochs, how.images_per_step) == (5e-5, 1e-4, 30, 8)
    assert {how.schedule_lr(epoch) for epoch in range(30)} == {5e-5}
    assert [int(mirrored.sum()) for _, mirrored in ReleasedTraining(2, 1, how=how).begin_epoch(0, 20)] == [0, 0, 0]


def test_positives_weigh_as_their_negatives_and_what_is_unknown_has_no_loss() -> None:
    """By hand: logits 0, a positive of weight 3 and a negative: (3 log 2 + log 2) / 2; the third is not known."""
    loss = weighted_cross_entropy(torch.zeros(3, 1), torch.tensor([[1.0], [0.0], [NAN]]), torch.tensor([3.0]))
    assert loss.item() == pytest.approx(2 * math.log(2))


def test_parity_is_a_slow_loop_with_the_weight_of_all_training_rows() -> None:
    """Gradients of w y (-log p) + (1 - y) (-log (1 - p)) are p - y for negatives and w (p - 1) for positives; w is
    beyond the tenfold that other heads stop at. Mirrored features are not there and not asked for."""
    rows = replace(make_rows(40, 40, 3, 1), mirrored=None)
    rows.target[:] = 0.0
    rows.target[[4, 19]] = 1.0  # 38 negatives for 2: each counts 19 times
    how = replace(SGD_PARITY, epochs=2)
    draws = ReleasedTraining(3, 1, seed=5, how=how)
    weight, bias = (part.detach().double().clone() for part in (draws.head.weight, draws.head.bias))
    values = torch.cat([weight[0], bias])
    first, second, time = torch.zeros(4), torch.zeros(4), 0
    for epoch in range(2):
        for images, _ in draws.begin_epoch(epoch, 40):
            time += 1
            x = torch.cat([rows.features[images].double(), torch.ones(len(images), 1)], dim=1)
            y = rows.target[:, 0][images].double()
            error = (x @ values).sigmoid() - y
            gradient = (torch.where(y == 1, 19.0, 1.0) * error) @ x / len(images)
            first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
            step = first / (1 - 0.9**time) / ((second / (1 - 0.999**time)).sqrt() + 1e-8)
            values = values - 5e-5 * (step + 1e-4 * values)
    found = fit_released(rows, seed=5, how=how)[-1]
    assert torch.cat([found.weight[0], found.bias]).tolist() == pytest.approx(values.tolist(), abs=1e-6)
    named = fit_head("sgd-parity", rows, SGD_PARITY.choices, "view", seed=5)
    assert torch.equal(named[0].weight, fit_released(rows, seed=5, how=SGD_PARITY)[0].weight)
    with pytest.raises(UserError, match="weighs all positives by itself"):
        fit_head("sgd-parity", rows, SGD_PARITY.choices, "view", weighted=True)


def test_what_the_protocol_does_not_know_is_refused() -> None:
    rows = make_rows(4, 5, 2, 1)
    with pytest.raises(UserError, match="none of mirrored images"):
        fit_head("released", replace(rows, mirrored=None), RELEASED.choices, "view")
    with pytest.raises(UserError, match="not on studies"):
        fit_head("released", rows, RELEASED.choices, "study")
    with pytest.raises(UserError, match="weighs no positives"):
        fit_head("released", rows, RELEASED.choices, "view", weighted=True)


def test_stored_features_train_the_head_that_images_encoded_anew_train(tmp_path: Path) -> None:
    """P 7.5 and P 12 item 14: images, that are no squares, mirrored and encoded in each step."""
    cache = make_cache(tmp_path, [2, 1, 2, 1, 3, 1], sides=(64, 120), split=["train"] * 4 + ["val"] * 2)
    torch.manual_seed(0)
    encoder, how = Encoder(TINY).eval(), replace(RELEASED, epochs=3, images_per_step=4)
    encoded: list[int] = []
    counting = encoder.blocks[0].register_forward_hook(lambda block, given, out: encoded.append(len(out)))
    features = embed_cache(
        cache, encoder, crop=CropConfig(mode="squash"), keep_mirrored=True, precision="32-true", progress=False
    )
    counting.remove()
    assert features.mirrored is not None
    assert len(features.mirrored.study) == 6  # of training alone
    # Training images once each way and validation images once, where 40 epochs would encode all of them 40 times.
    assert sum(encoded) == 2 * 6 + 4
    assert RELEASED.epochs * (6 + 4) / sum(encoded) >= 20
    assert features.made_by["mirrored"] == "training views"
    owner = torch.from_numpy(features.study[features.study < 4])
    target = (torch.arange(8).reshape(4, 2) % 3 == 0).float()
    ways = {"features": torch.from_numpy(features.class_token[:6])}
    ways["mirrored"] = torch.from_numpy(features.mirrored.class_token)
    rows = Rows(np.arange(4), target, owner=owner, view_kind=torch.zeros_like(owner), **ways)
    stored = fit_released(rows, seed=5, how=how)[-1]

    training = ReleasedTraining(TINY.width, 2, seed=5, how=how)
    (batch,) = iterate_studies(cache, np.arange(4), views_per_batch=100, crop=CropConfig(mode="squash"), max_views=None)
    for epoch in range(3):
        for images, mirrored in training.begin_epoch(epoch, 6):
            shown = []
            for flip in (0.0, 1.0):
                change = AugmentConfig(flip_probability=flip, jitter_probability=0.0)
                seen = prepare(batch, size=TINY.image_size, mean=cache.mean, std=cache.std, augment=change).pixels
                shown.append(seen)
            pixels = torch.where(mirrored[:, None, None, None], shown[1][images], shown[0][images])
            with torch.no_grad():
                tokens = encoder.encode(pixels, batch.view_kind[images]).tokens[:, 0]
            training.step(tokens, target[owner[images]])
    assert torch.allclose(stored.weight, training.head.weight, atol=1e-6)
    plain = fit_released(replace(rows, mirrored=rows.features), seed=5, how=how)[-1]
    assert not torch.allclose(plain.weight, training.head.weight, atol=1e-4)  # the flips are seen


def test_mirrored_features_are_those_of_mirrored_files(shown_cache: Cache, encoder: Encoder) -> None:
    """And a second call reads what the first one made, with or without them."""
    how = {"crop": CropConfig(mode="squash"), "precision": "32-true", "progress": False}
    features = embed_cache(shown_cache, encoder, keep_mirrored=True, **how)
    alone = embed_cache(shown_cache, encoder, **how)
    assert alone.mirrored is None
    assert "mirrored" not in alone.made_by
    np.testing.assert_array_equal(alone.class_token, features.class_token)
    mirrored = features.mirrored
    assert mirrored is not None
    assert set(mirrored.study) == set(shown_cache.rows("train"))
    for place in (0, len(mirrored.study) - 1):
        image = np.ascontiguousarray(shown_cache.image(int(mirrored.view_row[place]))[:, ::-1]).astype(np.float32)
        square = torch.nn.functional.interpolate(
            torch.from_numpy(image)[None, None] / 255, (32, 32), mode="bilinear", antialias=True
        )
        with torch.no_grad():
            kind = torch.from_numpy(mirrored.view_kind[place : place + 1])
            token = encoder.encode((square - shown_cache.mean) / shown_cache.std, kind).tokens[0, 0]
        np.testing.assert_allclose(mirrored.class_token[place], token, atol=1e-4)


def test_validation_chooses_the_epoch_and_the_record_names_the_protocol(shown_cache: Cache, encoder: Encoder) -> None:
    task = read_findings_task(shown_cache)
    features = embed_cache(
        shown_cache, encoder, crop=CropConfig(mode="squash"), keep_mirrored=True, precision="32-true", progress=False
    )
    found = probe_encoder(features, task, name="toy", representation="class", head="released")
    train, val = (take_rows(features, task, task.rows(split), "class") for split in ("train", "val"))
    assert val.mirrored is None
    probes = fit_released(train)
    values = [measure_macro_auroc(val.target.numpy(), probe.score_rows(val).numpy()) for probe in probes]
    assert found.setting == 1 + int(np.argmax(values))
    assert list(found.tried["class"].values()) == values
    assert len(values) == 40
    protocol = record_probe(found, num_resamples=10).protocol
    assert (protocol["kind"], protocol["head"], protocol["train_on"]) == (
        "linear probe as released",
        "released",
        "view",
    )
    assert protocol["epoch"] == found.setting
    assert protocol["trained_with"] == {
        "optimizer": "AdamW", "lr": 0.003, "betas": (0.9, 0.999), "weight_decay": 0.01, "epochs": 40,
        "images_per_step": 512, "flip_probability": 0.5, "bias_decay": 0.0, "schedule": "cosine",
        "weigh_positives": False,
    }  # fmt: skip
    assert protocol["features"]["crop"] == "squash"
    half = take_rows(features, task, task.rows("train")[::2], "class")
    np.testing.assert_array_equal(half.mirrored, train.take(np.arange(len(train)) % 2 == 0).mirrored)
    assert read_task(shown_cache, "position").is_exclusive is (len(read_task(shown_cache, "position").names) > 1)
