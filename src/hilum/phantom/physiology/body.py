"""What of the physiology shows in the image: a chest whose heart, vessels and aorta are changed as IMAGE says.

The plan and its lesions stay as they are, and so do reports and labels of findings: none of this is a finding yet.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np
from jaxtyping import Bool

from hilum.phantom.anatomy import SIDES_TAGS, Chest, build_chest
from hilum.phantom.bodies import LUNG, SOFT, Part, Solid, join_swarms, make_balls, make_chain, make_rng, outside_all
from hilum.phantom.detector import Acquisition, acquire, frame_view
from hilum.phantom.growth import Growth
from hilum.phantom.physiology.state import Physiology
from hilum.phantom.plan import Projection, StudyPlan
from hilum.phantom.projector import aim_beam, project_chest, project_masks
from hilum.phantom.shape import CENTER_Z, LEAN, SOLID_ORGAN
from hilum.phantom.vessels import grow_trees

VENTRICLE, ATRIUM = 0, 3  # places of the left chambers among the solids that anatomy tags "heart"
NUM_UPPER_VESSELS = 64  # ends in each lung, a power of two
NUM_PUFFS, HAZE = 12, 0.012  # of the haze in each lung; per centimetre at a share of 1 (lung itself: 0.046)


@lru_cache(maxsize=4)
def build_body(plan: StudyPlan, physiology: Physiology) -> Chest:
    """The chest of a study with its physiology, the same for all of its views; the last few are kept."""
    image = physiology.image
    wider = replace(plan.person, heart_ratio=plan.person.heart_ratio * float(np.exp(image["heart"])))
    chest = build_chest(replace(plan, person=wider))
    solids = list(chest.solids)
    hearts = [index for index, solid in enumerate(solids) if solid.tag == "heart"]
    for place, name in ((VENTRICLE, "ventricle"), (ATRIUM, "atrium")):
        solids[hearts[place]] = _enlarge(solids[hearts[place]], image[name])
    parts: list[Part] = list(chest.swarms)
    if image["upper_vessels"] > 0:
        parts += _dilate_upper_vessels(chest, plan.person.key, image["upper_vessels"])
    if image["arch_calcium"] > 0:
        parts.append(_calcify_arch(chest, image["arch_calcium"]))
    return replace(chest, solids=tuple(solids), swarms=tuple(join_swarms(parts)), _merged={})


def _enlarge(solid: Solid, more: float) -> Solid:
    """An ellipsoid whose semi-axes are `more` centimetres longer on average."""
    semi_axes = 1.0 / np.linalg.svd(solid.shapes[0], compute_uv=False)
    return replace(solid, shapes=solid.shapes / (1.0 + more / semi_axes.mean()))


def _dilate_upper_vessels(chest: Chest, key: int, share: float) -> list[Part]:
    """Redistribution: more blood in the vessels from the hila to the upper lobes, a haze around these, where is air."""
    shape = chest.shape
    lungs = {solid.tag: solid for solid in chest.solids if solid.tag in SIDES_TAGS}
    organs = [solid for solid in chest.solids if solid.priority >= SOLID_ORGAN - 0.5 and solid.attenuation > LUNG]
    growth = Growth(shape, organs, lungs)
    rngs = [make_rng("upper vessels", key, lung.sign + 1) for lung in shape.lungs.values()]
    roots, targets, haze = [], [], []
    for (side, lung), rng in zip(shape.lungs.items(), rngs, strict=True):
        points = growth.scatter_healthy(lung.sign, 6 * NUM_UPPER_VESSELS, rng)
        highest = points[np.argsort(-points[:, 2], kind="stable")][: 2 * NUM_UPPER_VESSELS : 2]
        places = np.array([lung.sign * shape.lobe_center, 0.3, CENTER_Z]) + highest * shape.lung_size
        places[:, 1] += LEAN * (places[:, 2] - CENTER_Z)
        targets.append(places)
        middle = (lung.sign * 6.0, 0.8, growth.hilum_height + 1.0)
        puffs = middle + rng.normal(0, (1.6, 2.0, 2.6), (NUM_PUFFS, 3))
        haze.append(make_balls(puffs, rng.uniform(1.6, 3.6, NUM_PUFFS), HAZE * share, host=f"{side} lung"))
        roots.append((lung.sign * 4.0 + 0.8 * lung.shift, 0.6, growth.hilum_height + 0.6))
    calibre = np.full((len(roots), NUM_UPPER_VESSELS), 1.3 + 0.7 * share)
    tubes, tree = grow_trees(np.array(roots), np.array(targets), (SOFT - LUNG) * share, calibre, rngs)
    middles = 0.5 * (tubes.starts + tubes.ends)
    keep = outside_all(organs, middles)
    for index, side in enumerate(shape.lungs):
        keep &= (tree != index) | lungs[f"{side} lung"].contains(middles)
    return [tubes.select(keep), *haze]


def _calcify_arch(chest: Chest, density: float) -> Part:
    """Calcium in the wall of the aortic arch, `density` per centimetre."""
    shape = chest.shape
    turn = np.linspace(0.2, 2.3, 8)
    arch, radius = 0.635 * shape.apex + 0.4, 1.5 * shape.aorta
    ring = np.stack([2.0 + radius * np.sin(turn), 1.5 + 0 * turn, arch + radius * np.cos(turn)], axis=1)
    return make_chain(ring, np.array([[0.7, 0.11]] * len(turn)), density)


def render_view(plan: StudyPlan, physiology: Physiology, projection: Projection, size: int) -> Acquisition:
    """`render.render_view` of a study with its physiology."""
    chest = build_body(plan, physiology)
    pixel_mm = 10 * float(np.linalg.norm(aim_beam(chest, projection, size).right))
    return acquire(project_chest(chest, projection, size), plan.institution, projection, plan.key, pixel_mm)


def render_masks(
    plan: StudyPlan, physiology: Physiology, projection: Projection, size: int
) -> dict[str, Bool[np.ndarray, "row col"]]:
    """`render.render_masks` of a study with its physiology."""
    frame = frame_view(plan.institution, projection, plan.key, size)
    masks = project_masks(build_body(plan, physiology), projection, size)
    return {name: frame.apply(mask) for name, mask in masks.items()}
