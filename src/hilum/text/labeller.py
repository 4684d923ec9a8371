"""Findings that a report states, by rules of our own: phrases that name a finding, and words that deny or hedge it.

A sentence is searched for phrases of `findings_<language>.toml`. A mention is denied or hedged by the nearest cue whose
scope it lies in (the idea of NegEx, Chapman et al. 2001): a cue before it reaches forward to the next word that opens a
new statement, a cue after it reaches back within the same statement. Of several mentions of a finding the strongest
counts: present, then uncertain, then absent. Sides and places are not read.

Reports may be as written, or, as PadChest has them, cut down to word stems: a phrase says with `*` where a word may go
on, case and accents do not count.
"""

from __future__ import annotations

import functools
import re
import tomllib
import unicodedata
from dataclasses import dataclass
from importlib import resources
from typing import Literal

from hilum.labels import DISEASES, FINDINGS

from .phrase_patterns import CuePatterns, compile_cues, compile_phrases, judge_mention

Language = Literal["en", "es"]

# Lung Opacity is the parent of what is opaque by nature (Irvin et al. 2019, figure 1).
OPACITIES = ("Atelectasis", "Consolidation", "Edema", "Lung Lesion", "Pneumonia")
_STRENGTH = {0: 0, -1: 1, 1: 2}


@dataclass(frozen=True)
class _Phrases:
    """One language: patterns of the findings, of phrases that deny one as a whole, and of cues."""

    mention: dict[str, re.Pattern[str]]
    normal: dict[str, re.Pattern[str]]
    ignore: dict[str, re.Pattern[str]]
    cues: CuePatterns
    skipped_section: re.Pattern[str]


def label_report(text: str, language: Language = "en") -> dict[str, int]:
    """Findings that a report states.

    Args:
        text: a whole report, with or without headings, or one of its sections. What stands under a heading that is not
            about the images (indication, history, technique, comparison) is not read.

    Returns:
        finding -> 1 present, 0 stated absent, -1 uncertain; a finding that is not mentioned is missing. No Finding is 1
        if none of the others, but for Support Devices, is present or uncertain, else 0; an empty report states nothing.

    Example:
        >>> label_report("Small left effusion. No pneumothorax. Possible pneumonia.")["Pleural Effusion"]
        1
    """
    phrases = _read_phrases(language)
    states: dict[str, int] = {}
    sentences = _split_sentences(_drop_sections(_plain(text), phrases))
    for sentence in sentences:
        for finding, state in _label_sentence(sentence, language):
            if finding not in states or _STRENGTH[state] > _STRENGTH[states[finding]]:
                states[finding] = state
    if not sentences:
        return {}
    states["No Finding"] = int(not any(states.get(finding, 0) for finding in DISEASES))
    return {finding: states[finding] for finding in FINDINGS if finding in states}


@functools.lru_cache(maxsize=1 << 16)  # the sentences of reports repeat
def _label_sentence(sentence: str, language: Language) -> tuple[tuple[str, int], ...]:
    phrases = _read_phrases(language)
    cues = phrases.cues.find(sentence)
    states: list[tuple[str, int]] = []
    for finding, pattern in phrases.mention.items():
        shown = _blank(sentence, phrases.ignore.get(finding))
        normal = phrases.normal.get(finding)
        if normal and normal.search(shown):
            states.append((finding, 0))
            shown = _blank(shown, normal)
        states += [(finding, judge_mention(len(sentence), cues, *found.span())) for found in pattern.finditer(shown)]
    implied = [("Lung Opacity", 1) for finding, state in states if finding in OPACITIES and state == 1]
    return tuple(states + implied)


def _blank(text: str, pattern: re.Pattern[str] | None) -> str:
    """The text with spaces in place of what matches, so that positions stay."""
    return pattern.sub(lambda found: " " * len(found[0]), text) if pattern else text


def _plain(text: str) -> str:
    """Without accents; case is left for headings."""
    return "".join(letter for letter in unicodedata.normalize("NFKD", text) if not unicodedata.combining(letter))


def _drop_sections(text: str, phrases: _Phrases) -> str:
    """The text without the sections that are not about the images; what precedes the first heading is kept.

    A heading is a word or some in capitals or alone with its colon on a line, or a word that begins a sentence and
    has a colon; the latter ("Comparison: none.") stands for its own sentence only.
    """
    text = re.sub(
        r"(?:^|(?<=[.\n]))\s*([A-Z][a-z ]+):[^.\n]+(?:\.|\n|$)",
        lambda found: " . " if phrases.skipped_section.match(found[1].lower()) else found[0],
        text,
    )
    kept, at, keeps = [], 0, True
    for found in re.finditer(r"\b([A-Z][A-Z /]{3,40}):|(?:^|\n)[ \t]*([A-Z][A-Za-z /]{2,40}):[ \t]*\n", text):
        if keeps:
            kept.append(text[at : found.start()])
        keeps, at = not phrases.skipped_section.match((found[1] or found[2]).lower()), found.end()
    return "\n\n".join([*kept, text[at:] if keeps else ""])


def _split_sentences(text: str) -> list[str]:
    """Sentences in lower case; a full stop within a number (1.5 cm) does not end one, a line's end does not either."""
    parts = re.split(r"[.!?;](?!\d)|:\s|\n\s*\n|\n\s*[-*\d]", text.lower())
    return [sentence for part in parts if (sentence := " ".join(part.split())) and re.search(r"[a-z]", sentence)]


@functools.cache
def _read_phrases(language: Language) -> _Phrases:
    table = tomllib.loads(resources.files("hilum.text").joinpath(f"findings_{language}.toml").read_text("utf-8"))
    findings: dict[str, dict[str, list[str]]] = table["findings"]
    unknown = findings.keys() - set(FINDINGS)
    assert not unknown, f"findings_{language}.toml: {unknown} are no findings"

    def compile_all(role: str) -> dict[str, re.Pattern[str]]:
        return {name: compile_phrases(entry[role]) for name, entry in findings.items() if role in entry}

    return _Phrases(
        mention=compile_all("mention"),
        normal=compile_all("normal"),
        ignore=compile_all("ignore"),
        cues=compile_cues(table["cues"], table["list_words"]),
        skipped_section=compile_phrases(table["skipped_sections"]),
    )
