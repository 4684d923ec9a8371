"""The table and the texts that MV-MLM's arms are compared on: what of the phantom's own tables they keep."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from evidence.mammogram_arms import list_arms
from evidence.mammogram_caches import join_tables
from evidence.mammogram_places import Number
from evidence.mammogram_summary import describe, subtract
from evidence.mammogram_texts import split_sides

from hilum.config import LanguageModelFile
from hilum.training.effects import check_effects
from hilum.training.teacher_effects import check_asked

FOLLOW_UP = "patient_id,exam_id,path,laterality,view,day,age,institution,birads,density,cancer"
FINDINGS = (
    "exam_id,laterality,finding,kind,shape,margin,mass_density,morphology,distribution,size_mm,finding_birads,views,"
    "cc_box,cc_mask,mlo_box,mlo_mask"
)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """A left breast with a suspicious finding on MLO alone and a plainly benign one on both; an empty right breast."""
    paths = ["L_CC", "L_MLO", "L_MLO_2", "R_CC", "R_MLO"]
    images = ["exam_id,laterality,view,repeat,path"]
    images += [f"e1,{name[0]},{name.split('_')[1]},{int(name.endswith('_2'))},{name}.dcm" for name in paths]
    follow_up = [FOLLOW_UP]
    follow_up += [f"p1,e1,{name}.dcm,{name[0]},{name.split('_')[1]},0,50.0,lakeside,4,c,0" for name in paths]
    findings = [
        FINDINGS,
        "e1,L,0,calcification,,,,fine pleomorphic,grouped/clustered,9.0,4,MLO,1 2 3 4,,5.0 6.0 7.0 8.0,masks/0.png",
        "e1,L,1,mass,oval,circumscribed,low,,,8.0,2,CC;MLO,1 1 2 2,masks/1.png,1 1 2 2,masks/2.png",
    ]
    for name, lines in {"images": images, "follow_up": follow_up, "findings": findings}.items():
        (tmp_path / f"{name}.csv").write_text("\n".join(lines) + "\n")
    return tmp_path


def test_table_has_findings_of_birads_3_and_more_on_the_views_that_show_them(archive: Path) -> None:
    table = join_tables(archive)
    found = table.filter(pl.col("finding_kind").is_not_null())
    assert found.select("path", "finding_kind", "xmin", "ymin", "xmax", "ymax", "mask", "distribution").rows() == [
        ("L_MLO.dcm", "calcification", "5.0", "6.0", "7.0", "8.0", "masks/0.png", "grouped")
    ]


def test_table_leaves_out_second_exposures_and_knows_absences(archive: Path) -> None:
    table = join_tables(archive)
    assert table["path"].to_list() == ["L_CC.dcm", "L_MLO.dcm", "R_CC.dcm", "R_MLO.dcm"]
    assert table["breast_calcification"].to_list() == ["1", "1", "0", "0"]
    assert table["breast_mass"].to_list() == ["0", "0", "0", "0"]


@pytest.mark.parametrize("right", ["Right breast: Noted is a mass.", "The right breast shows no dominant mass."])
def test_reports_are_split_by_breast(right: str) -> None:
    left = "The left breast shows no dominant mass or suspicious calcification. Unchanged."
    assert split_sides(f"{left} {right}") == {"left": left, "right": right}


def test_every_arm_can_be_trained_and_differs_from_the_others() -> None:
    arms = list_arms()
    for arm in arms.values():
        named = arm.config
        if arm.reads_given:
            assert arm.config.text_encoder is not None
            model = LanguageModelFile("language-model", "0" * 64)
            named = replace(arm.config, text_encoder=replace(arm.config.text_encoder, source=model))
        check_asked(named, has_start=False, teachers={})
        check_effects(named)
    trained = [
        (arm.config, arm.texts, arm.reads_given)
        for name, arm in arms.items()
        if name not in ("random weights", "supervised")
    ]
    assert all(one not in trained[:place] for place, one in enumerate(trained))


def test_differences_are_paired() -> None:
    noise = np.random.default_rng(0).normal(size=1000)
    one, other = Number(0.8, 0.8 + noise), Number(0.7, 0.7 + noise)
    assert describe(subtract(one, other)) == pytest.approx([0.1, 0.1, 0.1])
