"""From rows of public archives' tables to records of breasts (L 4): VinDr-Mammo, RSNA, CBIS-DDSM, EMBED.

Rows are what `csv.DictReader` gives. A word or code that nobody knows, and values of one breast that contradict each
other, count as not recorded and are counted in the notes; outcomes (cancer, pathology, path_severity) are never read.
Ids stay as the archive has them: ingest replaces them.
"""

from __future__ import annotations

import ast
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from .codes import (
    CBIS_DISTRIBUTIONS,
    CBIS_MARGINS,
    CBIS_MORPHOLOGIES,
    CBIS_SHAPES,
    EMBED_ASSESSMENTS,
    EMBED_CALCIFICATIONS,
    EMBED_DENSITIES,
    EMBED_DISTRIBUTIONS,
    EMBED_MARGINS,
    EMBED_MASS_DENSITIES,
    EMBED_NO_MORPHOLOGY,
    EMBED_OTHERS,
    EMBED_SHAPES,
    VINDR_CATEGORIES,
)
from .record import Box, BreastRecord, Finding
from .terms import BY_CONCERN, SUSPICIOUS, Assessment, BreastDensity, Side, View

Row = Mapping[str, str | None]
Value = TypeVar("Value")
_SIDES: dict[str, Side] = {"l": "left", "left": "left", "r": "right", "right": "right"}
_VIEWS: dict[str, View] = {"cc": "cc", "mlo": "mlo"}
_DENSITIES: dict[str, BreastDensity] = {
    **{letter: letter for letter in ("a", "b", "c", "d")}, "1": "a", "2": "b", "3": "c", "4": "d",
}  # fmt: skip
_ASSESSMENTS: dict[str, Assessment] = {str(value): value for value in BY_CONCERN}
# What VinDr's readers marked wherever they saw it and did not think it benign.
_VINDR_EXHAUSTIVE = tuple(dict.fromkeys(name for name, _ in VINDR_CATEGORIES.values()))


@dataclass
class BreastTable:
    """Records of an archive's breasts, and how often something in its rows could not be used."""

    records: list[BreastRecord] = field(default_factory=list)
    notes: Counter[str] = field(default_factory=Counter)


def read_vindr(breasts: Iterable[Row], findings: Iterable[Row]) -> BreastTable:
    """VinDr-Mammo (L 4.1): rows of breast-level_annotations.csv and finding_annotations.csv.

    The archive does not say which boxes of two views are one finding, so that all of one category in a breast are one
    entry, "several" where one view has more than one. A study is a patient.
    """
    table, drawn = BreastTable(), _group(findings, "study_id", "laterality")
    for (study, letter), rows in _group(breasts, "study_id", "laterality").items():
        note = _Notes(table.notes, study)
        if (side := note.look_up("laterality", letter, _SIDES)) is None:
            continue
        found = _read_vindr_findings(drawn.get((study, letter), []), note)
        assessment = note.agree("breast_birads", [_number(_cell(row, "breast_birads")) for row in rows], _ASSESSMENTS)
        density = note.agree(
            "breast_density", [_cell(row, "breast_density").lower().removeprefix("density") for row in rows], _DENSITIES
        )
        table.records.append(
            BreastRecord(
                "vindr", study, study, side, assessment, "breast" if assessment is not None else None, density,
                views=_read_views(rows, "view_position"), findings=found, exhaustive=_VINDR_EXHAUSTIVE,
                # BI-RADS 1 says that there is nothing, benign or not.
                exhaustive_for="all" if assessment == 1 and not found else "suspicious",
            )
        )  # fmt: skip
    return table


def read_rsna(rows: Iterable[Row]) -> BreastTable:
    """RSNA (L 4.2): rows of train.csv. Findings are not recorded, so that nothing is known to be absent."""
    table = BreastTable()
    for (patient, letter), images in _group(rows, "patient_id", "laterality").items():
        note = _Notes(table.notes, patient)
        if (side := note.look_up("laterality", letter, _SIDES)) is None:
            continue
        assessment = note.agree("BIRADS", [_number(_cell(row, "BIRADS")) for row in images], _ASSESSMENTS)
        implants = {_number(_cell(row, "implant")) for row in images} - {""}
        table.records.append(
            BreastRecord(
                "rsna", patient, patient, side, assessment, "breast" if assessment is not None else None,
                note.agree("density", [_cell(row, "density").lower() for row in images], _DENSITIES),
                implant=None if len(implants) != 1 else implants == {"1"}, views=_read_views(images, "view"),
            )
        )  # fmt: skip
    return table


