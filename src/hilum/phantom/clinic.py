"""Who comes to the phantom's hospitals, with what, and how they are imaged; and what the reader writes down of it.

A latent-factor model. Chronic factors belong to the patient (heart failure, malignancy, heart surgery), acute ones to
the study (decompensation, infection, intensive care, trauma). Each finding appears by a noisy-or over the factors that
are on, so findings co-occur as they do in a hospital: heart failure brings a large heart, oedema and effusions on both
sides; intensive care brings devices, portable AP films and atelectasis; trauma brings fractures and pneumothorax.

Decisions:
- `true_states` is what is in the body. Parents follow children as in CheXpert: Lung Opacity holds whenever atelectasis,
  consolidation, edema, pneumonia or a lung lesion does; a pneumonia of severity >= 0.5 is also a consolidation; a
  cardiomegaly of severity >= 0.6 also enlarges the cardiomediastinum.
- `label_states` is what a reader says: subtle findings are hedged or missed more often, pertinent negatives are said,
  other negatives are left blank. A positive child makes Lung Opacity positive; an uncertain child leaves it as it is
  but forbids "lungs are clear".
- No Finding allows Support Devices, as CheXpert does, and is 1 or blank, never 0 or -1.

Patients are numbered and each is drawn from (seed, number) alone: more studies leave the earlier ones as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from hilum.errors import UserError
from hilum.labels import FINDINGS
from hilum.phantom.dice import Dice, make_key
from hilum.phantom.plan import Lesion, Person, Projection, Sex, Side, StudyPlan, Zone

OPACITIES = ("Atelectasis", "Consolidation", "Edema", "Lung Lesion", "Pneumonia")  # children of Lung Opacity
CONSOLIDATING_PNEUMONIA = 0.5  # severity
MEDIASTINAL_CARDIOMEGALY = 0.6  # severity

ViewMix = Mapping[tuple[Projection, ...], float]


@dataclass(frozen=True)
class Institution:
    """A hospital: its share of patients, how many studies come from intensive care, the views it takes otherwise."""

    name: str
    share: float
    intensive_share: float
    views: ViewMix


INSTITUTIONS = {
    "northfield": Institution(
        "Northfield Outpatient Clinic",
        share=0.35,
        intensive_share=0.03,
        views={("PA", "LATERAL"): 0.60, ("PA",): 0.33, ("AP",): 0.05, ("PA", "LATERAL", "AP"): 0.02},
    ),
    "harbour": Institution(
        "Harbour General Hospital",
        share=0.40,
        intensive_share=0.17,
        views={("PA", "LATERAL"): 0.50, ("PA",): 0.26, ("AP",): 0.19, ("PA", "LATERAL", "AP"): 0.05},
    ),
    "stanne": Institution(
        "St Anne University Hospital",
        share=0.25,
        intensive_share=0.34,
        views={("PA", "LATERAL"): 0.46, ("PA",): 0.16, ("AP",): 0.30, ("PA", "LATERAL", "AP"): 0.08},
    ),
}
PORTABLE_IF_SICK, PORTABLE_IF_WELL = 2.5, 0.6  # the AP share of a hospital outside intensive care, times this
INTENSIVE_VIEWS: ViewMix = {("AP",): 0.90, ("PA", "LATERAL"): 0.06, ("PA", "LATERAL", "AP"): 0.04}

NUM_STUDIES = {1: 0.76, 2: 0.14, 3: 0.05, 4: 0.03, 5: 0.02}  # per patient, 1.41 on average
AGE_GROUPS = {(64.0, 14.0): 0.72, (36.0, 11.0): 0.28}  # (mean, deviation) of the first study's age in years
FEMALE_SHARE = 0.48

# Factor -> probability at 40 years and younger, at 85 years and older (linear between).
CHRONIC = {"heart_failure": (0.03, 0.36), "malignancy": (0.04, 0.15), "heart_surgery": (0.01, 0.10)}
DECOMPENSATION = 0.50  # of the studies of a patient with heart failure
INFECTION = 0.15
TRAUMA = (0.08, 0.04)  # young, old

# Finding -> probability without any factor ("base") and what each factor adds, joined by noisy-or.
RISKS: dict[str, dict[str, float]] = {
    "Cardiomegaly": {"base": 0.05, "heart_failure": 0.60},
    "Enlarged Cardiomediastinum": {"base": 0.03, "malignancy": 0.12, "intensive_care": 0.08, "trauma": 0.08},
    "Edema": {"base": 0.005, "decompensation": 0.80, "intensive_care": 0.18},
    "Pleural Effusion": {
        "base": 0.02,
        "decompensation": 0.55,
        "malignancy": 0.25,
        "infection": 0.12,
        "intensive_care": 0.20,
        "trauma": 0.10,
    },
    "Pneumonia": {"base": 0.005, "infection": 0.55, "intensive_care": 0.05},
    "Consolidation": {"base": 0.01, "infection": 0.30, "intensive_care": 0.06, "malignancy": 0.05},
    "Lung Opacity": {"base": 0.03, "infection": 0.15, "intensive_care": 0.06},
    "Atelectasis": {"base": 0.06, "intensive_care": 0.30, "effusion": 0.25, "trauma": 0.10},
    "Lung Lesion": {"base": 0.015, "malignancy": 0.45},
    "Pneumothorax": {"base": 0.015, "trauma": 0.40, "intensive_care": 0.08},
    "Fracture": {"base": 0.01, "trauma": 0.30},
    "Pleural Other": {"base": 0.01, "malignancy": 0.06, "heart_surgery": 0.05},
}
DEVICE_RISKS: dict[str, dict[str, float]] = {
    "tube": {"intensive_care": 0.55},
    "line": {"base": 0.01, "intensive_care": 0.60, "malignancy": 0.06},
    "gastric": {"intensive_care": 0.40},
    "drain": {"effusion": 0.10, "pneumothorax": 0.35},
    "port": {"malignancy": 0.35},
    "pacemaker": {"base": 0.01, "heart_failure": 0.22},
    "wires": {"heart_surgery": 0.95},
}
PERSISTENCE = {  # probability that a lesion is still there at the next study
    "Cardiomegaly": 0.97,
    "Enlarged Cardiomediastinum": 0.9,
    "Edema": 0.3,
    "Pleural Effusion": 0.5,
    "Pneumonia": 0.25,
    "Consolidation": 0.3,
    "Lung Opacity": 0.35,
    "Atelectasis": 0.4,
    "Lung Lesion": 0.92,
    "Pneumothorax": 0.25,
    "Fracture": 0.8,
    "Pleural Other": 0.95,
}
DEVICE_PERSISTENCE = {
    "tube": 0.2,
    "line": 0.3,
    "gastric": 0.2,
    "drain": 0.2,
    "port": 0.9,
    "pacemaker": 1.0,
    "wires": 1.0,
}

KIND_SHARES: dict[str, dict[str, float]] = {
    "Atelectasis": {"plate": 0.65, "lobar": 0.35},
    "Enlarged Cardiomediastinum": {"wide": 0.6, "aorta": 0.4},
    "Lung Lesion": {"nodule": 0.65, "mass": 0.35},
    "Pleural Effusion": {"free": 0.88, "loculated": 0.12},
    "Pleural Other": {"thickening": 0.65, "plaque": 0.35},
    "Fracture": {"rib": 0.62, "clavicle": 0.18, "vertebra": 0.20},
}
SIDE_SHARES: dict[str, dict[Side, float]] = {
    "Pleural Effusion": {"both": 0.30, "right": 0.38, "left": 0.32},
    "Atelectasis": {"both": 0.20, "right": 0.35, "left": 0.45},
    "Pneumonia": {"both": 0.20, "right": 0.45, "left": 0.35},
    "Consolidation": {"both": 0.15, "right": 0.47, "left": 0.38},
    "Lung Opacity": {"both": 0.25, "right": 0.40, "left": 0.35},
    "Lung Lesion": {"both": 0.15, "right": 0.47, "left": 0.38},
    "Pneumothorax": {"right": 0.55, "left": 0.45},
    "Fracture": {"right": 0.5, "left": 0.5},
    "Pleural Other": {"both": 0.2, "right": 0.42, "left": 0.38},
}
ZONE_SHARES: dict[str, dict[Zone, float]] = {
    "Atelectasis": {"lower": 0.80, "middle": 0.15, "upper": 0.05},
    "Pneumonia": {"lower": 0.55, "middle": 0.25, "upper": 0.20},
    "Consolidation": {"lower": 0.55, "middle": 0.20, "upper": 0.25},
    "Lung Opacity": {"lower": 0.50, "middle": 0.25, "upper": 0.25},
    "Lung Lesion": {"lower": 0.35, "middle": 0.25, "upper": 0.40},
    "Pneumothorax": {"upper": 1.0},
    "Pleural Effusion": {"lower": 1.0},
    "Pleural Other": {"upper": 0.5, "lower": 0.5},
    "Fracture": {"upper": 0.25, "middle": 0.45, "lower": 0.30},
}
DEVICE_SIDES: dict[str, dict[Side, float]] = {
    "line": {"right": 0.75, "left": 0.25},
    "port": {"right": 0.7, "left": 0.3},
    "pacemaker": {"left": 0.9, "right": 0.1},
}
BILATERAL_EFFUSION_IN_FAILURE = 0.75

SUBTLE_SHARE = 0.15  # of new lesions have a severity spread evenly over SUBTLE; the rest follow the main hump
SUBTLE = (0.05, 0.30)
MAIN = (0.3, 1.0)

# What a reader says. Present: missed and uncertain shares at severity 0 and 1 (linear between).
MISSED = (0.10, 0.0)
UNCERTAIN: dict[str, tuple[float, float]] = {
    "Atelectasis": (0.35, 0.08),
    "Cardiomegaly": (0.15, 0.01),
    "Consolidation": (0.30, 0.06),
    "Edema": (0.25, 0.04),
    "Enlarged Cardiomediastinum": (0.20, 0.04),
    "Fracture": (0.20, 0.02),
    "Lung Lesion": (0.25, 0.03),
    "Lung Opacity": (0.15, 0.02),
    "Pleural Effusion": (0.25, 0.02),
    "Pleural Other": (0.20, 0.05),
    "Pneumonia": (0.40, 0.10),
    "Pneumothorax": (0.20, 0.02),
}
# Absent: share said to be absent, share hedged although absent; otherwise blank.
ABSENT: dict[str, tuple[float, float]] = {
    "Atelectasis": (0.03, 0.015),
    "Cardiomegaly": (0.45, 0.005),
    "Consolidation": (0.45, 0.005),
    "Edema": (0.35, 0.008),
    "Enlarged Cardiomediastinum": (0.30, 0.005),
    "Fracture": (0.15, 0.004),
    "Lung Lesion": (0.06, 0.005),
    "Lung Opacity": (0.35, 0.005),
    "Pleural Effusion": (0.62, 0.006),
    "Pleural Other": (0.03, 0.002),
    "Pneumonia": (0.12, 0.020),
    "Pneumothorax": (0.65, 0.002),
}
DEVICES_MISSED = 0.03
DEVICES_DENIED = 0.02
IMPLIED_SAID = {
    "Enlarged Cardiomediastinum": 0.5,
    "Consolidation": 0.6,
}  # where only the parent's lesion is in the body


def _between(ends: tuple[float, float], position: float) -> float:
    return ends[0] + (ends[1] - ends[0]) * min(max(position, 0.0), 1.0)


def _combine(risks: Mapping[str, float], factors: set[str]) -> float:
    """Noisy-or: the probability that at least one cause acts."""
    spared = 1.0 - risks.get("base", 0.0)
    for factor in sorted(factors):
        spared *= 1.0 - risks.get(factor, 0.0)
    return 1.0 - spared


def _draw_person(dice: Dice, key: int) -> Person:
    sex: Sex = "F" if dice.happens(FEMALE_SHARE) else "M"
    age = dice.draw_normal(*dice.choose_weighted(AGE_GROUPS), 18.0, 95.0)
    height = dice.draw_normal(1.63, 0.065, 1.45, 1.85) if sex == "F" else dice.draw_normal(1.76, 0.07, 1.55, 2.02)
    body_mass_index = 26.5 * 2.0 ** dice.draw_normal(0.0, 0.27, -0.7, 0.85)
    heart_ratio = dice.draw_normal(0.425 + 0.0006 * (age - 50), 0.02, 0.38, 0.49)
    return Person(key, sex, round(age, 2), round(height, 3), round(body_mass_index, 2), round(heart_ratio, 4))


def _draw_severity(dice: Dice, *, intensive: bool) -> float:
    if dice.happens(SUBTLE_SHARE):
        return round(dice.draw_between(*SUBTLE), 3)
    # Kumaraswamy(1.5, 2): a hump near 0.45 with a tail to 1, in closed form; intensive care shifts it up.
    hump = (1.0 - (1.0 - dice.draw()) ** 0.5) ** (1.0 / 1.5)
    return round(_between(MAIN, hump ** (0.75 if intensive else 1.0)), 3)


def _draw_lesions(dice: Dice, finding: str, kind: str, factors: set[str]) -> list[Lesion]:
    """One or several lesions of one finding; disease on both sides is one lesion a side, each with its own severity."""
    intensive = "intensive_care" in factors
    sides: tuple[Side, ...] = ("none",)
    if kind in DEVICE_SIDES:
        sides = (dice.choose_weighted(DEVICE_SIDES[kind]),)
    elif finding == "Edema":
        sides = ("both",)
    elif finding == "Support Devices" and kind == "drain":
        sides = (dice.choose(("left", "right")),)
    elif finding in SIDE_SHARES and kind != "vertebra":
        side = dice.choose_weighted(SIDE_SHARES[finding])
        if finding == "Pleural Effusion" and "decompensation" in factors:
            side = "both" if dice.happens(BILATERAL_EFFUSION_IN_FAILURE) else "right"
        sides = ("left", "right") if side == "both" else (side,)
    severity = _draw_severity(dice, intensive=intensive)
    lesions = []
    for side in sides:
        zone: Zone = dice.choose_weighted(ZONE_SHARES[finding]) if finding in ZONE_SHARES else "none"
        if kind == "clavicle":
            zone = "upper"
        own = severity if side == sides[0] else round(min(max(severity * dice.draw_between(0.5, 1.4), 0.05), 1.0), 3)
        lesions.append(
            Lesion(finding, side, zone, own, make_key("lesion", int(dice.draw() * 2**24), len(lesions)), kind)
        )
    return lesions


def _carry_over(dice: Dice, prior: tuple[Lesion, ...]) -> list[Lesion]:
    """The lesions of the previous study that are still there; half of them have changed."""
    kept = []
    for lesion in prior:
        stays = dice.happens(DEVICE_PERSISTENCE.get(lesion.kind, PERSISTENCE.get(lesion.finding, 0.0)))
        changes, factor = dice.happens(0.5), 2.0 ** dice.draw_normal(0.0, 0.6, -1.2, 1.2)
        if stays and changes and lesion.finding != "Support Devices":
            lesion = replace(lesion, severity=round(min(max(lesion.severity * factor, 0.05), 1.0), 3))
        if stays:
            kept.append(lesion)
    return kept


def _draw_findings(dice: Dice, factors: set[str], prior: tuple[Lesion, ...]) -> tuple[Lesion, ...]:
    """All lesions of a study: those that stayed, and new ones of the findings that are not there yet."""
    lesions = _carry_over(dice, prior)
    factors = set(factors)
    for finding, risks in RISKS.items():
        appears = dice.happens(_combine(risks, factors))
        kind = dice.choose_weighted(KIND_SHARES[finding]) if finding in KIND_SHARES else ""
        if appears and not any(lesion.finding == finding for lesion in lesions):
            lesions += _draw_lesions(dice, finding, kind, factors)
        if finding in ("Pleural Effusion", "Pneumothorax") and any(lesion.finding == finding for lesion in lesions):
            factors.add({"Pleural Effusion": "effusion", "Pneumothorax": "pneumothorax"}[finding])
    for kind, risks in DEVICE_RISKS.items():
        if dice.happens(_combine(risks, factors)) and not any(lesion.kind == kind for lesion in lesions):
            lesions += _draw_lesions(dice, "Support Devices", kind, factors)
    return tuple(lesions)


def _plan_patient(number: int, seed: int, hospitals: Mapping[str, Institution]) -> list[StudyPlan]:
    key = make_key("phantom patient", seed, number)
    dice = Dice("phantom patient", key)
    person = _draw_person(dice, key)
    oldness = (person.age - 40.0) / 45.0
    chronic = {name for name, ends in CHRONIC.items() if dice.happens(_between(ends, oldness))}
    institution = dice.choose_weighted({name: hospital.share for name, hospital in hospitals.items()})
    hospital = hospitals[institution]
    # A bijection on eight digits, so that neighbouring patients do not share a folder; 48271993 is coprime to 9e7.
    patient = f"p{10_000_000 + (number * 48_271_993 + seed * 7_919) % 90_000_000}"
    studies: list[StudyPlan] = []
    day = 0.0
    for ordinal in range(dice.choose_weighted(NUM_STUDIES)):
        study_key = make_key("phantom study", key, ordinal)
        dice = Dice("phantom study", study_key)
        if ordinal:
            day += round(2.0 ** dice.draw_between(0.0, 10.0))
        factors = set(chronic)
        for name, probability in (
            ("decompensation", DECOMPENSATION if "heart_failure" in chronic else 0.0),
            ("infection", INFECTION),
            ("trauma", _between(TRAUMA, oldness)),
        ):
            if dice.happens(probability):
                factors.add(name)
        sick = len(factors & {"decompensation", "infection", "trauma"})
        if dice.happens(min(hospital.intensive_share * (0.75 + 0.75 * sick), 0.9)):
            factors.add("intensive_care")
        prior = studies[-1].lesions if studies else None
        lesions = _draw_findings(dice, factors, prior or ())
        portable = PORTABLE_IF_SICK if sick else PORTABLE_IF_WELL
        views = {mix: share * (portable if mix == ("AP",) else 1.0) for mix, share in hospital.views.items()}
        if "intensive_care" in factors:
            views = INTENSIVE_VIEWS
        study = f"s{patient[1:]}{ordinal:02d}"
        projections = dice.choose_weighted(views)
        studies.append(StudyPlan(study, patient, person, day, lesions, projections, institution, study_key, prior))
    return studies


def plan_studies(num_studies: int, seed: int, institutions: tuple[str, ...] = tuple(INSTITUTIONS)) -> list[StudyPlan]:
    """The first `num_studies` studies, patient after patient (the last patient's later studies may be left out)."""
    unknown = [name for name in institutions if name not in INSTITUTIONS]
    if unknown or not institutions:
        raise UserError(
            f"institutions {', '.join(unknown) or '(none)'} not known: choose from {', '.join(INSTITUTIONS)}"
        )
    hospitals = {name: INSTITUTIONS[name] for name in institutions}
    plans: list[StudyPlan] = []
    number = 0
    while len(plans) < num_studies:
        plans += _plan_patient(number, seed, hospitals)
        number += 1
    return plans[:num_studies]


def find_severities(plan: StudyPlan) -> dict[str, float]:
    """The greatest severity of each finding that has a lesion of its own in the body."""
    severities: dict[str, float] = {}
    for lesion in plan.lesions:
        severities[lesion.finding] = max(severities.get(lesion.finding, 0.0), lesion.severity)
    return severities


def true_states(plan: StudyPlan) -> dict[str, int]:
    """0 or 1 for each of the 14 findings: what is in the body, whatever the report says."""
    severities = find_severities(plan)
    states = {finding: int(finding in severities) for finding in FINDINGS}
    if severities.get("Cardiomegaly", 0.0) >= MEDIASTINAL_CARDIOMEGALY:
        states["Enlarged Cardiomediastinum"] = 1
    if severities.get("Pneumonia", 0.0) >= CONSOLIDATING_PNEUMONIA:
        states["Consolidation"] = 1
    states["Lung Opacity"] |= int(any(states[finding] for finding in OPACITIES))
    states["No Finding"] = int(not any(states[finding] for finding in FINDINGS if finding != "Support Devices"))
    return states


def label_states(plan: StudyPlan) -> dict[str, int | None]:
    """What the report says of each finding: 1, 0, -1 (uncertain) or None (not mentioned)."""
    dice = Dice("phantom labels", plan.key)
    truth, severities = true_states(plan), find_severities(plan)
    states: dict[str, int | None] = dict.fromkeys(FINDINGS)
    for finding in UNCERTAIN:
        first, second = dice.draw(), dice.draw()
        severity = severities.get(finding)
        if severity is not None:
            if second >= _between(MISSED, severity * 2.5):  # nothing of severity 0.4 or more is missed
                states[finding] = -1 if first < _between(UNCERTAIN[finding], severity) else 1
        elif truth[finding] and finding in IMPLIED_SAID:
            states[finding] = 1 if first < IMPLIED_SAID[finding] else None
        elif not truth[finding]:
            said, hedged = ABSENT[finding]
            states[finding] = 0 if first < said else -1 if first < said + hedged else None
    if truth["Support Devices"]:
        states["Support Devices"] = 1 if not dice.happens(DEVICES_MISSED) else None
    elif dice.happens(DEVICES_DENIED):
        states["Support Devices"] = 0

    # Nobody contradicts themselves within one report.
    children = [states[finding] for finding in OPACITIES]
    if 1 in children:
        states["Lung Opacity"] = 1
    elif -1 in children and states["Lung Opacity"] == 0:
        states["Lung Opacity"] = None
    if states["Pneumonia"] in (1, -1) and states["Consolidation"] == 0:
        states["Consolidation"] = None
    if states["Consolidation"] in (1, -1) and states["Pneumonia"] == 0:
        states["Pneumonia"] = None
    diseases = (states[finding] for finding in UNCERTAIN)
    states["No Finding"] = None if any(state in (1, -1) for state in diseases) else 1
    return states
