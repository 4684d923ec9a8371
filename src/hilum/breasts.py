"""What is known of breasts: two further columns of the study table, and the tables of breasts and of views they give.

A study is an exam; its breasts are the sides of its views, so that the unit (study, laterality) needs no row of its
own. Archives with mammograms have, each a list for every study:

    breasts           one entry for each breast of which anything is known: BREAST
    breast_findings   one entry for each finding, of one view (`path` and box) or of the breast (no path): FINDING

Null is "not recorded", never "absent". A label of a breast has state 0 only where the archive lists every case of it
(VinDr's findings; RSNA's biopsies). A finding is a label of its breast too, with state 1.

Years to cancer and to the last follow-up count from the exam; 0 is a cancer found at it. A breast without a known
cancer has no years to cancer, and is known to be free of it until its last follow-up (L 3.4).
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

BREASTS, BREAST_FINDINGS = "breasts", "breast_findings"

FINDING_KINDS = (
    *("mass", "calcification", "architectural distortion", "asymmetry", "focal asymmetry", "global asymmetry"),
    *("developing asymmetry", "skin thickening", "skin retraction", "nipple retraction", "lymph node", "dilated duct"),
    *("post-surgical change", "clip", "region", "other"),  # region: a box without a word
)
DENSITIES = ("a", "b", "c", "d")
SOURCES = ("breast", "finding", "exam")  # what an assessment was given to
PATHOLOGIES = ("malignant", "benign", "benign without callback")
# The worst first. 0 (incomplete) asks for more than 3 does; 6 is a known cancer.
WORST_ASSESSMENT = (6, 5, 4, 0, 3, 2, 1)

BREAST = pl.Struct(
    {
        "laterality": pl.String,  # left or right
        "assessment": pl.Int8,  # BI-RADS 0 to 6
        "assessment_source": pl.String,
        "density": pl.String,  # BI-RADS a to d
        "implant": pl.Boolean,
        "cancer": pl.Int8,  # 1, 0: what pathology or follow-up says of this exam's breast
        "years_to_cancer": pl.Float64,
        "years_to_last_followup": pl.Float64,
        "labels": pl.List(pl.Struct({"name": pl.String, "state": pl.Int8})),  # 1, 0
    }
)
FINDING = pl.Struct(
    {
        "laterality": pl.String,
        "finding": pl.String,  # the same word in two views of a breast is the same finding; null where nobody says
        "path": pl.String,  # of the view, as in `views`; null: of the breast
        "kind": pl.String,  # of FINDING_KINDS
        # Edges in pixels of the source image: the first pixel lies between 0 and 1.
        **dict.fromkeys(("top", "left", "bottom", "right"), pl.Float64),
        "mask": pl.String,  # path of a mask file, relative to the study's root
        "assessment": pl.Int8,
        "suspicious": pl.Boolean,  # true where the archive's word for it says so, and null elsewhere
        "pathology": pl.String,  # of PATHOLOGIES
        # Descriptors in BI-RADS's words; several are joined by ";".
        **dict.fromkeys(("shape", "margin", "density", "morphology", "distribution"), pl.String),
        "size_mm": pl.Float64,
        **dict.fromkeys(("location", "depth"), pl.String),
        # Which of its view's rows in the archive's table says so, from 0: entries of one row share it; null elsewhere.
        "row": pl.Int16,
    }
)
_STRUCTS = {BREASTS: BREAST, BREAST_FINDINGS: FINDING}
LISTS = {name: pl.List(struct) for name, struct in _STRUCTS.items()}


def complete_lists(frame: pl.DataFrame) -> pl.DataFrame:
    """Fields that a table of an earlier release lacks, as nulls."""
    for name in set(LISTS) & set(frame.columns):
        held = getattr(getattr(frame.schema[name], "inner", None), "fields", [])
        if held and set(held) < set(_STRUCTS[name].fields):
            frame = frame.with_columns(pl.col(name).cast(LISTS[name]))
    return frame


def list_problems(frame: pl.DataFrame) -> list[tuple[str, pl.DataFrame]]:
    """(what is wrong, studies) of the columns of this module, as far as a study table has them."""
    problems: list[tuple[str, pl.DataFrame]] = []
    if BREASTS in frame.columns:
        breasts = _unnest(frame, BREASTS)
        labels = breasts.explode("labels").filter(pl.col("labels").is_not_null()).unnest("labels")
        years, followed = pl.col("years_to_cancer"), pl.col("years_to_last_followup")
        problems += [
            ("a breast that is neither left nor right", breasts.filter(_outside("laterality", ("left", "right")))),
            ("a breast listed twice", breasts.filter(pl.struct("dataset", "study", "laterality").is_duplicated())),
            ("a BI-RADS assessment outside 0 to 6", breasts.filter(~pl.col("assessment").is_between(0, 6))),
            ("a source of an assessment nobody knows", breasts.filter(_outside("assessment_source", SOURCES, True))),
            ("a density other than a, b, c and d", breasts.filter(_outside("density", DENSITIES, True))),
            ("a cancer other than 1, 0 and blank", breasts.filter(~pl.col("cancer").is_in((0, 1)))),
            ("years before the exam", breasts.filter((years < 0) | (followed < 0))),
            ("a cancer after the last follow-up", breasts.filter(years > followed)),
            ("a label of a breast other than 1 and 0", labels.filter(~pl.col("state").is_in((0, 1)).fill_null(False))),
        ]
    if BREAST_FINDINGS in frame.columns:
        findings = _unnest(frame, BREAST_FINDINGS)
        box = pl.col("top", "left", "bottom", "right")
        some, every = pl.any_horizontal(box.is_not_null()), pl.all_horizontal(box.is_finite().fill_null(False))
        flat = (pl.col("bottom") <= pl.col("top")) | (pl.col("right") <= pl.col("left"))
        problems += [
            ("a finding that is neither left nor right", findings.filter(_outside("laterality", ("left", "right")))),
            ("a kind of finding nobody knows", findings.filter(_outside("kind", FINDING_KINDS))),
            ("a box of a finding without area", findings.filter((some & ~every) | flat)),
            ("a box of a finding without its view", findings.filter(some & pl.col("path").is_null())),
            ("a finding's assessment outside 0 to 6", findings.filter(~pl.col("assessment").is_between(0, 6))),
            ("a pathology nobody knows", findings.filter(_outside("pathology", PATHOLOGIES, True))),
        ]
    return problems


def tabulate_breasts(frame: pl.DataFrame) -> pl.DataFrame:
    """One row for each breast with a view: dataset, study, patient, group, day, split, laterality, `cc`, `mlo` and
    `others` (paths), all of BREAST but its labels, and a column for each label and kind of finding (1, 0 or null).
    """
    owner = ["dataset", "study"]
    views = _unnest(frame, "views").filter(pl.col("laterality").is_in(("left", "right")))
    paths = {
        "cc": pl.col("path").filter(pl.col("kind") == "cc"),
        "mlo": pl.col("path").filter(pl.col("kind") == "mlo"),
        "others": pl.col("path").filter(~pl.col("kind").is_in(("cc", "mlo"))),
    }
    table = views.group_by(*owner, "laterality", maintain_order=True).agg(**paths)
    described = frame.select(*owner, "patient", "group", "day", "split")
    table = described.join(table, on=owner, how="inner", maintain_order="left")
    keys, states = [*owner, "laterality"], _list_states(frame)
    if BREASTS in frame.columns:
        table = table.join(_unnest(frame, BREASTS).drop("labels"), on=keys, how="left", maintain_order="left")
    if states.is_empty():
        return table
    names = states["name"].unique(maintain_order=True).to_list()
    wide = states.pivot("name", on_columns=names, index=keys, values="state", aggregate_function="max")
    return table.join(wide, on=keys, how="left", maintain_order="left")


def _list_states(frame: pl.DataFrame) -> pl.DataFrame:
    """dataset, study, laterality, name and state: labels of breasts, and 1 for each kind of finding one has."""
    keys, parts = ("dataset", "study", "laterality"), []
    if BREASTS in frame.columns:
        labels = _unnest(frame, BREASTS).select(*keys, "labels").explode("labels")
        parts.append(labels.filter(pl.col("labels").is_not_null()).unnest("labels"))
    if BREAST_FINDINGS in frame.columns:
        found = _unnest(frame, BREAST_FINDINGS).filter(~pl.col("kind").is_in(("region", "other")))
        parts.append(found.select(*keys, name="kind", state=pl.lit(1, pl.Int8)).unique(maintain_order=True))
    return pl.concat(parts) if parts else pl.DataFrame(schema=dict.fromkeys((*keys, "name"), pl.String))


def tabulate_views(frame: pl.DataFrame, labels: Sequence[str]) -> pl.DataFrame:
    """One row for each view: dataset, study, laterality, path, kind, and the state of each of `labels` (kinds of
    finding) in this view: 1 where a finding is in it, 0 where the breast has none or has all of its own in other views,
    null where nobody says.
    """
    keys = ["dataset", "study", "laterality"]
    views = _unnest(frame, "views").select(*keys, "path", "kind")
    breasts = tabulate_breasts(frame)
    findings = _unnest(frame, BREAST_FINDINGS).select(*keys, "path", finding="kind").unique()
    for label in labels:
        found = findings.filter(pl.col("finding") == label)
        here = found.filter(pl.col("path").is_not_null()).select(*keys, "path", here=pl.lit(1, pl.Int8))
        placed = found.group_by(keys).agg(placed=pl.col("path").is_not_null().all())
        state = pl.col(label).cast(pl.Int8) if label in breasts.columns else pl.lit(None, pl.Int8)
        absent = (pl.col("state") == 0) | ((pl.col("state") == 1) & pl.col("placed"))
        views = (
            views.join(here, on=[*keys, "path"], how="left", maintain_order="left")
            .join(placed, on=keys, how="left", maintain_order="left")
            .join(breasts.select(*keys, state=state), on=keys, how="left", maintain_order="left")
            .with_columns(pl.coalesce("here", pl.when(absent).then(pl.lit(0, pl.Int8))).alias(label))
            .drop("here", "placed", "state")
        )
    return views


def tabulate_view_rows(frame: pl.DataFrame, label: str) -> pl.DataFrame:
    """One row for each row that an archive's table of findings has of a view: `view` (which of all views of `frame`, in
    their order) and `state`: 1 where that row says `label` (a kind of finding), 0 where it says something else.

    A view without a finding has one row, as VinDr's "No Finding". Archives of which no finding tells its row, such as
    those with another table, have none at all.
    """
    keys = ["dataset", "study", "path"]
    views = _unnest(frame, "views").with_row_index("view")
    findings = _unnest(frame, BREAST_FINDINGS).filter(pl.col("row").is_not_null())
    rows = findings.group_by(*keys, "row").agg(state=(pl.col("kind") == label).any().cast(pl.Int8))
    told = views.filter(pl.col("dataset").is_in(rows["dataset"].unique().implode())).select("view", *keys)
    told = told.join(rows, on=keys, how="left").sort("view", "row")
    return told.select("view", pl.col("state").fill_null(0))


def choose_worst(assessments: Sequence[int | None]) -> int | None:
    """The worst of several BI-RADS assessments: 6, 5, 4, 0, 3, 2, 1; null of none."""
    known = [one for one in assessments if one is not None]
    return min(known, key=WORST_ASSESSMENT.index) if known else None


def _unnest(frame: pl.DataFrame, column: str) -> pl.DataFrame:
    """dataset, study and the fields of the entries of a list column, an entry a row."""
    entries = frame.filter(pl.col(column).list.len() > 0).select("dataset", "study", column)
    return entries.explode(column).unnest(column)


def _outside(column: str, words: tuple[str, ...], blank: bool = False) -> pl.Expr:
    return ~pl.col(column).is_in(words).fill_null(blank)
