"""From rows of public archives' tables to records of breasts (L 4): VinDr-Mammo, RSNA, CBIS-DDSM, EMBED.

Rows are what `csv.DictReader` gives. A word or code that nobody knows, and values of one breast that contradict each
other, count as not recorded and are counted in the notes; outcomes (cancer, pathology, path_severity) are never read.
Ids stay as the archive has them: ingest replaces them.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from .archive_cells import (
    VIEWS,
    BreastNotes,
    Row,
    group_rows,
    read_box,
    read_cell,
    read_letters,
    read_list,
    read_number,
    read_views,
)
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
from .record import BreastRecord, Finding
from .terms import BY_CONCERN, SUSPICIOUS, Assessment, BreastDensity, Side

_SIDES: dict[str, Side] = {"l": "left", "left": "left", "r": "right", "right": "right"}
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
    table, drawn = BreastTable(), group_rows(findings, "study_id", "laterality")
    for (study, letter), rows in group_rows(breasts, "study_id", "laterality").items():
        note = BreastNotes(table.notes, study)
        if (side := note.look_up("laterality", letter, _SIDES)) is None:
            continue
        found = _read_vindr_findings(drawn.get((study, letter), []), note)
        assessment = note.agree(
            "breast_birads", [read_number(read_cell(row, "breast_birads")) for row in rows], _ASSESSMENTS
        )
        density = note.agree(
            "breast_density",
            [read_cell(row, "breast_density").lower().removeprefix("density") for row in rows],
            _DENSITIES,
        )
        table.records.append(
            BreastRecord(
                "vindr", study, study, side, assessment, "breast" if assessment is not None else None, density,
                views=read_views(rows, "view_position"), findings=found, exhaustive=_VINDR_EXHAUSTIVE,
                # BI-RADS 1 says that there is nothing, benign or not.
                exhaustive_for="all" if assessment == 1 and not found else "suspicious",
            )
        )  # fmt: skip
    return table


def read_rsna(rows: Iterable[Row]) -> BreastTable:
    """RSNA (L 4.2): rows of train.csv. Findings are not recorded, so that nothing is known to be absent."""
    table = BreastTable()
    for (patient, letter), images in group_rows(rows, "patient_id", "laterality").items():
        note = BreastNotes(table.notes, patient)
        if (side := note.look_up("laterality", letter, _SIDES)) is None:
            continue
        assessment = note.agree("BIRADS", [read_number(read_cell(row, "BIRADS")) for row in images], _ASSESSMENTS)
        implants = {read_number(read_cell(row, "implant")) for row in images} - {""}
        table.records.append(
            BreastRecord(
                "rsna", patient, patient, side, assessment, "breast" if assessment is not None else None,
                note.agree("density", [read_cell(row, "density").lower() for row in images], _DENSITIES),
                implant=None if len(implants) != 1 else implants == {"1"}, views=read_views(images, "view"),
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
            key = read_cell(row, "patient_id"), read_cell(row, "left or right breast").lower()
            grouped[key].setdefault((kind, read_cell(row, "abnormality id")), []).append(row)
    for (patient, word), abnormalities in grouped.items():
        note = BreastNotes(table.notes, patient)
        if (side := note.look_up("left or right breast", word, _SIDES)) is None:
            continue
        everything = [row for rows in abnormalities.values() for row in rows]
        found = [one for (kind, _), rows in abnormalities.items() for one in _read_cbis_findings(kind, rows, note)]
        assessment = find_worst(one.birads for one in found)
        densities = [
            read_number(read_cell(row, "breast_density") or read_cell(row, "breast density")) for row in everything
        ]
        table.records.append(
            BreastRecord(
                "cbis", patient, patient, side, assessment, "finding-max" if assessment is not None else None,
                note.agree("breast density", ["" if value == "0" else value for value in densities], _DENSITIES),
                views=read_views(everything, "image view"), findings=tuple(found),
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
        views[read_cell(row, "acc_anon"), read_cell(row, "ImageLateralityFinal")].append(row)
    for row in clinical:
        letter = read_cell(row, "side").upper()
        for side in "LR" if letter in ("B", "") else letter:
            grouped[read_cell(row, "empi_anon"), read_cell(row, "acc_anon"), side].append(row)
    for (patient, exam, letter), rows in grouped.items():
        note = BreastNotes(table.notes, exam)
        if (side := note.look_up("side", letter.lower(), _SIDES)) is None:
            continue
        found = [one for row in _drop_repeats(rows) for one in _read_embed_findings(row, note)]
        assessments = [note.look_up("asses", read_cell(row, "asses").upper(), EMBED_ASSESSMENTS) for row in rows]
        assessment = find_worst(assessments)
        densities = [read_number(read_cell(row, "tissueden")) for row in rows]
        table.records.append(
            BreastRecord(
                "embed", patient, exam, side, assessment, "finding-max" if assessment is not None else None,
                note.agree("tissueden", ["" if value == "5" else value for value in densities], EMBED_DENSITIES),
                views=read_views(views[exam, letter], "ViewPosition"), findings=tuple(found),
            )
        )  # fmt: skip
    return table


def find_worst(assessments: Iterable[Assessment | None]) -> Assessment | None:
    """The most worrying of some BI-RADS categories (0 stands between 3 and 4); None of none."""
    return min((one for one in assessments if one is not None), key=BY_CONCERN.index, default=None)


def _read_vindr_findings(rows: Sequence[Row], note: BreastNotes) -> tuple[Finding, ...]:
    boxes, birads, seen = defaultdict(list), defaultdict(list), defaultdict(set)
    for row in rows:
        view = VIEWS.get(read_cell(row, "view_position").lower())
        for name in read_list(read_cell(row, "finding_categories")):
            if name == "No Finding" or (kind := note.look_up("finding_categories", name, VINDR_CATEGORIES)) is None:
                continue
            birads[kind].append(_ASSESSMENTS.get(read_number(read_cell(row, "finding_birads"))))
            if view and (box := read_box(row, view, note)):
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


def _read_cbis_findings(kind: str, rows: Sequence[Row], note: BreastNotes) -> list[Finding]:
    """One abnormality, by its rows of one or two views; a compound shape may name a second finding."""
    views = read_views(rows, "image view")
    birads = note.agree("assessment", [read_number(read_cell(row, "assessment")) for row in rows], _ASSESSMENTS)
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


def _read_embed_findings(row: Row, note: BreastNotes) -> list[Finding]:
    birads = EMBED_ASSESSMENTS.get(read_cell(row, "asses").upper())
    found: list[Finding] = []
    named = note.look_up("massshape", read_cell(row, "massshape").upper(), EMBED_SHAPES)
    margins = note.look_up_all("massmargin", read_letters(row, "massmargin"), EMBED_MARGINS)
    densities = note.look_up_all("massdens", read_letters(row, "massdens", "+=-"), EMBED_MASS_DENSITIES)
    if named is None and margins and not read_cell(row, "massshape"):
        named = ("mass", None)
    if named and named[0] == "mass":
        density = densities[0] if len(densities) == 1 else None
        shapes = () if named[1] is None else (named[1],)
        found.append(Finding("mass", birads=birads, shapes=shapes, margins=margins, mass_density=density))
    elif named:
        found.append(Finding(named[0], birads=birads))
    codes = read_letters(row, "calcfind")
    named_codes = [code for code in codes if code not in EMBED_NO_MORPHOLOGY]
    morphologies = note.look_up_all("calcfind", named_codes, EMBED_CALCIFICATIONS)
    distributions = note.look_up_all("calcdistri", read_letters(row, "calcdistri"), EMBED_DISTRIBUTIONS)
    if codes or distributions:
        found.append(
            Finding(
                "calcification", birads=birads, morphologies=morphologies, distributions=distributions,
                suspicious=_judge_morphologies(morphologies),
            )
        )  # fmt: skip
    other = EMBED_OTHERS.get(read_cell(row, "otherfind").upper())  # most codes say nothing that a record holds
    if other and other not in {one.category for one in found}:
        found.append(Finding(other, birads=birads))
    return found


def _judge_morphologies(morphologies: Sequence[str]) -> bool | None:
    return any(name in SUSPICIOUS for name in morphologies) if morphologies else None


def _drop_repeats(rows: Iterable[Row]) -> list[Row]:
    """Rows of an exam without those that say the same of the same finding: joins with images repeat them."""
    columns = ("numfind", "asses", "massshape", "massmargin", "massdens", "calcfind", "calcdistri", "otherfind")
    return list({tuple(read_cell(row, column) for column in columns): row for row in rows}.values())
