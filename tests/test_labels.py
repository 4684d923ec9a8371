from __future__ import annotations

import numpy as np
import pytest

from hilum.labels import binarize_states

NAN = np.nan


@pytest.mark.parametrize(
    ("uncertain", "blank", "expected"),
    [
        ("zeros", "zeros", [1, 0, 0, 0]),  # the paper and its code (M 8-6)
        ("ones", "zeros", [1, 0, 1, 0]),
        ("ignore", "zeros", [1, 0, NAN, 0]),
        ("zeros", "ignore", [1, 0, 0, NAN]),
        ("ignore", "ignore", [1, 0, NAN, NAN]),
    ],
)
def test_raw_states_become_targets_by_the_policies(uncertain, blank, expected) -> None:
    raw = np.array([[1, 0, -1, NAN]], dtype=np.float32)
    np.testing.assert_array_equal(binarize_states(raw, uncertain, blank), [expected])
    np.testing.assert_array_equal(raw, [[1, 0, -1, NAN]])
