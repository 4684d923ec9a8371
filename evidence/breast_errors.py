"""Breasts with every field that a record has, and texts about them with an error planted in each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

from hilum.phantom.dice import Dice
from hilum.text.breast import terms
from hilum.text.breast.fact_check import MAIN_CATEGORIES
from hilum.text.breast.grammar import STYLES, write_text
from hilum.text.breast.record import BreastRecord, Finding, Location

SEED = 7
_SLOTS = {
    "shapes": terms.Shape,
    "margins": terms.Margin,
    "morphologies": terms.Morphology,
    "distributions": terms.Distribution,
}


@dataclass(frozen=True)
class Planted:
    """A changed record, and whether fields may be dropped when it is written."""

    record: BreastRecord
    dropout: float = 0.2


Plant = Callable[[BreastRecord, Dice], Planted | None]


def draw_record(number: int, seed: int) -> BreastRecord:
    """A breast with up to three findings of different kinds, some fields not recorded."""
    dice = Dice("evidence breast", number, seed)
    shown: list[tuple[terms.View, ...]] = [("cc", "mlo"), ("cc", "mlo"), ("cc", "mlo"), ("mlo",), ()]
    views = dice.choose(shown)
    talked_of: tuple[terms.Category, ...] = ("mass", "calcification")  # they have most to say
    often = [kind for kind in talked_of if dice.happens(0.4)]
    kinds = [*often, *(kind for kind in dice.shuffle(list(terms.CATEGORIES)) if kind not in often)]
    kinds = kinds[: dice.choose([0, 0, 1, 1, 2, 3])]
    if sum(kind in terms.ASYMMETRIES for kind in kinds) > 1:  # "asymmetry" may mean any of them
        kinds = [kind for kind in kinds if kind not in terms.ASYMMETRIES]
    findings = tuple(_draw_finding(kind, views, dice) for kind in kinds)
    said: list[terms.Assessment | None] = [None, 0, 1, 2, 3, 4, 5, 6] if findings else [None, 1, 2]
    assessment = dice.choose(said)
    exhaustive = dice.choose([(), MAIN_CATEGORIES, terms.CATEGORIES])
    record = BreastRecord(
        "evidence", f"patient {number}", f"study {number}", dice.choose(["left", "right"]), assessment,
        None if assessment is None else "breast", dice.choose([None, "a", "b", "c", "d"]), views=views,
        findings=findings, exhaustive=exhaustive, exhaustive_for=dice.choose(["all", "suspicious"]),
    )  # fmt: skip
    return replace(record, density="c") if record.is_empty() else record


def _draw_finding(kind: terms.Category, views: tuple[terms.View, ...], dice: Dice) -> Finding:
    def some(values: Any) -> tuple[Any, ...]:
        return tuple(dice.shuffle(list(get_args(values)))[: dice.choose([0, 1, 1, 1, 2])])

    def one(values: Any) -> Any:
        return dice.choose([None, *get_args(values)])

    mass, calcification = kind == "mass", kind == "calcification"
    morphologies = some(terms.Morphology) if calcification else ()
    several = dice.happens(0.2) and kind != "architectural distortion"
    size = round(dice.draw_between(3.0, 60.0), 1) if dice.happens(0.7) else None
    return Finding(
        kind,
        several=several,
        suspicious=any(name in terms.SUSPICIOUS for name in morphologies) if morphologies else None,
        shapes=some(terms.Shape) if mass else (),
        margins=some(terms.Margin) if mass else (),
        mass_density=one(terms.MassDensity) if mass else None,
        morphologies=morphologies,
        distributions=some(terms.Distribution) if calcification else (),
        size_mm=size,
        size_source=None if size is None else "box",
        views=dice.choose([views, views, views[:1], ()]) if views else (),
        location=Location(one(terms.Vertical), one(terms.Horizontal), one(terms.Depth)),
    )


def plant_error(
    record: BreastRecord,
    kind: str,
    plant: Plant,
    phrases: Path | None,
    key: int,
) -> tuple[str, BreastRecord] | None:
    """A text with the error and the record it is wrong about; None where the record or the text has no place for it."""
    dice = Dice(f"evidence plant {kind}", key, SEED)
    planted = plant(record, dice)
    if planted is None:
        return None
    style = dice.choose(STYLES)

    def write(one: BreastRecord) -> str:
        return write_text(one, style=style, dropout=planted.dropout, phrases=phrases, key=key)

    wrong = write(planted.record)
    return None if wrong == write(record) else (wrong, record)


def change_side(record: BreastRecord, dice: Dice) -> Planted:
    return Planted(replace(record, laterality="left" if record.laterality == "right" else "right"))


def change_category(record: BreastRecord, dice: Dice) -> Planted | None:
    held = [name for name in ("assessment", "density") if getattr(record, name) is not None]
    if not held:
        return None
    name = dice.choose(held)
    values = get_args(terms.Assessment if name == "assessment" else terms.BreastDensity)
    return Planted(replace(record, **{name: dice.choose([one for one in values if one != getattr(record, name)])}))


def change_negation(record: BreastRecord, dice: Dice) -> Planted | None:
    """What is there is said to be absent, or what is absent to be there; nothing is dropped, so that it is said."""
    absent = [name for name in record.list_absent() if name in MAIN_CATEGORIES]
    # "No suspicious finding" is true of benign calcifications.
    present = [one for one in record.findings if one.category in MAIN_CATEGORIES and one.suspicious is not False]
    if absent and (not present or dice.happens(0.5)):
        return Planted(replace(record, findings=(*record.findings, Finding(dice.choose(absent)))), dropout=0.0)
    if not present:
        return None
    gone = dice.choose(present)
    kept = tuple(one for one in record.findings if one is not gone)
    known = tuple(dict.fromkeys((*record.exhaustive, gone.category)))
    return Planted(replace(record, findings=kept, exhaustive=known, exhaustive_for="all"), dropout=0.0)


def invent_finding(record: BreastRecord, dice: Dice) -> Planted | None:
    there = {one.category for one in record.findings} | set(record.exhaustive)
    kinds = [name for name in terms.CATEGORIES if name not in there]
    if any(name in terms.ASYMMETRIES for name in there):
        kinds = [name for name in kinds if name not in terms.ASYMMETRIES]
    if not kinds:
        return None
    return Planted(replace(record, findings=(*record.findings, Finding(dice.choose(kinds)))), dropout=0.0)


def change_descriptor(record: BreastRecord, dice: Dice) -> Planted | None:
    places = [
        (place, name)
        for place, one in enumerate(record.findings)
        for name in (*_SLOTS, "mass_density")
        if getattr(one, name)
    ]
    if not places:
        return None
    place, name = dice.choose(places)
    held = getattr(record.findings[place], name)
    if name == "mass_density":
        return _change(
            record, place, mass_density=dice.choose([one for one in get_args(terms.MassDensity) if one != held])
        )
    other = [one for one in get_args(_SLOTS[name]) if one not in held]
    return _change(record, place, **{name: (dice.choose(other), *held[1:])})


def change_size(record: BreastRecord, dice: Dice) -> Planted | None:
    """By 2 mm at least, and by a tenth."""
    places = [place for place, one in enumerate(record.findings) if one.size_mm]
    if not places:
        return None
    place = dice.choose(places)
    size = float(record.findings[place].size_mm or 0)
    step = max(2.5, size * dice.draw_between(0.1, 1.0))
    return _change(record, place, size_mm=size + step if size - step < 1 or dice.happens(0.5) else size - step)


def change_place(record: BreastRecord, dice: Dice) -> Planted | None:
    places: list[tuple[int, str]] = []
    for place, one in enumerate(record.findings):
        places += [(place, name) for name in ("vertical", "horizontal", "depth") if getattr(one.location, name)]
        places += [(place, "views")] if len(one.views) == 1 and len(record.views) == 2 else []
    if not places:
        return None
    place, name = dice.choose(places)
    finding = record.findings[place]
    if name == "views":
        return _change(record, place, views=("mlo",) if finding.views == ("cc",) else ("cc",))
    values = get_args({"vertical": terms.Vertical, "horizontal": terms.Horizontal, "depth": terms.Depth}[name])
    other = dice.choose([one for one in values if one != getattr(finding.location, name)])
    return _change(record, place, location=replace(finding.location, **{name: other}))


def _change(record: BreastRecord, place: int, **changes: Any) -> Planted:
    changed = [replace(one, **changes) if at == place else one for at, one in enumerate(record.findings)]
    return Planted(replace(record, findings=tuple(changed)))


ERRORS: dict[str, Plant] = {
    "side": change_side,
    "assessment or density": change_category,
    "negation": change_negation,
    "invented finding": invent_finding,
    "descriptor": change_descriptor,
    "size": change_size,
    "place or view": change_place,
}
