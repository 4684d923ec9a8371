"""From an archive, a folder or a table of one's own to a study table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from hilum.commands.archives import COMMANDS as ARCHIVE_COMMANDS
from hilum.commands.terminal import describe, parse, say_next_cache, suggest
from hilum.cores import count_cores
from hilum.errors import UserError
from hilum.identifiers import Naming
from hilum.ranges import Workers
from hilum.sources.catalogue import ARCHIVES
from hilum.sources.signal_files import EcgFiles, LabsFile
from hilum.vocabulary import MODALITIES


def sources(name: Positional[str | None] = None, check: Path | None = None) -> int:
    """List the archives Hilum can read; with a name, all about one.

    Args:
        name: A public archive.
        check: Folder of a download of it: say what it lacks, within seconds. Exit code 3 if it lacks anything needed.
    """
    from hilum.sources.named import check_archive, print_archive, print_archives

    if name is None and check is not None:
        raise UserError(f"--check needs the name of an archive: {', '.join(ARCHIVES)}.")
    if name is None:
        print(f"{describe(SOURCES)}\n")
        print_archives()
        return 0
    if name not in ARCHIVES:
        raise UserError(f"There is no archive '{name}'.{suggest(name, ARCHIVES)} Archives: {', '.join(ARCHIVES)}.")
    if check is not None:
        return 0 if check_archive(name, check) else 3
    print_archive(name)
    return 0


def ingest(arguments: Sequence[str]) -> int:
    """Read an archive's studies into a study table (Parquet)."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(f"usage: hilum ingest SOURCE ... --out studies.parquet\n\n{ingest.__doc__}\n\n{describe(SOURCES)}")
        print("\n`hilum ingest SOURCE --help` explains a source.")
        return 0
    name, rest = arguments[0], arguments[1:]
    if name not in SOURCES:
        raise UserError(f"There is no source '{name}'.{suggest(name, SOURCES)} Sources: {', '.join(SOURCES)}.")
    return parse(SOURCES[name], f"ingest {name}", rest)


def ingest_folder(
    root: Positional[Path],
    out: Path,
    layout: str | None = None,
    dataset: str | None = None,
    modalities: tuple[str, ...] = MODALITIES,
    allow_burned_in: bool = False,
    naming: Annotated[Naming, arg(name="")] = Naming(),
    workers: Workers = 0,
) -> int:
    """Read a tree of DICOM, PNG or JPEG files, with report texts beside them, into a study table.

    Args:
        root: Folder with the files. DICOM files are grouped into studies by their headers.
        out: Study table to write (Parquet).
        layout: What folders and names of PNG and JPEG files mean, such as "{patient}/{study}/{view}". Fields: patient,
            study, view, split, image, and _ for anything; others are kept as columns extra_NAME, and near misses of
            these ("{studie}") are refused. Without {study} every image is a study, without {patient} every study a
            patient.
        dataset: Name of the archive; by default the folder's.
        modalities: DICOM modalities that are taken; "" takes files whose header names none. Give `cache` the same.
        allow_burned_in: Also take images that say they have text burned in. Give `cache` the same.
        naming: What patients and studies are called.
        workers: Processes that read headers; 0: one per core.
    """
    from hilum.sources.folder import ingest_folder as read

    summary = read(
        root,
        out,
        layout=layout,
        dataset=dataset,
        modalities=modalities,
        allow_burned_in=allow_burned_in,
        naming=naming,
        workers=workers or count_cores(),
    )
    same = ["--allow-burned-in"] if allow_burned_in else []
    same += ["--modalities", *modalities] if modalities != MODALITIES else []
    say_next_cache(out, *same, *_choose_policy(summary.studies.kinds))
    return 3 if summary.num_rejected else 0


def ingest_table(
    file: Positional[Path],
    out: Path,
    columns: tuple[str, ...] = (),
    root: Path | None = None,
    dataset: str | None = None,
    study_ids_per_patient: bool = False,
    mirai: bool = False,
    findings_complete: bool = False,
    ecg: EcgFiles = EcgFiles(),
    labs: LabsFile = LabsFile(),
    naming: Annotated[Naming, arg(name="")] = Naming(),
) -> int:
    """Read your own CSV, TSV or Parquet, one row per image or per study, into a study table.

    Args:
        file: The table. Usual column names are recognised, and the mapping used is printed.
        out: Study table to write (Parquet).
        columns: What columns mean where their names do not say it, as "patient=PatientID" "image=path". Beside a column
            of laterality, columns of breasts and findings (birads, density, cancer, finding, xmin, ...) count too.
        root: Folder that image paths start from; by default the table's.
        dataset: Name of the archive; by default the table's.
        study_ids_per_patient: Study ids are numbered anew for every patient.
        mirai: The table is in the format of Mirai, a model of risk: years_to_cancer 100 is never, exams are numbered
            anew for every patient, and split_group is the split.
        findings_complete: The table lists every finding of every breast: a kind that it names of some is absent in the
            others. Without, it is absent only where all rows of a breast say "no finding".
        ecg: ECGs are named by a column of paths, ecg=COLUMN: WFDB, DICOM, .npy (a row of a stack as FILE.npy#12), .csv.
        labs: Laboratory values of the studies.
        naming: What patients and studies are called.
    """
    from hilum.sources.table import ingest_table as read

    unclear = [pair for pair in columns if "=" not in pair]
    if unclear:
        raise UserError(f"--columns {unclear[0]}: expected meaning=column, such as patient=PatientID.")
    summary = read(
        file,
        out,
        columns=dict(pair.split("=", 1) for pair in columns),
        root=root,
        dataset=dataset,
        study_ids_per_patient=study_ids_per_patient,
        mirai=mirai,
        findings_complete=findings_complete,
        ecg=ecg,
        labs=labs,
        naming=naming,
    )
    say_next_cache(out, *_choose_policy(summary.studies.kinds))
    return 3 if summary.num_rejected else 0


def _choose_policy(kinds: dict[str, int]) -> tuple[str, ...]:
    """What `hilum cache` should get where most views are mammograms."""
    num_breasts = sum(kinds.get(kind, 0) for kind in ("cc", "mlo"))
    return ("--policy", "mammo-auto-1", "--bits", "16") if 2 * num_breasts > sum(kinds.values()) else ()


# What `hilum ingest` reads: anybody's files, and archives by name.
SOURCES: dict[str, Callable[..., int]] = {"folder": ingest_folder, "table": ingest_table, **ARCHIVE_COMMANDS}
