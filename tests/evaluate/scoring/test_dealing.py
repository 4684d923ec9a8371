"""Dealing rows to other patients: each once, never one's own, the same for the same turn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hilum.evaluate.scoring.dealing import can_deal, deal


@given(st.lists(st.integers(0, 5), min_size=1, max_size=40), st.integers(0, 3))
def test_every_study_is_dealt_another_patients(owners: list[int], turn: int) -> None:
    patient = np.array(owners)
    assert can_deal(patient) == (max(owners.count(one) for one in owners) <= len(owners) / 2)
    if can_deal(patient):
        given_places = deal(patient, turn)
        assert sorted(given_places) == list(range(len(owners))), "each once"
        assert (patient[given_places] != patient).all()
        assert np.array_equal(given_places, deal(patient, turn))


def test_turns_differ_and_nobody_deals_to_one_patient() -> None:
    patient = np.arange(30) // 2
    assert not np.array_equal(deal(patient, 0), deal(patient, 1))
    assert not can_deal(np.zeros(3, int))
    with pytest.raises(AssertionError, match="more than half"):
        deal(np.array([1, 1, 1, 2]), 0)
