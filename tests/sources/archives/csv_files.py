"""CSV files as the archives publish them, plain or gzipped, written and changed without any dialect of a library."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Iterable
from pathlib import Path
from typing import TextIO


def parse_rows(text: str) -> list[list[str]]:
    """Cells of lines such as "a | b |", blanks around them removed; the first line is the header."""
    return [[cell.strip() for cell in line.split("|")] for line in text.strip().splitlines()]


def open_text(path: Path, mode: str) -> TextIO:
    """The file as text, through gzip where its name says so."""
    if path.suffix == ".gz":
        return gzip.open(path, f"{mode}t", encoding="utf-8", newline="")
    return path.open(mode, encoding="utf-8", newline="")


def write_csv(path: Path, header: list[str], rows: Iterable[list[str]]) -> None:
    """Commas, quotes only where needed, \\n at line ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open_text(path, "w") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def read_csv(path: Path) -> tuple[list[str], list[list[str]]]:
    """Header and rows."""
    with open_text(path, "r") as file:
        header, *rows = csv.reader(file)
    return header, rows


def drop_column(path: Path, column: str) -> None:
    """Write the file again without one column."""
    header, rows = read_csv(path)
    place = header.index(column)
    write_csv(path, header[:place] + header[place + 1 :], [row[:place] + row[place + 1 :] for row in rows])


def set_cell(path: Path, row: int, column: str, cell: str) -> None:
    """Write the file again with one cell changed; rows count from 0 below the header."""
    header, rows = read_csv(path)
    rows[row][header.index(column)] = cell
    write_csv(path, header, rows)
