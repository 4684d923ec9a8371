"""From an archive's files to a cache of breasts: end to end by the public commands, on DICOM files."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from breast_pictures import draw_breast, write_mammogram
from hilum.breasts import BREAST_FINDINGS
from hilum.cache import Cache
from hilum.cache.writer import build_cache
from hilum.cli import main
from hilum.errors import UserError
from hilum.imaging.affine import map_boxes_from_source, map_boxes_to_source, measure_spacing
from hilum.loader import iterate_studies
from hilum.masks import read_masks
from hilum.report.breast_section import describe_breasts
from hilum.study import read_studies
from sources.archives.vindr_mammo import BOX, write_vindr_mammo
from toy_archive import write_archive

SETTINGS = {"policy": "mammo-auto-1", "frame": (200, 120), "bits": 16, "workers": 0, "progress": False}


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study table of VinDr-Mammo's layout, made by the command."""
    root = write_vindr_mammo(tmp_path_factory.mktemp("vindr"))
    assert main(["ingest", "vindr-mammo", str(root), "--out", str(root / "breasts.parquet")]) == 0
    return root / "breasts.parquet"


@pytest.fixture(scope="module")
def cache(archive: Path) -> Cache:
    out = archive.parent / "cache"
    words = ["--policy", "mammo-auto-1", "--frame", "200", "120", "--bits", "16", "--workers", "1"]
    assert main(["cache", str(archive), "--out", str(out), *words, "--fractions", "0.9", "0.1", "0"]) == 0
    return Cache.open(out)


def test_the_cache_holds_every_breast_in_one_frame_and_says_what_was_done(cache: Cache) -> None:
    assert cache.policy == "mammo-auto-1/frame200x120/uint16"
    assert (cache.index["frame"], cache.index["short_side"]) == ([200, 120], 120)
    assert {(int(view["height"]), int(view["width"])) for view in cache.views} == {(200, 120)}
    assert cache.pixel_dtype == np.uint16
    assert len(cache.views) == 20
    for view in range(len(cache.views)):  # chest wall at the left, air at the right
        image = cache.image(view)
        assert image[:, :30].mean() > 4 * image[:, -30:].mean()
    assert cache.verify() == []
    assert pl.read_parquet(cache.path / "notices.parquet").is_empty()


def test_boxes_and_millimetres_survive_the_cache(cache: Cache) -> None:
    table = cache.table()
    row = next(row for row in table.iter_rows(named=True) if any("e1-0" in view["path"] for view in row["views"]))
    found = next(one for one in row[BREAST_FINDINGS] if "e1-0" in one["path"])
    place = next(place for place, view in enumerate(row["views"]) if "e1-0" in view["path"])
    study = table["study"].to_list().index(row["study"])
    view = int(cache.studies["first_view"][study]) + place
    affine = cache.views["affine"][view]
    box = np.array([[found[side] for side in ("top", "left", "bottom", "right")]])
    assert tuple(box[0, [1, 0, 3, 2]]) == BOX
    inside = map_boxes_from_source(affine, box, (200, 120))
    top, left, bottom, right = np.rint(inside[0]).astype(int)
    image = cache.image(view).astype(float) / 65535
    assert image[top + 1 : bottom - 1, left + 1 : right - 1].min() > 0.95  # the mass, at 4000 of 4095
    ring = (
        image[top - 3 : bottom + 3, left - 3 : right + 3].sum()
        - image[top - 1 : bottom + 1, left - 1 : right + 1].sum()
    )
    assert ring / ((bottom - top + 6) * (right - left + 6) - (bottom - top + 2) * (right - left + 2)) < 0.6
    np.testing.assert_allclose(map_boxes_to_source(affine, inside), box, atol=1e-2)
    spacing = tuple(map(float, cache.breasts["spacing_mm"][view]))
    assert spacing == pytest.approx((0.07, 0.08))
    down, across = measure_spacing(affine, spacing)
    size_mm = (inside[0, 2] - inside[0, 0]) * down, (inside[0, 3] - inside[0, 1]) * across
    assert size_mm == pytest.approx((32 * 0.07, 32 * 0.08), rel=1e-3)


def test_official_tests_stay_tests_and_the_loader_reads_breasts(cache: Cache) -> None:
    table = cache.table()
    tests = {row["study"] for row in table.iter_rows(named=True) if any("e3" in view["path"] for view in row["views"])}
    assert {table["study"][int(row)] for row in cache.rows("test")} == tests
    patients = [set(cache.studies["patient"][cache.rows(split)]) for split in ("train", "val", "test")]
    assert sum(map(len, patients)) == len(set.union(*patients))
    batches = list(iterate_studies(cache, cache.rows("train"), views_per_batch=16))
    assert sum(batch.num_views for batch in batches) == 4 * len(cache.rows("train"))
    assert {int(kind) for batch in batches for kind in batch.view_kind} == {3, 4}


