"""Which step of an epoch each draw goes to: no two of one patient together, all steps alike in views and kinds."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Sequence
from itertools import product

import numpy as np
from jaxtyping import Bool, Int64, UInt64


def spread_patients(
    num_views: Int64[np.ndarray, " draw"],
    patient: Int64[np.ndarray, " draw"],
    random: UInt64[np.ndarray, " draw"],
    num_steps: int,
    even: Sequence[Bool[np.ndarray, " draw"]] = (),
) -> Int64[np.ndarray, " draw"]:
    """The step of each draw, so that no step has two of one patient and steps have nearly the same number of views.

    Patients with most draws first, of these the ones with most views, otherwise in random order. A patient's go to as
    many different steps, the ones with fewest views so far (at random among equals), the largest to the emptiest. Steps
    then never differ by more views than the largest draw has: the emptiest gain no less than the fuller ones.

    Args:
        even: draws of which each step is to have the same number, the first of them to one where no patient has two
            of them. They are spread first, to the steps with fewest of them; of two of these, those that are both, then
            those of the first, then the second. What is left goes by views, where its patient is not yet.
    """
    places = np.empty(len(patient), np.int64)
    steps = _Steps(num_steps, len(even))
    for kinds in product((True, False), repeat=len(even)):
        chosen = [mask == flag for mask, flag in zip(even, kinds, strict=True)]
        members = np.flatnonzero(np.logical_and.reduce(chosen)) if even else np.arange(len(patient))
        if len(members):
            drawn = (one[members] for one in (num_views, patient, random))
            places[members] = steps.spread(*drawn, kinds)
    return places


class _Steps:
    """The steps of an epoch while draws go to them."""

    def __init__(self, num_steps: int, num_kinds: int) -> None:
        self.views = [0] * num_steps
        self.tie = list(range(num_steps))  # the random number of the latest draw
        self.count = [[0] * num_steps for _ in range(num_kinds)]  # of the draws that are to be even
        self.held: defaultdict[int, set[int]] = defaultdict(set)  # patient -> steps

    def spread(
        self,
        num_views: Int64[np.ndarray, " draw"],
        patient: Int64[np.ndarray, " draw"],
        random: UInt64[np.ndarray, " draw"],
        kinds: tuple[bool, ...],
    ) -> Int64[np.ndarray, " draw"]:
        """Steps of draws that all are of these of the kinds to be even, and of no other."""
        order, last = _order_by_patient(num_views, patient, random)
        counted = self.count[kinds.index(True)] if True in kinds else [0] * len(self.views)
        heap = list(zip(counted, self.views, self.tie, range(len(self.views)), strict=True))
        heapq.heapify(heap)
        more = int(any(kinds))
        sizes, ties, places, first = num_views[order].tolist(), random[order].tolist(), np.empty(len(order), int), 0
        for owner, stop in zip(patient[order[last - 1]].tolist(), last.tolist(), strict=True):
            mine, emptiest, passed = self.held[owner], [], []
            while len(emptiest) < stop - first:
                assert heap, "a patient has more draws than there are steps"
                step = heapq.heappop(heap)
                (passed if step[-1] in mine else emptiest).append(step)
            for step in passed:
                heapq.heappush(heap, step)
            for place, (number, views, _, step) in zip(range(first, stop), emptiest, strict=True):
                heapq.heappush(heap, (number + more, views + sizes[place], ties[place], step))
                places[order[place]] = step
                mine.add(step)
            first = stop
        for _, views, tie, step in heap:
            self.views[step], self.tie[step] = views, tie
        for count, flag in zip(self.count, kinds, strict=True):
            if flag:
                for step in places.tolist():
                    count[step] += 1
        return places


def _order_by_patient(
    num_views: Int64[np.ndarray, " draw"], patient: Int64[np.ndarray, " draw"], random: UInt64[np.ndarray, " draw"]
) -> tuple[Int64[np.ndarray, " draw"], Int64[np.ndarray, " patient"]]:
    """Draws, patient after patient, and where each patient's end."""
    _, owner, count = np.unique(patient, return_inverse=True, return_counts=True)
    turn = np.full(len(count), np.iinfo(np.uint64).max, np.uint64)
    np.minimum.at(turn, owner, random)
    views = np.bincount(owner, weights=num_views)
    order = np.lexsort((random, -num_views, turn[owner], -views[owner], -count[owner]))
    return order, np.append(np.flatnonzero(np.diff(owner[order])), len(order) - 1) + 1
