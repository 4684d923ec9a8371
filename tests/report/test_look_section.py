"""The archive's curves beside those of real X-rays."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from hilum.imaging.statistics import NUM_GREYS, SIDE, measure_histogram
from hilum.report.look_section import KINDS, describe_look, measure_look, read_real_looks
from toy_archive import make_cache


def test_real_curves_are_whole_and_of_many_images() -> None:
    looks = read_real_looks()
    assert set(looks) == set(KINDS)
    for look in looks.values():
        assert look.num_images >= 40
        assert len(look.histogram.mean) == NUM_GREYS
        assert look.histogram.mean.sum() == pytest.approx(1, abs=1e-3)
        assert len(look.spectrum.mean) == SIDE // 2
        for curve in (look.histogram, look.spectrum):
            assert (curve.low <= curve.high).all()
        # Most contrast of an X-ray is in its large shapes.
        assert look.spectrum.mean[0] > 1e3 * look.spectrum.mean[-1]


def test_real_curves_say_where_they_are_from() -> None:
    stored = json.loads((files("hilum.report") / "real_xrays.json").read_text())
    for kind in KINDS:
        assert sum(one["images"][kind] for one in stored["datasets"]) == stored["looks"][kind]["num_images"]


@pytest.mark.parametrize("bits", [8, 16])
def test_archive_is_measured_by_kind_of_view(tmp_path: Path, bits: int) -> None:
    cache = make_cache(tmp_path, [2, 1, 1, 2], sides=(64, 64), bits=bits)
    looks = {kind: measure_look(cache, kind) for kind in ("frontal", "lateral", "cc")}
    assert [look and look.num_images for look in looks.values()] == [4, 2, None]
    laterals = [cache.image(view) / np.iinfo(cache.pixel_dtype).max for view in (1, 5)]
    assert looks["lateral"]
    assert looks["lateral"].histogram.mean == pytest.approx(np.mean([measure_histogram(x) for x in laterals], axis=0))
    assert len(looks["lateral"].spectrum.mean) == 32
    chosen = measure_look(cache, "frontal", 2)
    again = measure_look(cache, "frontal", 2)
    assert chosen
    assert again
    assert np.array_equal(chosen.histogram.mean, again.histogram.mean)


def test_block_has_two_panels_a_kind_and_is_left_out_without_chest_views(tmp_path: Path) -> None:
    cache = make_cache(tmp_path, [1, 1])
    (block,) = describe_look(cache)
    assert len(block.figures) == 2
    assert "2 frontal images here" in block.caption
    cache.views["view_kind"] = 3
    assert describe_look(cache) == []


def test_other_body_parts_are_not_held_against_chests(tmp_path: Path) -> None:
    cache = make_cache(tmp_path, [1, 1, 2, 1], extra_body_part=["CHEST", "HAND", "FOOT", None])
    (block,) = describe_look(cache)
    assert "2 frontal images here" in block.caption
    assert "2 studies of other body parts are left out" in block.caption
    assert not any("lateral" in figure for figure in block.figures)
    hands = make_cache(tmp_path / "hands", [1, 2], extra_body_part=["HAND", "HAND"])
    assert describe_look(hands) == []
