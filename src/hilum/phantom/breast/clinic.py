"""Who comes to the phantom's breast clinics, with what in the breast, and how it changes from exam to exam.

Shares follow VinDr-Mammo (density, findings per breast; L 4.1) and RSNA (cancers per woman; L 4.2). `enrichment`
multiplies the shares of cancers and of findings that are not plainly benign, so that a small archive has enough.

Women are numbered and each is drawn from (seed, number, enrichment) alone: more women leave the earlier as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import cos, exp, pi, sin, sqrt
from typing import Literal

import numpy as np

from hilum.phantom.breast.detector import DETECTORS
from hilum.phantom.breast.hazard import Outcome, draw_outcome, draw_sign
from hilum.phantom.breast.plan import (
    DENSITIES,
    LATERALITIES,
    PROJECTIONS,
    Density,
    ExamPlan,
    Finding,
    Kind,
    Laterality,
    Projection,
    ViewPlan,
    Woman,
)
from hilum.phantom.dice import Dice, make_key

NUM_EXAMS = {1: 0.5, 2: 0.3, 3: 0.2}
GAP = (330.0, 800.0)  # days between exams
AGE = (54.0, 10.0, 38.0, 85.0)  # mean, deviation, least, most
AGE_ON_DENSITY = -0.30  # correlation
DENSITY_ENDS = (-2.576, -1.282, 1.103)  # of the normal z: 0.5, 9.5, 76.5 and 13.5 % are a, b, c and d
GLANDULARITY = ((-3.5, -2.576, -1.282, 1.103, 3.0), (0.05, 0.20, 0.38, 0.70, 0.98))  # z -> share, linear between
IMPLANT_SHARE = 0.015
NODE_SHARE = 0.35  # of the breasts show a normal lymph node in the axilla
REPEAT_SHARE = 0.10  # of exams at the second institution have one view twice

CANCER_SHARE = 0.04  # of the women, at the last exam
CANCERS: dict[tuple[Kind, ...], float] = {
    ("mass",): 0.50,
    ("mass", "calcification"): 0.15,
    ("calcification",): 0.17,
    ("architectural distortion",): 0.09,
    ("mass", "architectural distortion"): 0.03,
    ("developing asymmetry",): 0.06,
}
COMPANIONS: dict[Kind, float] = {  # beside a cancer of 18 mm or more
    "skin thickening": 0.12,
    "skin retraction": 0.06,
    "nipple retraction": 0.08,
    "lymph node": 0.18,
}
UNCLEAR: dict[Kind, float] = {  # of the breasts, not cancer, not plainly benign
    "mass": 0.034,
    "calcification": 0.017,
    "architectural distortion": 0.002,
    "focal asymmetry": 0.008,
    "asymmetry": 0.014,
    "global asymmetry": 0.0025,
    "skin thickening": 0.0022,
    "nipple retraction": 0.0015,
    "skin retraction": 0.0005,
    "lymph node": 0.0045,
}
BENIGN: dict[Kind, float] = {"calcification": 0.19, "mass": 0.085}
BILATERAL_CANCER = 0.02
SIGNS: dict[Kind, float] = {
    "focal asymmetry": 0.35,
    "mass": 0.30,
    "calcification": 0.20,
    "architectural distortion": 0.15,
}

Shares = Mapping[str, float]
# Descriptor -> for cancer, for what is unclear, for what is plainly benign.
SHAPE: tuple[Shares, ...] = (
    {"irregular": 0.72, "oval": 0.15, "round": 0.13},
    {"oval": 0.58, "round": 0.25, "irregular": 0.17},
    {"oval": 0.7, "round": 0.3},
)
MARGIN: tuple[Shares, ...] = (
    {"spiculated": 0.42, "indistinct": 0.28, "microlobulated": 0.18, "obscured": 0.07, "circumscribed": 0.05},
    {"circumscribed": 0.48, "obscured": 0.27, "microlobulated": 0.10, "indistinct": 0.12, "spiculated": 0.03},
    {"circumscribed": 1.0},
)
MASS_DENSITY: tuple[Shares, ...] = (
    {"high": 0.65, "equal": 0.33, "low": 0.02},
    {"equal": 0.65, "high": 0.17, "low": 0.18},
    {"fat-containing": 0.6, "low": 0.4},
)
MORPHOLOGY: tuple[Shares, ...] = (
    {"fine pleomorphic": 0.38, "fine linear or branching": 0.22, "amorphous": 0.20, "coarse heterogeneous": 0.20},
    {"amorphous": 0.40, "coarse heterogeneous": 0.33, "fine pleomorphic": 0.20, "punctate": 0.07},
    {
        "vascular": 0.22, "round": 0.20, "coarse/popcorn": 0.13, "punctate": 0.12, "rim/lucent-centred": 0.10,
        "skin": 0.07, "dystrophic": 0.06, "large rod-like": 0.05, "milk of calcium": 0.04, "suture": 0.01,
    },
)  # fmt: skip
DISTRIBUTION: tuple[Shares, ...] = (
    {"grouped/clustered": 0.55, "segmental": 0.22, "linear": 0.15, "regional": 0.08},
    {"grouped/clustered": 0.82, "regional": 0.13, "segmental": 0.05},
    {"grouped/clustered": 0.45, "regional": 0.25, "diffuse": 0.30},
)
MASS_SIZE = ((15.0, 0.42, 6.0, 42.0), (12.0, 0.40, 5.0, 32.0), (9.0, 0.30, 5.0, 20.0))  # median, log deviation, ends
SPREAD = {"grouped/clustered": (5.0, 18.0), "linear": (12.0, 32.0), "segmental": (22.0, 50.0), "regional": (25.0, 55.0),
          "diffuse": (60.0, 90.0)}  # fmt: skip
SIZES: dict[Kind, tuple[float, float]] = {
    "architectural distortion": (14.0, 34.0),
    "asymmetry": (14.0, 34.0),
    "focal asymmetry": (16.0, 34.0),
    "developing asymmetry": (15.0, 32.0),
    "global asymmetry": (52.0, 75.0),
    "skin thickening": (22.0, 60.0),
    "skin retraction": (18.0, 34.0),
    "nipple retraction": (8.0, 14.0),
    "lymph node": (14.0, 28.0),
}
STRENGTH = ((0.55, 1.10), (0.40, 1.0), (0.5, 1.0))
FAINT_SHARE, FAINT = 0.22, (0.22, 0.5)
SUMMATIONS: dict[Projection | Literal[""], float] = {"MLO": 0.78, "CC": 0.22}
SIGN_STRENGTH = (0.20, 0.55)  # of an early sign of s = 0 and of s = 1


def _find_glandularity(z: float) -> tuple[float, Density]:
    share = float(np.interp(z, *GLANDULARITY))
    return round(share, 4), DENSITIES[sum(z > end for end in DENSITY_ENDS)]


def _draw_place(dice: Dice, woman_size: tuple[float, float], kind: Kind) -> tuple[float, float, float]:
    """Somewhere in the breast, more often up and out; nodes in the axilla, skin changes near the skin."""
    depth, radius = woman_size
    if kind == "lymph node":
        up, tilt = radius * dice.draw_between(1.05, 1.35), 0.85
        return round(depth * dice.draw_between(0.10, 0.30), 1), round(up * sin(tilt), 1), round(up * cos(tilt), 1)
    q = dice.draw_between(0.12, 0.86)
    angle = dice.draw_normal(pi / 4, 1.1, -pi, pi) if dice.happens(0.75) else dice.draw_between(-pi, pi)
    reach = (0.92 if kind.startswith("skin") else 0.72) * radius * sqrt(1 - q * q)
    share = sqrt(dice.draw_between(0.8, 1.0) if kind.startswith("skin") else dice.draw())
    return round(depth * q, 1), round(reach * share * cos(angle), 1), round(reach * share * sin(angle), 1)


def _draw_finding(dice: Dice, kind: Kind, level: int, body: tuple[float, float], place=None) -> Finding:
    """`level` 0: cancer; 1: unclear; 2: plainly benign."""
    key = make_key("breast finding", int(dice.draw() * 2**24), int(dice.draw() * 2**24))
    place = place or _draw_place(dice, body, kind)
    strength = dice.draw_between(*(FAINT if dice.happens(FAINT_SHARE) else STRENGTH[level]))
    shape = margin = density = morphology = distribution = ""
    if kind == "mass":
        shape, margin = dice.choose_weighted(SHAPE[level]), dice.choose_weighted(MARGIN[level])
        density = dice.choose_weighted(MASS_DENSITY[level])
        shape = "irregular" if margin == "spiculated" else shape
        median, deviation, low, high = MASS_SIZE[level]
        size = min(max(median * exp(dice.draw_normal(0.0, deviation, -3.0, 3.0)), low), high)
    elif kind == "calcification":
        morphology, distribution = dice.choose_weighted(MORPHOLOGY[level]), dice.choose_weighted(DISTRIBUTION[level])
        distribution = {"vascular": "linear", "coarse/popcorn": "grouped/clustered", "large rod-like": "regional"}.get(
            morphology, distribution
        )
        size = dice.draw_between(*SPREAD[distribution])
        size = {"coarse/popcorn": 4.0 + 0.5 * size, "vascular": 30.0}.get(morphology, size)
        place = (round(0.4 * body[0], 1), 0.0, 0.0) if distribution == "diffuse" else place
    else:
        size = dice.draw_between(*SIZES[kind])
    if kind == "lymph node":
        shape, margin, density = ("round" if dice.happens(0.6) else "oval"), "circumscribed", "high"
    only: Projection | Literal[""] = dice.choose_weighted(SUMMATIONS) if kind == "asymmetry" else ""
    return Finding(
        kind, place, round(size, 1), round(strength, 3), key, level == 0, shape, margin, density, morphology,
        distribution, only,
    )  # fmt: skip


def _draw_cancer(dice: Dice, body: tuple[float, float]) -> list[Finding]:
    """One cancer: its findings lie together; a large one changes skin, nipple or nodes."""
    kinds = dice.choose_weighted(CANCERS)
    found = [_draw_finding(dice, kinds[0], 0, body)]
    for kind in kinds[1:]:
        found.append(_draw_finding(dice, kind, 0, body, found[0].place))
    if found[0].size >= 18 and found[0].kind != "calcification":
        for kind, share in COMPANIONS.items():
            if dice.happens(share):
                found.append(_draw_finding(dice, kind, 0, body))
    return found


def _draw_sign_finding(key: int, sign: float, body: tuple[float, float]) -> Finding:
    """The early sign of a cancer to come: like one, small and faint."""
    dice = Dice("breast sign finding", key)
    finding = _draw_finding(dice, dice.choose_weighted(SIGNS), 0, body)
    low, high = SIGN_STRENGTH
    size = min(finding.size, 12.0) if finding.kind == "mass" else finding.size
    return replace(finding, malignant=False, size=size, strength=round(low + (high - low) * sign, 3))


def _draw_breast(dice: Dice, body: tuple[float, float], enrichment: float) -> list[Finding]:
    """What is not cancer in one breast at the last exam."""
    found = []
    for kind, share in UNCLEAR.items():
        if dice.happens(min(share * enrichment, 0.45)):
            found.append(_draw_finding(dice, kind, 1, body))
    for kind, share in BENIGN.items():
        if dice.happens(share):
            found.append(_draw_finding(dice, kind, 2, body))
    return found


def grow_back(finding: Finding, years: float) -> Finding | None:
    """The same finding some years earlier; None where it was not there yet. Summations never are: they are chance."""
    if years == 0:
        return finding
    if finding.kind in ("asymmetry", "developing asymmetry"):
        return None
    dice = Dice("breast growth", finding.key)
    if finding.malignant:
        speed = dice.draw_between(0.5, 1.3)
        strength = finding.strength * exp(-speed * years)
        size = finding.size * exp(-0.35 * speed * years)
        return replace(finding, size=round(size, 1), strength=round(strength, 3)) if strength > 0.15 else None
    if dice.happens(0.15) and years > dice.draw_between(0.5, 4.0):
        return None  # new since
    return replace(finding, size=round(finding.size * (1 - 0.03 * years), 1))


def plan_woman(number: int, seed: int, enrichment: float = 1.0) -> tuple[list[ExamPlan], Outcome]:
    """All exams of one woman, the earliest first, and what became of her."""
    key = make_key("breast woman", seed, number)
    dice = Dice("breast woman", key)
    age = round(dice.draw_normal(*AGE), 2)
    lean = AGE_ON_DENSITY * (age - AGE[0]) / AGE[1]
    z = lean + sqrt(1 - AGE_ON_DENSITY**2) * dice.draw_normal(0.0, 1.0, -3.5, 3.5)
    glandularity, density = _find_glandularity(z)
    radius = dice.draw_normal(70 - 4 * z, 7.0, 50.0, 92.0)
    depth = min(max(radius * dice.draw_normal(1.12, 0.13, 0.85, 1.5), 55.0), 118.0)
    body = (depth, radius)
    implant = dice.happens(IMPLANT_SHARE)
    institution = dice.choose_weighted({name: detector.share for name, detector in DETECTORS.items()})
    breasts: dict[Laterality, list[Finding]] = {
        side: _draw_breast(Dice("breast findings", key, index), body, enrichment)
        for index, side in enumerate(LATERALITIES)
    }
    side = dice.choose(LATERALITIES)
    sick = dice.happens(min(CANCER_SHARE * enrichment, 0.4))
    sign = 0.0 if sick else draw_sign(key)
    both = dice.happens(BILATERAL_CANCER)
    if sick:
        for index, name in enumerate(LATERALITIES):
            if name == side or both:
                breasts[name] += _draw_cancer(Dice("breast cancer", key, index), body)
        outcome = Outcome(0, True, side, 0.0, 0.0, 0.0)
    else:
        outcome = draw_outcome(key, z, age, sign, side)
        if sign:
            breasts[side].append(_draw_sign_finding(key, sign, body))
    nodes = tuple(
        (name, _draw_node(Dice("breast node", key, index), body))
        for index, name in enumerate(LATERALITIES)
        if Dice("breast has node", key, index).happens(NODE_SHARE)
    )
    woman = Woman(key, number, age, round(depth, 1), round(radius, 1), glandularity, density, implant, nodes)
    return _plan_exams(woman, breasts, institution, seed), outcome


def _draw_node(dice: Dice, body: tuple[float, float]) -> Finding:
    """A normal lymph node: oval, with fat in the middle, in the axilla."""
    node = _draw_finding(dice, "lymph node", 1, body)
    return replace(node, shape="oval", size=dice.draw_between(6.0, 13.0), density="fat-containing")


def _plan_exams(woman: Woman, breasts: dict[Laterality, list[Finding]], institution: str, seed: int) -> list[ExamPlan]:
    dice = Dice("breast exams", woman.key)
    days = [0.0]
    for _ in range(dice.choose_weighted(NUM_EXAMS) - 1):
        days.append(days[-1] + round(dice.draw_between(*GAP)))
    # Bijections, so that neighbours in the list are none on disk.
    patient = str(10_000 + (woman.number * 48_271 + seed * 7_919) % 90_000_000)
    exams = []
    for ordinal, day in enumerate(days):
        before = days[-1] - day
        key = make_key("breast exam", woman.key, ordinal)
        then = {
            side: tuple(past for finding in findings if (past := grow_back(finding, before / 365.25)) is not None)
            for side, findings in breasts.items()
        }
        views = [ViewPlan(side, projection, 0) for side in LATERALITIES for projection in PROJECTIONS]
        again = Dice("breast repeat", key)
        if DETECTORS[institution].site == 2 and again.happens(REPEAT_SHARE):
            views.append(replace(again.choose(views), repeat=1))
        exams.append(
            ExamPlan(
                f"e{patient}{ordinal:02d}", patient, woman, day, ordinal, institution, key, then, tuple(views), before
            )
        )
    return exams


def plan_women(num_women: int, seed: int, enrichment: float = 1.0) -> list[tuple[list[ExamPlan], Outcome]]:
    """Exams and outcome of the first `num_women` women."""
    return [plan_woman(number, seed, enrichment) for number in range(num_women)]