def read_cbis(masses: Iterable[Row], calcifications: Iterable[Row]) -> BreastTable:
    """CBIS-DDSM (L 4.3): rows of the case descriptions, both splits of each kind together.

    An abnormality number is one finding in all its views. Cases were chosen for a mass or calcification: nothing is
    known to be absent. The breast's assessment is that of its worst finding.
    """
    table, kinds, grouped = BreastTable(), {"mass": masses, "calcification": calcifications}, defaultdict(dict)
    for kind, rows in kinds.items():
        for row in rows:
            key = _cell(row, "patient_id"), _cell(row, "left or right breast").lower()
            grouped[key].setdefault((kind, _cell(row, "abnormality id")), []).append(row)
    for (patient, word), abnormalities in grouped.items():
        note = _Notes(table.notes, patient)
        if (side := note.look_up("left or right breast", word, _SIDES)) is None:
            continue
        everything = [row for rows in abnormalities.values() for row in rows]
        found = [one for (kind, _), rows in abnormalities.items() for one in _read_cbis_findings(kind, rows, note)]
        assessment = find_worst(one.birads for one in found)
        densities = [_number(_cell(row, "breast_density") or _cell(row, "breast density")) for row in everything]
        table.records.append(
            BreastRecord(
                "cbis", patient, patient, side, assessment, "finding-max" if assessment is not None else None,
                note.agree("breast density", ["" if value == "0" else value for value in densities], _DENSITIES),
                views=_read_views(everything, "image view"), findings=tuple(found),
            )
        )  # fmt: skip
    return table


def read_embed(clinical: Iterable[Row], metadata: Iterable[Row] = ()) -> BreastTable:
    """EMBED (L 4.4): rows of the clinical table, one for each finding, and of the metadata table for the views.

    Side B or none is both breasts. Sizes are left out, for their unit is not stated; so are location codes: places come
    from boxes. Radiologists name what they choose to, so that nothing is known to be absent.
    """
    table, views, grouped = BreastTable(), defaultdict(list), defaultdict(list)
    for row in metadata:
        views[_cell(row, "acc_anon"), _cell(row, "ImageLateralityFinal")].append(row)
    for row in clinical:
        letter = _cell(row, "side").upper()
        for side in "LR" if letter in ("B", "") else letter:
            grouped[_cell(row, "empi_anon"), _cell(row, "acc_anon"), side].append(row)
    for (patient, exam, letter), rows in grouped.items():
        note = _Notes(table.notes, exam)
        if (side := note.look_up("side", letter.lower(), _SIDES)) is None:
            continue
        found = [one for row in _drop_repeats(rows) for one in _read_embed_findings(row, note)]
        assessments = [note.look_up("asses", _cell(row, "asses").upper(), EMBED_ASSESSMENTS) for row in rows]
        assessment = find_worst(assessments)
        densities = [_number(_cell(row, "tissueden")) for row in rows]
        table.records.append(
            BreastRecord(
                "embed", patient, exam, side, assessment, "finding-max" if assessment is not None else None,
                note.agree("tissueden", ["" if value == "5" else value for value in densities], EMBED_DENSITIES),
                views=_read_views(views[exam, letter], "ViewPosition"), findings=tuple(found),
            )
        )  # fmt: skip
    return table


def find_worst(assessments: Iterable[Assessment | None]) -> Assessment | None:
    """The most worrying of some BI-RADS categories (0 stands between 3 and 4); None of none."""
    return min((one for one in assessments if one is not None), key=BY_CONCERN.index, default=None)


