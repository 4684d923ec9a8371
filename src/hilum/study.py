"""The study table: one Parquet file, one row per study, the same for every archive from here on.

On disk `root` is relative to the Parquet file where that is possible, so that an archive moves with its table; in
memory it is absolute, so that tables from several places can be put together: `read_studies` and `write_studies`
convert.

Signals and laboratory values are of the same hours as the images: an archive's source chooses which of a patient's they
are, by the windows that it states. They are enough for teachers (`hilum pretrain ecg|labs`, `hilum embed`), which read
nothing else. Absent means no entry:

    signals   {path, kind}, the path relative to `root`. Kind "ecg", of which the first that can be used counts: any
              file that `signals/read.py` reads, or a row of an array, `ecg_train.npy#12`. A WFDB record is named by its
              header or without suffix. What the files of a study do not say themselves (.npy and .csv) stands in
              extra_ecg_rate (samples a second), extra_ecg_leads (names in order, .npy only) and extra_ecg_unit (blank:
              mV).
    labs      {name, value, unit}: observed values, one for each name. The name is MIMIC's item number where the value
              has one, else that of a vocabulary (`laboratory/vocabulary.py`), which finds either; a null unit is the
              vocabulary's.
    hours     extra_hours_to_image, extra_hours_to_ecg: after the study's own time (of MIMIC's archives its admission),
              where the archive tells.

Labels that are no findings stand in columns extra_GROUP:LABEL with "1", "0" or blank (not known): `extra_vindr:ILD`.
A group is a task of many targets, a column of classes (extra_class) one of one against the rest.

Archives of mammograms have two further columns, of breasts and their findings: `breasts.py`.
"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from hilum import breasts
from hilum.atomic import open_atomic
from hilum.cache import Cache
from hilum.errors import UserError
from hilum.labels import FINDINGS, RAW_STATES
from hilum.vocabulary import LATERALITIES, SPLITS, VIEW_KINDS
from hilum.wording import say_count, say_no_file

FORMAT_VERSION = 1
SEXES = ("F", "M")
MAX_AGE = 120.0  # years; what lies above is a typing error or a code for "not known"

VIEW = pl.Struct(
    {
        "path": pl.String,  # relative to `root`
        "kind": pl.String,
        "position": pl.String,  # as the archive wrote it; "" where nobody named the view
        "laterality": pl.String,
        "width": pl.Int32,  # pixels; null until the cache opened the image, like the next two
        "height": pl.Int32,
        "content_hash": pl.String,
    }
)
STUDY_SCHEMA = pl.Schema(
    {
        "dataset": pl.String,
        "study": pl.String,
        "patient": pl.String,  # one name is one person, whichever archive or table it stands in
        "group": pl.String,  # patients that are one person for splitting; see splits.py
        "day": pl.Float64,  # since the patient's first study
        "split": pl.String,
        "views": pl.List(VIEW),
        "root": pl.String,
        "sections": pl.List(pl.Struct({"section": pl.String, "text": pl.String})),
        **dict.fromkeys(FINDINGS, pl.Int8),  # raw states: 1, 0, -1, null = not mentioned
        "age": pl.Float64,  # years
        "sex": pl.String,
        "signals": pl.List(pl.Struct({"path": pl.String, "kind": pl.String})),
        "labs": pl.List(pl.Struct({"name": pl.String, "value": pl.Float64, "unit": pl.String})),
    }
)
EXTRA_PREFIX = "extra_"  # further String columns the user named: extra_institution, extra_vendor, ...
LABEL_MARK = ":"  # between the group and the name of a label
MASK = (
    EXTRA_PREFIX + "mask"
)  # path of the mask of a study's one image, relative to `root`; see evaluate/segmentation/masks.py
# What .npy and .csv files of ECGs do not say themselves; see above.
ECG_RATE, ECG_LEADS, ECG_UNIT = (f"{EXTRA_PREFIX}ecg_{name}" for name in ("rate", "leads", "unit"))
# An extra column with a meaning: findings (joined by ";") whose blank is "not known", not "not mentioned", and
# which no policy for blanks makes a target.
UNDECIDED = EXTRA_PREFIX + "undecided"


def build_studies(rows: list[dict] | pl.DataFrame) -> pl.DataFrame:
    """A study table with all columns of the schema: what `rows` leave out is null or empty, and `group` the patient."""
    frame = pl.DataFrame(rows, infer_schema_length=None) if isinstance(rows, list) else rows
    extras = sorted(name for name in frame.columns if name.startswith(EXTRA_PREFIX))
    optional = {name: kind for name, kind in breasts.LISTS.items() if name in frame.columns}
    unknown = set(frame.columns) - set(STUDY_SCHEMA) - set(extras) - set(optional)
    assert not unknown, f"not columns of the study table: {unknown}"
    empty_lists = {"sections", "signals", "labs", "views"}
    frame = frame.with_columns(
        (pl.lit([], dtype=kind) if name in empty_lists else pl.lit(None, dtype=kind)).alias(name)
        for name, kind in STUDY_SCHEMA.items()
        if name not in frame.columns
    )
    return frame.select(
        pl.coalesce("group", "patient").cast(pl.String) if name == "group" else pl.col(name).cast(kind)
        for name, kind in {**STUDY_SCHEMA, **optional, **dict.fromkeys(extras, pl.String())}.items()
    )


def write_studies(frame: pl.DataFrame, path: Path) -> None:
    """Check and write a study table; the file appears complete or not at all."""
    check_studies(frame)
    folder = path.resolve().parent
    folder.mkdir(parents=True, exist_ok=True)
    roots = {root: _relate(root, folder) for root in frame["root"].unique()}
    relative = frame.with_columns(pl.col("root").replace_strict(roots, return_dtype=pl.String))
    with open_atomic(path) as file:
        relative.write_parquet(file, metadata={"hilum_studies": str(FORMAT_VERSION)})


def read_studies(path: Path) -> pl.DataFrame:
    """A study table with absolute roots. Raises UserError for a file that is not one, or of a newer format."""
    if not path.is_file():
        raise UserError(f"{path}: {say_no_file(path)}; expected a study table, which `hilum ingest` makes.")
    try:
        version = pl.read_parquet_metadata(path).get("hilum_studies", str(FORMAT_VERSION))
        frame = pl.read_parquet(path, glob=False)
    except pl.exceptions.PolarsError as error:
        raise UserError(
            f"{path} is not a Parquet file ({_first_line(error)}): a study table is what `hilum ingest` writes."
        ) from error
    if version != str(FORMAT_VERSION):
        raise UserError(f"{path} has study table format {version}, this Hilum reads {FORMAT_VERSION}: update Hilum.")
    missing = [name for name in STUDY_SCHEMA if name not in frame.columns]
    if missing:
        raise UserError(
            f"{path} is no study table: it has no column {', '.join(missing[:4])}. `hilum ingest table` reads others."
        )
    frame = breasts.complete_lists(frame)
    check_studies(frame, str(path))
    folder = path.resolve().parent
    roots = {root: str((folder / root).resolve()) for root in frame["root"].unique()}
    return frame.with_columns(pl.col("root").replace_strict(roots, return_dtype=pl.String))


def open_studies(data: Path) -> pl.DataFrame:
    """The study table of a cache (its folder), or one that `hilum ingest` wrote; roots are absolute."""
    if not data.is_dir():
        return read_studies(data)
    Cache.open(data)  # says what is wrong with it
    return read_studies(data / "studies.parquet")


def _relate(root: str, folder: Path) -> str:
    try:
        return Path(os.path.relpath(root, folder)).as_posix()
    except ValueError:  # another drive
        return root


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]


def check_studies(frame: pl.DataFrame, source: str = "The study table") -> None:
    """Raise a UserError that names every kind of problem with its first studies and their number."""
    optional = {name: kind for name, kind in breasts.LISTS.items() if name in frame.columns}
    for name, kind in {**STUDY_SCHEMA, **optional}.items():
        if name not in frame.columns or frame.schema[name] != kind:
            found = frame.schema.get(name, "nothing")
            raise UserError(
                f"{source}: column '{name}' must be {kind}, found {found}. `hilum.study.build_studies` makes it so."
            )
    views = (
        frame.filter(pl.col("views").list.len() > 0)
        .select("dataset", "study", "views")
        .explode("views")
        .unnest("views")
    )
    bad_label = pl.any_horizontal(pl.col(name).is_in(RAW_STATES).not_() for name in FINDINGS)
    bad_day = ~((pl.col("day") >= 0) & pl.col("day").is_finite())
    problems = [
        (
            "no dataset, study, patient, group or root",
            frame.filter(_blank("dataset", "study", "patient", "group", "root")),
        ),
        ("no view", frame.filter(pl.col("views").list.len().fill_null(0) == 0)),
        ("listed twice in one dataset", frame.filter(pl.struct("dataset", "study").is_duplicated())),
        ("a label outside 1 (present), 0 (absent), -1 (uncertain) and blank", frame.filter(bad_label)),
        (f"an age outside 0 to {MAX_AGE:.0f} years", frame.filter(~pl.col("age").is_between(0, MAX_AGE))),
        ("a sex other than F and M", frame.filter(~pl.col("sex").is_in(SEXES))),
        ("a day before the patient's first study (negative)", frame.filter(bad_day)),
        (f"a split other than {', '.join(SPLITS)}", frame.filter(~pl.col("split").is_in(SPLITS))),
        ("a view without an image path", views.filter(_blank("path"))),
        (f"a view kind other than {', '.join(VIEW_KINDS)}", views.filter(_outside("kind", VIEW_KINDS))),
        (f"a laterality other than {', '.join(LATERALITIES)}", views.filter(_outside("laterality", LATERALITIES))),
        ("one image listed twice", views.filter(pl.struct("dataset", "study", "path").is_duplicated())),
    ]
    if UNDECIDED in frame.columns:
        strange = ~pl.col(UNDECIDED).str.split(";").list.eval(pl.element().is_in(FINDINGS)).list.all()
        problems.append((f"a word in {UNDECIDED} that is no finding", frame.filter(strange)))
    problems += [
        (f"a value other than 1, 0 and blank in {name}", frame.filter(~pl.col(name).is_in(("1", "0"))))
        for name in list_label_columns(frame)
    ]
    problems += breasts.list_problems(frame)
    lines = [f"{what}: {name_studies(found)}" for what, found in problems if len(found)]
    if lines:
        raise UserError(f"{source} has {'; '.join(lines)}. Correct these studies or leave them out.")


def name_label_column(group: str, label: str) -> str:
    """The column of one label of a group: extra_vindr:ILD."""
    return f"{EXTRA_PREFIX}{group}{LABEL_MARK}{label}"


def list_label_columns(frame: pl.DataFrame) -> dict[str, tuple[str, str]]:
    """Column -> (group, label), for the columns of labels that are no findings."""
    names = [name for name in frame.columns if name.startswith(EXTRA_PREFIX) and LABEL_MARK in name]
    parts = {name: name.removeprefix(EXTRA_PREFIX).partition(LABEL_MARK) for name in names}
    return {name: (group, label) for name, (group, _, label) in parts.items()}


def _outside(column: str, vocabulary: tuple[str, ...]) -> pl.Expr:
    return ~pl.col(column).is_in(vocabulary).fill_null(False)


def _blank(*columns: str) -> pl.Expr:
    return pl.any_horizontal(pl.col(name).is_null() | (pl.col(name) == "") for name in columns)


def name_studies(frame: pl.DataFrame, num_named: int = 3) -> str:
    """For messages: the number of different studies and the first few of them, as "3 studies (nih/ab12, ...)"."""
    names = frame.select(
        pl.format("{}/{}", pl.col("dataset").fill_null("?"), pl.col("study").fill_null("?"))
    ).to_series()
    names = names.unique(maintain_order=True)
    first = ", ".join(names.head(num_named)) + (", ..." if len(names) > num_named else "")
    return f"{say_count(len(names), 'study', 'studies')} ({first})"


@dataclass(frozen=True)
class StudySummary:
    """What a study table holds, in counts."""

    num_studies: int
    num_patients: int
    num_groups: int
    num_views: int
    views_per_study: dict[int, int]  # number of views -> number of studies
    kinds: dict[str, int]  # of views
    splits: dict[str, int]  # "" where no split is set
    num_reports: int  # studies with any text
    labels: dict[str, dict[int | None, int]]  # finding -> raw state (None = blank) -> studies


def summarize_studies(frame: pl.DataFrame) -> StudySummary:
    """Counts of studies, patients, views, kinds, and of each finding by raw state."""
    kinds = frame.filter(pl.col("views").list.len() > 0)["views"].explode().struct.field("kind")
    return StudySummary(
        num_studies=len(frame),
        num_patients=frame["patient"].n_unique(),
        num_groups=frame["group"].n_unique(),
        num_views=len(kinds),
        views_per_study=dict(sorted(Counter(frame["views"].list.len().to_list()).items())),
        kinds=dict(Counter(kinds.to_list()).most_common()),
        splits=dict(Counter(frame["split"].fill_null("").to_list())),
        num_reports=int((frame["sections"].list.len() > 0).sum()),
        labels={name: dict(Counter(frame[name].to_list())) for name in FINDINGS},
    )
