"""One exposure's line integral: what attenuates along each ray, by material."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from hilum.phantom.breast import kernels
from hilum.phantom.breast.lesions import draw_finding, find_islands, find_pulls, thicken_skin
from hilum.phantom.breast.plan import ExamPlan, ViewPlan
from hilum.phantom.breast.shape import Frame, Pose, compress, find_distance, find_muscle, find_thickness
from hilum.phantom.breast.tissue import build_tissue, lay_tubes, measure_tissue

# Attenuation per millimetre at about 20 keV (Johns and Yaffe 1987, rounded).
FAT, GLAND, SKIN, MUSCLE = 0.045, 0.080, 0.080, 0.082
VESSEL = 0.078
SILICONE = 0.10  # beyond fat


@dataclass(frozen=True)
class Projected:
    """Line integrals of one exposure, (row, col)."""

    total: Float32[np.ndarray, "row col"]
    background: Float32[np.ndarray, "row col"]  # the same without what findings add; tissue is pulled all the same
    thickness: Float32[np.ndarray, "row col"]  # millimetres of breast
    distance: Float32[np.ndarray, "row col"]  # from the skin, inside positive
    pose: Pose
    frame: Frame


def project(exam: ExamPlan, view: ViewPlan, frame: Frame | None = None, size: int = 760) -> Projected:
    """Line integrals on `frame`, or on the whole image of `size` rows."""
    pose = compress(exam, view)
    frame = frame or pose.frame(size)
    findings = exam.findings[view.laterality]
    tissue = build_tissue(exam.woman, view.laterality)
    distance = find_distance(pose, frame)
    thickness = find_thickness(pose, distance)
    skin = pose.skin + thicken_skin(pose, frame, findings)
    inside = np.minimum(find_thickness(pose, distance, skin), thickness)
    gland, septa = measure_tissue(tissue, pose, frame, inside, find_islands(findings), find_pulls(findings))
    muscle = find_muscle(pose, frame)
    soft = (1 - muscle) * (GLAND - FAT) * (gland + 0.8 * septa) + muscle * (MUSCLE - FAT) * inside
    tubes = np.zeros((frame.rows, frame.cols))
    kernels.draw_tubes(lay_tubes(pose, tissue.ducts, GLAND - FAT), frame.corner, frame.pixel, tubes)
    kernels.draw_tubes(lay_tubes(pose, tissue.vessels, VESSEL - FAT), frame.corner, frame.pixel, tubes)
    soft += np.where(inside > 3, tubes, 0)
    if exam.woman.implant:
        soft = np.maximum(soft, _draw_implant(pose, frame, inside))
    background = FAT * inside + SKIN * (thickness - inside) + soft
    total = background.copy()
    mean = soft / np.maximum(inside, 1)
    for finding in (*findings, *exam.nodes(view.laterality)):
        drawn = draw_finding(finding, pose, frame, tissue)
        total += np.where(inside > 0, drawn.added - mean * drawn.length, 0)
    return Projected(total.astype(np.float32), background.astype(np.float32), thickness, distance, pose, frame)


def _draw_implant(pose: Pose, frame: Frame, inside: np.ndarray) -> np.ndarray:
    """Silicone before the chest wall: a smooth bright dome, beyond fat."""
    v = frame.top - frame.pixel * np.arange(frame.rows)[:, None]
    u = frame.left + frame.pixel * np.arange(frame.cols)[None, :]
    reach = pose.outline[:, 0].max()
    square = 1 - (np.abs(u) / (0.66 * reach)) ** 2.4 - (np.abs(v + 0.05 * pose.radius) / (0.70 * pose.radius)) ** 2.4
    return SILICONE * 0.8 * inside * np.sqrt(np.clip(square, 0, None)) ** 0.7