def _read_vindr_findings(rows: Sequence[Row], note: _Notes) -> tuple[Finding, ...]:
    boxes, birads, seen = defaultdict(list), defaultdict(list), defaultdict(set)
    for row in rows:
        view = _VIEWS.get(_cell(row, "view_position").lower())
        for name in _read_list(_cell(row, "finding_categories")):
            if name == "No Finding" or (kind := note.look_up("finding_categories", name, VINDR_CATEGORIES)) is None:
                continue
            birads[kind].append(_ASSESSMENTS.get(_number(_cell(row, "finding_birads"))))
            if view and (box := _read_box(row, view, note)):
                boxes[kind].append(box)
                seen[kind].add(view)
    return tuple(
        Finding(
            kind[0], suspicious=kind[1], birads=find_worst(birads[kind]),
            several=max(Counter(box.view for box in boxes[kind]).values(), default=1) > 1,
            views=tuple(sorted(seen[kind])), boxes=tuple(boxes[kind]),
        )
        for kind in birads
    )  # fmt: skip


def _read_cbis_findings(kind: str, rows: Sequence[Row], note: _Notes) -> list[Finding]:
    """One abnormality, by its rows of one or two views; a compound shape may name a second finding."""
    views = _read_views(rows, "image view")
    birads = note.agree("assessment", [_number(_cell(row, "assessment")) for row in rows], _ASSESSMENTS)
    if kind == "calcification":
        morphologies = note.agree_on_lists("calc type", rows, CBIS_MORPHOLOGIES)
        distributions = note.agree_on_lists("calc distribution", rows, CBIS_DISTRIBUTIONS)
        return [
            Finding(
                "calcification", suspicious=_judge_morphologies(morphologies), birads=birads, views=views,
                morphologies=morphologies, distributions=distributions,
            )
        ]  # fmt: skip
    kinds = note.agree_on_lists("mass shape", rows, CBIS_SHAPES)
    margins = note.agree_on_lists("mass margins", rows, CBIS_MARGINS)
    shapes = tuple(shape for category, shape in kinds if shape)
    categories = dict.fromkeys(category for category, _ in kinds) or {"mass": None}
    if margins and "mass" not in categories:
        note.count("margins of what is no mass")
    return [
        Finding(
            category, birads=birads, views=views, shapes=shapes if category == "mass" else (),
            margins=margins if category == "mass" else (),
        )
        for category in categories
    ]  # fmt: skip


def _read_embed_findings(row: Row, note: _Notes) -> list[Finding]:
    birads = EMBED_ASSESSMENTS.get(_cell(row, "asses").upper())
    found: list[Finding] = []
    named = note.look_up("massshape", _cell(row, "massshape").upper(), EMBED_SHAPES)
    margins = note.look_up_all("massmargin", _letters(row, "massmargin"), EMBED_MARGINS)
    densities = note.look_up_all("massdens", _letters(row, "massdens", "+=-"), EMBED_MASS_DENSITIES)
    if named is None and margins and not _cell(row, "massshape"):
        named = ("mass", None)
    if named and named[0] == "mass":
        density = densities[0] if len(densities) == 1 else None
        shapes = () if named[1] is None else (named[1],)
        found.append(Finding("mass", birads=birads, shapes=shapes, margins=margins, mass_density=density))
    elif named:
        found.append(Finding(named[0], birads=birads))
    codes = _letters(row, "calcfind")
    named_codes = [code for code in codes if code not in EMBED_NO_MORPHOLOGY]
    morphologies = note.look_up_all("calcfind", named_codes, EMBED_CALCIFICATIONS)
    distributions = note.look_up_all("calcdistri", _letters(row, "calcdistri"), EMBED_DISTRIBUTIONS)
    if codes or distributions:
        found.append(
            Finding(
                "calcification", birads=birads, morphologies=morphologies, distributions=distributions,
                suspicious=_judge_morphologies(morphologies),
            )
        )  # fmt: skip
    other = EMBED_OTHERS.get(_cell(row, "otherfind").upper())  # most codes say nothing that a record holds
    if other and other not in {one.category for one in found}:
        found.append(Finding(other, birads=birads))
    return found


