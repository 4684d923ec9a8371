"""What a user calls an encoder, and whether it is there: answered before torch, which takes seconds, is imported."""

from __future__ import annotations

import filecmp
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar, get_args

from hilum.errors import UserError
from hilum.model.places import find_weights, name_run
from hilum.model.towers.catalogue import TowerSpec, names_tower, parse_tower
from hilum.recipes import Size

SUPERVISED = "supervised"
T = TypeVar("T", bound=Path | str)


@dataclass(frozen=True)
class Untrained:
    """Hilum's own encoder before any training: of a recipe's size, or of the architecture of a run."""

    like: str | Path

    @property
    def label(self) -> str:
        """What it is called in tables."""
        return f"{SUPERVISED} as {name_run(self.like)}" if isinstance(self.like, Path) else f"{SUPERVISED} {self.like}"


def find_asked(encoder: Path | str) -> Path | TowerSpec | Untrained:
    """The run folder or weights file, the public encoder, or the random weights (`supervised:tiny`) that are meant.

    Raises:
        UserError: none of them; or a run that is not finished, or weights that are not there.
    """
    if not Path(encoder).exists():
        name, _, size = str(encoder).partition(":")
        if name == SUPERVISED:
            return _find_untrained(size or "base")
        if spec := parse_tower(str(encoder)):
            return spec
    find_weights(Path(encoder))
    return Path(encoder)


def name_asked(encoder: Path | str) -> str:
    """What it is called in tables.

    Raises:
        UserError: as `find_asked`.
    """
    asked = find_asked(encoder)
    return name_run(asked) if isinstance(asked, Path) else asked.label


def check_named_once(encoders: Sequence[Path | str]) -> None:
    """Refuse an encoder that is named twice: it would be compared with itself.

    Raises:
        UserError: with the name; or as `find_asked`.
    """
    for first, second in _find_twins(encoders):
        said = f"{second} is named twice" if str(first) == str(second) else f"{second} is the same encoder as {first}"
        raise UserError(f"{said}: an encoder is compared with others, leave one out.")


def group_asked(words: Sequence[str]) -> dict[str, list[str]]:
    """Method -> its encoders, of words `RUN` or `METHOD=RUN,RUN,...`; a run without method is one by itself.

    Raises:
        UserError: no run, one that is not finished or not there, or a method or a run named twice.
    """
    methods: dict[str, list[str]] = {}
    for word in words:
        method, runs = _split_method(word)
        if method in methods:
            raise UserError(f"--runs names {method} twice: give its runs together, as {method}=RUN,RUN.")
        methods[method] = runs
    if not methods:
        raise UserError("--runs names no run to evaluate.")
    every = [run for runs in methods.values() for run in runs]
    for first, second in _find_twins(every):  # or it says what is missing
        one, other = (next(method for method, runs in methods.items() if run in runs) for run in (first, second))
        if first == second:
            one, other = (method for method, runs in methods.items() if first in runs)
            raise UserError(f"--runs: {first} is a run of {one} and of {other}; it can be of one.")
        owners = f"of {one}" if one == other else f"of {one} and of {other}"
        raise UserError(f"--runs: {first} and {second} ({owners}) are one encoder: name it once.")
    return methods


def _find_twins(encoders: Sequence[T]) -> Iterator[tuple[T, T]]:
    """(earlier, later) of encoders that are one: the same public one, the same weights file, or files of equal bytes.

    Raises:
        UserError: as `find_asked`.
    """
    asked = [find_asked(encoder) for encoder in encoders]
    meant = [find_weights(one).resolve() if isinstance(one, Path) else one for one in asked]
    for later, one in enumerate(meant):
        earlier = next((place for place in range(later) if _is_same(meant[place], one)), None)
        if earlier is not None:
            yield encoders[earlier], encoders[later]


def _is_same(one: Path | TowerSpec | Untrained, other: Path | TowerSpec | Untrained) -> bool:
    both_files = isinstance(one, Path) and isinstance(other, Path)
    # Files of one size are read up to where they differ, which in two runs is near their start.
    return one == other or (both_files and filecmp.cmp(one, other, shallow=False))


def _split_method(word: str) -> tuple[str, list[str]]:
    method, found, runs = word.partition("=")
    if not found or Path(word).exists() or names_tower(word):
        return name_asked(word), [word]
    words = [run for run in runs.split(",") if run]
    if not method or not words:
        raise UserError(f"--runs {word}: expected RUN, or METHOD=RUN,RUN,...")
    if len({Path(run).resolve() for run in words}) < len(words):
        raise UserError(f"--runs {word}: names a run twice.")
    return method, words


def _find_untrained(size: str) -> Untrained:
    if size in get_args(Size):
        return Untrained(size)
    if Path(size).exists():
        find_weights(Path(size))
        return Untrained(Path(size))
    sizes = ", ".join(get_args(Size))
    raise UserError(f"{SUPERVISED}:{size}: there is no such size, nor such a run. Sizes: {sizes}.")
