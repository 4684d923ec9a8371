"""A user's CSV, TSV or Parquet file as columns of text, whatever wrote it."""

from __future__ import annotations

import csv
from collections import Counter
from io import BytesIO, TextIOWrapper
from pathlib import Path

import polars as pl

from hilum.errors import UserError
from hilum.wording import say_count, say_no_file


def read_table(file: Path) -> tuple[pl.DataFrame, int, str]:
    """The table with every cell as text (lists stay lists), the number of its first row for messages, and what
    separates its cells ("" in Parquet).

    Raises:
        UserError: no such file, not a table, or two columns of one name.
    """
    if not file.is_file():
        raise UserError(f"{file}: {say_no_file(file)}; expected a table (.csv, .tsv or .parquet).")
    suffixes = [suffix.lower() for suffix in file.suffixes]
    try:
        if ".parquet" in suffixes:
            frame = pl.read_parquet(file, glob=False)
            lists = [name for name, kind in frame.schema.items() if isinstance(kind, pl.List)]
            return frame.with_columns(pl.exclude(lists).cast(pl.String)), 1, ""
        if not {".csv", ".tsv", ".txt"} & set(suffixes):
            raise UserError(
                f"{file.name}: a table is a .csv, .tsv or .parquet file. From a spreadsheet, save it as CSV."
            )
        table, separator = _read_text_table(file, ".tsv" in suffixes)
        return table, 2, separator
    except pl.exceptions.PolarsError as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"{file} cannot be read as a table: {reason}. Expected one header line and equal rows."
        ) from error


def _read_text_table(file: Path, tabs: bool) -> tuple[pl.DataFrame, str]:
    """The table, and what separates its cells."""
    content = _read_utf8(file)
    with TextIOWrapper(BytesIO(content), "utf-8-sig", errors="replace", newline="") as text:
        line = text.readline()
        separator = "\t" if tabs else max(",;\t", key=line.count)
        text.seek(0)
        header = next(csv.reader(text, delimiter=separator), [])
    name, number = next(iter(Counter(name.strip() for name in header if name.strip()).most_common(1)), ("", 0))
    if number > 1:
        raise UserError(
            f"{file.name} has {number} columns of the name '{name}': nobody can tell which counts. Rename all but one, "
            "or delete them."
        )
    try:
        return pl.read_csv(content, infer_schema=False, separator=separator), separator
    except pl.exceptions.ComputeError as error:
        _refuse_long_row(file, content, separator)
        if "utf-8" not in str(error):
            raise
        return pl.read_csv(content, infer_schema=False, separator=separator, encoding="latin-1"), separator


def _refuse_long_row(file: Path, content: bytes, separator: str) -> None:
    """A UserError for the first row with more cells than the header, which an unquoted separator in a text makes."""
    with TextIOWrapper(BytesIO(content), "utf-8-sig", errors="replace", newline="") as text:
        rows = csv.reader(text, delimiter=separator)
        width = len(next(rows, []))
        try:
            number, row = next((number, row) for number, row in enumerate(rows, 2) if len(row) > width)
        except (StopIteration, csv.Error):
            return
    raise UserError(
        f"{file.name}, row {number}: {say_count(len(row), 'cell')}, the header has {width}. Put cells that hold "
        f"'{separator}' in double quotes."
    )


def _read_utf8(file: Path) -> bytes:
    """The bytes of a text file; of UTF-16 and UTF-32, which spreadsheets call Unicode text, in UTF-8."""
    content = file.read_bytes()
    marks = {b"\xff\xfe\0\0": "utf-32", b"\0\0\xfe\xff": "utf-32", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
    encoding = next((name for mark, name in marks.items() if content.startswith(mark)), None)
    if encoding is None and b"\0" in content[:4096]:
        raise UserError(
            f"{file.name} holds zero bytes: it is no text, or UTF-16 without its mark. Save it as UTF-8 CSV."
        )
    try:
        return content if encoding is None else content.decode(encoding).encode()
    except UnicodeDecodeError as error:
        raise UserError(
            f"{file.name} begins like {encoding.upper()}, but byte {error.start} is not: it may be cut off. Save it as "
            "UTF-8 CSV."
        ) from None
