"""Why an ECG record is set aside: one exception, raised by every reader of this folder."""

from __future__ import annotations

import warnings
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from hilum.errors import UserError


class RejectedRecord(UserError):  # noqa: N818 (what happened to the record)
    """One record that cannot be used; a run over many goes on without it.

    `file` is the bare file name; `reason` says what was found, what was expected and what to do. Neither ever holds
    header values that name a person.
    """

    def __init__(self, file: str, reason: str) -> None:
        super().__init__(file, reason)  # both in args, so that it survives the way back from a worker process
        self.file, self.reason = file, reason

    def __str__(self) -> str:
        return f"{self.file}: {self.reason}"


@contextmanager
def rejecting(path: Path, reason: str) -> Generator[None]:
    """Foreign bytes in foreign parsers: whatever they raise in here means that the file is bad, for that reason."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except RejectedRecord:
        raise
    except Exception as error:
        raise RejectedRecord(path.name, f"{reason} ({type(error).__name__})") from error


def refuse_units(path: Path, units: Sequence[str]) -> NoReturn:
    """Reject a record none of whose channels is a voltage: of these units."""
    named = ", ".join(dict.fromkeys(unit or "none" for unit in units)) or "there is no channel"
    raise RejectedRecord(
        path.name,
        f"none of its {len(units)} channels is a voltage (units: {named}); expected mV, uV, nV or V. Correct it.",
    )
