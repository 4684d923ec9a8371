"""What a probe or a fine-tuning is to tell: targets of studies, breasts or views, with their patients and splits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import polars as pl
from jaxtyping import Bool, Float32, Int64

from hilum.cache import SPLITS, Cache
from hilum.checksums import hash_parts
from hilum.errors import UserError
from hilum.labels import (
    FINDINGS,
    SOFT_TARGET,
    BlankPolicy,
    UncertainPolicy,
    binarize_states,
    mask_unsayable,
)
from hilum.study import LABEL_MARK, UNDECIDED, list_label_columns, name_label_column

# Columns of a view in the study table that can be a task of their own.
VIEW_COLUMNS = ("position", "kind", "laterality")
MAX_CLASSES = 20
_NO_CLASSES = ("study", "patient", "group", "split", "root", UNDECIDED)  # text that tells nothing of the picture


Unit = Literal["study", "breast", "view"]
SPLIT_WORDS = {"train": "training", "val": "validation", "test": "test"}  # as messages call them
CHOOSING_ON_TEST = {"train": ("train", "val"), "val": ("test",), "test": ("test",)}  # of tasks that do so
UNITS: dict[Unit, str] = {"study": "studies", "breast": "breasts", "view": "images"}  # what several are called


@dataclass(frozen=True)
class Task:
    """Binary targets of the rows of a cache: of its studies, of its breasts, or of its views.

    `target` is NaN where the answer is not known; such a row enters neither a loss nor a metric of that target.
    Under the policy `soft` that is so of uncertain states, and `soft` has what a loss takes for them.
    """

    name: str
    unit: Unit
    names: tuple[str, ...]  # of the targets
    target: Float32[np.ndarray, "row finding"]
    study: Int64[np.ndarray, " row"]  # row of the study in the cache
    patient: Int64[np.ndarray, " row"]
    split: Int64[np.ndarray, " row"]  # index into SPLITS, -1 none
    group: pl.Series  # name of the patient group, which outlives a rebuild of the cache: orders label subsets
    policy: dict[str, Any]  # how raw states became targets
    data: str  # digest of the cache
    notes: tuple[str, ...] = ()  # what a reader must know of the labels
    soft: Float32[np.ndarray, "row finding"] | None = None  # strictly between 0 and 1 where uncertain, else NaN
    owner: Int64[np.ndarray, " view"] | None = None  # of breasts: row of each view of the cache; -1: of no breast
    classes: str | None = None  # what the targets are the ordered classes of, one to a row; None: they stand alone
    view: Int64[np.ndarray, " row"] | None = None  # of images: the view that each row shows; None: each view is a row
    chooses_on_test: bool = False  # validation is the test split, and training all else (`mammo_clip_task.py`)

    @property
    def training_target(self) -> Float32[np.ndarray, "row finding"]:
        """What a loss takes: `target`, or the soft value where there is one."""
        return self.target if self.soft is None else np.where(np.isnan(self.soft), self.target, self.soft)

    @property
    def is_exclusive(self) -> bool:
        """Whether the targets are classes, one to a row."""
        return "classes" in self.policy and len(self.names) > 1

    def rows(self, split: str | None = None) -> Int64[np.ndarray, " row"]:
        """Rows of a split (or all) with at least one known target; in training a soft one is enough."""
        keep = ~np.isnan(self.training_target if split == "train" else self.target).all(axis=1)
        if split is not None:
            named = CHOOSING_ON_TEST[split] if self.chooses_on_test else (split,)
            keep &= np.isin(self.split, [SPLITS.index(one) for one in named])
        return np.flatnonzero(keep)

    def find_views(self, row: Int64[np.ndarray, " some"]) -> Int64[np.ndarray, " some"]:
        """The view of the cache that each of these rows shows, of a task of images."""
        assert self.unit == "view", "rows of studies and breasts have several views"
        return row if self.view is None else self.view[row]

    def check_views_are_rows(self) -> None:
        """Refuse a task in which an image is several rows, where each view can have one answer only.

        Raises:
            UserError: it is such a task.
        """
        if self.view is not None:
            raise UserError(
                f"In task {self.name} an image is as many rows as a table has of it, which only `hilum probe` can "
                f"take; ask for image:{self.names[0]}."
            )

    def hash_split(self) -> str:
        """Digest of who is in which split, by the patients' names."""
        members = sorted(set(zip(self.group.to_list(), self.split.tolist(), strict=True)))
        return hash_parts([self.data, members])


