"""Does the phantom look enough like a chest X-ray that a classifier of real ones names its views?

A logistic regression on 32 x 32 pixels learns frontal against lateral from real X-rays only (the sets of
`real_xrays.py`; all laterals are of one of them) and then sees phantom views. It is read without the share of laterals
it learned from, 46 of 1,462 images: the log odds of that share are taken off its scores. Its own cross-validated
figures on real patients stand beside; what it loses on the phantom is the phantom's distance from them. Pixels, not an
encoder's features: an encoder is told the kind of view.

Needs the data sets in HILUM_REAL_DATA (or ../shared/data); work is kept in runs/evidence, the result goes to
results/phantom_views.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
from rich.console import Console
from rich.table import Table

from evidence.real_xrays import SALT, ingest_sets
from hilum.cache import Cache
from hilum.cache.writer import build_cache
from hilum.evaluate.controls import embed_pixels
from hilum.evaluate.heads.linear import fit_probes
from hilum.evaluate.probe.crossval import crossvalidate_probe
from hilum.evaluate.record import build_hashes
from hilum.evaluate.result import Estimate, Result, write_result
from hilum.evaluate.rows import count_parts, take_rows
from hilum.evaluate.scoring.bootstrap import LEVEL, NUM_RESAMPLES, read_interval, resample_auroc, resample_findings
from hilum.evaluate.scoring.scores import Scores
from hilum.evaluate.task import Task, read_task
from hilum.identifiers import Naming
from hilum.phantom.archive import write_archive
from hilum.phantom.freeze import hash_settings
from hilum.sources.table import ingest_table
from hilum.study import read_studies, write_studies

NUM_STUDIES, IMAGE_SIZE, SHORT_SIDE = 300, 144, 128
NUM_FOLDS, NUM_REPEATS = 5, 3
WORK = Path("runs/evidence/phantom_views") / hash_settings()[:8]  # another phantom, another folder
RESULT = Path("results/phantom_views/result.json")


def main() -> None:
    """Build what is missing, fit, score, write and print."""
    cache = prepare_cache()
    task, real = read_view_task(cache)
    features = embed_pixels(cache)
    on_real = crossvalidate_probe(
        features,
        replace(task, target=np.where(real[:, None], task.target, np.nan).astype(np.float32)),
        name="pixels 32x32",
        representation="mean",
        num_folds=NUM_FOLDS,
        num_repeats=NUM_REPEATS,
    )
    known = ~np.isnan(task.target[:, 0])
    train, test = (take_rows(features, task, np.flatnonzero(known & part), "mean") for part in (real, ~real))
    strength = float(np.median(on_real.settings))
    probe = fit_probes(train, [strength])[0]
    odds = np.log(train.target.mean() / (1 - train.target.mean())).item()
    on_phantom = Scores(
        names=task.names,
        target=test.target.numpy(),
        logit=probe.score_rows(test).numpy()[None],
        decision=np.zeros((1, len(test), 1)),
        patient=task.patient[test.row],
        row=test.row,
    )
    beside_laterals = cache.studies["dataset"][task.study[on_real.scores.row]] == cache.datasets.index("cxr_multiview")
    parts = {
        "real, cross-validated": on_real.scores,
        "real, cross-validated, cxr_multiview alone": on_real.scores.take(beside_laterals),
        "phantom": on_phantom,
    }
    estimates = [
        estimate for name, scores in parts.items() for estimate in estimate_views(call_views(scores, odds), name)
    ]
    result = Result(
        encoder="pixels 32x32",
        task="frontal or lateral",
        protocol={
            "kind": "probe fitted on real X-rays, tested on the phantom",
            "num_folds": NUM_FOLDS,
            "num_repeats": NUM_REPEATS,
            "strength": strength,
            "threshold": "equal odds",
            "phantom": json.loads((WORK / "archive" / "phantom.json").read_text("utf-8")),
            "features": features.made_by,
        },
        seed=0,
        estimates=estimates,
        hashes=build_hashes(task, features.made_by["weights"]),
        counts=count_parts(task, {"train": train, "test": test}),
        level=LEVEL,
        num_resamples=NUM_RESAMPLES,
    )
    write_result(RESULT, result)
    print_estimates(result)


def prepare_cache() -> Cache:
    """Real X-rays as training studies and a phantom as test studies of one cache, by the road of any archive."""
    WORK.mkdir(parents=True, exist_ok=True)
    write_archive(WORK / "archive", NUM_STUDIES, size=IMAGE_SIZE, workers=2)
    phantom, together = WORK / "phantom.parquet", WORK / "studies.parquet"
    if not together.exists():
        ingest_table(WORK / "archive" / "studies.csv", phantom, dataset="phantom", naming=Naming(salt=SALT))
        real = pl.concat([read_studies(table) for table in ingest_sets()], how="diagonal")
        tables = real.with_columns(split=pl.lit("train")), read_studies(phantom).with_columns(split=pl.lit("test"))
        write_studies(pl.concat(tables, how="diagonal"), together)
    build_cache(together, WORK / "cache", workers=2, short_side=SHORT_SIDE)
    return Cache.open(WORK / "cache")


def read_view_task(cache: Cache) -> tuple[Task, np.ndarray]:
    """Lateral (1) or frontal (0) of every view, unknown where nobody named it; and which views are real."""
    task = read_task(cache, "kind")
    names = [name.removeprefix("kind=") for name in task.names]  # one column for each kind, or one for the later of two
    lateral = task.target[:, [names.index("lateral")]]
    if "unknown" in names:
        lateral = np.where(task.target[:, [names.index("unknown")]] == 1, np.nan, lateral).astype(np.float32)
    real = cache.studies["dataset"][task.study] != cache.datasets.index("phantom")
    return replace(task, names=("lateral",), target=lateral), real


def call_views(scores: Scores, odds: float) -> Scores:
    """A view is called lateral where its score is above `odds`, the log odds of a lateral in training."""
    return replace(scores, decision=(scores.logit > odds).astype(float))


def estimate_views(scores: Scores, name: str) -> list[Estimate]:
    """AUROC, accuracy, and accuracy with both kinds weighing the same, each averaged over repeats, by patient."""
    target = scores.target
    estimates = []
    for metric, measure, said in (
        ("auroc", resample_auroc, scores.logit),
        ("accuracy", weigh_accuracy, scores.decision),
        ("balanced_accuracy", weigh_balanced_accuracy, scores.decision),
    ):
        drawn = np.mean([resample_findings(measure, target, one, scores.patient)[0] for one in said], axis=0)
        interval = read_interval(drawn)
        everybody = np.ones((len(target), 1), np.float32)
        value = np.mean([measure(target[:, 0], one[:, 0], everybody)[0] for one in said]).item()
        low, high = (interval.low, interval.high) if interval else (None, None)
        num, positives = len(target), int(target.sum())
        estimates.append(Estimate(metric, "lateral", value, low, high, num=num, positives=positives, slice=name))
    return estimates


def weigh_accuracy(target: np.ndarray, decision: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Share of rows named rightly, in each resample."""
    return (target == decision) @ weight / weight.sum(axis=0)


def weigh_balanced_accuracy(target: np.ndarray, decision: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Mean of the shares of laterals and of frontals named rightly, in each resample."""
    shares = [weigh_accuracy(target[kind], decision[kind], weight[kind]) for kind in (target == 0, target == 1)]
    return np.mean(shares, axis=0)


def print_estimates(result: Result) -> None:
    """The figures as a table."""
    table = Table("tested on", "views", "lateral", "AUROC", "accuracy", "balanced accuracy")
    for name in dict.fromkeys(estimate.slice for estimate in result.estimates):
        found = [result.find(metric, "lateral", name) for metric in ("auroc", "accuracy", "balanced_accuracy")]
        cells = [f"{one.value:.3f}\n{one.low:.3f} to {one.high:.3f}" for one in found]
        table.add_row(name, str(found[0].num), str(found[0].positives), *cells)
    Console().print(table)
