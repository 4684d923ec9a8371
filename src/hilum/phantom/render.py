"""From a study's plan to its images and masks: the phantom's front door."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool

from hilum.phantom.anatomy import build_chest
from hilum.phantom.detector import Acquisition, acquire, frame_view
from hilum.phantom.plan import Projection, StudyPlan
from hilum.phantom.projector import aim_beam, project_chest, project_masks


def render_view(plan: StudyPlan, projection: Projection, size: int) -> Acquisition:
    """The image that the plan's institution stores of one view; the same plan gives the same bytes.

    `size` is the longer side in pixels; the shorter follows from the institution's aspect ratio.
    """
    chest = build_chest(plan)
    pixel_mm = 10 * float(np.linalg.norm(aim_beam(chest, projection, size).right))
    return acquire(project_chest(chest, projection, size), plan.institution, projection, plan.key, pixel_mm)


def render_masks(plan: StudyPlan, projection: Projection, size: int) -> dict[str, Bool[np.ndarray, "row col"]]:
    """Masks that lie on `render_view`'s image: "heart", "left lung", "right lung", "lesion 0", ... as in the plan."""
    frame = frame_view(plan.institution, projection, plan.key, size)
    masks = project_masks(build_chest(plan), projection, size)
    return {name: frame.apply(mask) for name, mask in masks.items()}
