"""Evaluations whose numbers are kept with their resamples: averaged over runs, and paired, number by number.

Probes, alignment, segmentation, rollout and drift have numbers of different kinds; what they share is that each was
resampled by the same draws of the same patients. A mean of runs is then the mean of their numbers in each resample, and
a paired difference is a difference in each resample, whatever is measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from hilum.atomic import open_atomic
from hilum.errors import UserError
from hilum.evaluate.record import join_notes
from hilum.evaluate.result import Estimate, Hashes, Result, read_result, to_number, write_result

from .bootstrap import read_interval
from .intervals import NO_SPREAD, Resampled

FILE = "resamples.npz"
Name = tuple[str, str, str]  # metric, of, slice


@dataclass(frozen=True)
class Resamples:
    """Numbers of one evaluation and what they were on each resample; row for row those of its result."""

    names: tuple[Name, ...]
    value: Float[np.ndarray, " number"]  # NaN: not defined
    resampled: Float[np.ndarray, "number resample"]  # NaN too where a number was not resampled
    rows: str  # digest of the rows and their patients: only numbers of the same are combined

    def take(self, names: Sequence[Name]) -> Resamples:
        """Those of these numbers, in this order."""
        place = [self.names.index(name) for name in names]
        return replace(self, names=tuple(names), value=self.value[place], resampled=self.resampled[place])


def name_estimate(estimate: Estimate) -> Name:
    """What tells an estimate from the others of a result."""
    return estimate.metric, estimate.of, estimate.slice


def collect_resamples(estimates: Sequence[Estimate], rows: str) -> Resamples:
    """The numbers of an evaluation; each has a name of its own."""
    names = tuple(name_estimate(estimate) for estimate in estimates)
    assert len(set(names)) == len(names), "numbers of an evaluation have different names"
    found = [one.resamples if isinstance(one, Resampled) else np.zeros(0) for one in estimates]
    longest = max((len(one) for one in found), default=0)
    resampled = np.full((len(names), longest), np.nan)
    for row, one in zip(resampled, found, strict=True):
        row[: len(one)] = one
    value = np.array([np.nan if estimate.value is None else estimate.value for estimate in estimates])
    return Resamples(names, value, resampled, rows)


def average(parts: Sequence[Resamples]) -> Resamples:
    """The mean of several runs' numbers, of those that all have."""
    shared = [name for name in parts[0].names if all(name in part.names for part in parts)]
    taken = [part.take(shared) for part in parts]
    _check_rows(taken)
    value = np.mean([part.value for part in taken], axis=0)
    return replace(taken[0], value=value, resampled=np.mean([part.resampled for part in taken], axis=0))


def subtract(first: Resamples, second: Resamples) -> Resamples:
    """The first's numbers minus the second's on the same resamples, of those that both have.

    Where neither's resamples have any spread (both find all, or none), those of the difference are not defined: they
    would claim certainty.
    """
    shared = [name for name in first.names if name in second.names]
    one, other = first.take(shared), second.take(shared)
    _check_rows([one, other])
    certain = _have_no_spread(one) & _have_no_spread(other)
    resampled = np.where(certain[:, None], np.nan, one.resampled - other.resampled)
    return replace(one, value=one.value - other.value, resampled=resampled)


def _have_no_spread(found: Resamples) -> Bool[np.ndarray, " number"]:
    if found.resampled.shape[1] < 2:
        return np.zeros(len(found.names), bool)
    return (found.resampled == found.resampled[:, :1]).all(axis=1)


