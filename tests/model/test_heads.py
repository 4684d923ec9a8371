"""What a linear head reads of tokens, by hand."""

from __future__ import annotations

import pytest
import torch

from hilum.model.heads import NUM_VECTORS, merge_regions, pool_regions, read_tokens


def build_tokens(side: int) -> torch.Tensor:
    """One view whose patch tokens are (row, column), and whose class token is (-1, -2)."""
    grid = torch.cartesian_prod(torch.arange(float(side)), torch.arange(float(side)))
    return torch.cat([torch.tensor([[-1.0, -2.0]]), grid])[None]


def test_regions_are_means_of_neighbours_row_by_row() -> None:
    """8 x 8 patches: regions of 2 x 2 patches have their middles at 0.5, 2.5, 4.5, 6.5."""
    regions = pool_regions(build_tokens(8)[:, 1:], 4)
    middles = [0.5, 2.5, 4.5, 6.5]
    assert regions[0].tolist() == [[row, column] for row in middles for column in middles]
    assert merge_regions(regions)[0].tolist() == [[1.5, 1.5], [1.5, 5.5], [5.5, 1.5], [5.5, 5.5]]
    assert torch.equal(merge_regions(regions), pool_regions(build_tokens(8)[:, 1:], 2))


def test_uneven_grids_share_patches() -> None:
    """14 x 14 patches in 4 x 4 regions: rows 0-3, 3-6, 7-10, 10-13 (PyTorch's adaptive pooling)."""
    regions = pool_regions(build_tokens(14)[:, 1:], 4)
    assert regions[0, ::4, 0].tolist() == [1.5, 4.5, 8.5, 11.5]


@pytest.mark.parametrize("side", [4, 8, 14])
def test_every_representation_has_its_length(side: int) -> None:
    tokens = build_tokens(side)
    for representation, num in NUM_VECTORS.items():
        assert read_tokens(tokens, representation).shape == (1, 2 * num)
    middle = (side - 1) / 2
    assert read_tokens(tokens, "both")[0].tolist() == pytest.approx([-1.0, -2.0, middle, middle])
    assert read_tokens(tokens, "mean")[0].tolist() == pytest.approx([middle, middle])
    assert (
        read_tokens(tokens, "2x2")[0, :2].tolist()
        == read_tokens(tokens, "4x4").reshape(4, 4, 2)[:2, :2].mean(dim=(0, 1)).tolist()
    )
