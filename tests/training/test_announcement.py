"""What a run says of its data before it begins."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tests.toy_archive import make_cache

from hilum.config import Config, CrossDecoder, Reconstruction
from hilum.recipes import build_recipe
from hilum.sampler import FindingShare
from hilum.training.announcement import describe_findings, warn_of_missing_views, warn_of_small_steps


def cross_views(share: float) -> Config:
    config = build_recipe("independent", "hilum", "tiny")
    term = config.terms["reconstruction"]
    assert isinstance(term, Reconstruction)
    assert isinstance(term.decoder, CrossDecoder)
    term = replace(term, decoder=replace(term.decoder, other_views=share))
    return replace(config, terms={**config.terms, "reconstruction": term})


@pytest.mark.parametrize(
    ("num_views", "share", "said"),
    [
        ([1] * 6, 0.5, ["terms.reconstruction.decoder.other_views finds none: take the recipe `independent`"]),
        ([1] * 6, 0.0, []),
        ([2] * 6, 0.5, []),
    ],
)
def test_a_decoder_of_other_views_without_any_is_said(
    num_views: list[int], share: float, said: list[str], tmp_path: Path
):
    cache = make_cache(tmp_path, num_views, split=["train"] * 6)
    lines = warn_of_missing_views(cross_views(share), cache, cross_views(share).data.multi_view_floor)
    assert len(lines) == len(said)
    for line, part in zip(lines, said, strict=True):
        assert part in line


def test_few_studies_of_two_views_are_said_with_the_share_that_is_kept(tmp_path: Path):
    cache = make_cache(tmp_path, [2] + [1] * 5, split=["train"] * 6)
    config = cross_views(0.0)
    (line,) = warn_of_missing_views(config, cache, 0.17)
    assert "at least 17% of a step, not" in line


def test_which_breasts_are_drawn_how_much_more_often_is_said() -> None:
    config = build_recipe("mv_clip", "hilum", "small")
    config = replace(config, data=replace(config.data, finding_share=0.5))
    kinds = {"calcification": 175, "mass": 490}
    (line,) = describe_findings(config, (FindingShare(600, 8000, 0.245, 4.0), kinds))
    assert line.startswith("Breasts with a finding: 600 of 8,000 (breasts with mass 490, calcification 175); they are ")
    assert "they are 24% of a step (data.finding_share), each drawn 4.0 times as often as one without; not 50%" in line
    assert line.endswith("since none is drawn more than 4 times as often as another (data.max_oversampling)")
    exams = replace(config, data=replace(config.data, one_per_patient=False))
    (line,) = describe_findings(exams, (FindingShare(600, 8000, 0.5, 12.3), kinds))
    assert line.startswith("Exams with a finding")
    assert line.endswith("each drawn 12.3 times as often as one without")
    (line,) = describe_findings(exams, (FindingShare(600, 8000, 1.0, float("inf")), kinds))
    assert line.endswith("and nothing else is drawn")
    assert describe_findings(exams, None) == []


def test_a_patient_of_many_breasts_who_makes_small_steps_is_said() -> None:
    """144 views are asked for; a cache of forty breasts of one woman has forty steps."""
    config = build_recipe("mv_clip", "hilum", "small")
    (line,) = warn_of_small_steps(config, 7.2, 40)
    assert "about 7 views, not 144: one patient is in all 40 steps" in line
    assert not warn_of_small_steps(config, 140.0, 40)
    assert not warn_of_small_steps(config, 20.0, 1)  # a small cache, of a woman with one breast each
    assert not warn_of_small_steps(build_recipe("mv_clip", "paper", "small"), 7.2, 40)
