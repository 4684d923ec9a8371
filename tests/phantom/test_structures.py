"""Masks by name: anatomy and findings lie where the image shows them, and writing them changes no image."""

from __future__ import annotations

import numpy as np
import pytest
from test_projection import ILL, make_lesion, make_plan

from hilum.phantom.anatomy import build_chest
from hilum.phantom.detector import frame_view
from hilum.phantom.freeze import FROZEN, hash_settings
from hilum.phantom.masks import name_structures
from hilum.phantom.projector import project_chest
from hilum.phantom.render import render_masks, render_view

SIZE = 96


def render_structures(plan, projection):
    return name_structures(render_masks(plan, projection, SIZE), plan, projection, SIZE)


@pytest.fixture(scope="module")
def plan():
    return make_plan(*ILL, make_lesion("Consolidation", side="right", zone="upper"))


def test_findings_are_their_lesions_together_and_lungs_are_both(plan) -> None:
    found, numbered = render_structures(plan, "PA"), render_masks(plan, "PA", SIZE)
    assert {"heart", "left lung", "right lung", "lungs", "bone"} <= found.keys()
    assert np.array_equal(found["Consolidation"], numbered["lesion 0"] | numbered["lesion 5"])
    assert np.array_equal(found["Pleural Effusion"], numbered["lesion 1"])
    assert np.array_equal(found["lungs"], numbered["left lung"] | numbered["right lung"])
    assert "Support Devices" not in found
    assert "Pneumonia" not in found
    assert {name: mask for name, mask in found.items() if name in numbered}.keys() == numbered.keys()
    assert all(mask.shape == numbered["heart"].shape for mask in found.values())


def test_bones_are_where_bones_attenuate(plan) -> None:
    """They attenuate more than what is beside them; ribs cross the lungs, the spine is in the middle."""
    for projection in plan.projections:
        bone = render_structures(plan, projection)["bone"]
        assert 0.08 < bone.mean() < 0.6
    bone = render_structures(plan, "PA")["bone"]
    lungs = render_structures(plan, "PA")["lungs"]
    assert 0.1 < bone[lungs].mean() < 0.9
    middle = bone.shape[1] // 2
    assert bone[:, middle - 6 : middle + 6].any(axis=1).mean() > 0.7
    frame = frame_view(plan.institution, "PA", plan.key, SIZE)
    attenuated = frame.apply(project_chest(build_chest(plan), "PA", SIZE))
    assert attenuated[lungs & bone].mean() > attenuated[lungs & ~bone].mean()


def test_asking_for_masks_changes_no_image_and_not_the_phantom(plan) -> None:
    before = {projection: render_view(plan, projection, SIZE).pixels.tobytes() for projection in plan.projections}
    for projection in plan.projections:
        render_structures(plan, projection)
    build_chest.cache_clear()
    for projection in reversed(plan.projections):
        render_structures(plan, projection)
        assert render_view(plan, projection, SIZE).pixels.tobytes() == before[projection]
    assert hash_settings() == FROZEN
