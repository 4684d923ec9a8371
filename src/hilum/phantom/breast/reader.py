"""A simulated reader: what is seen on which view, how sure, what is said of it, and the BI-RADS that follows.

What is seen depends on what shows. Each finding's own contrast is measured in the line integrals of its surroundings,
against the unevenness of the tissue there, with and without the finding; so dense tissue masks. Nothing depends on the
size of the images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import log
from statistics import NormalDist

import numpy as np
from scipy.ndimage import gaussian_filter

from hilum.phantom.breast.lesions import draw_finding, find_center, is_shown
from hilum.phantom.breast.plan import (
    BENIGN_MORPHOLOGIES,
    LATERALITIES,
    PROJECTIONS,
    ExamPlan,
    Finding,
    Kind,
    Laterality,
    Projection,
    ViewPlan,
)
from hilum.phantom.breast.projector import project
from hilum.phantom.breast.shape import compress
from hilum.phantom.breast.tissue import build_tissue
from hilum.phantom.dice import Dice

PIXEL = 0.5  # millimetres, of the surroundings that are measured
HALF_SEEN = {"mass": 0.30, "calcification": 0.62, "lymph node": 0.45, "asymmetry": 0.60}  # contrast that half see
HALF_SEEN_ELSE = 0.33
SPREAD = 0.40  # of the logarithm of contrast
SPARSE = ("architectural distortion", "focal asymmetry", "global asymmetry", "developing asymmetry")  # strands in fat
CONTOUR = ("skin thickening", "skin retraction", "nipple retraction")  # seen by the outline, not by contrast

SUSPICION: dict[str, float] = {
    "circumscribed": 0.35, "obscured": 0.9, "microlobulated": 1.9, "indistinct": 2.2, "spiculated": 3.2,
    "oval": 0.0, "round": 0.2, "irregular": 0.9, "fat-containing": -2.5, "low": -0.4, "equal": 0.0, "high": 0.5,
    "amorphous": 1.9, "coarse heterogeneous": 1.7, "fine pleomorphic": 2.6, "fine linear or branching": 3.5,
    "diffuse": -0.8, "regional": -0.3, "grouped/clustered": 0.0, "linear": 0.6, "segmental": 0.8,
    "architectural distortion": 2.4, "asymmetry": 0.75, "focal asymmetry": 1.1, "global asymmetry": 0.7,
    "developing asymmetry": 2.0, "skin thickening": 1.2, "skin retraction": 1.4, "nipple retraction": 1.2,
    "lymph node": 1.8,
}  # fmt: skip
STABLE, DOUBT = -0.55, 0.40  # what a stable prior takes off, and the reader's own noise
BIRADS_ENDS = (0.35, 1.95, 4.3)  # below: 2, 3, 4; above: 5


@dataclass(frozen=True)
class Read:
    """One finding as read; `views` is where it was seen."""

    finding: Finding
    kind: Kind  # as said: what should show on both views and shows on one is an asymmetry
    views: tuple[Projection, ...]
    birads: int
    confidence: float  # 0 to 1
    quadrant: str  # "" where the views do not tell
    depth: str
    prior: str  # "", "new", "stable", "larger"; "" without an earlier exam


@dataclass(frozen=True)
class BreastReading:
    """One breast of one exam."""

    laterality: Laterality
    assessment: int
    findings: tuple[Read, ...]
    missed: tuple[Finding, ...]


def measure_contrast(exam: ExamPlan, laterality: Laterality, finding: Finding, projection: Projection) -> float:
    """The finding's line integral over the unevenness around it, on one view; 0 where the view does not show it."""
    view = ViewPlan(laterality, projection, 0)
    pose = compress(exam, view)
    if not is_shown(finding, pose, pose.frame(500)):
        return 0.0
    if finding.kind in CONTOUR:
        return 2.0 * finding.strength
    u, v, _ = find_center(finding, pose)
    frame = pose.frame(500).cut(u, v, min(0.8 * finding.size, 36.0) + 7, PIXEL)
    others = tuple(other for other in exam.findings[laterality] if other.key != finding.key)
    without = replace(exam, findings={**exam.findings, laterality: others})
    whole, rest = project(exam, view, frame), project(without, view, frame)
    region = draw_finding(finding, pose, frame, build_tissue(exam.woman, laterality)).region & (whole.distance > 0)
    if not region.any():
        return 0.0
    signal, tissue = whole.total - rest.total, rest.total
    inside = rest.distance > 3
    if finding.kind == "calcification":
        fine = tissue - gaussian_filter(tissue, 2.0)
        return float(np.percentile(signal[region], 97) / (fine[inside].std() + 0.012)) if inside.any() else 0.0
    coarse = tissue - gaussian_filter(tissue, 14.0, mode="nearest")
    plain = np.percentile(np.abs(signal[region]), 85) if finding.kind in SPARSE else np.abs(signal[region]).mean()
    return float(plain / (coarse[inside].std() + 0.04)) if inside.any() else 0.0