def _judge_morphologies(morphologies: Sequence[str]) -> bool | None:
    return any(name in SUSPICIOUS for name in morphologies) if morphologies else None


class _Notes:
    """Counts what cannot be used of one breast."""

    def __init__(self, notes: Counter[str], study: str) -> None:
        self._notes, self._study = notes, study

    def count(self, what: str) -> None:
        self._notes[what] += 1

    def look_up(self, column: str, word: str, known: Mapping[str, Value]) -> Value | None:
        if word and word not in known:
            self.count(f"{column}: unknown value {word[:40]!r}")
        return known.get(word)

    def look_up_all(self, column: str, words: Iterable[str], known: Mapping[str, Value]) -> tuple[Value, ...]:
        found = [self.look_up(column, word, known) for word in words]
        return tuple(dict.fromkeys(one for one in found if one is not None))

    def agree(self, column: str, words: Iterable[str], known: Mapping[str, Value]) -> Value | None:
        """The one value that rows give; None of none, or of several."""
        values = self.look_up_all(column, (word.strip() for word in words), known)
        if len(values) > 1:
            self.count(f"{column}: rows of one breast differ")
        return values[0] if len(values) == 1 else None

    def agree_on_lists(self, column: str, rows: Iterable[Row], known: Mapping[str, Value]) -> tuple[Value, ...]:
        """The parts of compound words such as OVAL-LOBULATED, where rows of one finding agree."""
        lists = {
            self.look_up_all(column, _read_compound(_cell(row, column), known), known)
            for row in rows
            if _cell(row, column)
        }
        if len({frozenset(one) for one in lists}) > 1:
            self.count(f"{column}: views of one finding differ")
            return ()
        return next(iter(lists), ())


def _read_compound(cell: str, known: Mapping[str, Any]) -> list[str]:
    words = [] if cell.upper() in ("N/A", "NAN") else cell.upper().replace(" ", "_").split("-")
    return [word for word in words if word]


def _group(rows: Iterable[Row], *columns: str) -> dict[tuple[str, ...], list[Row]]:
    grouped = defaultdict(list)
    for row in rows:
        key = tuple(_cell(row, column) for column in columns)
        grouped[(*key[:-1], key[-1].lower())].append(row)
    return grouped


def _drop_repeats(rows: Iterable[Row]) -> list[Row]:
    """Rows of an exam without those that say the same of the same finding: joins with images repeat them."""
    columns = ("numfind", "asses", "massshape", "massmargin", "massdens", "calcfind", "calcdistri", "otherfind")
    return list({tuple(_cell(row, column) for column in columns): row for row in rows}.values())


def _cell(row: Row, column: str) -> str:
    """A cell without surrounding blanks and line breaks; "" where there is none."""
    return " ".join((row.get(column) or "").split())


def _letters(row: Row, column: str, allowed: str = "") -> list[str]:
    """One-letter codes of a cell, however they are parted; 0.0 is the code 0."""
    cell = re.sub(r"(?<=\d)\.0$", "", _cell(row, column).upper())
    return [letter for letter in cell if letter.isalnum() or letter in allowed]


def _number(cell: str) -> str:
    """The whole number in "BI-RADS 4", "4" or "4.0"; "" where there is none."""
    found = re.fullmatch(r"(?:bi-?rads\s*)?(\d+)(?:\.0+)?", cell.lower())
    return found[1] if found else cell


def _read_views(rows: Iterable[Row], column: str) -> tuple[View, ...]:
    return tuple(sorted({_VIEWS[name] for row in rows if (name := _cell(row, column).lower()) in _VIEWS}))


def _read_list(cell: str) -> list[str]:
    try:
        value = ast.literal_eval(cell) if cell else []
    except (ValueError, SyntaxError):
        return [cell]  # counted as an unknown value
    return [str(one) for one in value] if isinstance(value, list) else [cell]


def _read_box(row: Row, view: View, note: _Notes) -> Box | None:
    try:
        return Box(view, *(float(_cell(row, name)) for name in ("ymin", "xmin", "ymax", "xmax")))
    except ValueError:
        note.count("a finding without a usable box")
        return None
