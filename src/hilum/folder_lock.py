"""One writer for a folder, or several that agreed on who writes what."""

from __future__ import annotations

import errno
import fcntl
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from .errors import UserError


@contextmanager
def lock_folder(
    folder: Path, message: str, *, patience: float, shared: bool = False, name: str = ".lock"
) -> Generator[None]:
    """Make this process a writer of a folder, which is made where needed; its death ends that.

    Args:
        folder: What is written.
        message: Error of one who comes second.
        patience: Seconds to wait for another writer: one that was told to stop needs a moment to save.
        shared: Let others in that ask for a shared lock too.
        name: Of the file that is locked, for a part of the work that others may do other parts of.

    Raises:
        UserError: another process holds it, or it is a file.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file; expected a new folder, or one that an earlier run of this command made.")
    folder.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + patience
    with (folder / name).open("w") as file:
        while True:
            try:
                fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() > deadline:
                    raise UserError(message) from error
                time.sleep(0.2)
            except OSError as error:
                # Some cluster file systems have no locks: two writers are then the user's affair.
                if error.errno not in (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK):
                    raise
                break
        yield
