"""Phrases as patterns, and the words around a phrase that deny or hedge it.

A phrase says with `*` where a word may go on; `a|b` is either word, `...` up to four words, and a comma is a comma.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

Cue = tuple[str, int, int]  # its kind, where it begins and ends
CUES = (
    "neutral",
    "deny_before",
    "deny_after",
    "deny_around",
    "hedge_before",
    "hedge_after",
    "hedge_around",
    "stop",
    "stop_unless_list",
)


@dataclass(frozen=True)
class CuePatterns:
    """Phrases that deny, hedge or end the reach of those that do."""

    cue: re.Pattern[str]  # a group for each cue
    kinds: tuple[str, ...]  # of the cues, by group
    list_word: re.Pattern[str]

    def find(self, sentence: str) -> list[Cue]:
        """The cues of a sentence in lower case."""
        cues = [(self.kinds[(found.lastindex or 0) - 1], *found.span()) for found in self.cue.finditer(sentence)]
        # "No effusion, small pneumothorax" against "no effusion, small pneumothorax or edema".
        return [cue for cue in cues if cue[0] != "stop_unless_list" or not self.list_word.search(sentence, cue[2])]


def compile_cues(table: Mapping[str, Sequence[str]], list_words: Sequence[str]) -> CuePatterns:
    """Cues by their kind (CUES), and the words that tell a list from a new statement."""
    cues = [(phrase, kind) for kind in CUES for phrase in table.get(kind, [])]
    cues.sort(key=lambda cue: -len(cue[0]))  # of two that begin at one word the longer one is meant
    return CuePatterns(
        # An empty group at the end of each: one around it would hide its first letter, and take four times as long.
        cue=start_at_words(f"{translate_phrase(phrase)}()" for phrase, _ in cues),
        kinds=tuple(kind for _, kind in cues),
        list_word=compile_phrases(list_words),
    )


def judge_mention(length: int, cues: Sequence[Cue], start: int, end: int) -> int:
    """Whether the words in start:end of a sentence are stated (1), denied (0) or hedged (-1) by its cues.

    The nearest cue whose scope holds them decides: one before reaches forward to the next word that opens a new
    statement, one after reaches back within the same statement (the idea of NegEx, Chapman et al. 2001).
    """
    if any(kind.startswith("deny") and start <= at and until <= end for kind, at, until in cues):
        return 0
    first = max((until for kind, _, until in cues if kind.startswith("stop") and until <= start), default=0)
    last = min((at for kind, at, _ in cues if kind.startswith("stop") and at >= end), default=length)
    nearest, state = length + 1, 1
    for kind, at, until in cues:
        reach, _, direction = kind.partition("_")
        before = first <= at and until <= start and direction in ("before", "around")
        after = end <= at and until <= last and direction in ("after", "around")
        distance = start - until if before else at - end
        if (before or after) and distance < nearest:
            nearest, state = distance, 0 if reach == "deny" else -1
    return state


def compile_phrases(phrases: Iterable[str]) -> re.Pattern[str]:
    """Any of these phrases, the longest first."""
    return start_at_words(translate_phrase(phrase) for phrase in sorted(phrases, key=len, reverse=True))


def start_at_words(patterns: Iterable[str]) -> re.Pattern[str]:
    """Any of the patterns, the first of the list that fits; only tried where a word (or a comma) begins."""
    return re.compile(rf"(?:(?<!\w)(?=\w)|(?=,))(?:{'|'.join(patterns)})")


def translate_phrase(phrase: str) -> str:
    """A phrase as a regular expression without groups.

    Words stand beside each other, in one part of a sentence between commas. `*` goes on with letters, `a|b` is either
    word, `...` up to four words, and a comma is a comma.
    """
    pattern, gap = "", ""
    for word in phrase.split():
        if word == "...":
            gap = r"(?:[^\w,]+\w+){0,4}?[^\w,]+"
            continue
        either = "|".join(re.escape(part).replace(r"\*", r"\w*") for part in word.split("|"))
        pattern += gap + (r",\s*" if word == "," else rf"(?:{either})(?!\w)")
        gap = "" if word == "," else r"[^\w,]+"
    return f"(?:{pattern})"
