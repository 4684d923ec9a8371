"""What became of women after an exam: years to cancer or to the last follow-up, of the study table's breasts (L 3.4).

The unit is an exam. It has cancer when the first of its breasts has, and is known to be free of it until then, or as
long as both breasts are. Year t is from t - 1 until t; a cancer found at the exam (0 years) is in year 1. Exams that
say nothing of a risk take no part, and are counted: those after a diagnosis, those of a known cancer without a date,
and those without follow-up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from jaxtyping import Bool, Float32, Float64, Int64

from hilum.breasts import BREASTS, DENSITIES, tabulate_breasts
from hilum.cache import SPLITS, Cache
from hilum.errors import UserError
from hilum.evaluate.task import Task, build_task

from .kaplan_meier import Survival, fit_censoring

NUM_YEARS = 5
RISK = "risk"  # the task's name
FORMAT = "hilum-risk/2"  # of risk.json
_YEAR, _KNOWN_CANCER = 365.25, 6  # days; BI-RADS 6
_MOST = 10.0  # exams that one stands for
WINDOWS = {"90 days": 90 / _YEAR, "180 days": 180 / _YEAR, "1 year": 1.0}  # what `list_windows` leaves out


@dataclass(frozen=True)
class FollowUp:
    """The exams of a cache with what became of the women, row for row those of its studies."""

    task: Task  # cancer within 1, 2, ... years; NaN where not known. All NaN of exams that take no part
    years: Float64[np.ndarray, " exam"]  # to cancer if `event`, else to the last follow-up; NaN: takes no part
    event: Bool[np.ndarray, " exam"]
    day: Float64[np.ndarray, " exam"]  # since the woman's first of her archive; NaN: not known, or not to be read
    woman: Int64[np.ndarray, " exam"]  # same number: same woman in the same archive, whose days compare
    table: Float32[np.ndarray, "exam value"]  # age and density, NaN where not known; without those nobody has
    table_names: tuple[str, ...]
    excluded: dict[str, int]  # reason -> exams that take no part

    def rows(self, split: str) -> Int64[np.ndarray, " row"]:
        """Exams of a split that take part; some know no full year, which counts in pairs."""
        return np.flatnonzero(~np.isnan(self.years) & (self.task.split == SPLITS.index(split)))

    def find_targets(
        self, rows: Int64[np.ndarray, " row"], *, mask_after_event: bool = False
    ) -> Float32[np.ndarray, "row year"]:
        """What the loss of some exams reads, see `build_targets`; `task.target` is all that is known of them."""
        return build_targets(self.years[rows], self.event[rows], mask_after_event=mask_after_event)

    def weigh_years(self, rows: Int64[np.ndarray, " row"]) -> Float32[np.ndarray, "row year"]:
        """`weigh_years` of some exams by the follow-up of the training exams."""
        train = self.rows("train")
        return weigh_years(self.years[rows], self.event[rows], fit_censoring(self.years[train], self.event[train]))


def read_follow_up(cache: Cache, leave_out: Sequence[str] = ()) -> FollowUp:
    """The exams of a cache and their outcomes; archives to `leave_out` take no part.

    Raises:
        UserError: the cache's table has no breasts, or of none is known when cancer came or follow-up ended.
    """
    table = cache.table()
    if BREASTS not in table.columns:
        raise UserError(f"{cache.path}: risk needs mammograms; its study table has no column {BREASTS}.")
    exams = gather_exams(table)
    gone = cache.find_archives(leave_out)
    event, years = _find_outcomes(exams)
    reasons = {"of archives left out": gone, **find_reasons(exams)}
    excluded, taken = {}, np.ones(len(exams), bool)
    for reason, such in reasons.items():
        excluded[reason] = int((such & taken).sum())
        taken &= ~such
    if not taken.any():
        raise UserError(
            f"{cache.path}: of no exam is known when cancer came or follow-up ended. `hilum ingest table` reads "
            "columns years_to_cancer and years_to_last_followup, or days_to_...; of the named archives CSAW-CC and "
            "EMBED have them."
        )
    years = np.where(taken, years, np.nan)
    names = tuple(f"within {year} year{'s' if year > 1 else ''}" for year in range(1, NUM_YEARS + 1))
    target = build_targets(years, event)
    policy = {"years": NUM_YEARS, "excluded": {reason: num for reason, num in excluded.items() if num}}
    task = build_task(cache, table, RISK, "study", names, target, policy, leave_out)
    inputs = _find_table_inputs(exams, taken)
    return FollowUp(
        task=task,
        years=years,
        event=event & taken,
        day=np.where(gone, np.nan, exams["day"].fill_null(np.nan).to_numpy()),
        woman=exams.select(pl.struct("dataset", "patient").rank("dense")).to_series().to_numpy().astype(np.int64),
        table=np.stack(list(inputs.values()), axis=1) if inputs else np.zeros((len(exams), 0), np.float32),
        table_names=tuple(inputs),
        excluded=excluded,
    )


def build_targets(
    years: Float64[np.ndarray, " exam"], event: Bool[np.ndarray, " exam"], *, mask_after_event: bool = False
) -> Float32[np.ndarray, "exam year"]:
    """Cancer within each year: 1 from the event's year on, 0 in full years without, NaN where not known.

    An event after 1.5 years: 0, 1, 1, 1, 1. Follow-up for 2.7 years: 0, 0, NaN, NaN, NaN.

    Args:
        mask_after_event: years after the event's count as not known, as in Mirai's training (L 3.4): 0, 1, NaN, NaN,
            NaN. They are known to be 1, and without them risks of later years come out too low.
    """
    end = np.arange(1, NUM_YEARS + 1)
    whole = np.floor(np.nan_to_num(years))[:, None]
    sick = event[:, None] & (end > whole)
    known = sick | (end <= whole)
    if mask_after_event:
        known &= ~event[:, None] | (end <= whole + 1)
    known &= ~np.isnan(years)[:, None]
    return np.where(known, sick, np.nan).astype(np.float32)


def weigh_years(
    years: Float64[np.ndarray, " exam"], event: Bool[np.ndarray, " exam"], censoring: Survival
) -> Float32[np.ndarray, "exam year"]:
    """What each known target stands for: 1 / G(T-) exams where cancer came, 1 / G(t-) where t years passed without.

    A cancer stays known for all later years, while who left is lost to them: counted alike, the known ones say too much
    of later years, the more the more leave. At most 10, which bounds how much few exams count for.
    """
    end = np.arange(1.0, NUM_YEARS + 1)
    at = np.where(event[:, None] & (years[:, None] < end), years[:, None], end)
    followed = censoring.read(np.nan_to_num(at), "before")
    return (1 / np.maximum(followed, 1 / _MOST)).astype(np.float32)


def list_windows(years: Float64[np.ndarray, " exam"], event: Bool[np.ndarray, " exam"]) -> dict[str, np.ndarray]:
    """Name -> exams of a sub-analysis: all, or without cancers so soon that they may have been there to be seen."""
    parts = {"all": np.ones(len(years), bool)}
    for name, length in WINDOWS.items():
        parts[f"cancer=after {name}"] = ~(event & (years <= length))
    return parts


def find_earlier_exams(follow_up: FollowUp, most: int) -> list[np.ndarray]:
    """Rows of each exam's earlier ones of the same woman, the latest first, at most so many."""
    found = [np.zeros(0, np.int64) for _ in follow_up.day]
    if not most:
        return found
    known = np.flatnonzero(~np.isnan(follow_up.day))
    order = known[np.lexsort((follow_up.day[known], follow_up.woman[known]))]
    starts = np.flatnonzero(np.diff(follow_up.woman[order], prepend=-1))
    for exams in np.split(order, starts[1:]):
        for row in exams:
            earlier = exams[follow_up.day[exams] < follow_up.day[row]]
            found[row] = earlier[::-1][:most]
    return found


