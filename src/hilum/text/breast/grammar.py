"""A grammar that writes what a record of a breast holds, in varied words (L 2.3); no model and no invented facts.

Everything drawn (skeletons, synonyms, order, which fields are dropped) is a function of the record, the number of the
variant and the seed. What is written is only what the record has: places come from geometry, absences from categories
that the archive records exhaustively, and neither outcomes nor ids are in reach.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from hilum.phantom.dice import Dice

from .record import BreastRecord, Finding, hash_record, order_by_concern
from .skeletons import fill_skeleton, read_phrases, tidy_sentence

Style = Literal["kv", "sentence", "report"]
STYLES: tuple[Style, ...] = get_args(Style)
DROPOUT = 0.2
CM_FROM = 10.0  # mm; longer diameters may be said in cm
_IMPRESSION, _FINDING, _COMPOSITION, _NEGATIVE, _EXAM = range(5)  # what a budget drops last comes first
_MAIN = ("mass", "calcification", "architectural distortion", "asymmetry")


class Part(NamedTuple):
    """A sentence or field of a text."""

    priority: int
    rank: int  # among those of one priority
    text: str


@dataclass(frozen=True)
class Budget:
    """Longest text, in tokens."""

    num_tokens: int
    count: Callable[[str], int]
    """Tokens of a text by the tokenizer that will read it."""


def write_text(
    record: BreastRecord,
    variant: int = 0,
    *,
    style: Style | None = None,
    seed: int = 0,
    dropout: float = DROPOUT,
    shuffle: bool = True,
    budget: Budget | None = None,
    phrases: Path | None = None,
    key: int | None = None,
) -> str:
    """One text about a breast.

    Args:
        record: what is known; one that is empty (`is_empty`) has no text.
        variant: another number is another text of the same record.
        style: kv (field: value), sentence, report (composition, findings, impression); None: drawn.
        seed: another seed is another corpus.
        dropout: probability that a field (density, a descriptor, size, place, views, the list of absences) is left
            out; findings, side and assessment never are.
        shuffle: whether sentences stand in any order (in reports, the findings).
        budget: what is longer loses the exam's line, absences, composition and findings, in this order; never the
            assessment.
        phrases: another file of phrases.
        key: what is drawn for; by default the whole record, ids included.
    """
    assert not record.is_empty(), "a record that says nothing has no text"
    dice = Dice("breast text", hash_record(record) if key is None else key, variant, seed)
    style = dice.choose(STYLES) if style is None else style
    writer = (_FieldWriter if style == "kv" else _SentenceWriter)(record, dice, dropout, read_phrases(phrases))
    parts = writer.write_parts()
    order = dice.shuffle(range(len(parts))) if shuffle else list(range(len(parts)))
    separator = dice.choose(writer.phrases["kv"]["separators"])
    headings = {name: dice.choose(words) for name, words in writer.phrases["headings"].items()}

    def join(kept: Sequence[int]) -> str:
        chosen = [parts[place] for place in order if place in kept]
        if style == "kv":
            return separator.join(part.text for part in chosen)
        if style == "sentence":
            return " ".join(part.text for part in chosen)
        return _join_report(chosen, headings)

    kept = list(range(len(parts)))
    if budget:
        by_worth = sorted(kept, key=lambda place: parts[place][:2])
        while len(by_worth) > 1 and budget.count(join(by_worth)) > budget.num_tokens:
            by_worth.pop()
        kept = by_worth
    return join(kept)


def _join_report(parts: Sequence[Part], headings: dict[str, str]) -> str:
    def pick(*priorities: int) -> str:
        return " ".join(part.text for part in parts if part.priority in priorities)

    sections = {
        "composition": pick(_COMPOSITION),
        "findings": pick(_FINDING, _NEGATIVE),
        "impression": pick(_IMPRESSION),
    }
    written = [f"{headings[name]}: {text}" for name, text in sections.items() if text]
    return "\n".join(filter(None, [pick(_EXAM), *written]))


class _Writer(ABC):
    """One text's choices: which fields, which skeleton, which synonym."""

    def __init__(self, record: BreastRecord, dice: Dice, dropout: float, phrases: dict[str, Any]) -> None:
        self.record, self.dice, self.dropout, self.phrases = record, dice, dropout, phrases

    def keeps(self) -> bool:
        return not self.dice.happens(self.dropout)

    def say(self, slot: str, values: Sequence[str]) -> str:
        """Values of one slot in words, with a synonym each, or "" if they are dropped."""
        chosen = [self.dice.choose(self.phrases["words"][slot][value]) for value in values]
        return " and ".join(chosen) if chosen and self.keeps() else ""

    def say_size(self, finding: Finding) -> str:
        """In mm, or in cm with one decimal; both round to the nearest mm."""
        in_cm, keeps = self.dice.happens(0.4), self.keeps()
        if finding.size_mm is None or finding.several or not keeps:
            return ""
        size = max(1, round(finding.size_mm))
        return f"{size / 10:.1f} cm" if in_cm and size >= CM_FROM else f"{size} mm"

    def say_descriptors(self, finding: Finding) -> dict[str, str]:
        place = finding.location
        return {
            "shape": self.say("shape", finding.shapes),
            "margin": self.say("margin", finding.margins),
            "mass_density": self.say("mass_density", [finding.mass_density] if finding.mass_density else []),
            "morphology": self.say("morphology", finding.morphologies),
            "distribution": self.say("distribution", finding.distributions),
            "size": self.say_size(finding),
            "suspicious": "suspicious" if self.keeps() and finding.suspicious else "",
            "vertical": self.say("vertical", [place.vertical] if place.vertical else []),
            "horizontal": self.say("horizontal", [place.horizontal] if place.horizontal else []),
            "depth": self.say("depth", [place.depth] if place.depth else []),
        }

    def name_views(self, views: Sequence[str]) -> list[str]:
        return [self.dice.choose(self.phrases["views"][view]) for view in views]

    def list_absent(self) -> list[str]:
        """Names of a few categories that are known to be absent; the main ones first."""
        absent = self.record.list_absent()
        main = [name for name in absent if name in _MAIN]
        rest = [name for name in absent if name not in _MAIN and self.dice.happens(0.3)]
        return [self.dice.choose(self.phrases["names"][name])[0] for name in self.dice.shuffle(main + rest)]

    @abstractmethod
    def write_parts(self) -> list[Part]:
        """The text, in pieces that can be left out."""

    def number_findings(self, write: Callable[[Finding], list[str]]) -> list[Part]:
        ordered = order_by_concern(self.record.findings)
        return [Part(_FINDING, rank, text) for rank, one in enumerate(ordered) for text in write(one)]


