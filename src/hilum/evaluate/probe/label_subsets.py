"""Which labelled studies a small training set has: how many, and a draw of whole patients that holds rare findings too.

Nothing here reads features, so that a count nobody can have is refused before anything is computed.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int64

from hilum.errors import UserError
from hilum.evaluate.task import UNITS, Task
from hilum.identifiers import hash_to_unit


def choose_counts(num_train: int, num: int = 5, least: int = 20) -> list[int]:
    """Up to `num` label counts below and up to all `num_train`: all, and round numbers (1, 2, 5 x 10^k) under it."""
    ladder = [factor * 10**power for power in range(1, 8) for factor in (1, 2, 5)]
    below = [count for count in ladder if least <= count <= 0.75 * num_train]
    return [*below[-(num - 1) :], num_train]


def pick_labelled(task: Task, counts: Sequence[int], seed: int) -> dict[int, Int64[np.ndarray, " row"]]:
    """count -> training rows whose labels are used: whole patients, at least so many rows, each count's rows among
    those of every larger one (M 8-31).

    Patients are in an order hashed by `seed` within their stratum, which is the rarest finding that any of their rows
    has (or none), and strata are interleaved: a subset holds each in proportion, to within one patient. So 100 rows of
    an archive with a finding in 3 of 100 patients hold it, where a draw by lot would hold none in one of twenty. A
    patient who is added to the archive moves others only as far as the stratum grows.

    Raises:
        UserError: more rows are asked for than training has.
    """
    rows = task.rows("train")
    if max(counts, default=0) > len(rows):
        raise UserError(f"{max(counts):,} labelled {UNITS[task.unit]} were asked for; training has {len(rows):,}.")
    if not len(rows):
        return dict.fromkeys(counts, rows)
    names, place = np.unique(task.group.gather(rows).to_numpy(), return_inverse=True)
    key = order_strata(names.tolist(), find_rarest(task.target[rows], place), f"labels/{seed}")
    by_key = np.lexsort((place, key[place]))
    ends = np.flatnonzero(np.diff(place[by_key], append=-1)) + 1  # rows up to and with each whole patient
    return {
        count: rows[np.sort(by_key[: ends[np.searchsorted(ends, count)]] if count else by_key[:0])] for count in counts
    }


def find_rarest(
    target: Float[np.ndarray, "row finding"], owner: Int64[np.ndarray, " row"]
) -> Int64[np.ndarray, " owner"]:
    """The finding that fewest owners have among those that any of the owner's rows has; -1: none."""
    has = np.zeros((int(owner.max()) + 1, target.shape[1]), bool)
    np.logical_or.at(has, owner, target > 0.5)  # NaN is not
    rank = np.argsort(np.argsort(has.sum(axis=0), kind="stable"))
    rarest = np.where(has, rank, has.shape[1]).argmin(axis=1)
    return np.where(has.any(axis=1), rarest, -1)


def order_strata(names: Sequence[str], stratum: Int64[np.ndarray, " name"], salt: str) -> Float[np.ndarray, " name"]:
    """A number in [0, 1) for each name, by which the first of any size hold each stratum in proportion.

    Names of a stratum of n, in hashed order, get (0 + phase) / n, (1 + phase) / n, ...; the phase is the stratum's, so
    that small ones do not all come first.
    """
    hashed = hash_to_unit(names, salt)
    lot = np.array([hashed[name] for name in names])
    key = np.empty(len(names))
    for one in np.unique(stratum):
        member = np.flatnonzero(stratum == one)
        phase = hash_to_unit([str(one)], f"{salt}/phase")[str(one)]
        key[member[np.argsort(lot[member], kind="stable")]] = (np.arange(len(member)) + phase) / len(member)
    return key
