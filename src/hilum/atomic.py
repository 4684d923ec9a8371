"""Files and folders that exist whole or not at all, whenever the process or the machine dies.

Written beside their place under a hidden temporary name, flushed to the disk, renamed, and the folder that names them
flushed too (a rename is only lasting once its folder is). A kill leaves the old content, or nothing, and a hidden
leftover whose name ends in `.tmp`.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

_NO_ROOM = 1 << 14  # bytes


@contextmanager
def open_atomic(path: Path) -> Generator[BinaryIO]:
    """A binary file to write that appears under `path` when the block ends, and not at all if it raises.

    Raises:
        OSError: of errno ENOSPC and with `path` as its filename, whichever library said that the disk is full.
    """
    temporary = name_temporary(path)
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)  # noqa: PTH105 - os.replace says what is promised; Path.rename does not everywhere
    except BaseException as error:
        # Before the half-written file makes room again: some libraries turn a failed write into words of their own.
        is_full = temporary.exists() and shutil.disk_usage(path.parent).free < _NO_ROOM
        temporary.unlink(missing_ok=True)
        if isinstance(error, Exception) and (is_full or tells_full_disk(error)):
            raise OSError(errno.ENOSPC, "the disk is full, or a quota is reached", str(path)) from error
        raise
    sync_folder(path.parent)


def tells_full_disk(error: BaseException) -> bool:
    """Whether an error means that the disk is full or a quota reached."""
    # safetensors, polars and torch pass the system's error on as text, if at all.
    signs = ("os error 28", "os error 122", "PytorchStreamWriter failed writing")
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    return full or any(sign in str(error) for sign in signs)


def write_atomic(path: Path, content: bytes | str) -> None:
    """Write the whole content of a file, text as UTF-8."""
    with open_atomic(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


@contextmanager
def make_folder_atomic(path: Path) -> Generator[Path]:
    """A new folder to fill that appears under `path`, with all its files, when the block ends.

    Raises:
        FileExistsError: `path` exists and is not an empty folder (a folder cannot be replaced in one move).
    """
    temporary = name_temporary(path)
    temporary.mkdir()
    try:
        yield temporary
        for entry in sorted(temporary.rglob("*")):
            if entry.is_dir():
                sync_folder(entry)
            else:
                with entry.open("rb") as file:
                    os.fsync(file.fileno())
        sync_folder(temporary)
        os.rename(temporary, path)  # noqa: PTH104 - refuses a folder with content
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    sync_folder(path.parent)


def name_temporary(path: Path) -> Path:
    """A hidden name beside `path` that no other writer uses: `.<name>.<random>.tmp`."""
    return path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")


def name_target(temporary: str) -> str:
    """The place that a name of `name_temporary` was for; any other name as it is."""
    return re.sub(r"(^|/)\.([^/]+)\.[0-9a-f]{12}\.tmp$", r"\1\2", temporary)


def remove_leftovers(folder: Path, name: str = "*") -> None:
    """Delete what killed writers of `folder / name` left; only for a caller who knows that no writer is alive."""
    for leftover in folder.glob(f".{name}.{'[0-9a-f]' * 12}.tmp"):
        if leftover.is_dir():
            shutil.rmtree(leftover)
        else:
            leftover.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder lasting."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
