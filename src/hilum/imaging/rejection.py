"""Why an image file is set aside: one exception, raised by every reader of this folder."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from pathlib import Path

from hilum.errors import UserError


class RejectedImage(UserError):  # noqa: N818 (what happened to the image)
    """One file that cannot be used; the ingest goes on without it.

    `file` is the bare file name and `reason` words a radiologist would use. Neither ever holds header values that name
    a person, nor bytes of the file.
    """

    def __init__(self, file: str, reason: str) -> None:
        super().__init__(file, reason)  # both in args, so that it survives the way back from a worker process
        self.file, self.reason = file, reason

    def __str__(self) -> str:
        return f"{self.file}: {self.reason}"


def reject(path: Path, reason: str) -> RejectedImage:
    return RejectedImage(path.name, reason)


def list_reasons(rejected: Iterable[tuple[str, str]], num_named: int = 5) -> list[str]:
    """For the user: the most frequent reasons of (path, reason) with their numbers, a file for each, and what to do."""
    files = defaultdict(list)
    for path, reason in rejected:
        files[reason].append(path)
    frequent = sorted(files.items(), key=lambda item: -len(item[1]))
    lines = [
        f"  {len(paths):,}: {paths[0]}{', ...' if len(paths) > 1 else ''}: {reason}"
        for reason, paths in frequent[:num_named]
    ]
    if len(frequent) > num_named:
        lines.append(f"  and {len(frequent) - num_named:,} other reasons")
    return [*lines, "  Mend these files and run the same command again, or go on without them."]


@contextmanager
def rejecting(path: Path, reason: str) -> Generator[None]:
    """Foreign bytes in foreign parsers: whatever they raise in here means that the file is bad, for that reason."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except RejectedImage:
        raise
    except Exception as error:
        raise reject(path, f"{reason} ({type(error).__name__})") from error
