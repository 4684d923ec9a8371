"""The canonical record of one breast in one exam: what every text is made from and checked against (L 2.2).

None and an empty tuple mean "not recorded" and are never written as absence; what is known to be absent stands in
`exhaustive`. Outcomes (pathology, cancer) have no place here: they are targets, and a text that held them would hold
the label.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le
from pydantic import TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from hilum.atomic import write_atomic
from hilum.breasts import WORST_ASSESSMENT
from hilum.config.strict import STRICT
from hilum.errors import UserError

from .terms import (
    ASYMMETRIES,
    Assessment,
    BreastDensity,
    Category,
    Depth,
    Distribution,
    Horizontal,
    Margin,
    MassDensity,
    Morphology,
    Shape,
    Side,
    Vertical,
    View,
)


@dataclass(frozen=True, config=STRICT)
class Box:
    """Where a finding was drawn, in pixels of the view's image as stored in the archive."""

    view: View
    ymin: float
    xmin: float
    ymax: float
    xmax: float

    def __post_init__(self) -> None:
        if not (self.ymin < self.ymax and self.xmin < self.xmax):
            raise ValueError(f"a box of no area: rows {self.ymin} to {self.ymax}, columns {self.xmin} to {self.xmax}")


@dataclass(frozen=True, config=STRICT)
class Location:
    """Where in the breast; only what geometry tells (location.py)."""

    vertical: Vertical | None = None
    horizontal: Horizontal | None = None
    depth: Depth | None = None


@dataclass(frozen=True, config=STRICT)
class Finding:
    """One finding, or several of one kind that the archive does not tell apart."""

    category: Category
    several: bool = False
    """More than one of them."""
    suspicious: bool | None = None
    """Said of calcifications and lymph nodes by archives that record only these, or follows from the morphology."""
    shapes: tuple[Shape, ...] = ()
    """Of a mass; archives join two ("round-oval")."""
    margins: tuple[Margin, ...] = ()
    mass_density: MassDensity | None = None
    morphologies: tuple[Morphology, ...] = ()
    """Of calcifications."""
    distributions: tuple[Distribution, ...] = ()
    size_mm: Annotated[float, Gt(0), Le(300)] | None = None
    """Longest diameter."""
    size_source: Literal["table", "box"] | None = None
    """box: its longer side times the pixel spacing."""
    birads: Assessment | None = None
    """Assessment of this finding alone; never written, so that a text names one assessment only."""
    views: tuple[View, ...] = ()
    """Views in which it was seen."""
    location: Location = Location()
    boxes: tuple[Box, ...] = ()
    confidence: Annotated[float, Ge(0), Le(1)] | None = None
    """Of a detector; None where people drew it."""

    def __post_init__(self) -> None:
        if self.category != "mass" and (self.shapes or self.margins or self.mass_density):
            raise ValueError(f"{self.category} with a mass's shape, margin or density")
        if self.category != "calcification" and (self.morphologies or self.distributions):
            raise ValueError(f"{self.category} with a calcification's morphology or distribution")
        if (self.size_mm is None) != (self.size_source is None):
            raise ValueError("a size needs its source, and a source its size")
        if {box.view for box in self.boxes} - set(self.views):
            raise ValueError("a box in a view in which the finding is not said to be seen")


@dataclass(frozen=True, config=STRICT)
class BreastRecord:
    """One patient, exam and side."""

    dataset: str
    patient: str
    study: str
    laterality: Side
    assessment: Assessment | None = None
    assessment_source: Literal["breast", "finding-max", "exam"] | None = None
    """Who was assessed: this breast, the worst of its findings, or both breasts at once."""
    density: BreastDensity | None = None
    age_band: str | None = None
    """Never written, nor are the next two: they are shortcuts to the label (L 2.2)."""
    implant: bool | None = None
    exam_reason: str | None = None
    views: tuple[View, ...] = ()
    """Views that were taken."""
    findings: tuple[Finding, ...] = ()
    exhaustive: tuple[Category, ...] = ()
    """Categories of which every finding is recorded, so that none recorded is none there."""
    exhaustive_for: Literal["all", "suspicious"] = "all"
    """suspicious: only findings that are not benign are recorded, so "no suspicious mass", not "no mass"."""

    def __post_init__(self) -> None:
        if (self.assessment is None) != (self.assessment_source is None):
            raise ValueError("an assessment needs its source, and a source its assessment")
        if self.views and (wrong := {view for one in self.findings for view in one.views} - set(self.views)):
            raise ValueError(f"a finding in a view that was not taken: {', '.join(sorted(wrong))}")

    def list_absent(self) -> tuple[Category, ...]:
        """Categories known to be absent."""
        return tuple(name for name in self.exhaustive if not any(covers(name, one.category) for one in self.findings))

    def has_single_view_finding(self) -> bool:
        """Whether a finding is seen in one view of two: then the two need not look alike (L 1.5)."""
        return len(self.views) > 1 and any(len(one.views) == 1 for one in self.findings)

    def is_empty(self) -> bool:
        """Whether it says nothing of the breast, so that no text can."""
        return self.assessment is None and self.density is None and not self.findings and not self.exhaustive


