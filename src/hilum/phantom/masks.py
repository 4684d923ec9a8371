"""What a phantom image shows, structure by structure: anatomy, bones, and each finding that has an extent.

Made from the same bodies as the image, by the same rays; the image is not touched. Findings go by their names, where
`projector.project_masks` numbers a plan's lesions.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import Bool

from hilum.phantom.anatomy import build_chest
from hilum.phantom.bodies import Swarm, join_swarms, make_rng
from hilum.phantom.detector import frame_view
from hilum.phantom.plan import Projection, StudyPlan
from hilum.phantom.projector import project_chest
from hilum.phantom.skeleton import build_spine

# Findings whose lesions are bodies or clouds of their own; others change a shape, or a point marks their place.
EXTENDED = ("Pleural Effusion", "Consolidation", "Pneumonia", "Lung Lesion", "Pneumothorax", "Atelectasis")
_BONE = 0.12  # line integral that bones add where a ray is called bone's: that of 6 mm of soft tissue


def name_structures(
    masks: dict[str, Bool[np.ndarray, "row col"]], plan: StudyPlan, projection: Projection, size: int
) -> dict[str, Bool[np.ndarray, "row col"]]:
    """The masks of `render_masks` with "lungs", "bone", and each finding of EXTENDED that the study has, as all its
    lesions together. A finding that is not named is nowhere."""
    frame = frame_view(plan.institution, projection, plan.key, size)
    lesions: dict[str, list[np.ndarray]] = {}
    for index, lesion in enumerate(plan.lesions):
        if lesion.finding in EXTENDED:
            lesions.setdefault(lesion.finding, []).append(masks[f"lesion {index}"])
    lungs, bone = masks["left lung"] | masks["right lung"], frame.apply(_project_bones(plan, projection, size))
    findings = {finding: np.logical_or.reduce(found) for finding, found in lesions.items()}
    return {**masks, "lungs": lungs, "bone": bone, **findings}


def _project_bones(plan: StudyPlan, projection: Projection, size: int) -> Bool[np.ndarray, "row col"]:
    """Where ribs, spine, breastbone and girdle add plainly to what lies around them."""
    chest = build_chest(plan)
    hollow = [swarm for swarm in chest.swarms_of(projection) if _is_hollow_bone(swarm)]
    spine = join_swarms(build_spine(chest.shape, make_rng("spine", plan.person.key)))
    nothing = replace(chest.solids[0], attenuation=0.0)
    bones = replace(chest, solids=(nothing,), swarms=(*hollow, *spine), posed={projection: ((), ())}, _merged={})
    return project_chest(bones, projection, size) > _BONE


def _is_hollow_bone(swarm: Swarm) -> bool:
    """Of all tubes that belong to no finding only bones have a core."""
    return not swarm.tag and bool(swarm.cores.any())
