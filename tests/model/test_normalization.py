"""The patch embedding under another normalisation: equation of M 6.2, by hand and against the convolution."""

from __future__ import annotations

import pytest
import torch
from timm_vits import show_grey

from hilum.model.layouts.assemble import NORMALIZATIONS
from hilum.model.normalization import fold_normalization


def test_two_channels_by_hand() -> None:
    """p = 0.7 with (mu, sigma) = (0.5, 0.1), (0.3, 0.2): 3 * 2 + 5 * 2 + 1 = 17; x = (0.7 - 0.4) / 0.5 = 0.6."""
    weight, bias = torch.tensor([3.0, 5.0]).view(1, 2, 1, 1), torch.tensor([1.0])
    folded, moved = fold_normalization(weight, bias, (0.5, 0.3), (0.1, 0.2), 0.4, 0.5)
    # W' = 0.5 (3 / 0.1 + 5 / 0.2) = 27.5; b' = 1 + 3 (0.4 - 0.5) / 0.1 + 5 (0.4 - 0.3) / 0.2 = 0.5
    assert folded.flatten().tolist() == pytest.approx([27.5])
    assert moved.tolist() == pytest.approx([0.5])
    assert folded.item() * 0.6 + moved.item() == pytest.approx(17.0)


@pytest.mark.parametrize("source", NORMALIZATIONS)
@pytest.mark.parametrize("target", [(0.5056, 0.252), (0.449, 0.226)])
def test_the_fold_gives_what_the_convolution_of_three_channels_gives(source: str, target: tuple[float, float]) -> None:
    """M 8-11: of ViT-B's patch embedding, at the size of its first weights, in 32 bit."""
    torch.manual_seed(0)
    mean, std = (numbers * (3 // len(numbers)) for numbers in NORMALIZATIONS[source])
    convolution = torch.nn.Conv2d(3, 768, 16, 16)
    with torch.no_grad():
        torch.nn.init.xavier_uniform_(convolution.weight.flatten(1))
    weight, bias = convolution.weight.detach(), convolution.bias.detach()
    folded, moved = fold_normalization(weight, bias, mean, std, *target)
    pixels = torch.rand(2, 1, 224, 224)
    expected = torch.nn.functional.conv2d(show_grey(pixels, mean, std), weight, bias, stride=16)
    found = torch.nn.functional.conv2d((pixels - target[0]) / target[1], folded, moved, stride=16)
    assert (found - expected).abs().max() < 5e-4
    assert expected.std() > 0.1


def test_the_same_constants_change_nothing_but_rounding() -> None:
    weight, bias = torch.randn(4, 1, 2, 2), torch.randn(4)
    folded, moved = fold_normalization(weight, bias, [0.449], [0.226], 0.449, 0.226)
    torch.testing.assert_close(folded, weight, rtol=1e-6, atol=0)
    assert torch.equal(moved, bias)
