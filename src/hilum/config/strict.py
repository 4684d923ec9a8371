"""What every group of settings is made with: a key nobody knows is an error, and so is a number that is none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from pydantic import ConfigDict, ValidationError

from hilum.errors import UserError

STRICT = ConfigDict(extra="forbid", allow_inf_nan=False)
T = TypeVar("T")


def read_settings(path: Path, validate: Callable[[bytes], T], tags: Sequence[str] = ()) -> T:
    """Read a run's config.json by pydantic's `validate`; a key Hilum does not know is an error that names it.

    Args:
        tags: what pydantic tells kinds of an encoder apart by, which are no keys of the file.
    """
    try:
        return validate(path.read_bytes())
    except OSError as error:
        raise UserError(f"{path}: not readable ({error.strerror}); expected the config.json of a run.") from error
    except ValidationError as error:
        first = error.errors()[0]
        if first["type"] == "json_invalid":
            raise UserError(f"{path}: {first['msg']}. Copy it again, or mend it there.") from error
        where = ".".join(str(part) for part in first["loc"] if part not in tags)
        raise UserError(
            f"{path}: {where}: {first['msg']} (found {first['input']!r}; {error.error_count()} such in all). "
            "Correct or remove it, or use the Hilum that wrote the file; `hilum pretrain RECIPE --help` lists settings."
        ) from error
