"""From one row per image, with the archive's own names, to a checked study table on disk: the end of every ingest."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import polars as pl
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column, Table

from hilum.atomic import open_atomic
from hilum.breasts import BREAST_FINDINGS, BREASTS
from hilum.cores import count_cores
from hilum.errors import UserError
from hilum.identifiers import SALT_FILE, Naming, hash_identifiers, read_or_make_salt
from hilum.imaging.rejection import list_reasons
from hilum.labels import FINDINGS
from hilum.outputs import STUDIES, check_parquet_output
from hilum.sources.columns import SECTION_PREFIX
from hilum.splits import group_patients, list_joined
from hilum.study import EXTRA_PREFIX, MAX_AGE, UNDECIDED, StudySummary, build_studies, summarize_studies, write_studies
from hilum.wording import say_count
from hilum.worker_imports import check_worker, leave_if_imported

S = TypeVar("S")
T = TypeVar("T")
LISTS = ("signals", "labs", BREASTS, BREAST_FINDINGS)
_NUM_NAMED = 12  # words for views in a message
_FEW = 4_000  # files; below, starting processes takes longer than reading headers

# What a source hands over, one row per image that exists. Besides these: section_* and extra_* columns (String), and
# signals, labs and what is known of breasts as in the study table, the same for all images of a study.
IMAGE_SCHEMA = pl.Schema(
    {
        "row": pl.Int64,  # of the user's table, for messages; null elsewhere
        "dataset": pl.String,
        "study": pl.String,  # the archive's own ids, still readable
        "patient": pl.String,
        "group": pl.String,  # null where the archive names none
        "when": pl.Float64,  # days from any origin, the same for all studies of a patient
        "path": pl.String,
        "kind": pl.String,
        "position": pl.String,
        "laterality": pl.String,
        "age": pl.Float64,
        "sex": pl.String,
        "split": pl.String,
        **dict.fromkeys(FINDINGS, pl.Int8),
    }
)


@dataclass(frozen=True)
class IngestSummary:
    """What an ingest read, rejected and decided."""

    out: Path
    rejected_path: Path
    num_rejected: int
    studies: StudySummary
    reasons: tuple[str, ...] = ()  # of rejection, in lines, the most frequent first
    notes: tuple[str, ...] = ()  # decisions and oddities, in sentences
    warnings: tuple[str, ...] = ()  # what makes results wrong if it is not as the user thinks


def begin_ingest(out: Path, inputs: Sequence[Path], naming: Naming) -> None:
    """Refuse what cannot be meant before hours of reading; the first thing that every source does."""
    leave_if_imported()
    check_parquet_output(out, STUDIES, inputs)
    rejected_path = _name_rejected(out)
    if rejected_path.exists() and not _is_rejected(rejected_path):
        raise UserError(
            f"{rejected_path} exists and is no list of rejected files, which `--out {out}` would put there. "
            "Choose another --out, or move that file."
        )
    naming.check()


def finish_ingest(
    images: pl.DataFrame,
    rejected: list[tuple[str, str]],
    *,
    out: Path,
    root: Path,
    naming: Naming,
    notes: Iterable[str] = (),
    warnings: Iterable[str] = (),
) -> IngestSummary:
    """Group images into studies, replace identifiers, group patients, check, and write `out` and the rejected files.

    `images` follows IMAGE_SCHEMA; `rejected` holds (path, reason). Identifiers are hashed within `naming`'s id space
    (default: the dataset's name), so that patient 1 of one archive is not patient 1 of another; the archives of one
    hospital are given one space, so that its patient 1 is. Patients whose ids are kept are named "space:id" for the
    same reason; an empty space leaves ids that are unique over all archives as they are.
    """
    notes = list(notes)
    out = out.absolute()
    out.parent.mkdir(parents=True, exist_ok=True)
    rejected_path = _name_rejected(out)
    _write_rejected(rejected, rejected_path)
    if images.is_empty():
        first = ": ".join(rejected[0]) if rejected else "there was none"
        raise UserError(
            f"No image in {root} could be used; {len(rejected):,} rejected ({first}). "
            f"Mend the files that {rejected_path} lists, or give the place of DICOM, PNG or JPEG files."
        )
    _check_agreement(images, [*FINDINGS, "split", *({UNDECIDED} & set(images.columns))])
    _check_study_ids(images, notes)
    _describe_unknown_views(images, notes)
    if naming.keep_ids:
        space = pl.lit("") if naming.id_space == "" else pl.format("{}:", _name_space(naming.id_space))
        images = images.with_columns(
            patient=pl.concat_str(space, "patient"),
            group=pl.concat_str(pl.lit("group:"), space, "group"),  # not a patient of the same name
        )
    else:
        salt = naming.salt
        if salt is None:
            salt, made = read_or_make_salt(out.parent)
            kept = f"{out.parent / SALT_FILE}{' (new)' if made else ''}"
            notes.append(
                f"Patient and study ids are hashed with the salt in {kept}: keep that file, and keep it private."
            )
        images = _hash_identifiers(images, salt, naming.id_space)
    studies = _assemble_studies(images, root, notes)
    people = images.select("patient", other=pl.coalesce("group", "patient")).unique()
    same_study = images.select("patient", other=pl.col("patient").first().over("dataset", "study")).unique()
    studies = group_patients(studies, pl.concat([people, same_study]).sort("patient", "other").iter_rows())
    joined = list_joined(studies)
    if len(joined):
        patients = int(joined["patients"].list.len().sum())
        notes.append(
            f"{patients:,} patient ids form {say_count(len(joined), 'group')}: they share files or a group of the "
            "archive."
        )
    write_studies(studies, out)
    reasons = tuple(list_reasons(rejected)) if rejected else ()
    return IngestSummary(
        out, rejected_path, len(rejected), summarize_studies(studies), reasons, tuple(notes), tuple(warnings)
    )


def _check_agreement(images: pl.DataFrame, columns: list[str]) -> None:
    """Labels and splits belong to the study: images of one study must say the same."""
    said = images.select("dataset", "study", *columns).unique()
    if len(said) == said.n_unique(["dataset", "study"]):
        return
    for name in columns:
        values = pl.col(name).unique(maintain_order=True)
        found = images.group_by("dataset", "study", maintain_order=True).agg(
            values, pl.col("row").unique(maintain_order=True)
        )
        found = found.filter(pl.col(name).list.len() > 1)
        if len(found):
            states = ", ".join("blank" if state is None else str(state) for state in found[name][0])
            rows = ", ".join(str(row) for row in found["row"][0].to_list()[:4])
            raise UserError(
                f"Images of one study disagree on '{name}': study {found['study'][0]} (rows {rows}) has {states}; "
                f"{say_count(len(found), 'such study', 'such studies')}. Make them agree: a study has one."
            )


def _check_study_ids(images: pl.DataFrame, notes: list[str]) -> None:
    owners = images.group_by("dataset", "study").agg(pl.col("patient").n_unique())
    mixed = owners.filter(pl.col("patient") > 1).sort("patient", "study", descending=True)
    if mixed.is_empty():
        return
    if mixed["patient"][0] > 2 or len(mixed) > max(1, len(owners) // 100):
        raise UserError(
            f"{say_count(len(mixed), 'study id')} of several patients (the worst of {mixed['patient'][0]:,}): studies "
            "look numbered within each patient. For a table, give --study-ids-per-patient or another study column."
        )
    notes.append(
        f"{say_count(len(mixed), 'study id')} with two patient ids: each stays one study, and the two are one person."
    )


def _describe_unknown_views(images: pl.DataFrame, notes: list[str]) -> None:
    """Which words for a view were not understood: a whole archive's laterals may hang on one of them."""
    unknown = images.filter(pl.col("kind") == "unknown").unique(["dataset", "study", "path"])
    named = (
        unknown.filter(pl.col("position") != "")["position"]
        .value_counts(sort=True)
        .sort("count", "position", descending=[True, False])
    )
    if len(named):
        shown = ", ".join(f"{num:,} '{name[:40]}'" for name, num in named.head(_NUM_NAMED).iter_rows())
        more = f" and {len(named) - _NUM_NAMED:,} other words" if len(named) > _NUM_NAMED else ""
        notes.append(
            f"Views of kind unknown, as what names them is no word for frontal, lateral, cc or mlo: {shown}{more}. "
            "Where one of them is, say so in a column of kinds (--columns kind=COLUMN)."
        )
    blank = len(unknown) - int(named["count"].sum())
    if blank:
        notes.append(f"Views of kind unknown, as nothing names them: {blank:,}.")


def _name_space(id_space: str | None) -> pl.Expr:
    return pl.col("dataset") if id_space is None else pl.lit(id_space)


def _hash_identifiers(images: pl.DataFrame, salt: str, id_space: str | None) -> pl.DataFrame:
    space = _name_space(id_space)
    for kind in ("patient", "study", "group"):
        images = images.with_columns(pl.concat_str(space, kind, separator="\0").alias(kind))
        hashes = hash_identifiers(images[kind].drop_nulls().unique().to_list(), kind, salt)
        images = images.with_columns(pl.col(kind).replace_strict(hashes, default=None, return_dtype=pl.String))
    return images


def _assemble_studies(images: pl.DataFrame, root: Path, notes: list[str]) -> pl.DataFrame:
    """One row per study; what had to be decided on the way is added to `notes`."""
    sections = [name for name in images.columns if name.startswith(SECTION_PREFIX)]
    lists = [name for name in LISTS if name in images.columns]
    described = ["age", "sex", *(name for name in images.columns if name.startswith(EXTRA_PREFIX))]
    impossible = int((~images["age"].is_between(0, MAX_AGE)).sum())
    if impossible:
        notes.append(f"{say_count(impossible, 'age')} outside 0 to {MAX_AGE:.0f} years left blank.")
    distinct = images.unique(["dataset", "study", "path"], keep="first", maintain_order=True)
    if len(distinct) < len(images):
        notes.append(f"Images listed twice in one study, counted once: {len(images) - len(distinct):,}.")
    view = pl.struct(
        "path",
        "kind",
        "position",
        "laterality",
        width=pl.lit(None, dtype=pl.Int32),
        height=pl.lit(None, dtype=pl.Int32),
        content_hash=pl.lit(None, dtype=pl.String),
    )
    studies = (
        distinct.with_columns(
            age=pl.when(pl.col("age").is_between(0, MAX_AGE)).then("age"),
            day=pl.col("when") - pl.col("when").min().over("dataset", "patient"),
        )
        .group_by("dataset", "study", maintain_order=True)
        .agg(
            pl.col("patient", "split", *FINDINGS, *lists).first(),
            pl.col("day").min(),
            view.alias("views"),
            pl.col(described).drop_nulls().unique(maintain_order=True),
            pl.col(sections).str.strip_chars().replace("", None).drop_nulls().unique(maintain_order=True),
        )
    )
    for name in described:
        disagreeing = int((studies[name].list.len() > 1).sum())
        if disagreeing:
            notes.append(
                f"{say_count(disagreeing, 'study', 'studies')} whose images disagree on {name}: it is left blank."
            )
    texts = [
        pl.when(pl.col(name).list.len() > 0).then(
            pl.struct(section=pl.lit(name.removeprefix(SECTION_PREFIX)), text=pl.col(name).list.join("\n\n"))
        )
        for name in sections
    ]
    studies = studies.with_columns(
        pl.when(pl.col(name).list.len() == 1).then(pl.col(name).list.first()).alias(name) for name in described
    )
    if texts:
        studies = studies.with_columns(sections=pl.concat_list(texts).list.drop_nulls())
    return build_studies(studies.drop(sections).with_columns(root=pl.lit(str(root.resolve()))))


def read_report(path: Path) -> str:
    """The text of a report file."""
    return decode_report(path.read_bytes())


def decode_report(content: bytes) -> str:
    """The text of a report. Old systems write Latin-1, and Windows its own quotes and dashes besides."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("cp1252", errors="replace")


def read_each(read: Callable[[S], T], paths: Sequence[S], what: str, workers: int | None = None) -> Iterator[T]:
    """`map(read, paths)` with a progress bar, by processes where that pays; `read` must be picklable then."""
    workers = workers or count_cores()
    if workers == 1 or len(paths) < _FEW:
        yield from track(map(read, paths), what, len(paths))
        return
    # Fresh processes (spawn): a fork of a process with threads can hang.
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        results = pool.map(read, paths, chunksize=64)
        workers_alive = multiprocessing.active_children()  # none is past its imports yet
        try:
            yield from track(results, what, len(paths))
        except BrokenProcessPool:
            pool.shutdown()  # the exit codes are known only once it has waited for its processes
            for worker in workers_alive:
                check_worker(worker.exitcode, "an ingest")
            raise
        finally:
            pool.shutdown(cancel_futures=True)


def track(items: Iterable[T], what: str, total: int) -> Iterator[T]:
    """The items, with a progress bar on the terminal."""
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(compact=True))
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        yield from bar.track(items, total=total)


def _name_rejected(out: Path) -> Path:
    """Several tables may lie in one folder; `rejected.parquet` belongs to the one with the usual name."""
    return out.with_name("rejected.parquet" if out.stem == "studies" else f"{out.stem}-rejected.parquet")


def _is_rejected(path: Path) -> bool:
    try:
        return list(pl.read_parquet_schema(path)) == ["path", "reason"]
    except (pl.exceptions.PolarsError, OSError):
        return False


def _write_rejected(rejected: list[tuple[str, str]], path: Path) -> None:
    """Written even when empty, so that an older list is never taken for this one."""
    with open_atomic(path) as file:
        pl.DataFrame(rejected, schema={"path": pl.String, "reason": pl.String}, orient="row").write_parquet(file)


def print_summary(summary: IngestSummary, console: Console) -> None:
    """The counts of an ingest as the person at the keyboard wants to see them."""
    studies = summary.studies
    counts = Table(show_header=False, box=None, pad_edge=False)
    counts.add_row("studies", f"{studies.num_studies:,} of {say_count(studies.num_patients, 'patient')}")
    spread = ", ".join(f"{num:,} with {views}" for views, num in studies.views_per_study.items())
    counts.add_row("views", f"{studies.num_views:,} (studies: {spread})")
    counts.add_row("kinds", ", ".join(f"{num:,} {kind}" for kind, num in studies.kinds.items()))
    counts.add_row("reports", f"of {say_count(studies.num_reports, 'study', 'studies')}")
    if set(studies.splits) - {""}:
        counts.add_row("splits", ", ".join(f"{num:,} {split or 'none'}" for split, num in studies.splits.items()))
    console.print(counts)
    stated = {name: states for name, states in studies.labels.items() if set(states) - {None}}
    if stated:
        labels = Table(
            "finding", *(Column(name, justify="right") for name in ("present", "absent", "uncertain", "blank"))
        )
        for name, states in stated.items():
            labels.add_row(name, *(f"{states.get(state, 0):,}" for state in (1, 0, -1, None)))
        console.print(labels)
    for note in summary.notes:
        console.print(f"- {note}", markup=False, highlight=False)
    for warning in summary.warnings:
        console.print(f"- {warning}", style="bold yellow", markup=False, highlight=False)
    console.print(f"written: {summary.out}", markup=False, highlight=False, soft_wrap=True)
    if summary.num_rejected:
        console.print(
            f"[yellow]{say_count(summary.num_rejected, 'file')} rejected[/], listed in {summary.rejected_path}",
            soft_wrap=True,
        )
        console.print("\n".join(summary.reasons), markup=False, highlight=False, soft_wrap=True)