def read_task(
    cache: Cache,
    name: str,
    uncertain: UncertainPolicy = "zeros",
    blank: BlankPolicy = "zeros",
    leave_out: Sequence[str] = (),
) -> Task:
    """The task of that name: `findings` for the 14 findings, one finding, a group of an archive's own labels
    ("vindr"), one of its labels ("vindr:ILD"), a task of breasts or their images ("breast:mass", `breast_task.py`; of
    a table's rows, `mammo_clip_task.py`), or a column (of studies or of views).

    Archives to `leave_out` take no part, as ChestX-ray14 takes none in the paper's evaluation (M 1.4).

    Raises:
        UserError: there is no such task, nothing is known of it, or no such archive in the cache.
    """
    if name == "findings":
        return read_findings_task(cache, uncertain=uncertain, blank=blank, leave_out=leave_out)
    if name in FINDINGS:
        return read_findings_task(cache, (name,), uncertain=uncertain, blank=blank, leave_out=leave_out)
    from .breast_task import names_breast_task, read_breast_task  # which are made of this module
    from .mammo_clip_task import names_mammo_clip_task, read_mammo_clip_task

    if names_breast_task(name):
        return read_breast_task(cache, name, leave_out)
    if names_mammo_clip_task(name):
        return read_mammo_clip_task(cache, name, leave_out)
    if LABEL_MARK in name or name in _list_groups(cache.table()):
        return read_group_task(cache, name, leave_out)
    return read_column_task(cache, name, leave_out)


def read_findings_task(
    cache: Cache,
    findings: Sequence[str] = FINDINGS,
    uncertain: UncertainPolicy = "zeros",
    blank: BlankPolicy = "zeros",
    leave_out: Sequence[str] = (),
) -> Task:
    """Findings of every study by the named policies; unknown (NaN) under all of them where nothing can be said.

    That is where an archive never states a finding (ChestX-ray14 has no Fracture), and where the study table has it
    undecided (a study that PadChest calls unreadable, No Finding beside "scoliosis"). A blank of CheXpert is counted
    as absent under `blank="zeros"` (M 1.4, M 7.1 rows 9 and 10).

    Raises:
        UserError: no study states any of them.
    """
    table = cache.table()
    raw = table.select(pl.col(list(findings)).cast(pl.Float32)).to_numpy().astype(np.float32)
    said = table.select(pl.col(list(findings)).is_not_null().any().over("dataset")).to_numpy()
    name = "findings" if len(findings) > 1 else findings[0]
    if not said.any():
        lacking = "no finding with a known state" if name == "findings" else f"no study that states {name}"
        columns = ", ".join(_list_class_columns(table)) or "none of this cache has two values"
        raise UserError(
            f"{cache.path}: the cache holds {lacking}. Give labels with `hilum ingest table` (columns named like the "
            f"findings, with 1, 0, -1 or blank) and build the cache anew, or choose a text column as --task: {columns}."
        )
    undecided = _find_undecided(table, findings) & np.isnan(raw)
    target = mask_unsayable(binarize_states(raw, uncertain, blank), said & ~undecided)
    policy: dict[str, Any] = {"uncertain": uncertain, "blank": blank}
    soft = None
    if uncertain == "soft":
        policy["soft_target"] = SOFT_TARGET
        gone = cache.find_archives(leave_out)
        soft = np.where((raw == -1) & ~gone[:, None], np.float32(SOFT_TARGET), np.float32(np.nan))
    task = build_task(cache, table, name, "study", tuple(findings), target, policy, leave_out)
    undecided &= said & ~cache.find_archives(leave_out)[:, None]
    notes = (*_note_blanks(task, np.isnan(raw)), *_note_undecided(int(undecided.sum())))
    return replace(task, notes=notes, soft=soft)


def _note_undecided(number: int) -> tuple[str, ...]:
    said = f"{number:,} targets are unknown whatever --blank says: the archive's labels leave them open ({UNDECIDED})."
    return (said,) if number else ()


def _find_undecided(table: pl.DataFrame, findings: Sequence[str]) -> Bool[np.ndarray, "row finding"]:
    if UNDECIDED not in table.columns:
        return np.zeros((len(table), len(findings)), dtype=bool)
    named = pl.col(UNDECIDED).fill_null("").str.split(";")
    return table.select(named.list.contains(finding).alias(finding) for finding in findings).to_numpy()


def _note_blanks(task: Task, is_blank: Bool[np.ndarray, "row finding"]) -> tuple[str, ...]:
    """How much of what counts as absent nobody said; or, where blanks are left out, what then cannot be scored."""
    absent = task.target == 0
    unsaid = absent & is_blank
    known, stated = (~np.isnan(task.target)).any(axis=0), (absent & ~is_blank).any(axis=0)
    never = [task.names[i] for i in np.flatnonzero(known & ~stated)]
    named = f"{', '.join(never)}: no study states {'its' if len(never) == 1 else 'their'} absence"
    if task.policy["blank"] == "ignore":
        return (f"{named}; with blanks left out (--blank ignore) that cannot be scored.",) if never else ()
    if not unsaid.any():
        return ()
    counts = (
        f"{unsaid.sum():,} of {absent.sum():,} negatives are blanks, findings that nobody mentioned (--blank ignore "
        "leaves them out)."
    )
    return (f"{counts} {named}, all negatives are blanks." if never else counts,)


