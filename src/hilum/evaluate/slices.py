"""Parts of the test rows that a reader asks about: sex, age, archive, site, vendor, density of the breast, number and
kinds of views.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl
from jaxtyping import Int64

from hilum.breasts import BREASTS, tabulate_breasts
from hilum.cache import Cache
from hilum.study import EXTRA_PREFIX, UNDECIDED, list_label_columns

from .result import TOO_FEW, Estimate
from .scoring.estimates import average_parts, estimate_scores, list_exclusions
from .scoring.intervals import Resampled
from .scoring.scores import Scores
from .task import Task

AGES = (0, 20, 40, 60, 80)  # years from which a band begins
LEAST_ROWS = 30
MAX_VALUES = 12  # of a column worth slicing
DENSITY = "density"
SITE_COLUMNS = ("site", "institution", "hospital")  # where a study was made, without EXTRA_PREFIX


def list_slices(cache: Cache, task: Task) -> dict[str, np.ndarray]:
    """Name -> which rows of the task it holds (a boolean for each), for every column with several values."""
    table = cache.table()
    views = table["views"].list.len()
    age = table["age"].map_elements(_name_age, return_dtype=pl.String)
    passed = (UNDECIDED, *list_label_columns(table))
    extras = [name for name in table.columns if name.startswith(EXTRA_PREFIX) and name not in passed]
    columns = {
        **{name.removeprefix(EXTRA_PREFIX): table[name] for name in extras},
        "sex": table["sex"],
        "age": age,
        "dataset": table["dataset"],
        "views": pl.select(pl.when(views > 1).then(pl.lit("2 or more")).otherwise(pl.lit("1"))).to_series(),
    }
    columns = {name: column.gather(task.study) for name, column in columns.items()}
    if task.unit == "view":
        columns["kind"] = table["views"].explode().struct.field("kind")[_list_shown(task)]
    else:
        kinds = pl.col("views").list.eval(pl.element().struct.field("kind")).list.unique().list.sort()
        columns["kinds"] = table.select(kinds.list.join(" and ")).to_series().gather(task.study)
    if BREASTS in table.columns and task.classes != DENSITY:
        columns[DENSITY] = _list_densities(table, task)
    slices = {}
    for name, column in columns.items():
        values = column.gather(task.rows()).replace("", None).drop_nulls().unique().sort().to_list()
        if 2 <= len(values) <= MAX_VALUES:
            slices |= {f"{name}={value}": column.eq_missing(value).to_numpy() for value in values}
    return slices


def take_sites(slices: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Those of the slices that are sites."""
    return {name: member for name, member in slices.items() if name.partition("=")[0] in SITE_COLUMNS}


def count_slices(task: Task, slices: Mapping[str, np.ndarray]) -> dict[str, dict[str, dict[str, int]]]:
    """Slice -> split -> its rows with a known target, their patients, and the positives of every target."""
    found: dict[str, dict[str, dict[str, int]]] = {}
    for name, member in slices.items():
        rows = {split: (known := task.rows(split))[member[known]] for split in ("train", "val", "test")}
        found[name] = {
            split: {
                "rows": len(part),
                "patients": len(np.unique(task.patient[part])),
                **dict(zip(task.names, np.nansum(task.target[part], axis=0).astype(int).tolist(), strict=True)),
            }
            for split, part in rows.items()
        }
    return found


def estimate_slices(
    scores: Scores, slices: Mapping[str, np.ndarray], *, min_positives: int, num_resamples: int, seed: int
) -> list[Estimate]:
    """AUROC of each slice, and its mean over archives; a slice with too few rows is named, without numbers.

    Each is resampled with a seed of its own, the next one from `seed` on.
    """
    estimates: list[Estimate] = []
    archives: list[Resampled] = []
    for own_seed, (name, member) in enumerate(slices.items(), seed):
        part = scores.take(member[scores.row])
        num = len(part.row)
        if num < LEAST_ROWS or len(list_exclusions(part, min_positives)) == len(part.names):
            estimates.append(Estimate("auroc", "macro", None, num=0, reason=f"{num} rows: too few", slice=name))
            continue
        found = estimate_scores(
            part, ("auroc",), min_positives=min_positives, num_resamples=num_resamples, seed=own_seed, slice=name
        )
        estimates += found
        archives += [found[-1]] if name.startswith("dataset=") else []  # the macro mean comes last
    return [*estimates, average_parts(archives)] if len(archives) > 1 else estimates


def withhold_of_few(estimate: Estimate) -> Estimate:
    """The estimate, or, of fewer than LEAST_ROWS rows, the reason why there is no number: it would be of those rows.

    One that has no number for another reason keeps that.
    """
    if estimate.num >= LEAST_ROWS or (estimate.value is None and estimate.reason):
        return estimate
    reason = f"{TOO_FEW}: {estimate.num} of {LEAST_ROWS} test rows at least"
    return Estimate(estimate.metric, estimate.of, None, num=estimate.num, reason=reason, slice=estimate.slice)


def _list_densities(table: pl.DataFrame, task: Task) -> pl.Series:
    """Density (a to d) of the breast that each row is or shows; of a study that of its denser breast."""
    breasts, keys = tabulate_breasts(table), ["dataset", "study"]
    if task.unit == "breast":
        assert len(breasts) == len(task.target), "tasks of breasts have the rows of this table"
        return breasts[DENSITY]
    if task.unit == "study":
        densest = breasts.group_by(keys).agg(pl.col(DENSITY).max())
        return table.select(keys).join(densest, on=keys, how="left", maintain_order="left")[DENSITY]
    views = table.select(*keys, "views").explode("views").unnest("views").select(*keys, "laterality")
    found = breasts.select(*keys, "laterality", DENSITY)
    return views.join(found, on=[*keys, "laterality"], how="left", maintain_order="left")[DENSITY][_list_shown(task)]


def _list_shown(task: Task) -> Int64[np.ndarray, " row"]:
    """The view that each row shows."""
    return task.find_views(np.arange(len(task.target)))


def _name_age(age: float) -> str:
    low = max(edge for edge in AGES if edge <= age)
    above = [edge for edge in AGES if edge > age]
    return f"{low}-{above[0] - 1}" if above else f"{low} or more"
