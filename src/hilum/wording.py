"""Numbers of things in messages: one file is "1 file", none "0 files"."""

from __future__ import annotations

from pathlib import Path


def say_count(number: int, noun: str, plural: str | None = None) -> str:
    """The number with its noun; the plural is the noun with an s where not given.

    Example:
        >>> say_count(1, "study", "studies"), say_count(1200, "row")
        ('1 study', '1,200 rows')
    """
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def say_no_file(path: Path) -> str:
    """Why nothing can be read where a file was expected: there is none, or it is a folder."""
    return "this is a folder, not a file" if path.is_dir() else "there is no such file"
