"""Rescued cases (P 3.6): what reaches the heads of the first arm and of another of test images whose finding the first
misses and the other finds, beside the number of those that went the other way.

One run of each arm decides, by its linear probe with all labels and the thresholds of validation.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int64

from hilum.atomic import open_atomic
from hilum.checksums import hash_parts
from hilum.config import CropConfig, load_config
from hilum.errors import UserError
from hilum.evaluate.distilled.rescued import choose_reader, count_rescued, list_rescued, spread_cases
from hilum.evaluate.distilled.rollout import Reader, roll_out_views
from hilum.evaluate.grouping import list_owners
from hilum.evaluate.paper.cells import Job
from hilum.evaluate.paper.entrants import AS_RELEASED, Entrant, group_methods, load_entrant
from hilum.evaluate.paper.index import CASES, PROBE, RESCUED, Suite
from hilum.evaluate.paper.table import SuiteTable
from hilum.evaluate.result import Hashes, Result, hash_code, write_result
from hilum.evaluate.scored import read_scored
from hilum.evaluate.scoring.bootstrap import LEVEL
from hilum.evaluate.segmentation.squares import read_squares
from hilum.evaluate.suite import Cell
from hilum.model.encoder import Encoder

from .cells import READERS, find_run
from .distillation import DistillationQuestion
from .published import PROBES

NUM_CASES = 4  # that a report shows of a pair of arms
TITLES: dict[Reader, str] = {**READERS, "both": "class token and mean patch token"}
_UNITS = {"study": "studies", "breast": "breasts", "view": "images"}


def list_rescue_jobs(
    question: DistillationQuestion, entrants: Sequence[Entrant], jobs: Sequence[Job], out: Path
) -> list[Job]:
    """For each arm after the first its rescued cases, if both roll out; the probes that decide are among `jobs`, with
    their cells in `out`."""
    probes = {job.entrant.name: out / job.cell.folder for job in jobs if (job.kind, job.count) == (PROBE, None)}
    if not (question.rolls_out and probes):
        return []
    masks = None if question.masks is None else [question.masks.digest, list(question.leave_out)]
    rescues = []
    for pair in pair_runs(entrants):
        first, second = pair
        deciding = [probes[one.name] for one in pair]
        known = {
            **question.settings, "kind": RESCUED, "first": first.settings, "second": second.settings,
            "probed": [folder.name for folder in deciding], "masks": masks, "cases": NUM_CASES,
        }  # fmt: skip
        run = functools.partial(_rescue, question, pair, deciding)
        rescues.append(Job(RESCUED, second, None, Cell(f"{second.name}: rescued from {first.name}", known, run)))
    return rescues


def pair_runs(entrants: Sequence[Entrant]) -> list[tuple[Entrant, Entrant]]:
    """A run of the first arm and one of each other arm whose attention can be read: of the same seed where both arms
    have one, else the first ones."""
    own = [[one for one in runs if one.is_own] for runs in group_methods(entrants).values()]
    pairs = []
    for others in own[1:]:
        every = list(product(own[0], others))
        alike = (pair for pair in every if None is not find_seed(pair[0]) == find_seed(pair[1]))
        if every:
            pairs.append(next(alike, every[0]))
    return pairs


def find_seed(entrant: Entrant) -> int | None:
    """The seed of an entrant's pretraining, or of its random weights; None where no record says it."""
    if entrant.is_random:
        return entrant.seed
    config = None if (folder := find_run(entrant)) is None else folder / "config.json"
    return load_config(config).seed if config is not None and config.is_file() else None


def tabulate_rescued(suite: Suite) -> list[SuiteTable]:
    """Rescued and lost studies of each finding, arm by arm."""
    found = {name: suite.methods[RESCUED, name, None] for name in suite.names if (RESCUED, name, None) in suite.methods}
    rows, footnotes = [], []
    for name, result in found.items():
        for entry in (one for one in result.estimates if one.metric == "rescued"):
            numbers = (entry.value, result.find("lost", entry.of).value, entry.positives)
            rows.append([f"{name}, {entry.of}", *(f"{number or 0:,.0f}" for number in numbers)])
        footnotes += [f"{name}: {note}" for note in result.notes]
    if not rows:
        return []
    of = next(iter(found.values())).protocol["of"]
    runs = ", ".join(f"{one.protocol['second']} and {one.protocol['first']}" for one in found.values())
    probes = PROBES[suite.index["head"]]
    caption = (
        f"Test {of} with a finding, by probes with all labels and thresholds of validation. {probes} Rescued: "
        f"{suite.index['first']} misses it and the arm finds it; lost: the other way round. Any two encoders have "
        f"some of both, and two runs of one method too. One run of each: {runs}."
    )
    return [SuiteTable("Rescued and lost", ["", "rescued", "lost", "positives"], rows, caption, footnotes)]