def _list_groups(table: pl.DataFrame) -> list[str]:
    return list(dict.fromkeys(group for group, _ in list_label_columns(table).values()))


def _list_class_columns(table: pl.DataFrame) -> list[str]:
    """Groups of labels, and columns with as many different values as a task needs."""
    views = table["views"].explode().struct.unnest()
    passed = (*_NO_CLASSES, *list_label_columns(table))
    columns = [table[name] for name, kind in table.schema.items() if kind == pl.String and name not in passed]
    columns += [views[name] for name in VIEW_COLUMNS]
    return _list_groups(table) + [
        column.name for column in columns if 2 <= column.replace("", None).drop_nulls().n_unique() <= MAX_CLASSES
    ]


def read_group_task(cache: Cache, name: str, leave_out: Sequence[str] = ()) -> Task:
    """An archive's own labels (columns extra_GROUP:LABEL), one target each, or that of the one label named.

    A blank is unknown: these archives say 0 where a label is absent.

    Raises:
        UserError: there is no such group or label, or no study states it.
    """
    table = cache.table()
    group, _, label = name.partition(LABEL_MARK)
    labels = [said for owner, said in list_label_columns(table).values() if owner == group and label in ("", said)]
    if not labels:
        known = ", ".join(said for owner, said in list_label_columns(table).values() if owner == group)
        there = f"Labels of {group}: {known}" if known else f"Tasks: {', '.join(_list_class_columns(table)) or 'none'}"
        raise UserError(f"{cache.path}: there is no task '{name}'. {there}.")
    columns = [name_label_column(group, said) for said in labels]
    target = table.select(pl.col(columns).cast(pl.Float32)).to_numpy().astype(np.float32)
    if np.isnan(target).all():
        raise UserError(f"{cache.path}: no study of this cache states a label of task '{name}'; all are blank.")
    return build_task(cache, table, name, "study", tuple(labels), target, {"group": group}, leave_out)


def read_column_task(cache: Cache, column: str, leave_out: Sequence[str] = ()) -> Task:
    """Classes of a text column of studies (`sex`, `extra_...`) or of views (`position`, `kind`, `laterality`).

    Two classes make one target, the alphabetically later one; more make one target each (one against the rest). Blank
    values are unknown.
    """
    table = cache.table()
    of_view = column in VIEW_COLUMNS
    if not of_view and table.schema.get(column) != pl.String:
        raise UserError(
            f"{cache.path}: there is no task '{column}'. Tasks are findings, a finding's name, a group of labels or a "
            f"text column: {', '.join(_list_class_columns(table)) or 'none of this cache has two values'}."
        )
    values = table["views"].explode().struct.field(column) if of_view else table[column]
    assert not of_view or len(values) == len(cache.views), "the study table lists other views than the cache"
    gone = cache.find_archives(leave_out)
    values = values.replace("", None).set(pl.Series(gone[cache.views["study"]] if of_view else gone), None)
    classes = values.drop_nulls().unique().sort().to_list()
    if not 2 <= len(classes) <= MAX_CLASSES:
        where = " in the archives that are not left out" if leave_out else ""
        raise UserError(
            f"{cache.path}: column {column} has {len(classes)} different values{where}; a task needs 2 to "
            f"{MAX_CLASSES}."
        )
    named = classes[1:] if len(classes) == 2 else classes
    target = np.stack([values.eq(name).cast(pl.Float32).to_numpy() for name in named], axis=1).astype(np.float32)
    names = tuple(f"{column}={name}" for name in named)
    return build_task(
        cache, table, column, "view" if of_view else "study", names, target, {"classes": classes}, leave_out
    )


def build_task(
    cache: Cache,
    table: pl.DataFrame,
    name: str,
    unit: Unit,
    names: tuple[str, ...],
    target: np.ndarray,
    policy: dict[str, Any],
    leave_out: Sequence[str],
    study: Int64[np.ndarray, " row"] | None = None,
    owner: Int64[np.ndarray, " view"] | None = None,
) -> Task:
    """A task of these targets, with what the cache knows of its rows; without `study`, of all studies or views."""
    if study is None:
        study = np.arange(len(cache.studies)) if unit == "study" else cache.views["study"].astype(np.int64)
    gone = cache.find_archives(leave_out)[study]
    if leave_out:
        target = np.where(gone[:, None], np.float32(np.nan), target)
        policy = {**policy, "leave_out": sorted(leave_out)}
    return Task(
        name=name,
        unit=unit,
        names=names,
        target=target,
        study=study,
        patient=cache.studies["patient"][study],
        split=cache.studies["split"][study].astype(np.int64),
        group=table["group"].gather(study),
        policy=policy,
        data=cache.digest,
        owner=owner,
    )
