"""`hilum probe --task risk`: an encoder's features beside their controls and a model of age and density.

Each number is in a `result.json` of a cell of its own; `risk.json` puts them in one place for the report, with the
curves that it draws.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Int64

from hilum.cache import Cache
from hilum.errors import UserError
from hilum.evaluate.asked import check_named_once
from hilum.evaluate.bootstrap import LEVEL, NUM_RESAMPLES
from hilum.evaluate.console import name_results
from hilum.evaluate.features import Precision, ViewFeatures
from hilum.evaluate.probe_protocol import Arm, ProbeProtocol
from hilum.evaluate.probe_report import embed_arms, name_subjects
from hilum.evaluate.record import build_hashes
from hilum.evaluate.resamples import write_difference, write_resampled
from hilum.evaluate.result import Estimate, Result, dump_result, hash_parts, read_result, write_json
from hilum.evaluate.subject import describe_licence, find_subject
from hilum.evaluate.suite import Cell, Outcome, run_suite
from hilum.model.heads import Representation
from hilum.wording import say_count

from .console import print_risk
from .curves import describe_calibration, describe_groups
from .estimates import Predicted, Reference, estimate_risk
from .exam_views import ExamViews, take_exams
from .fit import DECAYS, Setting, choose_risk
from .follow_up import NUM_YEARS, RISK, FollowUp, read_follow_up
from .head import POOLINGS
from .kaplan_meier import resample_risk

FORMAT = "hilum-risk/1"
_MIN_CANCERS = 2  # of each split: one pair to choose by, and to score
_NOT_READ = ("2x2", "4x4", "both")  # unless asked for: many numbers for few cancers
_LOWEST = 0.02  # of a year's observed risk to start from, where training tells none


@dataclass(frozen=True)
class RiskArm:
    """What is read of an exam, under the name it has in tables."""

    name: str
    role: Literal["encoder", "untrained", "pixels", "table", "both"]
    features: ViewFeatures | None
    with_table: bool = False


@dataclass(frozen=True)
class RiskPlan:
    """What is asked of every arm."""

    cache: Cache
    follow_up: FollowUp
    readings: tuple[Representation, ...]
    num_earlier: int
    notes: Mapping[str, tuple[str, ...]]  # of an arm, by its name
    num_resamples: int

    @property
    def rows(self) -> dict[str, Int64[np.ndarray, " row"]]:
        """Exams of each split that take part."""
        return {split: self.follow_up.rows(split) for split in ("train", "val", "test")}


def run_risk_report(
    data: Path,
    runs: Sequence[Path | str],
    out: Path | None = None,
    *,
    representation: Representation | Literal["auto"] = "auto",
    earlier_exams: int = 0,
    leave_out: Sequence[str] = (),
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
        num_resamples: behind each interval.

    Raises:
        UserError: no follow-up, a split with fewer than two cancers, test patients that were pretrained on, or a cell
            failed; the others' results are kept.
    """
    check_named_once(runs)
    subjects = [find_subject(run) for run in runs]
    cache = Cache.open(data)
    follow_up = read_follow_up(cache, leave_out)
    check_cancers(follow_up)
    further = {"earlier-exams": earlier_exams or None}
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
    readings = _choose_readings(list(embedded.values()), representation)
    plan = RiskPlan(cache, follow_up, readings, earlier_exams, notes, num_resamples)
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


def list_arms(embedded: Sequence[Arm], follow_up: FollowUp) -> list[RiskArm]:
    """Encoders, the first of them with the table, its controls, and the table alone, where there is any."""
    arms = [RiskArm(arm.name, arm.role, arm.features) for arm in embedded if arm.role != "shuffled"]
    if not follow_up.table_names:
        return arms
    table = " and ".join(follow_up.table_names)
    both = RiskArm(f"{arms[0].name} with {table}", "both", arms[0].features, True)
    return [*arms, both, RiskArm(table, "table", None, True)]


