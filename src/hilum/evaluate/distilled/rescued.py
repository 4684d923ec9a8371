"""Rescued studies: a finding that one encoder's trained head misses and another's finds (P 3.6), and the lost ones,
where it is the other way round. Any two heads have both; only their numbers beside each other say which finds more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Int

from hilum.evaluate.result import Estimate
from hilum.evaluate.scoring.scores import Scores
from hilum.model.heads import Representation

from .rollout import Reader


def list_rescued(first: Scores, second: Scores, finding: str) -> Int[np.ndarray, " row"]:
    """Rows where a finding is present, `first` misses it and `second` says it, each by the threshold that validation
    gave its own trained head (P 3.6, whose cases were picked by heads with random weights).

    Of repeats the first counts.
    """
    place = _place(first, second, finding)
    missed, caught = (scores.decision[0, :, place] for scores in (first, second))
    return first.row[(first.target[:, place] == 1) & (missed == 0) & (caught == 1)]


def count_rescued(first: Scores, second: Scores) -> list[Estimate]:
    """For each finding `rescued` and `lost`: numbers of rows, of the positives that both heads decide on.

    A finding without such positives has no number.
    """
    estimates = []
    for finding in first.names:
        judged = _find_judged(first, second, finding)
        positives = int((first.target[judged, first.names.index(finding)] == 1).sum())
        if positives:
            num = int(judged.sum())
            for metric, sides in (("rescued", (first, second)), ("lost", (second, first))):
                found = len(list_rescued(*sides, finding))
                estimates.append(Estimate(metric, finding, found, num=num, positives=positives))
    return estimates


def spread_cases(rows: Mapping[str, Int[np.ndarray, " row"]], num: int) -> list[tuple[str, int]]:
    """At most `num` of each finding's rows: the first of every finding, then the second of every finding and so on, in
    the order of findings and rows. What a picture looks like has no say, and no row comes twice."""
    left = {finding: sorted(found.tolist()) for finding, found in rows.items()}
    chosen: dict[int, str] = {}
    while len(chosen) < num and any(left.values()):
        for finding, found in left.items():
            row = next((row for row in found if row not in chosen), None)
            left[finding] = [] if row is None else found[found.index(row) + 1 :]
            if row is not None and len(chosen) < num:
                chosen[row] = finding
    return [(finding, row) for row, finding in chosen.items()]


def choose_reader(read: Sequence[Representation]) -> Reader:
    """What rollouts of encoders are to reach that heads read so: one reader for all, or their shift would be that of
    readers. Regions and the largest token are of the patches."""
    readers: dict[Representation, Reader] = {"class": "class", "both": "both"}
    found = {readers.get(one, "mean") for one in read}
    return found.pop() if len(found) == 1 else "both"


def _find_judged(first: Scores, second: Scores, finding: str) -> Bool[np.ndarray, " row"]:
    place = _place(first, second, finding)
    decided = [~np.isnan(scores.decision[0, :, place]) for scores in (first, second)]
    return ~np.isnan(first.target[:, place]) & decided[0] & decided[1]


def _place(first: Scores, second: Scores, finding: str) -> int:
    assert first.names == second.names
    assert np.array_equal(first.row, second.row), "both are of the same rows"
    return first.names.index(finding)