def test_the_report_counts_cancers_by_full_years_as_the_risk_task_does(cache: Cache) -> None:
    """Cancers after 4.9, 5 and 6 years; no cancer in 6, 5 and 4 years; one breast of which nothing is known."""
    known = [(4.9, None), (5.0, None), (6.0, 7.0), (None, 6.0), (None, 5.0), (None, 4.0), (None, None)]
    table = cache.table()
    breasts = table["breasts"].to_list()
    every = iter([*known, *[(None, None)] * 100])
    for breast in (one for study in breasts for one in study):
        breast["years_to_cancer"], breast["years_to_last_followup"] = next(every)
    changed = table.with_columns(pl.Series("breasts", breasts, dtype=table.schema["breasts"]))
    _, values, _ = describe_breasts(changed)
    assert values.table is not None
    counts = {row[0]: row[1] for row in values.table.rows}
    assert (counts["cancer within 5 years"], counts["followed for 5 years without"]) == ("1", "4")


def test_the_report_shows_breasts_of_table_and_cache(archive: Path, cache: Cache, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    assert main(["report", str(archive), "--out", str(page)]) == 0
    text = page.read_text()
    for words in ("What is known of breasts", "with several images of one of them", "BI-RADS 4", "skin retraction"):
        assert words in text, words
    views, values, findings = describe_breasts(cache.table())
    assert views.table is not None
    assert views.table.columns[:2] == ["", "all"]
    assert views.table.rows[0][:2] == ["breasts", "10"]
    assert ["with CC only", "1"] in [row[:2] for row in views.table.rows]
    assert values.table is not None
    assert ["BI-RADS 4", "2"] in [row[:2] for row in values.table.rows]
    assert findings.table is not None
    assert ["mass", "1", "9", "2", "2"] in findings.table.rows


# --- what is odd, and what is refused


def write_folder(root: Path) -> Path:
    """One exam's files whose headers and pictures do not all agree, a tomosynthesis, a capture; a table of them."""
    headers = {
        "straight": ("left", {"ImageLaterality": "L", "ViewPosition": "CC"}),
        "mirrored": ("left", {"ImageLaterality": "R", "ViewPosition": "CC"}),
        "other-side": ("right", {"ImageLaterality": "L", "ViewPosition": "MLO"}),
        "other-view": ("left", {"ImageLaterality": "L", "ViewPosition": "MLO", "BreastImplantPresent": "YES"}),
        "volume": ("left", {"NumberOfFrames": 1, "ImageType": ["DERIVED", "PRIMARY", "TOMOSYNTHESIS", "NONE"]}),
        "spot": ("left", {"SeriesDescription": "spot"}),
        "empty": ("left", {}),
    }
    lines = ["image,study,patient,view,laterality"]
    said = {"mirrored": "CC,R", "other-side": "MLO,R", "other-view": "CC,L"}
    for number, (name, (side, facts)) in enumerate(headers.items()):
        picture = draw_breast(side)
        picture[::9, :: 7 + number] += 2
        if name == "empty":
            picture[:] = 60
            picture[200:240, 100:140] = 4000  # a marker
        write_mammogram(root / f"{name}.dcm", picture, **facts)
        lines.append(f"{name}.dcm,1,1,{said.get(name, 'CC,L')}")
    lines.append("z.dcm,2,2,CC,L")
    shutil.copy(root / "straight.dcm", root / "z.dcm")
    (root / "t.csv").write_text("\n".join(lines) + "\n")
    return root / "t.csv"


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = write_folder(tmp_path_factory.mktemp("odd"))
    out = file.parent / "t.parquet"
    assert main(["ingest", "table", str(file), "--out", str(out), "--keep-ids"]) == 0
    return out


def test_disagreements_are_told_and_special_views_refused(odd: Path, tmp_path: Path, capsys: pytest.CaptureFixture):
    settings = SETTINGS | {"progress": True}
    build_cache(odd, tmp_path / "cache", **settings)
    notices = pl.read_parquet(tmp_path / "cache" / "notices.parquet")
    told = sorted((path, re.sub(r"[\d.]+%", "...", notice)) for path, notice in notices.select("path", "notice").rows())
    assert told == [
        ("empty.dcm", "the whole frame is kept: what could be the breast fills ... of the frame"),
        ("mirrored.dcm", "right breast with its chest wall at the left: stored mirrored, or of the other breast"),
        ("other-side.dcm", "right breast in the table, left in the file's header; the table counts"),
        ("other-view.dcm", "cc in the table, mlo in the file's header; the table counts"),
        ("other-view.dcm", "implant, as the file's header says"),
    ]
    rejected = dict(pl.read_parquet(tmp_path / "cache" / "rejected.parquet").select("path", "reason").rows())
    assert rejected["volume.dcm"] == "a slice of a tomosynthesis; expected a projection image"
    assert "--take spot" in rejected["spot.dcm"]
    assert "4 images to look at" in capsys.readouterr().err


def test_what_is_taken_and_how_is_part_of_a_shard(odd: Path, tmp_path: Path) -> None:
    out = tmp_path / "cache"
    build_cache(odd, out, **SETTINGS)
    made = json.loads((out / "shard-00000.json").read_text())
    build_cache(odd, out, **SETTINGS, take=("spot",))
    again = json.loads((out / "shard-00000.json").read_text())
    assert len(again["images"]) == len(made["images"]) + 1
    with pytest.raises(UserError, match="frame200x120"):
        build_cache(odd, out, **(SETTINGS | {"frame": (300, 200)}))
    with pytest.raises(UserError, match="mammo-auto-1"):
        build_cache(odd, out, **(SETTINGS | {"policy": "mammo-minmax-1"}))


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"policy": "voi-1", "frame": (200, 120)}, "--frame is for mammograms"),
        ({"policy": "voi-1", "frame": None, "take": ("spot",)}, "--take is for mammograms"),
        ({"short_side": 512}, "--short-side has no effect"),
        ({"frame": (200, 20)}, "at least 64 pixels"),
        ({"take": ("spots",)}, "--take spots"),
    ],
)
def test_settings_without_effect_are_refused(odd: Path, tmp_path: Path, settings: dict, reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        build_cache(odd, tmp_path / "cache", **(SETTINGS | settings))


def test_chests_are_not_framed_as_breasts_nor_masks_cut_as_if_they_were_not(cache: Cache, tmp_path: Path) -> None:
    table = write_archive(tmp_path / "chests", [1, 2])
    with pytest.raises(UserError, match="3 of 3 views are frontal, lateral"):
        build_cache(table, tmp_path / "cache", **SETTINGS)
    with pytest.raises(UserError, match="masks are not cut"):
        read_masks(cache)


@pytest.mark.needs_real_data
def test_the_real_exam_becomes_four_breasts_in_1520_by_912(real_data: Path, tmp_path: Path) -> None:
    table = tmp_path / "t.parquet"
    words = ["--columns", "patient=exam_id", "--root", str(real_data / "mammo"), "--keep-ids"]
    assert main(["ingest", "table", str(real_data / "mammo" / "manifest.csv"), "--out", str(table), *words]) == 0
    (views,) = read_studies(table)["views"]
    assert [(view["kind"], view["laterality"]) for view in views] == [
        (kind, side) for side in ("left", "right") for kind in ("cc", "mlo")
    ]
    build_cache(table, tmp_path / "cache", **(SETTINGS | {"frame": None}), split_fractions={"train": 1.0})
    cache = Cache.open(tmp_path / "cache")
    assert cache.policy == "mammo-auto-1/frame1520x912/uint16"
    assert [cache.image(view).shape for view in range(4)] == [(1520, 912)] * 4
    notices = pl.read_parquet(tmp_path / "cache" / "notices.parquet")["notice"].unique().to_list()
    assert notices == ["right breast with its chest wall at the left: stored mirrored, or of the other breast"]
    assert np.isnan(cache.breasts["spacing_mm"]).all()
    assert (cache.breasts["area"] > 2_000_000).all()


def test_a_cache_may_stretch_as_mammo_clip_does_and_keeps_the_way_back(archive: Path, tmp_path: Path) -> None:
    how = {**SETTINGS, "policy": "mammo-clip-1", "bits": 8}
    build_cache(archive, tmp_path / "cache", **how)
    cache = Cache.open(tmp_path / "cache")
    assert cache.policy == "mammo-clip-1/frame200x120/uint8"
    assert (cache.is_of_mammograms, cache.turns_breasts) == (True, False)
    table = cache.table()
    views = table["views"].explode().struct.unnest()
    view = next(place for place, path in enumerate(views["path"]) if "e1-0" in path)
    affine = cache.views["affine"][view].astype(np.float64)
    box = np.array([[BOX[1], BOX[0], BOX[3], BOX[2]]])
    top, left, bottom, right = map_boxes_from_source(affine, box, (200, 120))[0].round().astype(int)
    image = cache.image(view)
    assert image[top + 2 : bottom - 2, left + 2 : right - 2].min() > 200  # the mass is bright there
    assert image[top - 8 : top - 3, left:right].max() < 200
    np.testing.assert_allclose(map_boxes_to_source(affine, map_boxes_from_source(affine, box)), box, atol=1e-3)
    for path, side, shown in zip(views["path"], views["laterality"], range(len(views)), strict=True):
        quarters = cache.image(shown)[:, :30].mean(), cache.image(shown)[:, -30:].mean()
        assert (quarters[0] > quarters[1]) == (side == "left"), path  # nobody is mirrored
    with pytest.raises(UserError, match="holds a cache of policy mammo-clip-1"):
        build_cache(archive, tmp_path / "cache", **SETTINGS)
