"""Side tables: arrays derived from a cache, found again by what made them.

Report tokens, frozen features, masks: each is a set of named arrays in `<cache>/side/`, under a name
that holds a hash of how it was made and of the cache's digest. A change of either is another file, never a stale one.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from hilum.atomic import open_atomic
from hilum.errors import UserError

from .reader import Cache


def write_side_table(cache: Cache, name: str, arrays: dict[str, np.ndarray], made_by: dict[str, Any]) -> Path:
    """Store arrays under `name`; `made_by` (anything JSON holds) is all they depend on besides the cache."""
    path = name_side_table(cache, name, made_by)
    path.parent.mkdir(exist_ok=True)
    assert not any(array.dtype.hasobject for array in arrays.values()), "side tables hold numbers and fixed text only"
    made = json.dumps({"made_by": made_by, "cache": cache.digest}, sort_keys=True)
    with open_atomic(path) as file:
        np.savez(file, allow_pickle=False, __made_by__=np.frombuffer(made.encode(), np.uint8), **arrays)
    return path


def read_side_table(cache: Cache, name: str, made_by: dict[str, Any]) -> dict[str, np.ndarray] | None:
    """The arrays made exactly so from exactly this cache, or None if nobody made them yet."""
    path = name_side_table(cache, name, made_by)
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            return {key: stored[key] for key in stored.files if key != "__made_by__"}
    except FileNotFoundError:
        return None
    except (ValueError, EOFError, BadZipFile) as error:
        raise UserError(f"{path}: not a readable side table ({error}). Delete it; it will be made again.") from error


def name_side_table(cache: Cache, name: str, made_by: dict[str, Any]) -> Path:
    """Where such a table is, or would be."""
    made = json.dumps({"made_by": made_by, "cache": cache.digest}, sort_keys=True)
    return cache.path / "side" / f"{name}-{hashlib.sha256(made.encode()).hexdigest()[:16]}.npz"