def read_exam(exam: ExamPlan, prior: ExamPlan | None) -> tuple[BreastReading, ...]:
    """Both breasts, left first."""
    return tuple(_read_breast(exam, prior, laterality) for laterality in LATERALITIES)


def _read_breast(exam: ExamPlan, prior: ExamPlan | None, laterality: Laterality) -> BreastReading:
    read, missed = [], []
    for finding in exam.findings[laterality]:
        dice = Dice("breast reading", exam.key, finding.key)
        seen = {projection: _see(dice, exam, laterality, finding, projection) for projection in PROJECTIONS}
        views = tuple(projection for projection in PROJECTIONS if seen[projection] > 0)
        if not views:
            missed.append(finding)
            continue
        change = _compare(finding, prior, laterality)
        confidence = round(max(seen.values()), 2)
        birads = _assess(dice, finding, change)
        quadrant, depth = _locate(exam, finding, views)
        alone = finding.kind == "focal asymmetry" and len(views) == 1
        read.append(
            Read(finding, "asymmetry" if alone else finding.kind, views, birads, confidence, quadrant, depth, change)
        )
    assessment = max((each.birads for each in read), default=1)
    return BreastReading(laterality, assessment, tuple(read), tuple(missed))


def _see(dice: Dice, exam: ExamPlan, laterality: Laterality, finding: Finding, projection: Projection) -> float:
    """The probability of seeing it where it is seen, else 0."""
    draw = dice.draw()
    contrast = measure_contrast(exam, laterality, finding, projection)
    if contrast <= 0:
        return 0.0
    half = HALF_SEEN.get(finding.kind, HALF_SEEN_ELSE)
    chance = NormalDist().cdf(log(contrast / half) / SPREAD)
    return chance if draw < chance else 0.0


def _compare(finding: Finding, prior: ExamPlan | None, laterality: Laterality) -> str:
    if prior is None:
        return ""
    past = [other for other in prior.findings[laterality] if other.key == finding.key]
    if not past or past[0].strength < 0.2:
        return "new"
    grown = finding.size > 1.15 * past[0].size or finding.strength > 1.5 * past[0].strength
    return "larger" if grown else "stable"


def _assess(dice: Dice, finding: Finding, change: str) -> int:
    noise = DOUBT * dice.draw_normal(0.0, 1.0, -2.5, 2.5)
    if finding.morphology in BENIGN_MORPHOLOGIES and finding.morphology != "punctate":
        return 2
    names = (finding.shape, finding.margin, finding.density, finding.morphology, finding.distribution)
    suspicion = sum(SUSPICION.get(name, 0.0) for name in names) if finding.kind in ("mass", "calcification") else 0.0
    suspicion += SUSPICION.get(finding.kind, 0.0) + noise
    suspicion += {"stable": STABLE, "larger": 0.6, "new": 0.3}.get(change, 0.0)
    return 2 + sum(suspicion >= end for end in BIRADS_ENDS)


def _locate(exam: ExamPlan, finding: Finding, views: Sequence[Projection]) -> tuple[str, str]:
    """Quadrant and depth as the views tell them: CC tells outer from inner, MLO upper from lower."""
    if finding.kind in ("nipple retraction", "lymph node"):
        return {"nipple retraction": "retroareolar", "lymph node": "axilla"}[finding.kind], ""
    if finding.distribution == "diffuse":
        return "", ""
    x, y, z = finding.place
    near = 0.12 * exam.woman.radius
    level = "" if "MLO" not in views else "upper" if z > near else "lower" if z < -near else "central"
    side = "" if "CC" not in views else "outer" if y > near else "inner" if y < -near else "central"
    if level == side == "central":
        quadrant = "central"
    else:
        quadrant = " ".join(name for name in (level, side) if name and name != "central")
    return quadrant, ("posterior", "middle", "anterior")[min(int(3 * x / exam.woman.depth), 2)]
