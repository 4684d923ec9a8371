"""Does the laboratory auto-encoder know how laboratory values go together? It fills in dropped ones.

Rows are the stays of the eICU demo: of each laboratory value the earliest of the first 24 hours in intensive care. Of a
quarter of the patients, whom nothing was fitted on, 15 % of the observed values are dropped, ten times over, and told
from the rest: by networks of five seeds, as published and with half of the values hidden in training; by ridge
regressions, whose strength validation patients chose; by chained equations; by the mean. All stays of the MIMIC-III
demo, another hospital's, are filled in by the same, with eICU's percentiles.

Errors are squared differences of percentiles. Intervals draw patients: the demo tables name stays only, so stays that
agree on age, sex and height count as one patient's.

Needs the data sets in HILUM_REAL_DATA (or ../shared/data); work is kept in runs/evidence/lab_imputation, the result and
its figure go to results/lab_imputation.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import polars as pl
from rich.console import Console
from rich.table import Table

from evidence.lab_imputers import Imputer, fit_iterative, fit_mean, fit_ridge, use_autoencoder
from hilum.checksums import hash_file, hash_parts
from hilum.config.laboratory import LaboratoryConfig, build_laboratory, dump_laboratory
from hilum.evaluate.result import Estimate, Hashes, Result, hash_code, write_result
from hilum.evaluate.scoring.bootstrap import LEVEL, NUM_RESAMPLES, draw_multiplicities, read_interval
from hilum.laboratory.as_of import read_times
from hilum.laboratory.events import References
from hilum.laboratory.over_time import read_over_time
from hilum.laboratory.pretraining import pretrain_laboratory
from hilum.laboratory.rows import LabRows, collect_rows
from hilum.laboratory.splits import split_by_patient
from hilum.laboratory.table import LaboratoryTable
from hilum.laboratory.vocabulary import LaboratoryVariable, LaboratoryVocabulary
from hilum.model.lab_weights import load_lab_teacher
from hilum.objective.lab_reconstruction import draw_dropped
from hilum.report.figures import PALETTE, STYLE

ROOT = Path(os.environ.get("HILUM_REAL_DATA", "../shared/data"))
WORK, RESULTS = Path("runs/evidence/lab_imputation"), Path("results/lab_imputation")
HOURS = timedelta(hours=24)
SEEDS, NUM_DRAWS = (0, 1, 2, 3, 4), 10
SHARES = {"train": 0.65, "val": 0.10, "test": 0.25}  # of patients
NUM_STEPS = 1950  # as many as P 1.2 takes on Symile's 10,000 rows
DROP, HALF = 0.15, 0.5  # of observed values: dropped in testing and, as published, in training; and half of them
TEST_SEED = 20  # of what is dropped in test rows; no seed of training
NUM_SHOWN = 30  # dropped entries a laboratory value needs to be listed by itself

# The laboratory values among the columns of the demo tables (names of the ricu package); the rest are vital signs.
LABS = {
    "alb": "albumin", "alp": "alkaline phosphatase", "alt": "ALT", "ast": "AST", "be": "base excess",
    "bicar": "bicarbonate", "bili": "bilirubin", "bili_dir": "direct bilirubin", "bnd": "band neutrophils",
    "bun": "urea nitrogen", "ca": "calcium", "cai": "ionised calcium", "ck": "creatine kinase", "ckmb": "CK-MB",
    "cl": "chloride", "crea": "creatinine", "crp": "CRP", "fgn": "fibrinogen", "glu": "glucose", "hgb": "haemoglobin",
    "inr_pt": "INR", "k": "potassium", "lact": "lactate", "lymph": "lymphocytes", "mch": "MCH", "mchc": "MCHC",
    "mcv": "MCV", "methb": "methaemoglobin", "mg": "magnesium", "na": "sodium", "neut": "neutrophils", "pco2": "pCO2",
    "ph": "pH", "phos": "phosphate", "plt": "platelets", "po2": "pO2", "ptt": "PTT", "tnt": "troponin T",
    "wbc": "white blood cells",
}  # fmt: skip
OURS, HIDING = "auto-encoder", "auto-encoder, half hidden in training"
ARMS = (OURS, HIDING, "ridge", "chained equations", "mean")
SETS = {"eicu": "eICU, patients never seen", "mimic": "MIMIC-III, another hospital"}


@dataclass
class Errors:
    """Of one set of rows: what was dropped of each and how far each arm was off, summed over draws."""

    table: LaboratoryTable
    num: np.ndarray  # (row, lab): how often an entry was dropped
    squared: dict[str, np.ndarray]  # arm -> (seed, row, lab): sums of squared errors

    def average(self, arm: str) -> np.ndarray:
        """(seed,): mean squared error over all dropped entries."""
        return self.squared[arm].sum(axis=(1, 2)) / self.num.sum()


def main() -> None:
    """Read, train what is missing, fill in, score, write, draw and print."""
    eicu, mimic = (read_stays(name) for name in SETS)
    eicu = split_by_patient(eicu, SHARES)
    config = choose_settings(eicu)
    arms, strength = fit_arms(eicu, config)
    percentiles = load_lab_teacher(name_run(eicu, config)).percentiles
    tested = {"eicu": eicu.take(eicu.find_rows("test")), "mimic": mimic}
    errors = {name: fill_in(table, collect_rows(table, percentiles), arms) for name, table in tested.items()}
    files = [ROOT / "labs" / f"{name}_demo" / f"{part}.parquet" for name in SETS for part in ("dyn", "sta")]
    result = Result(
        encoder="laboratory auto-encoder",
        task="dropped laboratory values",
        protocol={
            "kind": "imputation of percentiles",
            "settings": json.loads(dump_laboratory(config)),
            "half_hidden": {"drop": HALF},
            "seeds": list(SEEDS),
            "dropped": {"probability": DROP, "draws": NUM_DRAWS},
            "hours": HOURS.total_seconds() / 3600,
            "ridge_strength": strength,
            "errors_by_seed": {
                name: {arm: one.average(arm).tolist() for arm in (OURS, HIDING)} for name, one in errors.items()
            },
        },
        seed=0,
        estimates=[estimate for name, one in errors.items() for estimate in estimate_errors(one, name)],
        hashes=Hashes(
            data=hash_parts([hash_file(path) for path in files]),
            split=hash_parts([list(eicu.split or ())]),
            weights="trained here",
            code=hash_code(),
        ),
        counts={f"eicu_{split}_stays": len(eicu.find_rows(split)) for split in SHARES}
        | {
            f"{name}_tested_{what}": number
            for name, one in errors.items()
            for what, number in {
                "stays": len(one.table),
                "patients": len(set(one.table.patient)),
                "values": int(one.table.observed.sum()),
                "dropped": int(one.num.sum()),
            }.items()
        },
        level=LEVEL,
        num_resamples=NUM_RESAMPLES,
        notes=(
            "The demo tables name no patients: stays that agree on age, sex and height count as one patient's, and "
            "stays of one patient that do not are taken for two.",
            "The MIMIC-III demo has 99 stays, and their values are ranked among eICU's.",
        ),
    )
    write_result(RESULTS / "result.json", result)
    draw_errors(result, RESULTS / "imputation.png")
    print_errors(result)


def choose_settings(table: LaboratoryTable) -> LaboratoryConfig:
    """P 1.2's, but for the epochs: it takes more of them to make as many steps of fewer rows."""
    config = build_laboratory()
    steps_per_epoch = len(table.find_rows("train")) // config.batch_size
    return replace(config, epochs=NUM_STEPS // steps_per_epoch, checkpoint_minutes=1.0)


def read_stays(name: str) -> LaboratoryTable:
    """The stays of a demo table that have a laboratory value, with the earliest of each."""
    folder = ROOT / "labs" / f"{name}_demo"
    stays = pl.read_parquet(folder / "sta.parquet").sort("stay_id")
    # Stays without a height are nobody else's.
    person = pl.concat_str(pl.col("age", "sex", "height").cast(pl.String), separator="/")
    stays = stays.select(study=pl.col("stay_id").cast(pl.String)).with_columns(
        stays.select(patient=pl.coalesce(person, pl.format("stay:{}", "stay_id")))
    )
    start, scale = read_times(pl.Series(["0"] * len(stays)), name, "start")
    names = tuple(stays["study"])
    table = read_over_time(
        folder / "dyn.parquet",
        LaboratoryVocabulary(tuple(LaboratoryVariable(name) for name in LABS.values())),
        owner="stay_id",
        time="time",
        references=References(names, tuple(stays["patient"]), names, start, scale),
        before=timedelta(0),
        after=HOURS,
        columns={said: column for column, said in LABS.items()},
    )
    table = replace(table, source=f"{name}_demo", dataset=(f"{name}_demo",) * len(table))
    return table.take(np.flatnonzero(table.observed.any(axis=1)))


def fit_arms(table: LaboratoryTable, config: LaboratoryConfig) -> tuple[dict[str, list[Imputer]], float]:
    """What is to fill in, of each seed, fitted on the table's training rows; and the ridge's strength."""
    networks = {
        arm: [load_lab_teacher(train_network(table, replace(config, drop=drop, seed=seed))) for seed in SEEDS]
        for arm, drop in ((OURS, config.drop), (HIDING, HALF))
    }
    percentiles = networks[OURS][0].percentiles
    train, val = (collect_rows(table.take(table.find_rows(part)), percentiles) for part in ("train", "val"))
    ridge, strength = fit_ridge(train, val, DROP, seed=0)
    arms: dict[str, list[Imputer]] = {
        arm: [use_autoencoder(teacher.autoencoder) for teacher in teachers] for arm, teachers in networks.items()
    }
    return arms | {"ridge": [ridge], "chained equations": [fit_iterative(train)], "mean": [fit_mean(train)]}, strength


def name_run(table: LaboratoryTable, config: LaboratoryConfig) -> Path:
    """The run folder of these settings on these values."""
    return WORK / hash_parts([dump_laboratory(config), table.digest])


def train_network(table: LaboratoryTable, config: LaboratoryConfig) -> Path:
    """The run of these settings, unless it is there."""
    WORK.mkdir(parents=True, exist_ok=True)
    return pretrain_laboratory(config, table, name_run(table, config), resume=True)


def fill_in(table: LaboratoryTable, rows: LabRows, arms: Mapping[str, list[Imputer]]) -> Errors:
    """Drop entries of all rows, again and again, and let every arm fill them in."""
    assert len(rows.key) == len(table), "a row of which no value was seen in training"
    num = np.zeros(table.values.shape)
    squared = {arm: np.zeros((len(imputers), *table.values.shape)) for arm, imputers in arms.items()}
    for draw in range(NUM_DRAWS):
        dropped = draw_dropped(rows.observed, rows.key, DROP, TEST_SEED, draw)
        seen = rows.observed & ~dropped
        num += dropped
        for arm, imputers in arms.items():
            for place, imputer in enumerate(imputers):
                filled = imputer(np.where(seen, rows.share, np.float32(0)), seen)
                squared[arm][place] += np.square(filled - rows.share) * dropped
    return Errors(table, num, squared)


def estimate_errors(errors: Errors, name: str) -> list[Estimate]:
    """Mean squared error of each arm, over all dropped entries and by laboratory value, and ours minus each."""
    patient = np.unique(errors.table.patient, return_inverse=True)[1]
    weights = np.concatenate(list(draw_multiplicities(patient)), axis=1).astype(np.float64)
    estimates = []

    def add(metric: str, of: str, squared: np.ndarray, num: np.ndarray, where: str) -> None:
        drawn = (squared @ weights) / np.maximum(num @ weights, 1e-9)
        interval = read_interval(drawn)
        assert interval is not None
        value = float(squared.sum() / num.sum())
        estimates.append(
            Estimate(
                metric, of, value, interval.low, interval.high, num=round(num.sum()), slice=f"tested={name},{where}"
            )
        )

    num = errors.num.sum(axis=1)
    squared = {arm: of_seeds.mean(axis=0) for arm, of_seeds in errors.squared.items()}
    ours = squared[OURS].sum(axis=1)
    for arm in ARMS:
        add("imputation_error", "all", squared[arm].sum(axis=1), num, f"arm={arm}")
    for arm in ARMS[1:]:
        add("imputation_error", "all", ours - squared[arm].sum(axis=1), num, f"arm={OURS} minus {arm}")
    for lab, of in enumerate(errors.table.vocabulary.names):
        if errors.num[:, lab].sum() >= NUM_SHOWN and errors.table.observed[:, lab].sum() >= NUM_SHOWN:
            for arm in ARMS:
                add("imputation_error", of, squared[arm][:, lab], errors.num[:, lab], f"arm={arm}")
    return estimates


def draw_errors(result: Result, path: Path) -> None:
    """Left: every arm on both sets, with intervals. Right: laboratory values of eICU, from best known to least."""
    colors = dict(zip(ARMS, (PALETTE[0], PALETTE[5], PALETTE[1], PALETTE[4], PALETTE[-1]), strict=True))
    labs = [e.of for e in result.estimates if e.slice == f"tested=eicu,arm={OURS}" and e.of != "all"]
    labs.sort(key=lambda of: find_error(result, of, "eicu", OURS).value or 0.0)
    with plt.rc_context(STYLE):
        figure, (left, right) = plt.subplots(1, 2, figsize=(9, 6.2), width_ratios=(2, 3), layout="constrained")
        for place, name in enumerate(SETS):
            for offset, arm in enumerate(ARMS):
                found, y = find_error(result, "all", name, arm), place + 0.15 * (offset - 2)
                left.plot([found.low, found.high], [y, y], color=colors[arm], linewidth=1.4)
                left.plot(found.value, y, "o", color=colors[arm], label=arm if place == 0 else None)
        left.set_yticks(range(len(SETS)), [text.replace(", ", ",\n") for text in SETS.values()])
        left.invert_yaxis()
        left.set_xlim(0)
        left.set_title("All dropped values", fontsize=9)
        for arm in reversed(ARMS):
            values = [find_error(result, of, "eicu", arm).value for of in labs]
            right.plot(values, range(len(labs)), "o", color=colors[arm], markersize=4, label=arm)
        right.set_yticks(range(len(labs)), labs, fontsize=7)
        right.invert_yaxis()
        right.set_xlim(0)
        right.set_title("By laboratory value, eICU", fontsize=9)
        figure.supxlabel("Mean squared error in percentiles (0 to 1); 95 % interval by patient", fontsize=9)
        figure.legend(*left.get_legend_handles_labels(), loc="outside upper center", ncols=len(ARMS), fontsize=8)
        figure.savefig(path, dpi=120, metadata={"Software": None})
        plt.close(figure)


def print_errors(result: Result) -> None:
    """A line for each arm."""
    table = Table("filled in by", *SETS.values(), title="Squared error of percentiles, 95 % interval by patient")
    for arm in (*ARMS, *(f"{OURS} minus {arm}" for arm in ARMS[1:])):
        found = [find_error(result, "all", name, arm) for name in SETS]
        table.add_row(arm, *(f"{one.value:.4f} ({one.low:.4f} to {one.high:.4f})" for one in found))
    Console(width=120).print(table)
    by_seed: dict[str, dict[str, list[float]]] = result.protocol["errors_by_seed"]
    for name, arms in by_seed.items():
        for arm, values in arms.items():
            said = ", ".join(f"{value:.4f}" for value in values)
            Console(width=120).print(f"{name}, {arm}: seeds {said}", highlight=False)


def find_error(result: Result, of: str, name: str, arm: str) -> Estimate:
    return result.find("imputation_error", of, f"tested={name},arm={arm}")


if __name__ == "__main__":
    main()
