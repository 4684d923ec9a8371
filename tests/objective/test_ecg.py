"""What the ECG encoder is trained on: crops, what of them is hidden, and the two losses."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hilum.config.ecg import EcgEncoderConfig, EcgPretrainingConfig
from hilum.objective.ecg import (
    CROP,
    PATCH,
    EcgObjective,
    draw_crops,
    measure_hidden_error,
    spread_patches,
    weigh_losses,
)

CONFIG = EcgPretrainingConfig(encoder=EcgEncoderConfig(width=16, depth=1), gain=0.0, noise=0.0)


def draw(config: EcgPretrainingConfig = CONFIG, num: int = 5, seed: int = 0):
    records = torch.randn(num, 12, 1000, generator=torch.Generator().manual_seed(99))
    return records, draw_crops(records, torch.arange(num), config, torch.Generator().manual_seed(seed))


def test_error_by_hand():
    true, predicted = torch.tensor([[[1.0, 2.0, 3.0]]]), torch.tensor([[[0.0, 2.0, 5.0]]])
    hidden = torch.tensor([[[False, True, True]]])
    assert measure_hidden_error(predicted, true, hidden).item() == 2.0
    assert measure_hidden_error(predicted, true, torch.zeros_like(hidden)).item() == 0.0


@settings(max_examples=20, deadline=None)
@given(num=st.integers(1, 4), leads=st.integers(1, 3), time=st.integers(1, 8), seed=st.integers(0, 1000))
def test_error_by_a_slow_loop(num: int, leads: int, time: int, seed: int):
    generator = torch.Generator().manual_seed(seed)
    predicted, true = (torch.randn(num, leads, time, generator=generator, dtype=torch.float64) for _ in range(2))
    hidden = torch.rand(num, 1, time, generator=generator) < 0.5
    items = [
        (predicted[n, lead, t] - true[n, lead, t]).item() ** 2
        for n in range(num) for lead in range(leads) for t in range(time) if hidden[n, 0, t]
    ]  # fmt: skip
    expected = float(np.mean(items)) if items else 0.0
    assert measure_hidden_error(predicted, true, hidden).item() == pytest.approx(expected)


def test_the_error_does_not_see_what_is_visible():
    _, crops = draw()
    hidden = spread_patches(crops.hidden)
    spoilt = torch.where(hidden, crops.true, 100.0)
    assert measure_hidden_error(spoilt, crops.true, hidden).item() == 0.0
    assert measure_hidden_error(spoilt, crops.true, ~hidden).item() > 1000


def test_crops_are_of_the_two_halves_of_each_record():
    records, crops = draw()
    assert crops.true.shape == (10, 12, CROP)
    assert crops.patient.tolist() == [0, 1, 2, 3, 4, 0, 1, 2, 3, 4]
    for place, crop in enumerate(crops.true):
        half = records[place % 5, :, 500 * (place // 5) : 500 * (place // 5) + 500]
        assert any(torch.equal(crop, half[:, start : start + CROP]) for start in range(500 - CROP + 1))


@pytest.mark.parametrize(("ratio", "num"), [(0.5, 12), (0.25, 6), (0.9, 22)])
def test_as_much_is_hidden_as_the_ratio_says(ratio: float, num: int):
    _, crops = draw(EcgPretrainingConfig(mask_ratio=ratio, gain=0.0, noise=0.0))
    assert crops.hidden.sum(dim=1).tolist() == [num] * 10
    hidden = spread_patches(crops.hidden).expand_as(crops.true)
    assert hidden.sum() == 10 * 12 * PATCH * num
    assert (crops.shown[hidden] == 0).all()
    assert torch.equal(crops.shown[~hidden], crops.true[~hidden])


def test_gain_is_of_leads_and_noise_of_samples():
    _, plain = draw()
    seen = ~spread_patches(plain.hidden).expand_as(plain.true)
    _, louder = draw(EcgPretrainingConfig(gain=0.2, noise=0.0))
    ratio = torch.where(seen, louder.shown / plain.true, torch.nan)
    spread = ratio.nan_to_num(-torch.inf).amax(dim=2) - ratio.nan_to_num(torch.inf).amin(dim=2)
    assert spread.max() < 1e-3
    assert 0.1 < ratio.nanmean(dim=2).log().std() < 0.3
    _, noisy = draw(EcgPretrainingConfig(gain=0.0, noise=0.1))
    assert (noisy.shown - plain.true)[seen].std().item() == pytest.approx(0.1, rel=0.05)


def test_the_same_seed_draws_the_same_and_another_does_not():
    (_, one), (_, same), (_, other) = draw(seed=1), draw(seed=1), draw(seed=2)
    assert torch.equal(one.shown, same.shown)
    assert not torch.equal(one.hidden, other.hidden)


def test_patches_are_put_where_they_are_from():
    """A head that is the identity on a copied patch gives the crop back."""
    torch.manual_seed(0)
    objective = EcgObjective(CONFIG)
    places = torch.randn(2, 16, CROP // 4)
    found = objective.reconstruct(places)
    assert found.shape == (2, 12, CROP)
    for patch in (0, 7, 23):
        of_patch = places[:, :, 5 * patch : 5 * patch + 5].flatten(1)
        expected = objective.predict(of_patch).reshape(2, 12, PATCH)
        torch.testing.assert_close(found[:, :, PATCH * patch : PATCH * (patch + 1)], expected)


def test_contrast_is_that_of_a_slow_loop():
    torch.manual_seed(0)
    objective = EcgObjective(CONFIG).eval()
    records = torch.randn(4, 12, 1000)
    patient = torch.tensor([0, 1, 1, 2])  # two records of one patient are no negatives of each other
    crops = draw_crops(records, patient, CONFIG, torch.Generator().manual_seed(0))
    seen: list[torch.Tensor] = []
    objective.project.register_forward_hook(lambda module, given, found: seen.append(found.detach()))
    loss = objective(crops)["contrast"].item()
    vectors = torch.nn.functional.normalize(seen[0].double(), dim=1)
    scores, who = (vectors @ vectors.T / CONFIG.temperature).exp(), [*range(4), *range(4)]
    items = []
    for anchor in range(8):
        positive = scores[anchor, (anchor + 4) % 8]
        others = sum(scores[anchor, k] for k in range(8) if patient[who[k]] != patient[who[anchor]])
        items.append(-torch.log(positive / (positive + others)).item())
    assert loss == pytest.approx(np.mean(items), rel=1e-4)


def test_weights_choose_what_is_computed():
    torch.manual_seed(0)
    _, crops = draw()
    both = EcgObjective(CONFIG)
    losses = both(crops)
    assert set(losses) == {"reconstruction", "contrast"}
    expected = losses["reconstruction"] + losses["contrast"]
    torch.testing.assert_close(weigh_losses(losses, CONFIG), expected)
    only = EcgPretrainingConfig(encoder=CONFIG.encoder, contrast_weight=0.0, reconstruction_weight=3.0)
    losses = EcgObjective(only)(crops)
    assert set(losses) == {"reconstruction"}
    torch.testing.assert_close(weigh_losses(losses, only), 3 * losses["reconstruction"])