class _SentenceWriter(_Writer):
    def fill(self, skeletons: Sequence[str], slots: dict[str, str], *, several: bool = False) -> str:
        return fill_skeleton(self.dice.choose(skeletons), slots, several=several)

    def write_parts(self) -> list[Part]:
        record, phrases = self.record, self.phrases
        views = " and ".join(self.name_views(record.views)) if self.keeps() else ""
        side = {"side": record.laterality}
        exam = self.fill(phrases["exam"]["skeletons"], {**side, "views": views}, several=len(record.views) > 1)
        parts = [Part(_EXAM, 0, exam)]
        if record.density and self.keeps():
            tissue = self.dice.choose(phrases["tissue"][record.density])
            slots = {"tissue": tissue, "letter": record.density.upper()}
            parts.append(Part(_COMPOSITION, 0, self.fill(phrases["composition"]["skeletons"], slots)))
        parts += self.number_findings(self.write_finding)
        parts += [Part(_NEGATIVE, 0, text) for text in self.write_negatives()]
        if record.assessment is not None:
            verdict = phrases["verdict"].get(str(record.assessment))
            slots = {
                **side,
                "assessment": str(record.assessment),
                "verdict": self.dice.choose(verdict) if verdict else "",
            }
            parts.append(Part(_IMPRESSION, 0, self.fill(phrases["impression"]["skeletons"], slots)))
        parts = [part for part in parts if part.text]
        if not any(record.laterality in part.text.lower() for part in parts if part.priority in (_EXAM, _IMPRESSION)):
            parts.append(Part(_EXAM, 0, tidy_sentence(f"{record.laterality} breast.")))
        return parts

    def write_finding(self, finding: Finding) -> list[str]:
        slots = self.say_descriptors(finding)
        slots["at"] = self.say_place(slots)
        slots["seen"] = self.say_views(finding)
        kind = finding.category
        names = self.dice.choose(self.phrases["names"][kind])
        slots["name"] = names[finding.several]
        # "thickening of the skin", "distortion": no article, like what stands for several.
        counted = kind in ("lymph node", "clip") or kind.endswith("asymmetry")
        slots["a"] = "a" if counted and not finding.several else ""
        skeletons = self.phrases["finding"].get(kind, self.phrases["finding"]["other"])["skeletons"]
        plural = finding.several and names[0] != names[1]
        text = self.fill(skeletons, slots, several=plural)
        return [text]

    def write_negatives(self) -> list[str]:
        record, keeps = self.record, self.keeps()
        if not record.exhaustive or not keeps:
            return []
        absent = self.list_absent()
        qualifier = {"suspicious": "suspicious" if record.exhaustive_for == "suspicious" else ""}
        if not record.findings and set(_MAIN) <= set(record.exhaustive) and self.dice.happens(0.4):
            return [self.fill(self.phrases["negative"]["nothing"], {})]
        if not absent:
            return []
        listed = " or ".join(filter(None, [", ".join(absent[:-1]), absent[-1]]))
        return [self.fill(self.phrases["negative"]["skeletons"], {**qualifier, "list": listed})]

    def say_place(self, slots: dict[str, str]) -> str:
        named = [name for name in ("vertical", "horizontal") if slots[name]]
        wheres = [self.phrases["place"][" ".join(named)]] if named else []
        wheres += [self.phrases["place"]["depth"]] if slots["depth"] else []
        words = [self.dice.choose(where) for where in wheres]
        filled = {**slots, "side": self.record.laterality}
        return " ".join(word.format(**filled) for word in words)

    def say_views(self, finding: Finding) -> str:
        views, said = self.phrases["views"], self.keeps()
        if not finding.views or not said:
            return ""
        if len(finding.views) == 2:
            return self.dice.choose(views["both"])
        alone = len(self.record.views) == 2
        (name,) = self.name_views(finding.views)
        return self.dice.choose(views["only" if alone else "one"]).format(view=name)


