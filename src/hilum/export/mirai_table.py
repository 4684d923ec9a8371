"""Exams of mammograms as a table that Mirai reads: the other way of `sources/mirai.py`, whose columns these are.

Mirai's outcomes are in whole years, and of the woman: years to cancer are those of the breast that has it first, and
follow-up is known as long as it is of both. Exams of which Mirai can learn nothing, or would learn what is not so, are
left out and named: without all four views, without follow-up of a full year, after a diagnosis, and of a cancer that is
known already or of unknown date.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from hilum.atomic import write_atomic
from hilum.breasts import BREASTS
from hilum.errors import UserError
from hilum.evaluate.risk.follow_up import find_reasons, gather_exams
from hilum.outputs import check_not_input, check_suffix
from hilum.sources.mirai import COLUMNS, NEVER
from hilum.study import name_studies, open_studies
from hilum.wording import say_count

_SIDES = {"left": "L", "right": "R"}
_VIEWS = {"cc": "CC", "mlo": "MLO"}
_SPLITS = {"train": "train", "val": "dev", "test": "test"}
_KEYS = ["dataset", "study"]
_NAMED = 10  # exams that a note names


@dataclass(frozen=True)
class MiraiTable:
    """A table in Mirai's format, a row for each of the four views of an exam, and what a reader must know of it."""

    rows: pl.DataFrame  # COLUMNS
    notes: tuple[str, ...]


def write_mirai_table(data: Path, out: Path) -> MiraiTable:
    """Write the exams of a cache or a study table as a CSV file, and return them.

    Raises:
        UserError: `out` is no place for it, or no exam of `data` can be written.
    """
    check_suffix(out, ".csv")
    check_not_input(out, [data])
    header = ",".join(COLUMNS.values())
    if out.exists() and out.read_bytes()[: len(header)] != header.encode():
        raise UserError(f"--out {out} exists and is no table in Mirai's format. Choose another --out, or delete it.")
    table = build_mirai_table(open_studies(data), str(data))
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(out, table.rows.write_csv())
    return table


def build_mirai_table(frame: pl.DataFrame, source: str) -> MiraiTable:
    """The exams of a study table with absolute roots.

    A cancer after 2.7 years is 2, one found at the exam 0, none 100; follow-up for 4.9 years is 4.

    Raises:
        UserError: no follow-up is told, an exam has no split, a patient has several, or none is left to write; names
            `source`.
    """
    if BREASTS not in frame.columns:
        raise UserError(
            f"{source}: Mirai needs mammograms with years to cancer and to the last follow-up; this table has no "
            f"column {BREASTS}. `hilum ingest table` reads such tables, of the named archives CSAW-CC and EMBED."
        )
    notes: list[str] = []
    views = _list_views(frame, notes)
    exams = gather_exams(frame).with_columns(frame["split"])
    reasons = {
        "without all four views": ~exams.join(views, on=_KEYS, how="left", maintain_order="left")["four"].fill_null(
            value=False
        ),
        **{reason: pl.Series(such) for reason, such in find_reasons(exams).items()},
        "without cancer, followed for less than a year": (exams["to_cancer"].is_null() & (exams["followed"] < 1)),
    }
    taken = pl.repeat(value=True, n=len(exams), eager=True)
    for reason, such in reasons.items():
        gone = exams.filter(taken & such.fill_null(value=False))
        taken &= ~such.fill_null(value=False)
        if len(gone):
            notes.append(f"Left out {reason}: {name_studies(gone, _NAMED)}.")
    kept = exams.filter(taken)
    _check(kept, source, notes)
    years = pl.max_horizontal("to_cancer", "followed").floor().cast(pl.Int64)
    exam = pl.col("study").str.strip_prefix(pl.format("{}/", "patient"))  # as ingest names exams numbered by patient
    kept = kept.with_columns(
        patient_id="patient",
        # Two archives may know an exam of one patient by one name.
        exam_id=pl.when(pl.struct("patient", exam=exam).is_duplicated())
        .then(pl.format("{}/{}", *_KEYS))
        .otherwise(exam),
        years_to_cancer=pl.col("to_cancer").floor().cast(pl.Int64).clip(upper_bound=NEVER - 1).fill_null(NEVER),
        years_to_last_followup=years,
        split_group=pl.col("split").replace_strict(_SPLITS),
    )
    rows = kept.join(views.explode("rows"), on=_KEYS, how="inner", maintain_order="left").unnest("rows")
    return MiraiTable(rows.select(COLUMNS.values()), tuple(notes))


def _list_views(frame: pl.DataFrame, notes: list[str]) -> pl.DataFrame:
    """dataset, study, `rows` (laterality, view, file_path of one image of each standard view) and whether `four`."""
    views = frame.select(*_KEYS, "root", "views").explode("views").unnest("views")
    standard = views.filter(pl.col("laterality").is_in(list(_SIDES)) & pl.col("kind").is_in(list(_VIEWS)))
    first = standard.unique([*_KEYS, "laterality", "kind"], keep="first", maintain_order=True)
    if several := len(standard) - len(first):
        notes.append(f"{say_count(several, 'further image')} of a view that has one already: the first is written.")
    # Paths of a table of one's own may be absolute.
    files = [str(Path(root) / path) for root, path in first.select("root", "path").iter_rows()]
    row = pl.struct(
        laterality=pl.col("laterality").replace_strict(_SIDES),
        view=pl.col("kind").replace_strict(_VIEWS),
        file_path="file",
    )
    return (
        first.with_columns(file=pl.Series(files, dtype=pl.String))
        .group_by(_KEYS, maintain_order=True)
        .agg(rows=row, four=pl.len() == len(_SIDES) * len(_VIEWS))
    )


def _check(kept: pl.DataFrame, source: str, notes: Sequence[str]) -> None:
    if kept.is_empty():
        raise UserError(f"{source}: no exam can be written for Mirai. {' '.join(notes)}")
    if len(unsplit := kept.filter(pl.col("split").is_null())):
        raise UserError(
            f"{source}: no split is known of {name_studies(unsplit)}, and Mirai needs one of each. `hilum cache` draws "
            "splits: give the cache in place of its table."
        )
    if len(torn := kept.filter(pl.col("split").n_unique().over("patient") > 1)):
        raise UserError(
            f"{source}: {name_studies(torn)} are of patients with exams in several splits, whom Mirai would learn from "
            "and be tested on. Correct the splits, or give a cache, where a patient is in one."
        )
