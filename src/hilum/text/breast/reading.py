"""What a text about a breast claims, by the rules of `lexicon_en.toml`.

A sentence is searched for names of findings, for descriptors, places, sizes and views, and for words that deny. A
descriptor belongs to the nearest finding of its sentence that can have it, else to the last finding that was stated
before ("It measures 8 mm."). What no record can hold (comparisons, recommendations, outcomes, ages, dates) is a claim
too.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from hilum.text.phrase_patterns import Cue, judge_mention

from .lexicon import Word, read_lexicon

ANY = "any"  # "no suspicious finding"
_OF_MASS, _OF_CALCIFICATION = ("shape", "margin", "mass_density"), ("morphology", "distribution")
_NUMBERS = {
    **{word: number for number, word in enumerate(("zero", "one", "two", "three", "four", "five", "six"))},
    **{word: number for number, word in enumerate(("i", "ii", "iii", "iv", "v", "vi"), start=1)},
}
_BI_RADS = re.compile(
    r"(?:\bbi-?\s?rads\b|\bassessment\b|(?<!density )\b(?:category|score)(?=\W*\d)|\bscore\b(?=\W*(?:of|is)\W*\d))"
    r"(?:[\s:,(#]|®|\b(?:bi-?\s?rads|final|overall|category|cat|assessment|score|code|class|classification|rating|of|is|the|a"
    r"|as|left|right|breast|for|was|assigned)\b)*"
    r"\b(?P<value>[0-6]|zero|one|two|three|four|five|six|iv|v?i{1,3}|v)[abc]?\b(?!\s*(?:mm|cm|\.\d))"
    r"(?:\s*(?:-|/|to\b|or\b)\s*(?P<other>[0-6])[abc]?\b(?!\s*-?\s*(?:mm|cm|\.\d)))?"  # "4-5" is of two
)
_DENSITY = re.compile(
    r"\b(?:density|composition|acr|tissue|parenchyma|category|type)\b"
    r"(?:[\s:,(]|\b(?:breast|bi-?rads|acr|density|composition|category|type|grade|class|pattern|level|is|of|as)\b)*"
    r"\b(?P<value>[a-d])\b(?=\s*(?:[.,;:)\n]|$|\b(?:density|composition|tissue|breast|parenchyma)\b))"
)
_SIZE = re.compile(
    r"(?<![\d.])(?P<value>\d+(?:\.\d+)?)(?:\s*(?:x|by|×)\s*(?P<other>\d+(?:\.\d+)?))?\s*-?\s*"
    r"(?P<unit>mm|cm|millimet\w+|centimet\w+|inch(?:es)?)\b"
)
_MILLIMETRES = {"m": 1.0, "c": 10.0, "i": 25.4}  # of a unit, by its first letter
_ONES = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "thirteen")
_ONES += ("fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen")
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_COUNTS = {word: number for number, word in enumerate(_ONES, 1)} | {word: 10 * n for n, word in enumerate(_TENS, 2)}
_SPELT = re.compile(
    rf"\b(?:(?P<tens>{'|'.join(_TENS)})(?:[\s-]+(?P<one>{'|'.join(_ONES[:9])}))?|(?P<few>{'|'.join(_ONES)}))"
    r"(?=[\s-]+(?:mm|cm|millimet\w+|centimet\w+|inch(?:es)?)\b)"
)
_QUADRANT = re.compile(r"\b(?P<vertical>[ul])(?P<horizontal>[oi])q\b")
_QUADRANTS = {"u": "upper", "l": "lower", "o": "outer", "i": "inner"}
_LETTERED = {
    "date": re.compile(r"\b\d{1,4}[/-]\d{1,2}[/-]\d{1,4}\b|\b(?:19|20)\d\d\b"),
    "identifier": re.compile(r"\b\d{6,}\b|\b(?=\w*\d)(?=\w*[a-f])[0-9a-f]{12,}\b"),
    "clock face": re.compile(r"\b\d{1,2}(?::\d\d)?\s*o\W?\s?clock"),
    "distance": re.compile(r"\bfrom (?:the )?nipple\b"),
}
_EXAM = re.compile(
    r"\b(?:mammogra\w*|examination|exam|study|obtained|acquired|performed|available|imaged)\b"
    r"|\b(?:views?|projections?) of\b"
    r"|^\s*(?:views?|projections?)\s*:"
)
_DENIED_FIELD = re.compile(r"^\s*(?:not seen|absent|negative for|none|no|not present|negatives)\s*:")
_PLURAL = re.compile(r"\b(?:masses|nodules|lesions|distortions|asymmetries|nodes|clips)$")
_PARTING, _PARTED = re.compile(r"[,:]|\band\b|\bwhile\b"), 40
_HEADING = re.compile(r"\b(?:findings|impression|conclusion|description|summary)\s*:")


@dataclass
class Mention:
    """A finding that a text states or denies."""

    category: str
    is_denied: bool
    is_suspicious: bool = False
    is_plural: bool = False
    """Whether more than one is stated (of calcifications there always are)."""
    only: bool = False
    """Whether it is said to be seen in the named view only."""
    slots: dict[str, set[Any]] = field(default_factory=dict)
    """Descriptors that are stated: slot -> values; sizes in mm with their rounding, (12.0, 0.5)."""
    denied_slots: dict[str, set[Any]] = field(default_factory=dict)

    def accepts(self, slot: str) -> bool:
        if slot in _OF_MASS:
            return self.category == "mass"
        return slot not in _OF_CALCIFICATION or self.category == "calcification"


@dataclass
class Claims:
    """All that a text claims."""

    sides: set[str] = field(default_factory=set)
    assessments: set[int] = field(default_factory=set)
    densities: set[str] = field(default_factory=set)
    views: set[str] = field(default_factory=set)
    """Views that are said to have been taken."""
    mentions: list[Mention] = field(default_factory=list)
    loose: set[tuple[str, Any]] = field(default_factory=set)
    """Descriptors of no finding that is named."""
    forbidden: set[tuple[str, str]] = field(default_factory=set)
    """Kind and words of what no record holds."""


def read_claims(text: str) -> Claims:
    """What a text claims of one breast."""
    claims, last = Claims(), None
    for sentence in split_sentences(text):
        last = _read_sentence(sentence, claims, last)
    return claims


def split_sentences(text: str) -> list[str]:
    """Sentences and fields in lower case without accents; a heading ends one, a point within a number does not."""
    if not text.isascii():
        text = "".join(letter for letter in unicodedata.normalize("NFKD", text) if not unicodedata.combining(letter))
    plain = text.lower()
    plain = _HEADING.sub("\n", plain.replace("\u2010", "-").replace("\u2011", "-").replace("\u2013", "-"))
    plain = _QUADRANT.sub(lambda found: " ".join(_QUADRANTS[letter] for letter in found.groups()) + " quadrant", plain)
    plain = _SPELT.sub(lambda found: str(sum(_COUNTS[word] for word in found.groups() if word)), plain)
    parts = re.split(r"[.!?;](?!\d)|\n", plain)
    return [sentence for part in parts if (sentence := " ".join(part.split()))]


def _read_sentence(sentence: str, claims: Claims, last: Mention | None) -> Mention | None:
    """Add the claims of a sentence; the finding that the next sentence may go on about."""
    lexicon = read_lexicon()
    sentence = _DENIED_FIELD.sub(lambda found: f"no{' ' * (len(found[0]) - 2)}", sentence)
    for kind, pattern in _LETTERED.items():
        claims.forbidden.update((kind, found[0]) for found in pattern.finditer(sentence))
    sentence, sizes = _take_sizes(_take_categories(sentence, claims))
    words = [*lexicon.find(sentence), *sizes]
    cues = lexicon.cues.find(sentence)
    mentions = _find_mentions(sentence, words, cues)
    is_exam = not any(one.category != ANY for one, _ in mentions) and _EXAM.search(sentence) is not None
    only = any(word[:2] == ("qualifier", "only") for word in words)
    for word in words:
        if word.kind == "side":
            claims.sides.update(("left", "right") if word.name == "both" else (word.name,))
        elif word.kind == "tissue":
            claims.densities.add(word.name)
        elif word.kind == "assessment":
            claims.assessments.add(int(word.name))
        elif word.kind == "forbidden":
            claims.forbidden.add((word.name, sentence[word.start : word.end]))
        elif word.kind == "slot" and word.name == "view" and is_exam:
            claims.views.update(_expand_view(word.value))
    slots = [word for word in words if word.kind == "slot"]
    for owner, word in _resolve_slots(sentence, slots, mentions, last, is_exam):
        if owner is None:
            claims.loose.add((word.name, word.value))
            continue
        denied = judge_mention(len(sentence), cues, word.start, word.end) == 0 and not owner.is_denied
        values = _expand_view(word.value) if word.name == "view" else (word.value,)
        (owner.denied_slots if denied else owner.slots).setdefault(word.name, set()).update(values)
        owner.only |= only and word.name == "view"
    claims.mentions += [one for one, _ in mentions if one.is_denied or one.category != ANY]
    stated = [one for one, _ in mentions if not one.is_denied and one.category != ANY]
    return stated[-1] if stated else last


def _find_mentions(sentence: str, words: list[Word], cues: list[Cue]) -> list[tuple[Mention, Word]]:
    mentions, suspicious = [], [word for word in words if word[:2] == ("qualifier", "suspicious")]
    for word in words:
        if word.kind != "category":
            continue
        denied = judge_mention(len(sentence), cues, word.start, word.end) == 0
        # "no suspicious mass or calcification" qualifies both; of what is stated, the word right before its noun.
        qualified = any(
            one.end <= word.start and (denied or not _stands_between(words, one, word)) for one in suspicious
        ) or (any(one.start >= word.end for one in suspicious) and not denied and ":" in sentence)
        plural = _PLURAL.search(sentence, word.start, word.end) is not None
        mentions.append((Mention(word.name, denied, qualified, plural), word))
    return mentions


def _stands_between(words: list[Word], first: Word, second: Word) -> bool:
    return any(word.kind == "category" and first.end <= word.start < second.start for word in words)


def _resolve_slots(
    sentence: str, slots: list[Word], mentions: list[tuple[Mention, Word]], last: Mention | None, is_exam: bool
) -> Iterator[tuple[Mention | None, Word]]:
    """Each descriptor with the finding it is of; None where no finding is named that can have it."""
    named = [(one, word) for one, word in mentions if one.category != ANY]
    for slot in slots:
        if slot.name == "view" and is_exam:
            continue
        # "round" is a shape and a morphology: the lexicon has it as the former.
        readings = [slot, slot._replace(name="morphology")] if slot[1:3] == ("shape", "round") else [slot]
        fitting = [
            (_measure_gap(sentence, slot, word), place, one, reading)
            for reading in readings
            for place, (one, word) in enumerate(named)
            if one.accepts(reading.name)
        ]
        if fitting:
            _, _, owner, reading = min(fitting, key=lambda entry: entry[:2])
            yield owner, reading
        elif mentions and all(one.is_denied for one, _ in mentions):
            continue  # "no suspicious finding in the upper breast"
        else:
            reading = next((one for one in readings if last is not None and last.accepts(one.name)), None)
            yield (last, reading) if reading else (None, slot)


def _measure_gap(sentence: str, slot: Word, word: Word) -> int:
    """How far a descriptor is from a finding's name, in letters; what parts two statements counts as many."""
    gap = sentence[word.end : slot.start] if word.end <= slot.start else sentence[slot.end : word.start]
    return len(gap) + _PARTED * len(_PARTING.findall(gap))


