"""The words of `lexicon_en.toml`: every phrase that claims something about a breast, found in one pass."""

from __future__ import annotations

import functools
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any, NamedTuple

from hilum.text.phrase_patterns import CuePatterns, compile_cues, start_at_words, translate_phrase


class Word(NamedTuple):
    """A phrase of the lexicon in a sentence."""

    kind: str  # "category", "slot", "side", "tissue", "assessment", "qualifier", "forbidden", "ignored"
    name: str  # of the category, side, ...; for slots "shape", "margin", ...
    value: Any
    start: int
    end: int


@dataclass(frozen=True)
class Lexicon:
    """Every phrase that claims something, as one pattern with a group each."""

    pattern: re.Pattern[str]
    meanings: tuple[tuple[str, str, Any], ...]  # kind, name, value
    cues: CuePatterns

    def find(self, sentence: str) -> list[Word]:
        """Phrases of a sentence, left to right, none over another."""
        found = (
            (*self.meanings[(match.lastindex or 0) - 1], *match.span()) for match in self.pattern.finditer(sentence)
        )
        return [Word(*entry) for entry in found if entry[0] != "ignored"]


@functools.cache
def read_lexicon() -> Lexicon:
    table = tomllib.loads(resources.files("hilum.text.breast").joinpath("lexicon_en.toml").read_text("utf-8"))
    entries: list[tuple[str, tuple[str, str, Any]]] = [(phrase, ("ignored", "", None)) for phrase in table["ignored"]]
    for slot, values in table["slot"].items():
        entries += _list_phrases(values, lambda value, slot=slot: ("slot", slot, value))
    for kind in ("category", "side", "tissue", "assessment", "qualifier", "forbidden"):
        entries += _list_phrases(table[kind], lambda name, kind=kind: (kind, name, None))
    # The first of equal phrases counts ("round"), so the order of the file decides.
    entries.sort(key=lambda entry: -len(entry[0]))
    return Lexicon(
        start_at_words(f"{translate_phrase(phrase)}()" for phrase, _ in entries),
        tuple(meaning for _, meaning in entries),
        compile_cues(table["cues"], table["list_words"]),
    )


def _list_phrases(
    table: Mapping[str, list[str]], mean: Callable[[str], tuple[str, str, Any]]
) -> list[tuple[str, tuple[str, str, Any]]]:
    return [(phrase, mean(name)) for name, phrases in table.items() for phrase in phrases]
