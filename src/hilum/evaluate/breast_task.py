"""Tasks of breasts and of their images, from a study table's breasts and findings (`hilum/breasts.py`; L 3.3).

`breast:mass` is a task of breasts, whose score is the mean of their views' logits, `image:mass` of single images. Of
breasts there are also `breast:malignancy` (pathology or follow-up), `breast:birads` (4 and above; 0, incomplete, is not
known), and ordered classes, one target each: `breast:density` (a to d), `breast:birads5` (1 to 5) and `breast:birads3`
(1 and 2, 3, 4 and 5: what is to be done; of 0 and of 6, a known cancer, neither is known). What an archive does not say
of one is unknown, never absent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import polars as pl

from hilum.breasts import BREAST_FINDINGS, BREASTS, DENSITIES, FINDING_KINDS, tabulate_breasts, tabulate_views
from hilum.cache import Cache
from hilum.errors import UserError
from hilum.study import LABEL_MARK
from hilum.vocabulary import LATERALITIES

from .task import Task, build_task

BREAST, IMAGE = "breast", "image"
MALIGNANCY, BIRADS, DENSITY = "malignancy", "birads", "density"
SUSPICIOUS_BIRADS = 4  # from which on a biopsy is asked for
BIRADS_CLASSES = {  # task -> its classes in their order, and the assessments of each
    "birads5": {str(one): (one,) for one in range(1, 6)},
    "birads3": {"1-2": (1, 2), "3": (3,), "4-5": (4, 5)},
}


def names_breast_task(name: str) -> bool:
    """Whether a task's name is of this module."""
    return name.partition(LABEL_MARK)[0] in (BREAST, IMAGE)


def list_breast_tasks(cache: Cache) -> list[str]:
    """Names of the tasks of this module that the cache's table has columns for; none where it has no breasts."""
    table = cache.table()
    return _list_tasks(table) if BREASTS in table.columns else []


def read_breast_task(cache: Cache, name: str, leave_out: Sequence[str] = ()) -> Task:
    """The task of that name, such as `breast:mass`.

    Raises:
        UserError: a cache whose table has no breasts, a task that it does not have, or nobody of whom it is known.
    """
    table = cache.table()
    unit, _, label = name.partition(LABEL_MARK)
    if BREASTS not in table.columns:
        raise UserError(
            f"{cache.path}: there is no task '{name}': its study table has no column {BREASTS}, which archives of "
            "mammograms have."
        )
    known = _list_tasks(table)
    if name not in known:
        raise UserError(f"{cache.path}: there is no task '{name}'. Tasks of breasts: {', '.join(known)}.")
    task = (_read_images if unit == IMAGE else _read_breasts)(cache, table, name, label, leave_out)
    if np.isnan(task.target).all():
        raise UserError(f"{cache.path}: of no {task.unit} of this cache is known what task '{name}' asks.")
    return task


def _list_tasks(table: pl.DataFrame) -> list[str]:
    findings = [kind for kind in FINDING_KINDS if kind in tabulate_breasts(table).columns]
    own = [f"{BREAST}{LABEL_MARK}{label}" for label in (MALIGNANCY, BIRADS, *BIRADS_CLASSES, DENSITY, *findings)]
    return own + [f"{IMAGE}{LABEL_MARK}{kind}" for kind in findings if BREAST_FINDINGS in table.columns]


def _read_images(cache: Cache, table: pl.DataFrame, name: str, label: str, leave_out: Sequence[str]) -> Task:
    states = tabulate_views(table, [label])
    assert len(states) == len(cache.views), "the study table lists other views than the cache"
    target = states.select(pl.col(label).cast(pl.Float32)).to_numpy().astype(np.float32)
    study = cache.views["study"].astype(np.int64)
    return build_task(cache, table, name, "view", (label,), target, {"label": label}, leave_out, study)


def _read_breasts(cache: Cache, table: pl.DataFrame, name: str, label: str, leave_out: Sequence[str]) -> Task:
    breasts = tabulate_breasts(table)
    names, targets, policy = _find_targets(breasts, label)
    row = table.select("dataset", "study").with_row_index("row")
    study = breasts.select("dataset", "study").join(row, on=["dataset", "study"], how="left", maintain_order="left")
    sides = breasts["laterality"].replace_strict(LATERALITIES, range(len(LATERALITIES)), return_dtype=pl.Int64)
    rows, side = study["row"].to_numpy().astype(np.int64), sides.to_numpy()
    place = np.full((len(table), len(LATERALITIES)), -1)
    place[rows, side] = np.arange(len(breasts))
    target = breasts.select(one.cast(pl.Float32) for one in targets).to_numpy().astype(np.float32)
    owner = place[cache.views["study"], cache.views["laterality"]]
    task = build_task(cache, table, name, "breast", names, target, policy, leave_out, rows, owner)
    return replace(task, classes=label) if "classes" in policy else task


def _find_targets(breasts: pl.DataFrame, label: str) -> tuple[tuple[str, ...], list[pl.Expr], dict[str, object]]:
    """Names of the targets, what each is of a row of `breasts` (null: not known), and how it was made."""
    match label:
        case "malignancy":
            return (MALIGNANCY,), [pl.col("cancer")], {"column": "cancer"}
        case "birads":
            worry = pl.when(pl.col("assessment") != 0).then(pl.col("assessment") >= SUSPICIOUS_BIRADS)
            return (f"BI-RADS {SUSPICIOUS_BIRADS} or more",), [worry.alias(BIRADS)], {"column": "assessment"}
        case label if label in BIRADS_CLASSES:
            classes = BIRADS_CLASSES[label]
            given = pl.when(pl.col("assessment").is_between(1, 5)).then(pl.col("assessment"))
            told = [given.is_in(some).alias(one) for one, some in classes.items()]
            return tuple(f"BI-RADS={one}" for one in classes), told, {"column": "assessment", "classes": list(classes)}
        case "density":
            told = [pl.col(DENSITY).eq(one).alias(one) for one in DENSITIES]
            return tuple(f"density={one}" for one in DENSITIES), told, {"classes": list(DENSITIES)}
        case _:
            return (label,), [pl.col(label)], {"label": label}
