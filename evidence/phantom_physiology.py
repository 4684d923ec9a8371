"""Is the planted physiology neither noise nor trivial, and does it look like an ECG and a laboratory's values?

Every target is predicted by a logistic regression, learned on half of the patients, from what each place truly holds:

- the image's state: findings with their severities, devices, age, sex, heart size, and the planted changes of heart,
  vessels and aorta, as exact as no encoder will ever read them; and the same without the planted changes;
- measurements of the recorded ECG, noise and swapped electrodes included, of the studies that have one;
- the laboratory values, and which of them are missing, of the studies that have any.

No image is rendered for this. What is planted as strong, faint or none (`effects.TARGETS`) is to come out so. Figures
for a physician's eye lie beside the result in results/phantom_physiology.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import QuantileTransformer, StandardScaler

from evidence.ecg_measurements import measure_ecg
from evidence.physiology_plots import plot_bodies, plot_ecgs, plot_laboratory
from hilum.checksums import hash_parts
from hilum.evaluate.record import hash_code
from hilum.evaluate.result import Estimate, Hashes, Result, write_result
from hilum.evaluate.scoring.bootstrap import LEVEL, NUM_RESAMPLES
from hilum.evaluate.scoring.estimates import estimate_difference, estimate_scores
from hilum.evaluate.scoring.scores import Scores
from hilum.phantom.clinic import find_severities, plan_studies
from hilum.phantom.physiology.ecg import draw_ecg
from hilum.phantom.physiology.effects import GIVEN, IMAGE, TARGETS, Strength
from hilum.phantom.physiology.freeze import hash_physiology
from hilum.phantom.physiology.laboratory import draw_laboratory, draw_ordered
from hilum.phantom.physiology.state import Physiology, draw_physiology
from hilum.phantom.plan import StudyPlan

NUM_STUDIES, SEED = 2400, 0
PLACES = {"image": "image state", "ecg": "ECG", "laboratory": "laboratory values"}
PLAIN = "image state without what is planted"
RANGES: dict[Strength, tuple[float, float]] = {"strong": (0.75, 1.0), "faint": (0.55, 0.90), "none": (0.40, 0.60)}
FOLDER = Path("results/phantom_physiology")


def main() -> None:
    """Draw patients, measure, score, write, print and plot."""
    plans = plan_studies(NUM_STUDIES, SEED)
    bodies = [draw_physiology.__wrapped__(plan) for plan in plans]
    ordered = [draw_ordered(plan, body) for plan, body in zip(plans, bodies, strict=True)]
    laboratory = read_laboratory(plans, bodies)
    features = {
        PLACES["image"]: np.array(
            [read_image_state(plan, body, True) for plan, body in zip(plans, bodies, strict=True)]
        ),
        PLAIN: np.array([read_image_state(plan, body, False) for plan, body in zip(plans, bodies, strict=True)]),
        PLACES["ecg"]: read_ecgs(plans, bodies, ordered),
        PLACES["laboratory"]: fill_missing(laboratory, np.array([each["laboratory"] for each in ordered])),
    }
    scores = {name: score_targets(plans, bodies, table) for name, table in features.items()}
    estimates: list[Estimate] = []
    for name, part in scores.items():
        estimates += estimate_scores(part, ("auroc",), slice=name)
    estimates += estimate_difference(
        scores[PLACES["image"]], scores[PLAIN], ("auroc",), slice="what is planted adds to the image state"
    )
    result = Result(
        encoder="true state and signals",
        task="physiology",
        protocol={
            "kind": "logistic regression on half of the patients",
            "phantom": {"studies": NUM_STUDIES, "seed": SEED, "physiology": hash_physiology()},
            "planted": {name: {place: getattr(target, place) for place in PLACES} for name, target in TARGETS.items()},
            "ranges": {name: list(ends) for name, ends in RANGES.items()},
        },
        seed=SEED,
        estimates=estimates,
        hashes=Hashes(
            data=hash_parts([hash_physiology(), SEED, NUM_STUDIES]),
            split=hash_parts(["every second patient"]),
            weights="none",
            code=hash_code(),
        ),
        counts={f"{name}, studies": len(part.row) for name, part in scores.items()},
        level=LEVEL,
        num_resamples=NUM_RESAMPLES,
        notes=("Image state and causes are exact: this bounds what an encoder of images can reach from above.",),
    )
    FOLDER.mkdir(parents=True, exist_ok=True)
    write_result(FOLDER / "result.json", result)
    print_difficulty(result)
    plot_figures(plans, bodies, laboratory)


def read_image_state(plan: StudyPlan, body: Physiology, planted: bool) -> list[float]:
    """What a perfect reader knows of an image: given causes, each finding's severity, heart size, planted changes."""
    severities = find_severities(plan)
    size = float(np.log(plan.person.heart_ratio)) + 0.25 * severities.get("Cardiomegaly", 0.0)
    shown = [body.image[name] for name in IMAGE if name != "heart"] if planted else []
    return [
        *(body.causes[name] for name in GIVEN),
        *(severities.get(name, 0.0) for name in ("Cardiomegaly", "Edema", "Pneumonia", "Consolidation", "Atelectasis")),
        size + (body.image["heart"] if planted else 0.0),
        *shown,
    ]


def read_ecgs(plans: list[StudyPlan], bodies: list[Physiology], ordered: list[dict[str, bool]]) -> np.ndarray:
    """Measurements (study, measurement) of each study's record; NaN where there is none."""
    rows = [
        list(measure_ecg(draw_ecg(body, plan.key)).values()) if asked["ecg"] else None
        for plan, body, asked in zip(plans, bodies, ordered, strict=True)
    ]
    width = len(next(row for row in rows if row))
    return np.array([row or [np.nan] * width for row in rows])


