"""Real X-rays: three small public sets through ingest, cache and pretraining; ChestX-ray14's findings by probe.

Arms: pixels, untrained, `independent` and `mvmae` with three seeds each, and the plain masked autoencoder of
`bench/plain_mae.py`, all trained for as many steps as fit the same minutes on a machine left alone: short trials that
take turns say how many. A method is judged by the mean of its seeds' metrics. The probe is
repeated cross-validation by patient on the 829 frontal ChestX-ray14 images, whose pixels (not labels) every arm saw in
pretraining. With 46 two-view studies in all, this cannot tell `mvmae` from `independent`; it can tell either from the
controls.

Needs the data sets in HILUM_REAL_DATA (or ../shared/data); work is kept in runs/evidence/real, results go to
results/real_xrays.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import polars as pl
import torch
from bench.plain_mae import SIDE, PlainMAE, embed_plain_mae, train_plain_mae
from rich.console import Console

from evidence.run_names import name_run
from hilum.augment import prepare
from hilum.cache import Cache
from hilum.cache.writer import build_cache
from hilum.checksums import hash_weights
from hilum.config import Config, CropConfig
from hilum.evaluate.controls import embed_pixels, embed_untrained
from hilum.evaluate.features import ViewFeatures, embed_cache
from hilum.evaluate.leaks import measure_overlap
from hilum.evaluate.probe.protocol import Arm, ProbeProtocol
from hilum.evaluate.probe.report import report_probes
from hilum.evaluate.subject import build_random
from hilum.evaluate.task import read_task
from hilum.identifiers import Naming
from hilum.loader import iterate_studies
from hilum.model.heads import pool_regions
from hilum.recipes import build_recipe
from hilum.sources.table import ingest_table
from hilum.study import read_studies, write_studies
from hilum.training.pretrain import pretrain
from hilum.training.run_folder import read_metrics

SEEDS = (0, 1, 2)
MINUTES = 10.0  # of two cores for each arm
TRIAL_STEPS, TRIAL_ROUNDS = 60, 2
SETS = {
    "cxr_multiview": {"group": "patient_group"},
    "nih": {},
    "hannover_cxr_labs": {"day": "-admission_offset"},
}
SALT = "the same names, and so the same folds, wherever this is run: the sets are public"
ROOT = Path(os.environ.get("HILUM_REAL_DATA", "../shared/data"))
MEASURED = "seconds-a-step.json"
WORK, RESULTS = Path("runs/evidence/real"), Path("results/real_xrays")


def main(minutes: float = MINUTES, seeds: tuple[int, ...] = SEEDS) -> None:
    """Everything that has no result yet."""
    console = Console(stderr=True)
    everything, nih = prepare_caches()
    steps = measure_steps(everything, minutes)
    arms: list[Arm] = []
    for seed in seeds:
        for recipe in ("mvmae", "independent"):
            name, run = f"{recipe}-{seed}", find_run(recipe, seed, steps)
            console.print(f"{name}: {steps[recipe]} steps, about {minutes:g} minutes")
            pretrain(configure(recipe, seed, steps[recipe]), everything.path, run, resume=True)
            arms.append(Arm(name, "encoder", embed_cache(nih, run, title=name), recipe))
        arms.append(
            Arm(f"plain-mae-{seed}", "encoder", embed_plain(everything, nih, seed, steps["plain MAE"]), "plain MAE")
        )
    overlap = measure_overlap(nih, find_run("mvmae", seeds[0], steps), None)
    notes = {arm.name: (f"Pretraining saw {overlap} of this evaluation, without their labels.",) for arm in arms}
    encoder = configure("mvmae", 0, steps["mvmae"]).encoder
    arms += [
        Arm(
            "untrained",
            "untrained",
            embed_untrained(nih, partial(build_random, encoder), crop=CropConfig(mode="center")),
        ),
        Arm("pixels 32x32", "pixels", embed_pixels(nih)),
    ]
    RESULTS.mkdir(parents=True, exist_ok=True)
    shutil.copy(find_measured(), RESULTS / MEASURED)
    for task in ("findings", "position"):
        protocol = ProbeProtocol(crossval=True)
        report = report_probes(nih, arms, read_task(nih, task), WORK / f"probe-{task}", protocol, notes=notes)
        keep_results(report.parent, RESULTS / task)


def prepare_caches() -> tuple[Cache, Cache]:
    """The cache of all three sets to pretrain on, and that of ChestX-ray14 alone to probe."""
    tables = ingest_sets()
    together = WORK / "all.parquet"
    if not together.exists():
        # All of it may be pretrained on: what is held out here are labels.
        studies = pl.concat([read_studies(table) for table in tables], how="diagonal")
        write_studies(studies.with_columns(split=pl.lit("train")), together)
    caches = []
    for table, name in ((together, "all"), (tables[1], "nih")):
        build_cache(table, WORK / f"cache-{name}", workers=2, short_side=160)
        caches.append(Cache.open(WORK / f"cache-{name}"))
    return caches[0], caches[1]


def ingest_sets() -> list[Path]:
    """The study tables of the three sets."""
    tables = []
    for name, columns in SETS.items():
        table = WORK / f"{name}.parquet"
        if not table.exists():
            ingest_table(ROOT / name / "manifest.csv", table, columns=columns, dataset=name, naming=Naming(salt=SALT))
        tables.append(table)
    return tables


def configure(recipe: str, seed: int, steps: int) -> Config:
    """The smallest size at the yardstick's image and patch size, optimised as the demo's."""
    config = build_recipe(recipe, "hilum", "nano")
    return replace(
        config,
        seed=seed,
        encoder=replace(config.encoder, image_size=SIDE, patch_size=8),
        mask=replace(config.mask, ratio=0.85),
        data=replace(config.data, views_per_step=64, crop=CropConfig(mode="random", min_scale=0.5)),
        optim=replace(config.optim, matrices="muon", lr=3e-3, steps=steps),
        run=replace(config.run, meter_every=100),
    )


def find_run(recipe: str, seed: int, steps: dict[str, int]) -> Path:
    return WORK / name_run(f"{recipe}-{seed}", configure(recipe, seed, steps[recipe]))


def find_measured() -> Path:
    """The seconds a step of these objectives."""
    return WORK / f"{name_run('seconds-a-step', configure('mvmae', 0, TRIAL_STEPS))}.json"


def measure_steps(cache: Cache, minutes: float) -> dict[str, int]:
    """Steps of each method that fit the minutes. Measured once, in turns; the fastest round counts."""
    measured = find_measured()
    if not measured.exists():
        seconds: dict[str, list[float]] = {"mvmae": [], "independent": [], "plain MAE": []}
        images = read_squares(cache)
        for _ in range(TRIAL_ROUNDS):
            for recipe in ("mvmae", "independent"):
                trial = WORK / f"trial-{recipe}"
                shutil.rmtree(trial, ignore_errors=True)
                pretrain(configure(recipe, 0, TRIAL_STEPS), cache.path, trial)
                first, *_, last = read_metrics(trial / "metrics.jsonl")
                seconds[recipe].append((last["seconds"] - first["seconds"]) / (last["step"] - first["step"]))
            start = time.perf_counter()
            train_plain_mae(images, TRIAL_STEPS, 0)
            seconds["plain MAE"].append((time.perf_counter() - start) / TRIAL_STEPS)
        measured.write_text(json.dumps(seconds))
    return {name: round(60 * minutes / min(tried)) for name, tried in json.loads(measured.read_text()).items()}


def embed_plain(everything: Cache, nih: Cache, seed: int, steps: int) -> ViewFeatures:
    """The yardstick trained on all images, and its features of ChestX-ray14's."""
    path = WORK / f"plain-mae-{seed}-{steps}-steps.pt"
    if path.exists():
        model = PlainMAE()
        model.load_state_dict(torch.load(path, weights_only=True))
    else:
        model = train_plain_mae(read_squares(everything), steps, seed)
        torch.save(model.state_dict(), path)
    tokens = embed_plain_mae(model.eval(), read_squares(nih))
    made_by = {"weights": hash_weights(model), "cache": nih.digest, "image_size": SIDE}
    return replace(
        embed_pixels(nih),
        class_token=tokens[:, 0].numpy(),
        mean=tokens[:, 1:].mean(dim=1).numpy(),
        regions=pool_regions(tokens[:, 1:], 4).contiguous().numpy(),
        made_by=made_by,
    )


def read_squares(cache: Cache) -> torch.Tensor:
    """Every image's central square as uint8 (image, 1, 128, 128), in the cache's order."""
    batches = iterate_studies(cache, cache.rows(), views_per_batch=256, crop=CropConfig(mode="center"))
    squares = [prepare(batch, size=SIDE, mean=0.0, std=1.0).pixels for batch in batches]
    return (torch.cat(squares) * 255).round().clamp(0, 255).to(torch.uint8)


def keep_results(probe: Path, out: Path) -> None:
    """Results only: no picture and no score of a patient leaves the working folder."""
    out.mkdir(parents=True, exist_ok=True)
    shutil.copy(probe / "probe.json", out / "probe.json")
