"""Records of breasts from a study table's columns `breasts` and `breast_findings` (hilum/breasts.py), of any archive.

Ids are the table's, hashed by ingest. Outcomes (cancer, pathology, years) and the words that archives have for places
are not read. What an archive lists completely are the labels of a breast with a state, so that 0 is an absence. Where
an archive does not say which boxes of two views are one finding, all of one kind are one entry, `several` where a view
has two.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import polars as pl
from pydantic import ValidationError

from hilum.breasts import BREAST_FINDINGS, BREASTS, choose_worst
from hilum.cache import Cache
from hilum.errors import UserError
from hilum.study import read_studies

from .cached_places import place_cached
from .record import Box, BreastRecord, Finding, read_records
from .terms import CATEGORIES, SUSPICIOUS, Distribution, Margin, MassDensity, Morphology, Shape, View

_SOURCES: dict[str, Any] = {"breast": "breast", "finding": "finding-max", "exam": "exam"}
_VIEWS: dict[str, View] = {"cc": "cc", "mlo": "mlo"}
_KINDS = {**{name: name for name in CATEGORIES}, "post-surgical change": "post-surgical"}
# Words of archives for what a record has fewer words for; words that name no morphology ("generic") are left out.
_MORPHOLOGIES = {
    **{name: name for name in get_args(Morphology)},
    "lucent-centred": "rim",
    "oil cyst": "rim",
    "pleomorphic": "fine pleomorphic",
    "fine linear": "fine linear branching",
    "fine linear or branching": "fine linear branching",
    "coarse or popcorn": "coarse",
}


def read_breasts(studies: pl.DataFrame, place: str) -> list[BreastRecord]:
    """Records of all breasts of which the table has an entry; `place` names it in errors.

    Raises:
        UserError: the table has no column of breasts, or one says what cannot be.
    """
    if BREASTS not in studies.columns:
        raise UserError(
            f"{place} has no column {BREASTS}: its archive says nothing of single breasts. Give a table of a "
            "mammography archive, or a file of records, one line of JSON each (.jsonl)."
        )
    columns = ["dataset", "patient", "study", "views", BREASTS]
    columns += [BREAST_FINDINGS] if BREAST_FINDINGS in studies.columns else []
    records: list[BreastRecord] = []
    for study in studies.select(columns).iter_rows(named=True):
        try:
            records += [_build_record(study, breast) for breast in study[BREASTS] or []]
        except ValidationError as error:
            first = error.errors()[0]
            raise UserError(
                f"{place}, study {study['study']}: {'.'.join(map(str, first['loc']))}: {first['msg']} (found "
                f"{first['input']!r}). Correct its breasts or findings, or leave it out."
            ) from None
    return records


def open_records(path: Path) -> list[BreastRecord]:
    """Records of a cache, whose images tell where findings are, a study table (.parquet) or a file of records
    (.jsonl)."""
    if path.is_dir():
        cache = Cache.open(path)
        return place_cached(cache, read_breasts(cache.table(), str(path)))
    if path.suffix == ".parquet":
        return read_breasts(read_studies(path), str(path))
    return read_records(path)


def _build_record(study: Mapping[str, Any], breast: Mapping[str, Any]) -> BreastRecord:
    side, assessment = breast["laterality"], breast["assessment"]
    kinds = {view["path"]: view["kind"] for view in study["views"] if view["laterality"] == side}
    view_of: dict[str, View] = {path: _VIEWS[kind] for path, kind in kinds.items() if kind in _VIEWS}
    rows = [one for one in study.get(BREAST_FINDINGS) or [] if one["laterality"] == side]
    grouped: dict[tuple[str, str | None], list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        if row["kind"] in _KINDS:
            grouped[_KINDS[row["kind"]], row["finding"]].append(row)
    findings = tuple(_build_finding(kind, group, view_of) for (kind, _), group in grouped.items())
    listed = {_KINDS.get(label["name"]) for label in breast["labels"] or []}
    exhaustive = tuple(name for name in CATEGORIES if name in listed)
    return BreastRecord(
        study["dataset"], study["patient"], study["study"], side, assessment,
        None if assessment is None else _SOURCES.get(breast["assessment_source"], "breast"),
        breast["density"], implant=breast["implant"], views=tuple(sorted(set(view_of.values()))),
        findings=findings, exhaustive=exhaustive,
        # Archives mark what is not benign; BI-RADS 1 says that there is nothing of either.
        exhaustive_for="all" if assessment == 1 and not findings else "suspicious",
    )  # fmt: skip


def _build_finding(kind: str, rows: Sequence[Mapping[str, Any]], view_of: Mapping[str, View]) -> Finding:
    """One finding of some rows, or several that nobody tells apart."""
    mass, calcification = kind == "mass", kind == "calcification"
    placed = [row for row in rows if row["path"] in view_of]
    boxes = [
        Box(view_of[row["path"]], row["top"], row["left"], row["bottom"], row["right"])
        for row in placed
        if row["top"] is not None
    ]
    morphologies = _agree(rows, "morphology", _MORPHOLOGIES) if calcification else ()
    sizes = [row["size_mm"] for row in rows if row["size_mm"]]
    densities = _agree(rows, "density", _same(MassDensity)) if mass else ()
    return Finding(
        kind,  # ty: ignore[invalid-argument-type] - one of CATEGORIES
        several=rows[0]["finding"] is None and max(Counter(row["path"] for row in rows).values()) > 1,
        suspicious=_is_suspicious(rows, morphologies),
        shapes=_agree(rows, "shape", _same(Shape)) if mass else (),
        margins=_agree(rows, "margin", _same(Margin)) if mass else (),
        mass_density=densities[0] if len(densities) == 1 else None,
        morphologies=morphologies,
        distributions=_agree(rows, "distribution", _same(Distribution)) if calcification else (),
        size_mm=max(sizes) if sizes else None,
        size_source="table" if sizes else None,
        birads=choose_worst([row["assessment"] for row in rows]),  # ty: ignore[invalid-argument-type] - 0 to 6
        views=tuple(sorted({view_of[row["path"]] for row in placed})),
        boxes=tuple(boxes),
    )


def _is_suspicious(rows: Sequence[Mapping[str, Any]], morphologies: Sequence[Morphology]) -> bool | None:
    """By the archive's word ("Suspicious Calcification"), else by what their morphology says of calcifications."""
    if any(row.get("suspicious") for row in rows):  # a cache of an earlier release has no such field
        return True
    return any(name in SUSPICIOUS for name in morphologies) if morphologies else None


def _agree(rows: Iterable[Mapping[str, Any]], column: str, known: Mapping[str, Any]) -> tuple[Any, ...]:
    """The words of a column, joined by ";", that a record has, where all rows that have some say the same."""
    said = {
        tuple(dict.fromkeys(known[word.strip()] for word in row[column].split(";") if word.strip() in known))
        for row in rows
        if row[column]
    }
    return said.pop() if len(said) == 1 else ()


def _same(words: Any) -> dict[str, Any]:
    return {word: word for word in get_args(words)}
