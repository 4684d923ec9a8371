"""A user's CSV, TSV or Parquet file as columns of text, whatever wrote it."""

from __future__ import annotations

import csv
from collections import Counter
from io import BytesIO, TextIOWrapper
from pathlib import Path

import polars as pl
import polars.selectors as cs

from hilum.errors import UserError
from hilum.wording import say_count, say_no_file

_MICROSECONDS = 3_600_000_000  # of an hour


def read_table(file: Path, notes: list[str] | None = None) -> tuple[pl.DataFrame, int, str]:
    """The table with every cell as text (lists stay lists, a duration is its hours), the number of its first row for
    messages, and what separates its cells ("" in Parquet). What had to be assumed is added to `notes`.

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
            hours = cs.duration().dt.total_microseconds() / _MICROSECONDS  # no cell of text has another form for them
            return frame.with_columns(hours).with_columns(pl.exclude(lists).cast(pl.String)), 1, ""
        if not {".csv", ".tsv", ".txt"} & set(suffixes):
            raise UserError(
                f"{file.name}: a table is a .csv, .tsv or .parquet file. From a spreadsheet, save it as CSV."
            )
        table, separator = _read_text_table(file, ".tsv" in suffixes, [] if notes is None else notes)
        return _cut_blank_rows(table, [] if notes is None else notes), 2, separator
    except pl.exceptions.PolarsError as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"{file} cannot be read as a table: {reason}. Expected one header line and equal rows."
        ) from error


def _cut_blank_rows(table: pl.DataFrame, notes: list[str]) -> pl.DataFrame:
    """The table without the rows of separators alone that spreadsheets write below the last one."""
    filled = table.select(pl.any_horizontal(pl.all().str.strip_chars().fill_null("") != "")).to_series()
    length = int(filled.arg_true()[-1]) + 1 if filled.any() else 0
    if length < len(table):
        notes.append(f"{say_count(len(table) - length, 'blank row')} at the end of the table left out.")
    return table.head(length)


def _read_text_table(file: Path, tabs: bool, notes: list[str]) -> tuple[pl.DataFrame, str]:
    """The table, and what separates its cells."""
    content = _read_utf8(file, notes)
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
    except pl.exceptions.ComputeError:
        _refuse_long_row(file, content, separator)
        raise


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


def _read_utf8(file: Path, notes: list[str]) -> bytes:
    """The bytes of a text file in UTF-8: of UTF-16 and UTF-32, which spreadsheets call Unicode text, by their mark,
    and what is no UTF-8 as Windows-1252, which holds all of Latin-1's letters and Word's quotes and dashes too."""
    content = file.read_bytes()
    marks = {b"\xff\xfe\0\0": "utf-32", b"\0\0\xfe\xff": "utf-32", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
    encoding = next((name for mark, name in marks.items() if content.startswith(mark)), "utf-8")
    if encoding == "utf-8" and b"\0" in content[:4096]:
        raise UserError(
            f"{file.name} holds zero bytes: it is no text, or UTF-16 without its mark. Save it as UTF-8 CSV."
        )
    try:
        text = content.decode(encoding)
        return content if encoding == "utf-8" else text.encode()
    except UnicodeDecodeError as error:
        if encoding == "utf-8":
            notes.append(
                f"{file.name} is not UTF-8 (byte {error.start}) and was read as Windows-1252. If it is neither, as old "
                "files of a Mac, its letters with accents are now others: save it as UTF-8 CSV."
            )
            return content.decode("cp1252", errors="replace").encode()
        raise UserError(
            f"{file.name} begins like {encoding.upper()}, but byte {error.start} is not: it may be cut off. Save it as "
            "UTF-8 CSV."
        ) from None
