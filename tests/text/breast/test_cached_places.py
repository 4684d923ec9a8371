"""Places and sizes from a cache: what geometry tells reaches the texts, and nothing where it tells nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from breast_pictures import WIDTH, draw_breast, write_mammogram
from hilum.cache import Cache
from hilum.cache.writer import build_cache
from hilum.cli import main
from hilum.sources.table import ingest_table
from hilum.text.breast.record import Location
from hilum.text.breast.study_breasts import open_records
from toy_table import write_table

# A mass up and near the chest wall on MLO, up (outer) on CC; a right one down, half-way, on CC alone; a calcification
# at the level of the nipple; one of which two boxes on one view tell nothing. Boxes of 20 x 30 pixels, from the wall.
FOUND = {
    ("L", "MLO", "mass"): [(130, 20)],
    ("L", "CC", "mass"): [(120, 20)],
    ("R", "CC", "mass"): [(290, 85)],
    ("L", "CC", "calcification"): [(200, 170)],
    ("R", "MLO", "calcification"): [(130, 20), (260, 60)],
}


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four pictures of one woman as DICOM files of 0.1 mm, and a row for each box."""
    root = tmp_path_factory.mktemp("breasts")
    lines = ["image|study|patient|side|view|birads|finding|xmin|ymin|xmax|ymax"]
    for side, name in (("L", "left"), ("R", "right")):
        for view in ("CC", "MLO"):
            path = f"{side}{view}.dcm"
            write_mammogram(root / path, draw_breast(name), ImagerPixelSpacing=[0.1, 0.1])
            for kind in ("mass", "calcification"):
                for row, way in FOUND.get((side, view, kind), []):
                    column = way if side == "L" else WIDTH - 1 - way
                    box = (column - 15, row - 10, column + 15, row + 10)
                    lines.append("|".join(map(str, (path, 1, 7, side, view, 4, kind, *box))))
    write_table(root, "\n".join(lines))
    return root


@pytest.fixture(scope="module")
def cache(table: Path) -> Cache:
    ingest_table(next(table.glob("*.csv")), table / "breasts.parquet")
    return build(table, "cache", policy="mammo-auto-1", frame=(200, 120), bits=16)


def build(table: Path, name: str, **settings) -> Cache:
    build_cache(table / "breasts.parquet", table / name, workers=0, progress=False, **settings)
    return Cache.open(table / name)


def test_findings_have_the_place_that_views_tell_and_the_size_that_pixels_tell(cache: Cache) -> None:
    left, right = sorted(open_records(cache.path), key=lambda record: record.laterality)
    found = {(record.laterality, one.category): one for record in (left, right) for one in record.findings}
    assert found["left", "mass"].location == Location("upper", "outer", "posterior")
    assert found["right", "mass"].location == Location(None, "inner", "middle")
    assert found["left", "calcification"].location == Location(None, None, "anterior")
    assert found["right", "calcification"].location == Location()
    sizes = {name: (one.size_mm, one.size_source) for name, one in found.items()}
    assert sizes["left", "mass"] == (pytest.approx(3.0, rel=1e-3), "box")
    assert sizes["right", "calcification"] == (None, None)  # several
    plain = open_records(cache.path.parent / "breasts.parquet")
    bare = {name: replace(one, location=Location(), size_mm=None, size_source=None) for name, one in found.items()}
    assert {(record.laterality, one.category): one for record in plain for one in record.findings} == bare


def test_a_cache_by_another_policy_tells_no_place(table: Path, cache: Cache) -> None:
    other = build(table, "plain", short_side=120)
    assert not other.is_of_mammograms
    assert open_records(other.path) == open_records(cache.path.parent / "breasts.parquet")


def test_of_a_view_with_two_images_nothing_is_told(table: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.dcm"
    write_mammogram(again, draw_breast("left"), ImagerPixelSpacing=[0.1, 0.1])
    text = next(table.glob("*.csv")).read_text()
    (tmp_path / "table.csv").write_text(text + f"\n{again},1,7,L,MLO,4,,,,,")
    for path in table.glob("*.dcm"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    ingest_table(tmp_path / "table.csv", tmp_path / "breasts.parquet")
    cache = build(tmp_path, "cache", policy="mammo-auto-1", frame=(200, 120), bits=16)
    (left,) = (one for one in open_records(cache.path) if one.laterality == "left")
    (mass,) = (one for one in left.findings if one.category == "mass")
    assert mass.location == Location(None, "outer", "posterior")


def test_texts_of_a_cache_say_the_place(cache: Cache, tmp_path: Path) -> None:
    out = tmp_path / "texts.parquet"
    assert main(["text", "write", str(cache.path), "--out", str(out), "--dropout", "0"]) == 0
    texts = pl.read_parquet(out).filter(pl.col("laterality") == "left", pl.col("style") == "report")["text"].to_list()
    assert texts
    for text in texts:
        assert "upper outer" in text.lower() or "superolateral" in text.lower()