def _take_categories(sentence: str, claims: Claims) -> str:
    """The sentence without its density and BI-RADS categories, which are noted."""

    def note_density(found: re.Match[str]) -> str:
        claims.densities.add(found["value"])
        return " " * len(found[0])

    def note_assessment(found: re.Match[str]) -> str:
        value = found["value"]
        claims.assessments.add(int(value) if value.isdigit() else _NUMBERS[value])
        claims.assessments.update(int(other) for other in [found["other"]] if other)
        sides = re.findall(r"\bleft\b|\bright\b", found[0])  # "assessment of the left breast is 4"
        return " ".join(sides).ljust(len(found[0]))

    return _BI_RADS.sub(note_assessment, _DENSITY.sub(note_density, sentence))


def _take_sizes(sentence: str) -> tuple[str, list[Word]]:
    """The sentence without its sizes, and these in mm with half their last digit: 1.2 cm is 12 mm to within 0.5."""
    sizes = []
    for found in _SIZE.finditer(sentence):
        texts = [text for text in (found["value"], found["other"]) if text]
        scale = _MILLIMETRES[found["unit"][0]]
        longest = max(texts, key=float)
        digits = len(longest.partition(".")[2])
        sizes.append(Word("slot", "size", (float(longest) * scale, 0.5 * scale / 10**digits), *found.span()))
    return _SIZE.sub(lambda found: " " * len(found[0]), sentence), sizes


def _expand_view(view: str) -> tuple[str, ...]:
    return ("cc", "mlo") if view == "both" else (view,)
