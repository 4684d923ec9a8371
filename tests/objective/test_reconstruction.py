"""Masked reconstruction: hand-worked numbers, exact means, and the released code's own."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from batches import make_batch
from hilum.config import CrossDecoder, EncoderConfig, Reconstruction, SelfDecoder
from hilum.model.encoder import Encoder
from hilum.model.masking import count_visible, draw_masks, put_patches, take_patches
from hilum.objective import reconstruction
from hilum.objective.reconstruction import average_errors, measure_masked_error, normalize_patches

TINY = EncoderConfig(image_size=32, patch_size=8, width=24, depth=2, heads=3)


def divide(result) -> float:
    return float((result.value / result.count).detach())


def test_masked_error_by_hand() -> None:
    prediction = torch.tensor([[[0.0, 1.0], [2.0, 2.0]]])
    target = torch.tensor([[[1.0, 1.0], [0.0, 5.0]]])
    assert measure_masked_error(prediction, target).tolist() == [(1 + 0 + 4 + 9) / 4]


def test_patches_are_normalised_one_by_one() -> None:
    patches = torch.tensor([[[1.0, 3.0], [10.0, 10.0]]])
    # Deviation of (1, 3) is sqrt(2) without bias; a flat patch becomes zeros, not NaN.
    expected = torch.tensor([[[-1.0, 1.0], [0.0, 0.0]]]) / torch.tensor(2.0 + 1e-6).sqrt()
    torch.testing.assert_close(normalize_patches(patches), expected)


@pytest.mark.parametrize(("ratio", "expected"), [(0.93, 1.0039500), (0.90, 1.0034014)])
def test_released_error_of_an_image_divides_by_the_nominal_ratio(ratio: float, expected: float) -> None:
    share = (196 - count_visible(196, ratio)) / 196
    errors, study = torch.ones(3, dtype=torch.float64), torch.zeros(3, dtype=torch.int64)
    assert divide(average_errors(errors, study, 1, "slot", share, ratio)) == pytest.approx(expected, abs=5e-8)
    assert divide(average_errors(errors, study, 1, "view", share, ratio)) == 1.0


@pytest.mark.parametrize(("views", "slot"), [(1, 1 / 3), (3, 1.0)])
def test_absent_views_lower_the_released_loss_and_nothing_else(views: int, slot: float) -> None:
    errors, study = torch.ones(views), torch.zeros(views, dtype=torch.int64)
    assert divide(average_errors(errors, study, 1, "slot", 0.9, 0.9)) == pytest.approx(slot)
    assert divide(average_errors(errors, study, 1, "view", 0.9, 0.9)) == 1.0
    assert divide(average_errors(errors, study, 1, "study", 0.9, 0.9)) == 1.0


def test_what_weighs_the_same() -> None:
    errors, study = torch.tensor([1.0, 3.0, 5.0]), torch.tensor([0, 0, 1])
    assert divide(average_errors(errors, study, 2, "view", 0.9, 0.9)) == 3.0
    assert divide(average_errors(errors, study, 2, "study", 0.9, 0.9)) == 3.5
    assert divide(average_errors(errors, study, 2, "slot", 0.9, 0.9)) == 1.5


@pytest.mark.parametrize("average", ["view", "study", "slot"])
@pytest.mark.parametrize("decoder", [SelfDecoder(24, 1, 3), CrossDecoder(16, 1, 2, predict=0.5)], ids=["self", "cross"])
@pytest.mark.parametrize("normalize", [True, False])
def test_term_is_its_equation_on_the_predicted_patches(average: str, decoder, normalize: bool) -> None:
    torch.manual_seed(0)
    config = Reconstruction(decoder=decoder, average=average, normalize_patches=normalize)
    encoder, term = Encoder(TINY), reconstruction.Reconstruction(config, TINY, mask_ratio=0.75)
    batch = make_batch([2, 1])
    mask = draw_masks(batch, num_patches=16, ratio=0.75, seed=0)
    features = encoder.encode(batch.pixels, batch.view_kind, mask, return_layers=True)
    sums = term(features, mask, batch, lambda rows: rows)
    assert float(sums["loss"].count) == term.count(batch) == (3 if average == "view" else 2)

    prediction = term.decoder(features, mask, batch.view_kind)
    assert set(prediction.patches.flatten().tolist()) <= set(mask.masked.flatten().tolist())
    errors = []
    for view in range(3):
        target = take_patches(batch.pixels, prediction.patches, 8)[view]
        if normalize:
            target = (target - target.mean(1, keepdim=True)) / (target.var(1, keepdim=True) + 1e-6).sqrt()
        errors.append(((prediction.pixels[view] - target) ** 2).mean().item())
    first, second, third = errors
    expected = {
        "view": sum(errors) / 3,
        "study": ((first + second) / 2 + third) / 2,
        "slot": sum(errors) / 3 / 2,  # 12 of 16 patches are masked, which is the nominal 0.75
    }
    assert divide(sums["loss"]) == pytest.approx(expected[average], rel=1e-5)
    assert divide(sums["view_error"]) == pytest.approx(sum(errors) / 3, rel=1e-5)


@pytest.mark.parametrize("normalize", [True, False])
def test_pictures_keep_visible_patches_and_bring_back_grey_values(normalize: bool) -> None:
    torch.manual_seed(0)
    config = Reconstruction(decoder=CrossDecoder(16, 1, 2, predict=0.25), normalize_patches=normalize)
    encoder, term = Encoder(TINY), reconstruction.Reconstruction(config, TINY, mask_ratio=0.75)
    batch = make_batch([2])
    batch = replace(batch, pixels=batch.pixels * 3 + 7)
    mask = draw_masks(batch, num_patches=16, ratio=0.75, seed=0)
    features = encoder.encode(batch.pixels, batch.view_kind, mask, return_layers=True)
    picture = term.paint(features, mask, batch)
    assert torch.equal(take_patches(picture, mask.visible, 8), take_patches(batch.pixels, mask.visible, 8))
    painted = take_patches(picture, mask.masked, 8)
    true = take_patches(batch.pixels, mask.masked, 8)
    assert not torch.allclose(painted, true)
    if normalize:
        predicted = term.decoder(features, mask, batch.view_kind, predict_all=True).pixels
        torch.testing.assert_close(
            normalize_patches(true) * 0 + predicted,
            (painted - true.mean(2, keepdim=True)) / (true.var(2, keepdim=True) + 1e-6).sqrt(),
            atol=1e-4,
            rtol=1e-4,
        )


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("size", [TINY, replace(TINY, channels=3)], ids=["grey once", "grey three times"])
def test_the_loss_sees_errors_of_masked_patches_and_of_no_visible_one(size: EncoderConfig, normalize: bool) -> None:
    """P 12-4. The features are made before the pixels change, so that what is predicted stays: only errors change."""
    torch.manual_seed(0)
    config = Reconstruction(decoder=SelfDecoder(24, 1, 3), normalize_patches=normalize)
    encoder, term = Encoder(size), reconstruction.Reconstruction(config, size, mask_ratio=0.75)
    batch = make_batch([2, 1])
    mask = draw_masks(batch, num_patches=16, ratio=0.75, seed=0)
    features = encoder.encode(batch.pixels, batch.view_kind, mask, return_layers=True)

    def measure(patches: torch.Tensor) -> float:
        """The loss with other true pixels in those patches of each view, one by one."""
        noise = torch.randn(3, patches.shape[1], 64)
        changed = replace(batch, pixels=put_patches(batch.pixels.clone(), patches, noise))
        assert not torch.equal(changed.pixels, batch.pixels)
        return divide(term(features, mask, changed, lambda rows: rows)["loss"])

    loss = divide(term(features, mask, batch, lambda rows: rows)["loss"])
    assert measure(mask.visible) == loss
    for place in range(mask.masked.shape[1]):  # every masked patch counts
        assert abs(measure(mask.masked[:, [place]]) - loss) > 1e-6