def estimate_resamples(found: Resamples, like: Sequence[Estimate], *, is_mean: bool = False) -> list[Estimate]:
    """The numbers with their intervals; how many rows are behind each is as in `like`.

    Args:
        is_mean: whether they are the mean of several runs' numbers, of which `like` is the first.
    """
    about = {name_estimate(estimate): estimate for estimate in like}
    estimates = []
    for name, value, resampled in zip(found.names, found.value, found.resampled, strict=True):
        interval = None if np.isnan(value) else read_interval(resampled)
        ends = (interval.low, interval.high) if interval else (None, None)
        one = about[name]
        reason = one.reason
        if np.isnan(value):
            reason = reason or "not defined for all"
        elif reason and reason.endswith(NO_SPREAD):  # of the one that it is like alone
            reason = None
        if is_mean and interval and interval.low == interval.high:
            # Resamples of a share that is all or none have no spread: its interval is exact, that of a mean unknown.
            ends = (one.low, one.high) if value == one.value else (None, None)
            reason = one.reason if value == one.value else f"each run is all or none: {NO_SPREAD}"
        estimates.append(
            Estimate(
                *name[:2], to_number(value), *ends, num=one.num, positives=one.positives, reason=reason, slice=name[2]
            )
        )
    return estimates


def write_resampled(folder: Path, result: Result, rows: str) -> None:
    """An evaluation: its numbers' resamples, then its result."""
    _write(folder, collect_resamples(result.estimates, rows))
    write_result(folder / "result.json", result)


def read_resamples(folder: Path) -> Resamples:
    """The numbers of an evaluation as it left them."""
    try:
        with np.load(folder / FILE, allow_pickle=False) as stored:
            names = tuple((str(metric), str(of), str(slice)) for metric, of, slice in stored["names"])
            return Resamples(names, stored["value"], stored["resampled"], str(stored["rows"]))
    except (OSError, ValueError, EOFError, KeyError) as error:
        raise UserError(f"{folder / FILE}: not readable as stored resamples ({error}). Evaluate again.") from error


def write_mean(folder: Path, method: str, runs: Sequence[Path], protocol: Mapping[str, Any] | None = None) -> None:
    """A method by the mean of its runs' numbers; its protocol is what those of all runs have in common, the values of
    each run, and `protocol`."""
    results, parts = [read_result(run / "result.json") for run in runs], [read_resamples(run) for run in runs]
    found, first = average(parts), results[0]
    common = {
        name: value
        for name, value in first.protocol.items()
        if all(name in one.protocol and one.protocol[name] == value for one in results)
    }
    values = {" | ".join(name): [to_number(part.take([name]).value[0]) for part in parts] for name in found.names}
    about = {**common, "runs": [result.encoder for result in results], "values_of_runs": values, **(protocol or {})}
    result = replace(
        first, encoder=method, protocol=about, estimates=estimate_resamples(found, first.estimates, is_mean=True),
        hashes=replace(first.hashes, weights=" ".join(one.hashes.weights for one in results)),
        notes=join_notes(results),
    )  # fmt: skip
    _write(folder, found)
    write_result(folder / "result.json", result)


def write_difference(
    folder: Path,
    first: Path,
    second: Path,
    metrics: Sequence[str] | None = None,
    protocol: Mapping[str, Any] | None = None,
) -> None:
    """The paired difference of two evaluations, in all their metrics or some."""
    a, b = (read_result(one / "result.json") for one in (first, second))
    found = subtract(read_resamples(first), read_resamples(second))
    if metrics is not None:
        found = found.take([name for name in found.names if name[0] in metrics])
    about = {"kind": "paired difference", "first": a.encoder, "second": b.encoder, **(protocol or {})}
    weights = f"{a.hashes.weights} {b.hashes.weights}"
    result = replace(
        a, encoder=f"{a.encoder} - {b.encoder}", protocol=about, estimates=estimate_resamples(found, a.estimates),
        hashes=Hashes(a.hashes.data, a.hashes.split, weights, a.hashes.code), notes=join_notes((a, b)),
    )  # fmt: skip
    _write(folder, found)
    write_result(folder / "result.json", result)


def _check_rows(parts: Sequence[Resamples]) -> None:
    assert len({part.rows for part in parts}) == 1, "numbers of different rows are not combined"


def _write(folder: Path, found: Resamples) -> None:
    with open_atomic(folder / FILE) as file:
        np.savez_compressed(
            file, allow_pickle=False, names=np.array(found.names).reshape(-1, 3), value=found.value,
            resampled=found.resampled, rows=np.array(found.rows),
        )  # fmt: skip