def _choose_readings(arms: Sequence[Arm], asked: Representation | Literal["auto"]) -> tuple[Representation, ...]:
    """What is tried of every encoder alike."""
    if asked != "auto":
        return (asked,)
    offers = [arm.features.representations for arm in arms if arm.role != "pixels"]
    return tuple(name for name in offers[0] if name not in _NOT_READ and all(name in offer for offer in offers))


def report_risk(plan: RiskPlan, arms: Sequence[RiskArm], out: Path, *, progress: bool = True) -> Path:
    """The cells of a risk report and their summary; the first arm is the subject. Returns the path of `risk.json`.

    Raises:
        UserError: a cell failed; the others' results and the summary are kept.
    """
    run = partial(run_suite, out=out / "cells", progress=progress)
    scored = run([_build_arm(plan, arm) for arm in arms])
    paired = run(_list_differences(arms, scored.done))
    shown = {arm.name: arm for arm in arms if arm.name in scored.done}
    summary = {
        "format": FORMAT,
        "task": RISK,
        "years": NUM_YEARS,
        "excluded": plan.follow_up.excluded,
        "arms": [
            {"name": name, "role": arm.role, **_embed(scored.done[name], out), **_read_curves(scored.done[name])}
            for name, arm in shown.items()
        ],
        "differences": [_embed(folder, out) for folder in paired.done.values()],
        "failed": {**scored.failed, **paired.failed},
    }
    write_json(out / "risk.json", summary)
    _check_failures(out, (scored, paired))
    return out / "risk.json"


def _check_failures(out: Path, outcomes: Sequence[Outcome]) -> None:
    failed = [failure for outcome in outcomes for failure in outcome.failed.items()]
    if failed:
        name, message = failed[0]
        raise UserError(f"{out}: {say_count(len(failed), 'evaluation')} failed. The first: {name}: {message}")


def _build_arm(plan: RiskPlan, arm: RiskArm) -> Cell:
    follow_up = plan.follow_up
    settings = {
        "kind": RISK,
        "arm": arm.name,
        "split": follow_up.task.hash_split(),
        "labels": follow_up.task.policy,
        "readings": plan.readings,
        "earlier_exams": plan.num_earlier,
        "table": follow_up.table_names if arm.with_table else (),
        "features": None if arm.features is None else arm.features.made_by,
        "num_resamples": plan.num_resamples,
    }
    return Cell(arm.name, settings, partial(_score_arm, plan, arm))


def _score_arm(plan: RiskPlan, arm: RiskArm, folder: Path) -> None:
    """Fit on training exams, choose on validation, score the test exams, and leave what the report draws."""
    follow_up, rows = plan.follow_up, plan.rows

    def take(split: str, representation: Representation) -> ExamViews:
        return take_exams(
            plan.cache, follow_up, rows[split], arm.features, representation,
            with_table=arm.with_table, num_earlier=plan.num_earlier,
        )  # fmt: skip

    fitted, tried = choose_risk(take, _find_base(follow_up), _list_settings(plan, arm), earlier=plan.num_earlier > 0)
    test = rows["test"]
    found = Predicted(
        fitted.predict(take("test", fitted.setting.representation)),
        follow_up.years[test],
        follow_up.event[test],
        follow_up.task.patient[test],
    )
    train = rows["train"]
    reference = Reference.fit(follow_up.years[train], follow_up.event[train])
    estimates: list[Estimate] = list(estimate_risk(found, reference, num_resamples=plan.num_resamples))
    protocol = {
        "kind": "risk by additive hazards",
        "unit": "study",
        "years": NUM_YEARS,
        "features": None if arm.features is None else arm.features.made_by,
        "table": list(follow_up.table_names) if arm.with_table else [],
        "representation": fitted.setting.representation if arm.features else None,
        "pooling": fitted.setting.pooling,
        "decay": fitted.setting.decay,
        "stopped_at": fitted.step,
        "validation_loss_tried": tried,
        "earlier_exams": plan.num_earlier,
        "loss": "masked cross-entropy, weighted for censoring",
        "uno_weight": "before",
        "labels": follow_up.task.policy,
    }
    result = Result(
        encoder=arm.name,
        task=RISK,
        protocol=protocol,
        seed=0,
        estimates=estimates,
        hashes=build_hashes(follow_up.task, arm.features.made_by["weights"] if arm.features else "table"),
        counts=_count(plan, arm),
        level=LEVEL,
        num_resamples=plan.num_resamples,
        notes=(*plan.notes.get(arm.name, ()), *_note_exclusions(follow_up)),
    )
    np.savez_compressed(folder / "risks.npz", row=test, risk=found.risk, years=found.years, event=found.event)
    curves = {"groups": describe_groups(found), "calibration": describe_calibration(found)}
    write_json(folder / "curves.json", curves)
    write_resampled(folder, result, hash_parts([test, found.patient]))


