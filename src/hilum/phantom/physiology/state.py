"""The hidden physiology of one study: causes, and the quantities of image and ECG that follow, drawn from its plan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np

from hilum.phantom.clinic import find_severities
from hilum.phantom.dice import Dice
from hilum.phantom.physiology.effects import CAUSES, ECG, IMAGE, TARGETS, Causes, Quantity, add_effects
from hilum.phantom.plan import StudyPlan
from hilum.phantom.shape import draw_shape

Rhythm = Literal["sinus", "fibrillation", "paced"]

PACED_SHARE = 0.75  # of the ECGs of patients with a pacemaker; the others beat by themselves
PERSON_SHARE = 0.8  # of a natural deviation belongs to the patient, so that 0.6 is the day's (the squares add to 1)
USUAL_FAT, USUAL_DOME = 1.2, 0.0  # centimetres


@dataclass(frozen=True, eq=False)
class Physiology:
    """What the body of one study is like; the same plan always gives the same."""

    causes: Causes  # GIVEN and CAUSES of effects.py
    image: Mapping[str, float]  # quantities of IMAGE; all 0: the phantom as it is without physiology
    ecg: Mapping[str, float]  # quantities of ECG
    rhythm: Rhythm

    @property
    def targets(self) -> dict[str, int]:
        """0 or 1 for each of TARGETS."""
        return {name: int(self.causes[target.cause] >= target.at_least) for name, target in TARGETS.items()}


@lru_cache(maxsize=4)
def draw_physiology(plan: StudyPlan) -> Physiology:
    """The physiology of a study; what belongs to the patient is the same in all of their studies."""
    person, day = Dice("phantom physiology of the person", plan.person.key), Dice("phantom physiology", plan.key)
    causes = read_given(plan)
    for name, cause in CAUSES.items():
        own, today = draw_deviate(person), draw_deviate(day)
        level = cause.base + cause.person * own + cause.day * today + add_effects(cause.drivers, causes)
        causes[name] = min(max(level, 0.0), 1.0)
    image = {name: draw_quantity(quantity, causes, person, day) for name, quantity in IMAGE.items()}
    ecg = {name: draw_quantity(quantity, causes, person, day) for name, quantity in ECG.items()}
    paced = day.happens(PACED_SHARE) and causes["pacemaker"] > 0
    fibrillates = causes["atrium"] >= TARGETS["atrial_fibrillation"].at_least
    return Physiology(causes, image, ecg, "paced" if paced else "fibrillation" if fibrillates else "sinus")


def draw_deviate(dice: Dice) -> float:
    """A standard normal number, cut at 3."""
    return dice.draw_normal(0.0, 1.0, -3.0, 3.0)


def draw_quantity(quantity: Quantity, causes: Causes, person: Dice, day: Dice) -> float:
    deviate = mix_deviates(draw_deviate(person), draw_deviate(day))
    value = quantity.normal + quantity.spread * deviate + add_effects(quantity.effects, causes)
    return min(max(value, quantity.low), quantity.high)


def mix_deviates(person: float, day: float) -> float:
    """One standard normal number of the patient's own and the day's."""
    return PERSON_SHARE * person + (1 - PERSON_SHARE**2) ** 0.5 * day


def read_given(plan: StudyPlan) -> dict[str, float]:
    """The causes that the plan itself holds, scaled as GIVEN says."""
    severities, shape = find_severities(plan), draw_shape(plan)
    kinds = {lesion.kind for lesion in plan.lesions if lesion.finding == "Support Devices"}

    def scale(finding: str, least: float) -> float:
        return least + (1 - least) * severities[finding] if finding in severities else 0.0

    def find_left(finding: str) -> float:
        left = (lesion.severity for lesion in plan.lesions if (lesion.finding, lesion.side) == (finding, "left"))
        return max(left, default=0.0)

    dome = 0.5 * (shape.lungs["right"].dome + shape.lungs["left"].dome)
    return {
        "age": min(max((shape.age - 60.0) / 15.0, -2.5), 2.5),
        "male": float(plan.person.sex == "M"),
        "cardiomegaly": scale("Cardiomegaly", 0.35),
        "edema": scale("Edema", 0.4),
        "effusion": severities.get("Pleural Effusion", 0.0),
        "left_effusion": find_left("Pleural Effusion"),
        "left_air": find_left("Pneumothorax"),
        "pneumonia": max(scale("Pneumonia", 0.4), 0.8 * scale("Consolidation", 0.4)),
        "opacity": max(severities.get("Lung Opacity", 0.0), severities.get("Atelectasis", 0.0)),
        "malignancy": float("Lung Lesion" in severities or "port" in kinds),
        "tube": float("tube" in kinds),
        "line": float("line" in kinds),
        "pacemaker": float("pacemaker" in kinds),
        "surgery": float("wires" in kinds),
        "turn": float(np.degrees(shape.heart_turn)),
        "rise": dome - USUAL_DOME,
        "thickness": shape.fat - USUAL_FAT,
    }
