"""From encoders to methods: the mean of a method's runs and draws, and methods in pairs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

from hilum.evaluate.scored import holds_scores, write_scored_difference, write_scored_mean
from hilum.evaluate.scoring.resamples import write_difference, write_mean
from hilum.evaluate.suite import Cell, run_suite

from .cells import Asked, Job
from .index import FINETUNE, ONE_VIEW, PROBE, SECOND_VIEW, TWO_VIEWS, name_count


class Key(NamedTuple):
    """One evaluation of a method."""

    kind: str
    method: str
    count: int | None  # labelled training studies; None: all


class Pair(NamedTuple):
    """A paired difference: the first method minus the second; of SECOND_VIEW, two views minus one of one method."""

    kind: str
    first: str
    second: str


class Compared(NamedTuple):
    """What a difference is called, and the two evaluations it is of."""

    name: str
    first: Path
    second: Path


ChoosePairs = Callable[[Mapping[Key, Path]], Mapping[Pair, Compared]]


@dataclass(frozen=True)
class Methods:
    """What became of a suite: folders of results, and how the others failed."""

    cells: Mapping[str, Path]  # by the name of the cell
    methods: Mapping[Key, Path]
    differences: Mapping[Pair, Path]
    failed: Mapping[str, str]
    num_cells: int  # of all kinds


def run_methods(question: Asked, jobs: Sequence[Job], folder: Path, choose_pairs: ChoosePairs) -> Methods:
    """Run the jobs, then what is made of their results: means over each method's, and differences of these."""
    cells = run_suite([job.cell for job in jobs], folder, progress=question.progress)
    grouped = group_jobs(jobs, cells.done)
    means = {key: build_mean(key, folders) for key, folders in grouped.items() if len(folders) > 1}
    judged = run_suite(list(means.values()), folder, progress=question.progress)
    methods = {
        key: judged.done[means[key].name] if key in means else folders[0]
        for key, folders in grouped.items()
        if key not in means or means[key].name in judged.done
    }
    pairs = {pair: build_difference(question, *compared) for pair, compared in choose_pairs(methods).items()}
    compared = run_suite(list(pairs.values()), folder, progress=question.progress)
    differences = {pair: compared.done[cell.name] for pair, cell in pairs.items() if cell.name in compared.done}
    failed: dict[str, str] = {}
    for outcome in (cells, judged, compared):
        failed |= outcome.failed
    return Methods(cells.done, methods, differences, failed, len(jobs) + len(means) + len(pairs))


def group_jobs(jobs: Sequence[Job], done: Mapping[str, Path]) -> dict[Key, list[Path]]:
    """Results of each method, one for each run and draw. A method of which one failed has none: a mean of the others
    would be of another method."""
    names: dict[Key, list[str]] = {}
    for job in jobs:
        names.setdefault(Key(job.kind, job.entrant.method, job.count), []).append(job.cell.name)
    return {key: [done[name] for name in found] for key, found in names.items() if set(found) <= done.keys()}


def build_mean(key: Key, folders: Sequence[Path]) -> Cell:
    """A method by the mean of its runs' (or draws') metrics."""

    def run(folder: Path) -> None:
        write = write_scored_mean if holds_scores(folders[0]) else write_mean
        write(folder, key.method, folders)

    suffix = f"{key.kind}, {'all' if key.count is None else key.count} labels"
    settings = {"seeds": [folder.name for folder in folders]}
    return Cell(f"{key.method}: mean of {len(folders)}, {suffix}", settings, run)


def pair_all(methods: Mapping[Key, Path]) -> dict[Pair, Compared]:
    """All methods in pairs, with all labels, one view and two; two views with one."""
    folders: dict[str, dict[str, Path]] = {kind: {} for kind in (PROBE, FINETUNE, ONE_VIEW, TWO_VIEWS)}
    for key, path in methods.items():
        if key.kind in (ONE_VIEW, TWO_VIEWS) or (key.kind in folders and key.count is None):
            folders[key.kind][key.method] = path
    pairs = {
        Pair(kind, first, second): Compared(f"{kind}: {first} - {second}", found[first], found[second])
        for kind, found in folders.items()
        for first, second in combinations(found, 2)
    }
    one, two = folders[ONE_VIEW], folders[TWO_VIEWS]
    for method in [name for name in two if name in one]:
        name = f"{method}: two views - one"
        pairs[Pair(SECOND_VIEW, method, method)] = Compared(name, two[method], one[method])
    return pairs


def pair_with(first: str) -> ChoosePairs:
    """Every evaluation of every other method minus the same of this one."""

    def choose(methods: Mapping[Key, Path]) -> dict[Pair, Compared]:
        pairs = {}
        for key, path in methods.items():
            own = methods.get(key._replace(method=first))
            if key.method != first and own is not None:
                kind = name_count(key.kind, key.count)
                pairs[Pair(kind, key.method, first)] = Compared(f"{kind}: {key.method} - {first}", path, own)
        return pairs

    return choose


def build_difference(question: Asked, name: str, first: Path, second: Path) -> Cell:
    """The paired difference of two evaluations of the same rows."""

    def run(folder: Path) -> None:
        if holds_scores(first):
            write_scored_difference(folder, first, second, question.metrics_of_differences)
        else:
            write_difference(folder, first, second)

    return Cell(name, {**question.settings, "first": first.name, "second": second.name}, run)
