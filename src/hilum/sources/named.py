"""Named archives as sources: ingest by name, and what a download lacks before anybody waits for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from hilum.errors import UserError
from hilum.identifiers import Naming
from hilum.imaging.array_row import is_there
from hilum.sources import (
    cbis_ddsm,
    chestx6,
    chestxray14,
    chexchonet,
    chexpert,
    chexpert_plus,
    covid_qu_ex,
    csaw_cc,
    cxl_seg,
    embed,
    medmod,
    mimic_cxr,
    mimic_triples,
    openi,
    padchest,
    qata_cov19,
    rsna_mammo,
    symile_mimic,
    tb_chest,
    vindr_cxr,
    vindr_mammo,
)
from hilum.sources.archive import Count, Reading, complete_images, describe_presence, list_tables
from hilum.sources.assemble import IngestSummary, begin_ingest, finish_ingest, print_summary
from hilum.sources.catalogue import ARCHIVES, name_table
from hilum.sources.description import ArchiveFile

READERS: dict[str, Callable[..., Reading]] = {
    "mimic-cxr": mimic_cxr.read,
    "chexpert": chexpert.read,
    "chexpert-plus": chexpert_plus.read,
    "padchest": padchest.read,
    "chestxray14": chestxray14.read,
    "open-i": openi.read,
    "symile-mimic": symile_mimic.read,
    "mimic-triples": mimic_triples.read,
    "medmod": medmod.read,
    "chexchonet": chexchonet.read,
    "vindr-cxr": vindr_cxr.read,
    "tb-chest": tb_chest.read,
    "chestx6": chestx6.read,
    "cxl-seg": cxl_seg.read,
    "covid-qu-ex": covid_qu_ex.read,
    "qata-cov19": qata_cov19.read,
    "vindr-mammo": vindr_mammo.read,
    "rsna-mammo": rsna_mammo.read,
    "cbis-ddsm": cbis_ddsm.read,
    "embed": embed.read,
    "csaw-cc": csaw_cc.read,
}


def ingest_archive(
    name: str, root: Path, out: Path, *, naming: Naming = Naming(), console: Console | None = None, **settings: Any
) -> tuple[IngestSummary, tuple[str, ...]]:
    """Read the archive `name` below `root` into a study table `out`; also the flags that `hilum cache` should get.

    Tables alone are read: images need not be there, and `hilum cache` rejects what is missing then. `settings` are the
    reader's own (`labels`, `own_splits`). Raises UserError for a table that is missing, cut off or has other values
    than the published one.
    """
    begin_ingest(out, [], naming)
    console = console or Console(stderr=True)
    reading = READERS[name](root, **settings)
    if reading.images.is_empty():
        first = ": ".join(reading.rejected[0]) if reading.rejected else "there was none"
        raise UserError(f"No report in {root} could be used; {len(reading.rejected):,} rejected ({first}).")
    images = complete_images(reading.images, name)
    present, sampled = describe_presence(root, images["path"])
    if present < sampled:
        reading.notes.append(
            f"Of {sampled:,} images looked for {present:,} exist below {root}: `hilum cache` rejects the others."
        )
    if naming.id_space is None and ARCHIVES[name].id_space:
        naming = replace(naming, id_space=ARCHIVES[name].id_space)  # one hospital's patients under one name
    summary = finish_ingest(
        images,
        reading.rejected,
        out=out,
        root=root.absolute(),
        naming=naming,
        notes=reading.notes,
        warnings=reading.warnings,
    )
    print_summary(summary, console)
    return summary, reading.cache_settings


def check_archive(name: str, root: Path, *, console: Console | None = None, **settings: Any) -> bool:
    """Print what the download below `root` lacks; True where nothing that is needed does.

    Tables are read, reports and images are only looked for, a sample of them: seconds, whatever the archive's size.
    """
    console = console or Console()
    if not root.is_dir():
        raise UserError(f"There is no folder {root}: give the folder of the download.")
    archive = ARCHIVES[name]
    _say(console, f"{archive.title} in {root}")
    complete = True
    for file in archive.files:
        paths = [path for pattern in file.name.split("|") for path in _find(root, pattern)]
        complete &= bool(paths) or not file.needed
        there = ", ".join(str(path.relative_to(root)) for path in paths[:2])
        _say(console, f"  found    {there}: {file.holds}" if there else f"  missing  {_describe_file(file)}")
    try:
        reading = READERS[name](root, quick=True, **settings)
    except UserError as error:
        _say(console, f"- {error}")
        return False
    for note in (*reading.notes, *reading.warnings):
        _say(console, f"- {note}")
    if reading.rejected:
        _say(console, f"- rejected: {len(reading.rejected):,} files ({': '.join(reading.rejected[0])}, ...)")
    if reading.images.is_empty():
        return False
    images = reading.images
    present, sampled = describe_presence(root, images["path"])
    missing = "" if present == sampled else f"; missing for example {_name_missing(root, images['path'].to_list())}"
    _say(
        console,
        f"  listed: {len(images):,} images, {images['study'].n_unique():,} studies, "
        f"{images['patient'].n_unique():,} patients. Images: {present:,} of {sampled:,} looked for exist{missing}.",
    )
    return _compare_counts(console, reading.counts) and complete and reading.is_whole and present == sampled


def _compare_counts(console: Console, counts: Sequence[Count]) -> bool:
    """Print which numbers are not the published ones; True where all are."""
    wrong = [count for count in counts if count.found != count.published]
    for count in wrong:
        _say(console, f"  differs  {count.what}: {count.found:,}, published {count.published:,}")
    if counts:
        _say(console, f"  {len(counts) - len(wrong):,} of {len(counts):,} counts are as published.")
    return not wrong


def _find(root: Path, pattern: str) -> list[Path]:
    if pattern.endswith("/"):
        return [path for depth in ("", "*/") for path in root.glob(depth + pattern.rstrip("/")) if path.is_dir()]
    return list_tables(root, pattern)


def _say(console: Console, line: str) -> None:
    console.print(line, markup=False, highlight=False, soft_wrap=True)


def _name_missing(root: Path, paths: list[str]) -> str:
    return next((path for path in paths if not is_there(root / path)), "none")


def print_archives(console: Console | None = None) -> None:
    """All named archives as one table."""
    console = console or Console()
    table = Table("name", "archive", "holds", "terms", show_lines=True)
    for name, archive in ARCHIVES.items():
        table.add_row(name, archive.title, archive.holds, archive.licence)
    console.print(table)


def print_archive(name: str, console: Console | None = None) -> None:
    """One named archive in full."""
    console = console or Console()
    archive = ARCHIVES[name]
    facts = Table(show_header=False, box=None, pad_edge=False, title=archive.title, title_justify="left")
    for label, text in (
        ("holds", archive.holds),
        ("terms", archive.licence),
        ("apply", archive.apply),
        ("cite", archive.cite),
        *(("file", _describe_file(file)) for file in archive.files),
        ("images", archive.images),
        ("Hilum reads", archive.reads),
    ):
        facts.add_row(label, text)
    console.print(facts)


def _describe_file(file: ArchiveFile) -> str:
    names = " or ".join(map(name_table, file.name.split("|")))
    return f"{names}: {file.holds}{'' if file.needed else ' (goes without)'}"
