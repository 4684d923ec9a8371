"""Pooling reads valid tokens only, whatever padding holds."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hilum.model.pooling import TokenPool, pool_gem, pool_max, pool_mean

TOKENS = torch.tensor([[[1.0, -5.0], [3.0, -2.0], [9.0, 9.0]]])
VALID = torch.tensor([[True, True, False]])


def test_hand_worked() -> None:
    assert pool_max(TOKENS, VALID).tolist() == [[3.0, -2.0]]
    assert pool_mean(TOKENS, VALID).tolist() == [[2.0, -3.5]]
    # ((1^3 + 3^3) / 2)^(1/3); negative values count as 1e-6.
    torch.testing.assert_close(pool_gem(TOKENS, VALID, 3.0), torch.tensor([[14 ** (1 / 3), 1e-6]]))


@settings(max_examples=10, deadline=None)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=4), st.sampled_from([float("nan"), float("inf"), 1e30]))
@pytest.mark.parametrize("pooling", ["max", "mean", "attention", "gem"])
def test_padding_is_never_read(pooling, lengths: list[int], padding: float) -> None:
    torch.manual_seed(0)
    pool = TokenPool(4, pooling)
    tokens = torch.randn(len(lengths), 5, 4)
    valid = torch.arange(5) < torch.tensor(lengths)[:, None]
    found = pool(tokens.masked_fill(~valid[:, :, None], padding), valid)
    for row, length in enumerate(lengths):
        alone = pool(tokens[row : row + 1, :length], torch.ones(1, length, dtype=torch.bool))
        torch.testing.assert_close(found[row : row + 1], alone)