def _list_settings(plan: RiskPlan, arm: RiskArm) -> list[Setting]:
    """Of pixels only the mean is there; a table has no views to pool."""
    if arm.features is None:
        return [Setting("mean", "mean", decay) for decay in DECAYS]
    readings = ("mean",) if arm.role == "pixels" else plan.readings
    return [Setting(read, pooling, decay) for read in readings for pooling in POOLINGS for decay in DECAYS]


def _find_base(follow_up: FollowUp) -> list[float]:
    """Observed risks of the training exams, which never fall; where nobody is followed so long, the last one's."""
    rows = follow_up.rows("train")
    until, once = np.arange(1.0, NUM_YEARS + 1), np.ones((len(rows), 1), np.float32)
    risk = resample_risk(follow_up.years[rows], follow_up.event[rows], until, once)[:, 0]
    return np.maximum.accumulate(np.nan_to_num(risk, nan=_LOWEST)).tolist()


def _count(plan: RiskPlan, arm: RiskArm) -> dict[str, int]:
    follow_up, counts = plan.follow_up, {}
    for split, rows in plan.rows.items():
        counts[f"{split}_patients"] = len(np.unique(follow_up.task.patient[rows]))
        counts[f"{split}_studies"] = len(rows)
        counts[f"{split}_cancers"] = int((follow_up.event[rows] & (follow_up.years[rows] < NUM_YEARS)).sum())
        if arm.features is not None:
            counts[f"{split}_views"] = int(np.isin(arm.features.study, rows).sum())
    return counts


def _note_exclusions(follow_up: FollowUp) -> tuple[str, ...]:
    left = [f"{num:,} {reason}" for reason, num in follow_up.excluded.items() if num]
    return (f"Exams that take no part: {', '.join(left)}.",) if left else ()


def _list_differences(arms: Sequence[RiskArm], done: Mapping[str, Path]) -> list[Cell]:
    """Encoders with each other, with their controls and with the table; with the table added, with both parts of it."""
    encoders = [arm.name for arm in arms if arm.role == "encoder"]
    controls = [arm.name for arm in arms if arm.role in ("untrained", "pixels", "table")]
    pairs = [*combinations(encoders, 2), *((one, other) for one in encoders for other in controls)]
    for both in (arm.name for arm in arms if arm.role == "both"):
        pairs += [(both, other) for other in (encoders[0], *(arm.name for arm in arms if arm.role == "table"))]
    return [_build_difference(done[a], done[b], f"{a} - {b}") for a, b in pairs if a in done and b in done]


def _build_difference(first: Path, second: Path, name: str) -> Cell:
    def run(folder: Path) -> None:
        write_difference(folder, first, second)

    return Cell(name, {"of": [first.name, second.name]}, run)


def _embed(folder: Path, out: Path) -> dict[str, Any]:
    path = folder / "result.json"
    return {"path": path.relative_to(out).as_posix(), "result": dump_result(read_result(path))}


def _read_curves(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "curves.json").read_bytes())
