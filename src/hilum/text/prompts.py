"""Prompts: sentences that say a target is present, or absent, by which a run is asked without labels (L 3.3).

They are in a TOML file that a user can replace (`prompts_en.toml` is Hilum's).
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from hilum.errors import UserError

PROMPTS = "prompts_en.toml"
_SIDES = ("present", "absent")


@dataclass(frozen=True)
class Prompts:
    """What is said of one target."""

    present: tuple[str, ...]
    absent: tuple[str, ...]

    @property
    def all(self) -> tuple[str, ...]:
        return (*self.present, *self.absent)


def read_prompts(names: Sequence[str], path: Path | None = None) -> dict[str, Prompts]:
    """The prompts of these targets, from Hilum's file or another of its form.

    Raises:
        UserError: no such file, not of its form, or without prompts for one of the targets.
    """
    text, place = _read_text(path)
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{place}: not readable as TOML ({error}).") from error
    if lacking := [name for name in names if name not in tables]:
        raise UserError(
            f"{place}: has no prompts for {', '.join(lacking)}; it has some for {', '.join(tables) or 'nothing'}. Give "
            f"a file with a table for each (--prompts FILE): [{_quote(lacking[0])}], present = [...], absent = [...]."
        )
    return {name: _read_table(tables[name], name, place) for name in names}


def hash_prompts(prompts: dict[str, Prompts]) -> str:
    """Digest of the sentences and of what they are for."""
    said = "\n".join(
        f"{name}\t{side}\t{one}" for name in prompts for side in _SIDES for one in _of(prompts[name], side)
    )
    return hashlib.sha256(said.encode()).hexdigest()[:16]


def _read_text(path: Path | None) -> tuple[str, str]:
    if path is None:
        return resources.files("hilum.text").joinpath(PROMPTS).read_text("utf-8"), PROMPTS
    try:
        return path.read_text("utf-8"), str(path)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error}); expected a TOML file of prompts.") from error


def _read_table(table: object, name: str, place: str) -> Prompts:
    sides = {}
    for side in _SIDES:
        said = table.get(side) if isinstance(table, dict) else None
        if not isinstance(said, list) or not said or not all(isinstance(one, str) and one.strip() for one in said):
            raise UserError(
                f"{place}: [{_quote(name)}]: expected {side} = [...], one sentence or more; found {said!r}."
            )
        sides[side] = tuple(" ".join(one.split()) for one in said)
    if both := sorted(set(sides["present"]) & set(sides["absent"])):
        raise UserError(f"{place}: [{_quote(name)}]: {both[0]!r} is said of presence and of absence: it tells nothing.")
    return Prompts(**sides)


def _of(prompts: Prompts, side: str) -> tuple[str, ...]:
    return getattr(prompts, side)


def _quote(name: str) -> str:
    return name if name.replace("-", "").replace("_", "").isalnum() else f'"{name}"'
