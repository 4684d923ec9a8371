"""`hilum probe --task risk`: an encoder's features beside their controls and a model of age and density.

Each number is in a `result.json` of a cell of its own (`scoring.py`); `risk.json` puts them in one place for the
report, with the curves that it draws.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from hilum.cache import Cache
from hilum.errors import UserError
from hilum.evaluate.asked import check_named_once
from hilum.evaluate.console import name_results
from hilum.evaluate.features import Precision
from hilum.evaluate.probe.protocol import ProbeProtocol
from hilum.evaluate.probe.report import embed_arms, name_subjects
from hilum.evaluate.result import enclose_result, write_json
from hilum.evaluate.scoring.bootstrap import NUM_RESAMPLES
from hilum.evaluate.scoring.resamples import write_difference
from hilum.evaluate.subject import describe_licence, find_subject
from hilum.evaluate.suite import Cell, check_failures, run_suite
from hilum.model.heads import Representation
from hilum.wording import say_count

from .arms import RiskArm, choose_readings, list_arms, pair_arms
from .console import print_risk
from .follow_up import FORMAT, NUM_YEARS, RISK, FollowUp, read_follow_up
from .hazards import Hazard, RiskModel, Sides
from .kaplan_meier import Side
from .scoring import RiskPlan, build_cell

_MIN_CANCERS = 2  # of each split: one pair to choose by, and to score


def run_risk_report(
    data: Path,
    runs: Sequence[Path | str],
    out: Path | None = None,
    *,
    representation: Representation | Literal["auto"] = "auto",
    earlier_exams: int = 0,
    leave_out: Sequence[str] = (),
    mask_after_event: bool = False,
    uno_weight: Side = "before",
    hazard: Hazard = "additive",
    sides: Sides = "together",
    batch_views: int = 256,
    precision: Precision = "auto",
    num_resamples: int = NUM_RESAMPLES,
    progress: bool = True,
) -> Path:
    """Fit and score risks of finished runs, their controls and a clinical table, and write `out/risk.json`.

    Args:
        data, runs: a cache folder, and encoders, see `run_probe_report`; the first is the one in the tiles.
        out: by default `probe-risk` in the first run's folder.
        representation: what is read of a view; auto: what has the least loss on validation.
        earlier_exams: of the same woman that are read too, at most.
        leave_out: archives of the cache that take no part.
        mask_after_event: the loss leaves out years after a cancer, as Mirai's does, see `build_targets`.
        uno_weight: of Uno's C, see `weigh_by_censoring`.
        hazard: what is fitted, see `hazards.py`.
        sides: one head for all views of an exam, or one for left breasts and one for right ones.
        num_resamples: behind each interval.

    Raises:
        UserError: no follow-up, a split with fewer than two cancers, test patients that were pretrained on, or a cell
            failed; the others' results are kept.
    """
    model = RiskModel(hazard, sides)
    model.check(mask_after_event=mask_after_event)
    check_named_once(runs)
    subjects = [find_subject(run) for run in runs]
    cache = Cache.open(data)
    follow_up = read_follow_up(cache, leave_out)
    check_cancers(follow_up)
    further = {
        "earlier-exams": earlier_exams or None,
        "mask-after-event": mask_after_event or None,
        "uno-weight": None if uno_weight == "before" else uno_weight,
        "hazard": None if hazard == "additive" else hazard,
        "sides": None if sides == "together" else sides,
    }
    out = subjects[0].name_folder(
        out, name_results("probe", follow_up.task, representation=representation, choices=further)
    )
    named = dict(zip(name_subjects(subjects, runs), subjects, strict=True))
    notes = {name: subject.check_pretraining(cache, leave_out) for name, subject in named.items()}
    protocol = ProbeProtocol(representation=representation)
    how: dict[str, Any] = {"batch_views": batch_views, "precision": precision, "progress": progress}
    embedded = embed_arms(cache, named, runs, protocol, **how)
    arms = list_arms(list(embedded.values()), follow_up)
    notes = {name: (*said, *describe_licence(embedded[name].features.made_by)) for name, said in notes.items()}
    readings = choose_readings(list(embedded.values()), representation)
    plan = RiskPlan(
        cache, follow_up, readings, earlier_exams, notes, num_resamples, mask_after_event, uno_weight, model
    )
    path = report_risk(plan, arms, out, progress=progress)
    if progress:
        print_risk(path, data, subjects[0].path or out)
    return path


def check_cancers(follow_up: FollowUp) -> None:
    """Refuse splits that cannot be learned from or scored."""
    for split, name in {"train": "training", "val": "validation", "test": "test"}.items():
        rows = follow_up.rows(split)
        sick = follow_up.event[rows] & (follow_up.years[rows] < NUM_YEARS)
        cancers = len(np.unique(follow_up.task.patient[rows][sick]))
        if cancers < _MIN_CANCERS:
            raise UserError(
                f"The {name} split has {say_count(cancers, 'woman', 'women')} with cancer within {NUM_YEARS} years "
                f"among {say_count(len(rows), 'exam')} with follow-up: a risk needs at least {_MIN_CANCERS}. Build the "
                "cache with larger --fractions of it."
            )


def report_risk(plan: RiskPlan, arms: Sequence[RiskArm], out: Path, *, progress: bool = True) -> Path:
    """The cells of a risk report and their summary; the first arm is the subject. Returns the path of `risk.json`.

    Raises:
        UserError: a cell failed; the others' results and the summary are kept.
    """
    run = partial(run_suite, out=out / "cells", progress=progress)
    scored = run([build_cell(plan, arm) for arm in arms])
    pairs = pair_arms(arms, scored.done)
    paired = run([_build_difference(scored.done[a], scored.done[b], f"{a} - {b}") for a, b in pairs])
    shown = {arm.name: arm for arm in arms if arm.name in scored.done}
    summary = {
        "format": FORMAT,
        "task": RISK,
        "years": NUM_YEARS,
        "excluded": plan.follow_up.excluded,
        "arms": [
            {
                "name": name,
                "role": arm.role,
                **enclose_result(scored.done[name], out),
                **_read_curves(scored.done[name]),
            }
            for name, arm in shown.items()
        ],
        "differences": [enclose_result(folder, out) for folder in paired.done.values()],
        "failed": {**scored.failed, **paired.failed},
    }
    write_json(out / "risk.json", summary)
    check_failures(out, (scored, paired))
    return out / "risk.json"


def _build_difference(first: Path, second: Path, name: str) -> Cell:
    def run(folder: Path) -> None:
        write_difference(folder, first, second)

    return Cell(name, {"of": [first.name, second.name]}, run)


def _read_curves(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "curves.json").read_bytes())