_RECORD = TypeAdapter(BreastRecord)


def order_by_concern(findings: Iterable[Finding]) -> list[Finding]:
    """Findings from the most to the least worrying; those without an assessment of their own come last."""
    rank = {value: place for place, value in enumerate(WORST_ASSESSMENT)}
    return sorted(findings, key=lambda one: (rank.get(one.birads, len(rank)), _describe_finding(one)["category"]))


def describe_record(record: BreastRecord) -> dict[str, Any]:
    """What a text can say of a breast, without ids, side, boxes and outcomes.

    Its side is no part: images of both sides are shown facing one way, and the same words for either are the same
    description.
    """
    return {
        "assessment": record.assessment, "density": record.density,
        "findings": sorted((_describe_finding(one) for one in record.findings), key=json.dumps),
        "absent": sorted(record.list_absent()), "absent_for": record.exhaustive_for if record.exhaustive else None,
        "views": sorted(record.views),
    }  # fmt: skip


def name_facts(record: BreastRecord) -> list[str]:
    """A breast's description as statements: assessment, density, findings and each descriptor of them.

    Two breasts are described alike where these are the same (L 1.5's tuples, with descriptors). Statements that nearly
    all breasts of an archive share (what is absent, which views were taken) are left out: two breasts are alike by the
    share of statements they have in common. A second finding of a kind is numbered; the order is the descriptions'.
    """
    facts = [f"{name}: {value}" for name in ("assessment", "density") if (value := getattr(record, name)) is not None]
    seen: Counter[str] = Counter()
    for finding in describe_record(record)["findings"]:
        kind = finding.pop("category")
        seen[kind] += 1
        name = kind if seen[kind] == 1 else f"{kind} {seen[kind]}"
        facts.append(name)
        for field, value in finding.items():
            facts += [f"{name}, {field}: {one}" for one in (value if isinstance(value, list) else [value])]
    return [*facts, "no finding"] if record.exhaustive and not record.findings else facts


def hash_description(record: BreastRecord) -> str:
    """16 hexadecimal characters, equal for breasts of one description."""
    return hashlib.sha256(json.dumps(describe_record(record), sort_keys=True).encode()).hexdigest()[:16]


def hash_record(record: BreastRecord) -> int:
    """A lasting 63-bit number of the whole record, ids included: the key of what is drawn for its texts."""
    return int.from_bytes(hashlib.blake2b(dump_record(record).encode(), digest_size=8).digest(), "little") >> 1


def dump_record(record: BreastRecord) -> str:
    """One line of JSON; what is not recorded is left out."""
    return _RECORD.dump_json(record, exclude_defaults=True).decode()


def parse_record(line: str, place: str) -> BreastRecord:
    """A record from its line of JSON; `place` names it in errors.

    Raises:
        UserError: says which field is wrong, what was found and what is expected.
    """
    try:
        return _RECORD.validate_json(line)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"])) or "record"
        found = "" if isinstance(first.get("input"), dict) else f" (found {first.get('input')!r})"
        raise UserError(f"{place}: {field}: {first['msg']}{found}. See the fields of a record in {__name__}.") from None


def write_records(records: Iterable[BreastRecord], path: Path) -> None:
    """One line of JSON for each record. The ids in it are as private as they were: hash them before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, "".join(f"{dump_record(record)}\n" for record in records))


def read_records(path: Path) -> list[BreastRecord]:
    """Records of a file of `write_records`.

    Raises:
        UserError: no such file, a line that is no record, or one breast twice.
    """
    if not path.is_file():
        raise UserError(
            f"{path}: no such file or folder; expected a cache, a study table (.parquet), or records of breasts, one "
            "line of JSON each (.jsonl)."
        )
    records: dict[tuple[str, str, str], BreastRecord] = {}
    for number, line in enumerate(_read_lines(path), start=1):
        record = parse_record(line, f"{path}, line {number}")
        key = (record.dataset, record.study, record.laterality)
        if key in records:
            raise UserError(f"{path}, line {number}: the {record.laterality} breast of study {record.study} again.")
        records[key] = record
    return list(records.values())


def covers(claimed: Category, recorded: Category) -> bool:
    """Whether a text that says `claimed` may mean a finding recorded as `recorded`: any asymmetry is an asymmetry."""
    return claimed == recorded or (claimed == "asymmetry" and recorded in ASYMMETRIES)


def _read_lines(path: Path) -> Iterator[str]:
    yield from (line for line in path.read_text("utf-8").splitlines() if line.strip())


def _describe_finding(finding: Finding) -> dict[str, Any]:
    named = {
        "category": finding.category, "several": finding.several, "suspicious": finding.suspicious,
        "shape": sorted(finding.shapes), "margin": sorted(finding.margins), "mass_density": finding.mass_density,
        "morphology": sorted(finding.morphologies), "distribution": sorted(finding.distributions),
        "size_mm": None if finding.size_mm is None else round(finding.size_mm), "views": sorted(finding.views),
        "vertical": finding.location.vertical, "horizontal": finding.location.horizontal,
        "depth": finding.location.depth,
    }  # fmt: skip
    return {name: value for name, value in named.items() if value not in (None, [], False) or name == "category"}
