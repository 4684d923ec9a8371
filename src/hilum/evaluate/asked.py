"""What a user calls an encoder, and whether it is there: answered before torch, which takes seconds, is imported."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from hilum.errors import UserError
from hilum.model.places import find_weights, name_run
from hilum.model.towers.catalogue import TowerSpec, names_tower, parse_tower
from hilum.recipes import Size

SUPERVISED = "supervised"


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
    seen: set[Path | TowerSpec | Untrained] = set()
    for encoder in encoders:
        asked = find_asked(encoder)
        meant = find_weights(asked).resolve() if isinstance(asked, Path) else asked
        if meant in seen:
            raise UserError(f"{encoder} is named twice: an encoder is compared with others, leave one out.")
        seen.add(meant)


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
    owner: dict[Path, str] = {}
    for method, run in ((method, run) for method, runs in methods.items() for run in runs):
        if Path(run).exists() and owner.setdefault(Path(run).resolve(), method) != method:
            raise UserError(
                f"--runs: {run} is a run of {owner[Path(run).resolve()]} and of {method}; it can be of one."
            )
    for runs in methods.values():
        for run in runs:
            find_asked(run)  # or it says what is missing
    return methods


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