def read_laboratory(plans: list[StudyPlan], bodies: list[Physiology]) -> np.ndarray:
    """Values (study, analyte), NaN where missing."""
    rows = [list(draw_laboratory(plan, body).values()) for plan, body in zip(plans, bodies, strict=True)]
    return np.array([[np.nan if value is None else value for value in row] for row in rows])


def fill_missing(values: np.ndarray, has_any: np.ndarray) -> np.ndarray:
    """Ranks of the values, the median where missing, and which are missing; NaN for studies without any."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # fewer studies than quantiles
        ranks = QuantileTransformer(n_quantiles=200, output_distribution="normal").fit_transform(values)
    table = np.concatenate([np.nan_to_num(ranks), np.isnan(values)], axis=1)
    table[~has_any] = np.nan
    return table


def score_targets(plans: list[StudyPlan], bodies: list[Physiology], features: np.ndarray) -> Scores:
    """Scores of every target by a fit on half of the patients, of the others' studies whose features are known.

    No folds: where there is nothing to learn, scores pooled over folds are worse than chance.
    """
    rows = np.flatnonzero(~np.isnan(features).any(axis=1))
    names = tuple(TARGETS)
    target = np.array([[bodies[row].targets[name] for name in names] for row in rows], dtype=np.float32)
    patient = np.unique([plan.patient for plan in plans], return_inverse=True)[1][rows]
    taught = patient % 2 == 0
    logit = np.zeros((int((~taught).sum()), len(names)), np.float32)
    for i in range(len(names)):
        fit = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=500))
        fit.fit(features[rows[taught]], target[taught, i])
        logit[:, i] = fit.decision_function(features[rows[~taught]])
    target, patient, rows = target[~taught], patient[~taught], rows[~taught]
    return Scores(names, target, logit[None], np.full((1, *logit.shape), np.nan), patient, rows)


def print_difficulty(result: Result) -> None:
    """One line a target: AUROC from each place, marked where it is not what was planted."""
    slices = (*PLACES.values(), PLAIN, "what is planted adds to the image state")
    table = Table("target", "positives", *slices, title="Test AUROC of planted targets")
    for name, target in TARGETS.items():
        cells = []
        for slice in slices:
            found = result.find("auroc", name, slice)
            cells.append(f"{found.value:.3f} ({found.low:.2f} to {found.high:.2f})")
        for column, place in enumerate(PLACES):
            strength: Strength = getattr(target, place)
            low, high = RANGES[strength]
            fits = low <= (result.find("auroc", name, PLACES[place]).value or 0.0) <= high
            cells[column] += f" {strength}" + ("" if fits else " [red]NOT SO[/red]")
        table.add_row(name, str(result.find("auroc", name, PLACES["image"]).positives), *cells)
    Console(width=200).print(table)


def plot_figures(plans: list[StudyPlan], bodies: list[Physiology], laboratory: np.ndarray) -> None:
    """ecg.png, laboratory.png and bodies.png."""
    studies = list(zip(plans, bodies, strict=True))

    def pick(rank: Mapping[str, float] | None, rhythm: str = "sinus") -> tuple[str, np.ndarray]:
        of_rhythm = [(plan, body) for plan, body in studies if body.rhythm == rhythm]
        weights = rank or dict.fromkeys(of_rhythm[0][1].causes, 0.0) | {"illness": -1, "hypertrophy": -1}
        plan, body = max(
            of_rhythm, key=lambda each: sum(w * {**each[1].ecg, **each[1].causes}[name] for name, w in weights.items())
        )
        leads = draw_ecg(body, plan.key)
        found = measure_ecg(leads)
        return f"rate {found['rate']:.0f}, axis {found['axis']:.0f}, QRS {found['qrs']:.0f} ms", leads

    chosen = {
        "healthy": pick(None),
        "left ventricular hypertrophy": pick({"hypertrophy": 1, "dysfunction": -0.5}),
        "reduced ejection fraction": pick({"dysfunction": 1, "hypertrophy": -0.5, "block": 0.5}),
        "atrial fibrillation": pick({"atrium": 1, "dysfunction": -1}, "fibrillation"),
        "paced": pick({"pacemaker": 1}, "paced"),
        "high potassium": pick({"hyperkalaemia": 1, "hypertrophy": -1}),
        "long QT": pick({"long_qt": 1, "dysfunction": -1}),
        "sepsis": pick({"inflammation": 1, "hypertrophy": -1}),
    }
    plot_ecgs({f"{name}: {said}": leads for name, (said, leads) in chosen.items()}, FOLDER / "ecg.png")
    illness = np.array([body.causes["illness"] for body in bodies])
    marked = {name: np.array([body.targets[name] for body in bodies], bool) for name in TARGETS}
    groups = {"well": illness < 0.1, "sepsis": marked["sepsis"], "renal": marked["renal_failure"]}
    groups |= {"congestion": marked["congestion"], "diabetes": marked["diabetes"]}
    plot_laboratory(laboratory, groups, FOLDER / "laboratory.png")
    plan, body = next(each for each in studies if each[0].projections == ("PA", "LATERAL") and not each[0].lesions)
    changes = [("heart", 0.08), ("ventricle", 0.6), ("atrium", 0.6), ("upper_vessels", 0.6), ("arch_calcium", 0.4)]
    plot_bodies(plan, body, changes, FOLDER / "bodies.png")
