"""Small tables of images, ingested by the real code."""

from __future__ import annotations

from pathlib import Path

import polars as pl
from PIL import Image
from rich.console import Console

from hilum.identifiers import Naming
from hilum.sources.assemble import IngestSummary
from hilum.sources.table import ingest_table
from hilum.study import read_studies

QUIET = Console(quiet=True)
SALT = "a salt for tests"
READABLE = Naming(keep_ids=True, id_space="")


def write_table(folder: Path, text: str, images: tuple[str, ...] = ("a", "b", "c", "d"), name: str = "t.csv") -> Path:
    """A table of the given text (columns and rows, blanks around ',' and '|' free) beside tiny images a.png, ..."""
    for image in images:
        Image.new("L", (4, 4)).save(folder / f"{image}.png")
    lines = [",".join(cell.strip() for cell in line.split("|")) for line in text.strip().splitlines()]
    (folder / name).write_text("\n".join(lines) + "\n")
    return folder / name


def ingest(file: Path, **options) -> tuple[pl.DataFrame, IngestSummary]:
    """The study table, with readable ids unless told otherwise, and the summary."""
    options = {"naming": READABLE, "console": QUIET} | options
    summary = ingest_table(file, file.parent / "out" / "studies.parquet", **options)
    return read_studies(summary.out), summary
