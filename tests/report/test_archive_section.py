"""The archive in pictures and numbers."""

from __future__ import annotations

from pathlib import Path

import pytest

from hilum.report.archive_section import build_archive_section
from toy_archive import make_cache


@pytest.mark.parametrize("num_views", [[2, 1, 3], [1] * 30, [3] * 12])
def test_a_study_is_pictured_once(num_views: list[int], tmp_path: Path) -> None:
    cache = make_cache(tmp_path, num_views)
    section, _ = build_archive_section(cache)
    (block,) = (block for block in section.blocks if block.heading == "Studies")
    assert len(block.pictures) == min(24, sum(num_views))
    assert len({picture.address for picture in block.pictures}) == len(block.pictures)
