"""Whether a text about a breast says what its record holds: what is missing, what contradicts it, what it never held.

The reader (`reading.py`) finds the claims, this room compares. Contradicted: the record holds something else. Invented:
the record holds nothing of the kind, absences included, or the words are of a kind that no text may hold.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from hilum.breasts import WORST_ASSESSMENT

from .reading import ANY, Claims, Mention, read_claims
from .record import BreastRecord, Finding, covers
from .terms import Category

MAIN_CATEGORIES: tuple[Category, ...] = ("mass", "calcification", "architectural distortion", "asymmetry")
_SUSPECT_FROM = WORST_ASSESSMENT.index(4)
_EXTENTS = {"large": (20.0, math.inf), "small": (0.0, 10.0), "tiny": (0.0, 5.0)}  # mm, both included
_COARSEST_SIZE = 1.0  # mm; "1 cm" is 9 to 11 mm


@dataclass(frozen=True)
class FactCheck:
    """How a text compares with its record; each entry names a fact."""

    missing: tuple[str, ...]
    contradicted: tuple[str, ...]
    invented: tuple[str, ...]
    num_facts: int
    """Facts that the record holds."""

    @property
    def is_true(self) -> bool:
        """Whether nothing is contradicted or invented."""
        return not self.contradicted and not self.invented

    @property
    def is_complete(self) -> bool:
        """Whether the assessment and every finding are named; descriptors may be missing."""
        return not any(fact.startswith("assessment") or fact.endswith(")") for fact in self.missing)


def check_facts(text: str, record: BreastRecord) -> FactCheck:
    """Compare what a text claims with a record."""
    claims = read_claims(text)
    contradicted, invented = list[str](), list[str]()
    stated = set[str]()
    _check_breast(claims, record, stated, contradicted, invented)
    said: list[dict[str, set[Any]]] = [{} for _ in record.findings]
    for mention in claims.mentions:
        if mention.is_denied:
            _check_denial(mention, record, contradicted, invented)
        else:
            _check_mention(mention, record, said, contradicted, invented)
    for slot, value in claims.loose:
        if not any(_judge_value(slot, value, one, record) is None for one in record.findings):
            invented.append(f"{slot}: {_name(value)} (of nothing that is named)")
    invented += [f"{kind}: {words}" for kind, words in sorted(claims.forbidden)]
    facts = list(_list_facts(record))
    stated |= {_name_finding(one, place) for place, one in enumerate(record.findings) if said[place]}
    for place, one in enumerate(record.findings):
        name, values = _name_finding(one, place), said[place]
        stated |= {
            f"{name}.{slot}: {_name(value)}"
            for slot, value in _list_values(one)
            if slot in values and (slot == "size" or value in values[slot])  # another size is a contradiction
        }
    missing = tuple(fact for fact in facts if fact not in stated)
    return FactCheck(missing, tuple(dict.fromkeys(contradicted)), tuple(dict.fromkeys(invented)), len(facts))


def _check_breast(
    claims: Claims, record: BreastRecord, stated: set[str], contradicted: list[str], invented: list[str]
) -> None:
    """Side, assessment, density and the views that were taken."""
    pairs = (
        ("side", record.laterality, claims.sides),
        ("assessment", record.assessment, claims.assessments),
        ("density", record.density, claims.densities),
    )
    for name, held, claimed in pairs:
        if held is not None and held in claimed:
            stated.add(f"{name}: {held}")
        for value in sorted(claimed - {held}, key=str):
            if held is None:
                invented.append(f"{name}: {value}")
            else:
                contradicted.append(f"{name}: {value} (record: {held})")
    for view in sorted(claims.views - set(record.views)):
        (contradicted if record.views else invented).append(f"view: {view}")


def _check_denial(mention: Mention, record: BreastRecord, contradicted: list[str], invented: list[str]) -> None:
    """A statement that something is not there."""
    name = f"no {'suspicious ' if mention.is_suspicious else ''}{mention.category}"
    denied = [
        one
        for one in record.findings
        if (mention.category == ANY or covers(mention.category, one.category))  # ty: ignore[invalid-argument-type]
        and not (mention.is_suspicious and one.suspicious is False)
    ]
    known = set(MAIN_CATEGORIES) <= set(record.exhaustive) if mention.category == ANY else (
        mention.category in record.exhaustive
    )  # fmt: skip
    if denied:
        contradicted.append(f"{name} (record: {denied[0].category})")
    elif not known and not (mention.category == ANY and record.assessment == 1):
        invented.append(name)
    elif record.exhaustive_for == "suspicious" and not mention.is_suspicious:
        invented.append(f"{name} (record: no suspicious one)")


def _check_mention(
    mention: Mention,
    record: BreastRecord,
    said: list[dict[str, set[Any]]],
    contradicted: list[str],
    invented: list[str],
) -> None:
    """A finding that is stated: compared with that finding of its category which fits it best."""
    places = [
        place
        for place, one in enumerate(record.findings)
        if covers(mention.category, one.category)  # ty: ignore[invalid-argument-type]
    ]
    if not places:
        held = mention.category in record.list_absent()
        (contradicted if held else invented).append(f"finding: {mention.category}")
        return
    if mention.is_plural and len(places) == 1 and not record.findings[places[0]].several:
        contradicted.append(f"finding: several of {mention.category} (record: one)")
    problems = {place: list(_compare(mention, record.findings[place], record)) for place in places}
    best = min(places, key=lambda place: (len(problems[place]), bool(said[place])))
    for is_contradicted, words in problems[best]:
        (contradicted if is_contradicted else invented).append(words)
    entry = said[best]
    entry.setdefault("category", set())
    for slot, values in mention.slots.items():
        entry.setdefault(slot, set()).update(values)


def _compare(mention: Mention, finding: Finding, record: BreastRecord) -> Iterator[tuple[bool, str]]:
    """(contradicted rather than invented, words) for each claim of a mention that a finding does not bear out."""
    for slot, values in mention.slots.items():
        for value in values:
            is_contradicted = _judge_value(slot, value, finding, record)
            if is_contradicted is not None:
                yield is_contradicted, f"{finding.category}.{slot}: {_name(value)}"
    for slot, values in mention.denied_slots.items():
        for value in values:
            if _judge_value(slot, value, finding, record) is None:
                yield True, f"{finding.category}.{slot}: not {_name(value)}"
    if mention.only and set(finding.views) != mention.slots.get("view", set()):
        yield bool(finding.views), f"{finding.category}.view: only {'+'.join(sorted(mention.slots.get('view', set())))}"
    if mention.is_suspicious and not finding.suspicious and not _is_suspect(finding, record):
        yield finding.suspicious is False, f"{finding.category}: suspicious"


def _judge_value(slot: str, value: Any, finding: Finding, record: BreastRecord) -> bool | None:
    """None: the finding has it. True: it has another. False: nothing of the kind is recorded."""
    if slot == "extent":
        low, high = _EXTENTS[value]
        return False if finding.size_mm is None else None if low <= finding.size_mm <= high else True
    held = _read_slot(slot, finding)
    if slot == "size" and held:
        (size,) = held
        millimetres, rounding = value
        # Writers are given whole millimetres, so that 11.6 may come as 12, as 12.0 and as 1.2 cm.
        allowed = min(rounding, _COARSEST_SIZE) + 1e-6
        return None if min(abs(millimetres - size), abs(millimetres - round(size))) <= allowed else True
    return None if value in held else bool(held)


def _read_slot(slot: str, finding: Finding) -> tuple[Any, ...]:
    place = finding.location
    values = {
        "shape": finding.shapes,
        "margin": finding.margins,
        "mass_density": (finding.mass_density,),
        "morphology": finding.morphologies,
        "distribution": finding.distributions,
        "size": (finding.size_mm,),
        "vertical": (place.vertical,),
        "horizontal": (place.horizontal,),
        "depth": (place.depth,),
        "view": finding.views,
    }
    return tuple(value for value in values.get(slot, ()) if value is not None)


def _is_suspect(finding: Finding, record: BreastRecord) -> bool:
    """Whether BI-RADS 4, 5 or 6 of the finding, or of the breast for want of it, calls it suspicious."""
    assessment = record.assessment if finding.birads is None else finding.birads
    return finding.suspicious is None and assessment is not None and WORST_ASSESSMENT.index(assessment) <= _SUSPECT_FROM


def _list_values(finding: Finding) -> Iterator[tuple[str, Any]]:
    slots = ("shape", "margin", "mass_density", "morphology", "distribution", "size", "vertical", "horizontal", "depth")
    for slot in (*slots, "view"):
        for value in _read_slot(slot, finding):
            yield slot, value


def _list_facts(record: BreastRecord) -> Iterator[str]:
    yield f"side: {record.laterality}"
    if record.assessment is not None:
        yield f"assessment: {record.assessment}"
    if record.density is not None:
        yield f"density: {record.density}"
    for place, one in enumerate(record.findings):
        yield _name_finding(one, place)
        yield from (f"{_name_finding(one, place)}.{slot}: {_name(value)}" for slot, value in _list_values(one))


def _name_finding(finding: Finding, place: int) -> str:
    return f"finding {place + 1} ({finding.category})"


def _name(value: Any) -> str:
    return (
        f"{value[0]:g} mm" if isinstance(value, tuple) else f"{value:g} mm" if isinstance(value, float) else str(value)
    )
