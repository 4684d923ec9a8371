"""What a person must know of a named archive: what it is, its terms, where to apply, which files are expected.

Imported for `--help`: no library is needed here.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ArchiveFile:
    """A file of a download, plain or as .gz."""

    name: str  # a glob, where releases differ; several, of which one will do, with | between
    holds: str
    needed: bool = True


@dataclass(frozen=True)
class Archive:
    """What a person must know before and after a download."""

    title: str
    holds: str
    licence: str
    apply: str
    files: tuple[ArchiveFile, ...]
    images: str  # where they lie
    reads: str
    cite: str
    id_space: str = ""  # whose patient ids these are; by default the archive's own
