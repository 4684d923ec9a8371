"""What MV-MLM's evaluation asks of cancer in the years after an exam (L 3.4, 3.5): what `hilum probe --task risk` does
of one encoder, for every method, from its features alone and with a clinical table; that table alone beside them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from hilum.cache import Cache
from hilum.errors import UserError
from hilum.evaluate.features import Precision, ViewFeatures
from hilum.evaluate.paper.cells import Asked, Job
from hilum.evaluate.paper.entrants import Entrant, embed_entrant
from hilum.evaluate.paper.index import RISK, RISK_WITH_TABLE
from hilum.evaluate.paper.methods import ChoosePairs, Compared, Key, Pair, pair_with
from hilum.evaluate.probe.protocol import Arm
from hilum.evaluate.risk.arms import RiskArm, choose_readings
from hilum.evaluate.risk.follow_up import FollowUp, read_follow_up
from hilum.evaluate.risk.risk_report import check_cancers
from hilum.evaluate.risk.scoring import RiskPlan, score_arm
from hilum.evaluate.suite import Cell
from hilum.model.heads import Representation

RiskPart = Literal["risk"]
Load = Callable[[Entrant], ViewFeatures]


@dataclass(frozen=True, kw_only=True)
class RiskQuestion(Asked):
    """What is asked of every encoder about risk."""

    follow_up: FollowUp
    representation: Representation | None  # None: what has the least loss on validation, for each encoder by itself

    @property
    def settings(self) -> dict[str, Any]:
        task = self.follow_up.task
        return {
            "data": task.data,
            "split": task.hash_split(),
            "labels": task.policy,
            "representation": self.representation,
            "num_resamples": self.num_resamples,
            "precision": self.precision,
        }

    @property
    def table(self) -> str | None:
        """What the clinical table holds, its name among the methods; None where there is none."""
        return " and ".join(self.follow_up.table_names) or None


def ask_risk(
    cache: Cache,
    *,
    leave_out: Sequence[str],
    representation: Representation | None,
    num_resamples: int,
    precision: Precision,
    progress: bool,
    notes: Mapping[str, tuple[str, ...]],
) -> tuple[RiskQuestion | None, list[str]]:
    """The question; or None, and why this cache cannot be asked."""
    try:
        follow_up = read_follow_up(cache, leave_out)
        check_cancers(follow_up)
    except UserError as error:
        return None, [f"No risk: {error}"]
    question = RiskQuestion(
        cache=cache, num_resamples=num_resamples, precision=precision, progress=progress, notes=notes,
        follow_up=follow_up, representation=representation,
    )  # fmt: skip
    said = (
        [] if question.table else ["Risk stands beside no clinical table: neither age nor density tells exams apart."]
    )
    return question, said


def list_risk_jobs(question: RiskQuestion, entrants: Sequence[Entrant]) -> list[Job]:
    """Risks by every encoder, with the clinical table and without, and by that table alone."""

    @functools.lru_cache(maxsize=1)  # both cells of an entrant follow each other
    def load(entrant: Entrant) -> ViewFeatures:
        how: dict[str, Any] = {"precision": question.precision, "progress": question.progress}
        return embed_entrant(question.cache, entrant, all_views=True, **how)

    jobs = []
    for entrant in entrants:
        for kind in (RISK, RISK_WITH_TABLE) if question.table else (RISK,):
            run = functools.partial(_score, question, entrant, load, kind)
            known = {**question.settings, **entrant.settings, "kind": kind}
            jobs.append(Job(kind, entrant, None, Cell(f"{entrant.name}: {kind}", known, run)))
    if question.table:
        # It reads no image: of an entrant it has the place alone, under a name of its own.
        alone = replace(entrants[0], name=question.table, method=question.table)
        run = functools.partial(_score, question, alone, None, RISK)
        known = {**question.settings, "kind": RISK, "table": question.follow_up.table_names}
        jobs.append(Job(RISK, alone, None, Cell(f"{question.table}: {RISK}", known, run)))
    return jobs


def pair_risks(first: str, table: str | None) -> ChoosePairs:
    """Every method minus the first; the table alone minus the first; and what features add to the table."""

    def choose(methods: Mapping[Key, Path]) -> dict[Pair, Compared]:
        pairs = dict(pair_with(first)(methods))
        if table is None or (alone := methods.get(Key(RISK, table, None))) is None:
            return pairs
        for key, path in methods.items():
            if key.kind == RISK_WITH_TABLE:
                name = f"{key.kind}: {key.method} - {table} alone"
                pairs[Pair(key.kind, key.method, table)] = Compared(name, path, alone)
        return pairs

    return choose


def _score(question: RiskQuestion, entrant: Entrant, load: Load | None, kind: str, folder: Path) -> None:
    follow_up, name = question.follow_up, entrant.name
    if load is None:
        arm, readings, notes = RiskArm(name, "table", None, True), (), ()
    else:
        features, notes = load(entrant), question.notes[entrant.name]
        readings = choose_readings([Arm(name, "encoder", features)], question.representation or "auto")
        with_table = kind == RISK_WITH_TABLE
        name = f"{name} with {question.table}" if with_table else name
        arm = RiskArm(name, "both" if with_table else "encoder", features, with_table)
    plan = RiskPlan(question.cache, follow_up, readings, 0, {arm.name: notes}, question.num_resamples)
    score_arm(plan, arm, folder)
