"""One arm of an evaluation of risk: fitted on training exams, chosen on validation, scored on those of test."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int64

from hilum.cache import Cache
from hilum.checksums import hash_parts
from hilum.evaluate.record import build_hashes
from hilum.evaluate.result import Estimate, Result, write_json
from hilum.evaluate.scoring.bootstrap import LEVEL
from hilum.evaluate.scoring.intervals import count_once
from hilum.evaluate.scoring.resamples import write_resampled
from hilum.evaluate.suite import Cell
from hilum.model.heads import Representation

from .arms import RiskArm
from .curves import describe_calibration, describe_groups
from .estimates import Predicted, Reference, estimate_risk
from .exam_views import ExamViews, take_exams
from .fit import DECAYS, Setting, choose_risk
from .follow_up import NUM_YEARS, RISK, FollowUp
from .hazards import LOSSES, NAMES, RELATIVE, USUAL, RiskModel
from .head import POOLINGS
from .kaplan_meier import Side, resample_risk
from .recalibration import fit_recalibration

_LOWEST = 0.02  # of a year's observed risk to start from, where training tells none


@dataclass(frozen=True)
class RiskPlan:
    """What is asked of every arm."""

    cache: Cache
    follow_up: FollowUp
    readings: tuple[Representation, ...]
    num_earlier: int
    notes: Mapping[str, tuple[str, ...]]  # of an arm, by its name
    num_resamples: int
    mask_after_event: bool = False  # in the loss alone: recalibration and scores have all that is known
    uno_weight: Side = "before"
    model: RiskModel = USUAL

    @property
    def rows(self) -> dict[str, Int64[np.ndarray, " row"]]:
        """Exams of each split that take part."""
        return {split: self.follow_up.rows(split) for split in ("train", "val", "test")}


def build_cell(plan: RiskPlan, arm: RiskArm) -> Cell:
    """The evaluation of one arm, with all that it depends on."""
    follow_up = plan.follow_up
    settings = {
        "kind": RISK,
        "arm": arm.name,
        "split": follow_up.task.hash_split(),
        "labels": follow_up.task.policy,
        "readings": plan.readings,
        "earlier_exams": plan.num_earlier,
        "mask_after_event": plan.mask_after_event,
        "uno_weight": plan.uno_weight,
        "model": asdict(plan.model),
        "table": follow_up.table_names if arm.with_table else (),
        "features": None if arm.features is None else arm.features.made_by,
        "num_resamples": plan.num_resamples,
    }
    return Cell(arm.name, settings, partial(score_arm, plan, arm))


def score_arm(plan: RiskPlan, arm: RiskArm, folder: Path) -> None:
    """Fit on training exams, choose on validation, score the test exams; `folder` gets what reports draw."""
    follow_up, rows = plan.follow_up, plan.rows

    def take(split: str, representation: Representation) -> ExamViews:
        return take_exams(
            plan.cache, follow_up, rows[split], arm.features, representation,
            with_table=arm.with_table, num_earlier=plan.num_earlier, mask_after_event=plan.mask_after_event,
        )  # fmt: skip

    val, test, train = rows["val"], rows["test"], rows["train"]
    base = find_base(follow_up.years[train], follow_up.event[train])
    fitted, tried = choose_risk(take, base, _list_settings(plan, arm), model=plan.model, earlier=plan.num_earlier > 0)
    said = {split: fitted.predict(take(split, fitted.setting.representation)) for split in ("val", "test")}
    recalibration = fit_recalibration(said["val"], follow_up.task.target[val], follow_up.weigh_years(val))
    outcome = (follow_up.years[test], follow_up.event[test], follow_up.task.patient[test])
    relative = plan.model.hazard == "cox"
    found = Predicted(said["test"], *outcome, is_relative=relative)
    moved = Predicted(recalibration.apply(said["test"]), *outcome)
    reference = Reference.fit(follow_up.years[train], follow_up.event[train])
    estimates: list[Estimate] = list(
        estimate_risk(
            found, reference, recalibrated=moved, uno_weight=plan.uno_weight, num_resamples=plan.num_resamples
        )
    )
    protocol = {
        "kind": f"risk by {NAMES[plan.model.hazard]}",
        "hazard": plan.model.hazard,
        "sides": plan.model.sides,
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
        "loss": LOSSES[plan.model.hazard],
        "recalibration": {"on": "validation", **asdict(recalibration)},
        "mask_after_event": plan.mask_after_event,
        "uno_weight": plan.uno_weight,
        "uno_until": min(NUM_YEARS, reference.censoring.last),
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
        notes=(
            *plan.notes.get(arm.name, ()),
            *_note_exclusions(follow_up),
            *note_support(reference),
            *([RELATIVE] if relative else []),
        ),
    )
    np.savez_compressed(
        folder / "risks.npz", row=test, risk=found.risk, recalibrated=moved.risk, years=found.years, event=found.event
    )
    curves = {
        "groups": describe_groups(found),
        "calibration": describe_calibration(found),
        "recalibrated": describe_calibration(moved),
    }
    write_json(folder / "curves.json", curves)
    write_resampled(folder, result, hash_parts([test, found.patient]))


def _list_settings(plan: RiskPlan, arm: RiskArm) -> list[Setting]:
    """Of pixels only the mean is there; a table has no views to pool."""
    if arm.features is None:
        return [Setting("mean", "mean", decay) for decay in DECAYS]
    readings = ("mean",) if arm.role == "pixels" else plan.readings
    return [Setting(read, pooling, decay) for read in readings for pooling in POOLINGS for decay in DECAYS]


def find_base(years: Float[np.ndarray, " exam"], event: Bool[np.ndarray, " exam"]) -> list[float]:
    """Observed risks of the training exams, which never fall; where nobody is followed so long, the last known."""
    until = np.arange(1.0, NUM_YEARS + 1)
    risk = resample_risk(years, event, until, count_once(len(years)))[:, 0]
    # fmax passes over what is not known.
    return np.nan_to_num(np.fmax.accumulate(risk), nan=_LOWEST).tolist()


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


def note_support(reference: Reference) -> tuple[str, ...]:
    """Which numbers the follow-up of training does not reach."""
    last = reference.censoring.last
    if last >= NUM_YEARS:
        return ()
    return (
        f"No training exam is followed for more than {last:.1f} years: Uno's C-index is truncated there, and AUC "
        "weighted for censoring and Brier error of later years are not known.",
    )
