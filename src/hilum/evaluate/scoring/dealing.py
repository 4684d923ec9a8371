"""Dealing to every row what belongs to another patient: the control that keeps everything but the right pairs."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int64, Integer

from hilum.keyed_random import draw_order


def can_deal(patient: Integer[np.ndarray, " row"]) -> bool:
    """Whether every row can be given another patient's: no patient has more than half of them."""
    return 2 * int(np.unique(patient, return_counts=True)[1].max(initial=0)) <= len(patient)


def deal(patient: Integer[np.ndarray, " row"], turn: int) -> Int64[np.ndarray, " row"]:
    """For each row the place of another patient's, each given once: a random order moved on by one, and exchanges
    where that gives a patient its own. A function of `turn`, the patients and their order; see `can_deal`."""
    assert can_deal(patient), "a patient has more than half of the rows"
    order = draw_order("deal reports", turn, num=len(patient))
    given = np.empty(len(patient), np.int64)
    given[order] = np.roll(order, 1)
    for place in np.flatnonzero(patient[given] == patient):
        if patient[given[place]] != patient[place]:
            continue  # mended by an earlier exchange
        # There is one: of n rows, m of this patient and c of them dealt to itself, n - 2m + c are such.
        others = np.flatnonzero((patient != patient[place]) & (patient[given] != patient[place]))
        given[[place, others[0]]] = given[[others[0], place]]
    assert (patient[given] != patient).all()
    return given
