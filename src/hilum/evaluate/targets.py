"""Can a task be learned and scored at all? Asked before any image is read, and answered with what to do."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int64
from rich.console import Console

from hilum.errors import UserError
from hilum.wording import say_count

from .scoring.metrics import explain_exclusion
from .task import SPLIT_WORDS, UNITS, Task


def check_splits(task: Task, remedy: str) -> None:
    """Refuse a task of which training, validation or test lacks a target with both classes.

    remedy: what the user can do about it, a sentence.
    """
    _check_known(task)
    _check_classes(task)
    for split, name in SPLIT_WORDS.items():
        rows = task.rows(split)
        if not len(rows):
            raise UserError(f"There is no {name} {task.unit} with a known target of task {task.name}. {remedy}")
        if found := _list_one_class(task, rows):
            raise UserError(f"The {name} split is too small to tell anything: {found}. {remedy}")


def check_folds(task: Task, num_folds: int) -> None:
    """Refuse a task that cross-validation by patient cannot score: one class only, or fewer patients than folds."""
    _check_known(task)
    _check_classes(task)
    num_patients = task.group.gather(task.rows()).n_unique()
    if num_patients < num_folds:
        raise UserError(
            f"{say_count(num_patients, 'patient')} with a known target of task {task.name}: cross-validation in "
            f"{num_folds} folds needs at least {num_folds}."
        )


def warn_of_no_score(task: Task, min_positives: int, *, crossval: bool = False) -> None:
    """Say it before the hours, not after, if no target has enough of both classes for a macro mean."""
    rows = task.rows() if crossval else task.rows("test")
    lacking = {
        name: explain_exclusion(column, min_positives)
        for name, column in zip(task.names, task.target[rows].T, strict=True)
    }
    if None in lacking.values():
        return
    remedy = "" if crossval else " Larger --fractions of `hilum cache`, or --crossval of `hilum probe`, would help."
    first = next(f"{name} has {reason}" for name, reason in lacking.items())
    Console(stderr=True).print(
        f"warning: there will be no macro mean, only single targets: {first}"
        + (f", and so it is with {say_count(len(lacking) - 1, 'other')}." if len(lacking) > 1 else ".")
        + remedy,
        markup=False, highlight=False, soft_wrap=True,
    )  # fmt: skip


def _check_known(task: Task) -> None:
    if not len(task.rows()):
        raise UserError(
            f"No {task.unit} has a known target of task {task.name} under the label policies "
            f"{', '.join(f'{name} {value}' for name, value in task.policy.items() if name != 'leave_out')}"
            f"{' in the archives that are not left out' if 'leave_out' in task.policy else ''}."
        )


_REMEDY_OF_BREASTS = (
    "In a table of your own a breast whose rows all say 'no finding' lacks what others have; if the table lists every "
    "finding, `hilum ingest table --findings-complete` makes what it does not name absent. Then `hilum cache` again."
)


def _check_classes(task: Task) -> None:
    if found := _list_one_class(task, task.rows()):
        of_breasts = task.name.startswith(("breast:", "image:"))
        raise UserError(
            f"Task {task.name} has a single class: {found}. A score needs both. "
            + (_REMEDY_OF_BREASTS if of_breasts else "Ingest studies of the other class too, or choose another --task.")
        )


def _list_one_class(task: Task, rows: Int64[np.ndarray, " row"], num_named: int = 3) -> str:
    """ "Edema is present in all 40 studies; ..." if every target has one class among the rows, else nothing."""
    unit, found = UNITS[task.unit], []
    for name, column in zip(task.names, task.target[rows].T, strict=True):
        known = column[~np.isnan(column)]
        if len(np.unique(known)) == 2:
            return ""
        if len(known):
            found.append(f"{name} is {'present' if known[0] else 'absent'} in all {len(known):,} {unit}")
    return "; ".join(found[:num_named]) + (f"; and {len(found) - num_named} more" if len(found) > num_named else "")