class _FieldWriter(_Writer):
    def write_parts(self) -> list[Part]:
        record, words = self.record, self.phrases["kv"]
        parts = [Part(_EXAM, 0, f"{self.dice.choose(words['side'])}: {record.laterality}")]
        if record.views and self.keeps():
            named = ", ".join(self.name_views(record.views))
            field = self.dice.choose(words["views"])
            parts.append(Part(_EXAM, 1, f"{field.removesuffix('s') if len(record.views) == 1 else field}: {named}"))
        if record.density and self.keeps():
            parts.append(Part(_COMPOSITION, 0, f"{self.dice.choose(words['density'])}: {record.density.upper()}"))
        parts += self.number_findings(self.write_finding)
        absent = self.list_absent() if record.exhaustive and self.keeps() else []
        if absent:
            qualifier = "suspicious " if record.exhaustive_for == "suspicious" else ""
            parts.append(Part(_NEGATIVE, 0, f"{self.dice.choose(words['absent'])}: {qualifier}{', '.join(absent)}"))
        if record.assessment is not None:
            parts.append(Part(_IMPRESSION, 0, f"{self.dice.choose(words['assessment'])}: {record.assessment}"))
        return parts

    def write_finding(self, finding: Finding) -> list[str]:
        slots = self.say_descriptors(finding)
        views = finding.views if self.keeps() else ()
        seen = " and ".join(self.name_views(views))
        place = " ".join(filter(None, [slots["vertical"], slots["horizontal"]]))
        said = [slots[name] for name in ("suspicious", "shape", "margin", "mass_density", "distribution", "morphology")]
        said += [slots["size"], place, slots["depth"], seen]
        (name, several) = self.dice.choose(self.phrases["names"][finding.category])
        present = self.dice.choose(self.phrases["kv"]["present"])
        values = self.dice.shuffle([one for one in said if one]) or [present]
        return [tidy_sentence(f"{several if finding.several else name}: {', '.join(values)}")]