def find_reasons(exams: pl.DataFrame) -> dict[str, Bool[np.ndarray, " exam"]]:
    """Why exams (of `gather_exams`) say nothing of a risk: reason -> which do not for it."""
    return {
        "with a known cancer (BI-RADS 6)": (exams["assessment"] == _KNOWN_CANCER).fill_null(False).to_numpy(),
        "with a cancer of unknown date": ((exams["cancer"] == 1) & exams["to_cancer"].is_null())
        .fill_null(False)
        .to_numpy(),
        "after a diagnosis": _find_later_exams(exams),
        "without follow-up": np.isnan(_find_outcomes(exams)[1]),
    }


def gather_exams(table: pl.DataFrame) -> pl.DataFrame:
    """A row for each study, the worst of its breasts: dataset, study, patient, day, age, `to_cancer` and `followed` in
    years (null: no cancer, and not known), cancer, assessment and density.
    """
    breasts = tabulate_breasts(table)
    # A breast that nobody says anything of makes the exam's follow-up unknown: it may have had the cancer.
    found = breasts.group_by("dataset", "study", maintain_order=True).agg(
        to_cancer=pl.col("years_to_cancer").min(),
        followed=pl.when(pl.col("years_to_last_followup").is_not_null().all()).then(
            pl.col("years_to_last_followup").min()
        ),
        cancer=pl.col("cancer").max(),
        assessment=pl.col("assessment").max(),
        density=pl.col("density").max(),  # a to d in order
    )
    keys = ["dataset", "study"]
    return table.select(*keys, "patient", "day", "age").join(found, on=keys, how="left", maintain_order="left")


def _find_outcomes(exams: pl.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Whether cancer came, and years to it or to the last follow-up.

    In single precision, as torchsurv compares times.
    """
    event = exams["to_cancer"].is_not_null().to_numpy()
    years = exams.select(pl.coalesce("to_cancer", "followed").fill_null(np.nan)).to_series().to_numpy()
    return event, years.astype(np.float32).astype(np.float64)


def _find_later_exams(exams: pl.DataFrame) -> np.ndarray:
    """Exams after a diagnosis that an exam of the same woman tells, and that tell of no further cancer themselves."""
    diagnosed = (pl.col("day") + pl.col("to_cancer") * _YEAR).min().over("dataset", "patient")
    later = (pl.col("day") > diagnosed) & pl.col("to_cancer").is_null()
    return exams.select(later.fill_null(False)).to_series().to_numpy()


def _find_table_inputs(exams: pl.DataFrame, taken: np.ndarray) -> dict[str, Float32[np.ndarray, " exam"]]:
    """What a clinical model reads: age in years and density a to d as 0 to 3, as far as they differ between exams."""
    density = exams["density"].replace_strict(DENSITIES, range(len(DENSITIES)), return_dtype=pl.Float32)
    columns = {"age": exams["age"], "density": density}
    values = {name: column.cast(pl.Float32).fill_null(np.nan).to_numpy() for name, column in columns.items()}
    return {name: value for name, value in values.items() if len(np.unique(value[taken & ~np.isnan(value)])) > 1}