def _rescue(
    question: DistillationQuestion, pair: tuple[Entrant, Entrant], probed: Sequence[Path], folder: Path
) -> None:
    for entrant, probe in zip(pair, probed, strict=True):
        if not (probe / "result.json").is_file():
            raise UserError(f"the probe with all labels of {entrant.name} failed, whose decisions pick the cases.")
    (one, first), (other, second) = (read_scored(probe) for probe in probed)
    rescued = {finding: list_rescued(first, second, finding) for finding in first.names}
    cases = spread_cases(rescued, NUM_CASES)
    reader = choose_reader([result.protocol["representation"] for result in (one, other)])
    reason = _draw(question, pair, cases, reader, folder) if cases else None
    result = Result(
        encoder=pair[1].name,
        task=question.task.name,
        protocol={
            "kind": "rescued", "first": pair[0].name, "second": pair[1].name, "of": _UNITS[question.task.unit],
            "reader": TITLES[reader], "cases": 0 if reason else len(cases),
        },
        seed=pair[1].seed,
        estimates=count_rescued(first, second),
        hashes=Hashes(
            data=question.cache.digest, split=hash_parts([first.row]),
            weights=f"{one.hashes.weights} {other.hashes.weights}", code=hash_code(),
        ),
        counts={"test_rows": len(first.row), "test_patients": len(np.unique(first.patient))},
        level=LEVEL,
        num_resamples=0,
        notes=() if reason is None else (reason,),
    )  # fmt: skip
    write_result(folder / "result.json", result)


def _draw(
    question: DistillationQuestion,
    pair: tuple[Entrant, Entrant],
    cases: Sequence[tuple[str, int]],
    reader: Reader,
    folder: Path,
) -> str | None:
    """Store the first image of each case and both rollouts of it, or say why not."""
    cache, encoders = question.cache, [load_entrant(question.cache, entrant) for entrant in pair]
    crops = [one.subject.read_settings(encoder).shown for one, encoder in zip(pair, encoders, strict=True)]
    if question.head == "released":  # which decided by whole images, whatever the runs' settings show
        crops = [AS_RELEASED] * len(pair)
    if crops[0].mode != crops[1].mode:
        modes = " and ".join(crop.mode for crop in crops)
        return f"no case is drawn: the encoders are shown other parts of an image ({modes})."
    owner = list_owners(cache, question.task)
    views = np.array([np.flatnonzero(owner == row)[0] for _, row in cases])
    maps = []
    for entrant, encoder, crop in zip(pair, encoders, crops, strict=True):
        assert isinstance(encoder, Encoder), "others have no such cell"
        mean, std = entrant.subject.read_statistics(cache)
        maps.append(roll_out_views(cache, encoder, views, mean=mean, std=std, crop=crop, reader=reader))
    size = max(encoder.side for encoder in encoders)
    squares = read_squares(cache, views, size=size, mean=0.0, std=1.0, crop=crops[0])
    outlines = _outline(question, views, size, crops[0])
    with open_atomic(folder / CASES) as file:
        np.savez_compressed(
            file, allow_pickle=False, image=squares[:, 0].numpy().astype(np.float16), first=maps[0].astype(np.float32),
            second=maps[1].astype(np.float32), finding=np.array([finding for finding, _ in cases]),
            structure=np.array(list(outlines), dtype=str), **{f"mask_{i}": m for i, m in enumerate(outlines.values())},
        )  # fmt: skip
    return None


def _outline(
    question: DistillationQuestion, views: Int64[np.ndarray, " case"], size: int, crop: CropConfig
) -> Mapping[str, Bool[np.ndarray, "case size size"]]:
    """Structures of these views as far as there are masks, empty where nobody drew one."""
    if question.masks is None:
        return {}
    table = question.lay_masks(size, crop.mode)
    place = {view: i for i, view in enumerate(table.view_row.tolist())}
    found = {name: np.zeros((len(views), size, size), bool) for name in table.structures}
    for case, view in enumerate(views.tolist()):
        for i, name in enumerate(table.structures) if view in place else ():
            found[name][case] = table.mask[place[view], i] & table.known[place[view], i]
    return found
