"""A longer pretraining on the phantom, under an hour on two cores: does it beat pixels, not only random weights?

The demo's recipe and size for more steps on more studies; the same probes and controls as `hilum probe`. `independent`
beside it says what the alignment of views adds.

Work is kept in runs/evidence, results go to results/phantom_pretraining.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from evidence.phantom_cache import WORK, prepare_cache
from hilum.config import Config, CropConfig
from hilum.evaluate.controls import embed_pixels, embed_untrained
from hilum.evaluate.features import embed_cache
from hilum.evaluate.probe_report import Arm, report_probes
from hilum.evaluate.task import read_task
from hilum.recipes import build_recipe
from hilum.train import pretrain

RECIPES, STEPS, VIEWS_PER_STEP = ("mvmae", "independent"), 3000, 64
RESULTS = Path("results/phantom_pretraining")


def main() -> None:
    """Pretrain what is not finished, probe, keep the result, print the differences."""
    cache = prepare_cache()
    arms = []
    for recipe in RECIPES:
        run = WORK / f"{recipe}-{STEPS}"
        pretrain(configure(recipe), cache.path, run, resume=True)  # refuses a run made with other settings
        arms.append(Arm(run.name, "encoder", embed_cache(cache, run, title=run.name)))
    encoder = configure("mvmae").encoder
    arms += [
        Arm("untrained", "untrained", embed_untrained(cache, encoder, crop=CropConfig(mode="center"))),
        Arm("pixels 32x32", "pixels", embed_pixels(cache)),
    ]
    report = report_probes(cache, arms, read_task(cache, "findings"), WORK / "probe")
    RESULTS.mkdir(parents=True, exist_ok=True)
    shutil.copy(report.parent / "probe.json", RESULTS / "probe.json")
    print_differences(RESULTS / "probe.json")


def configure(recipe: str) -> Config:
    """The demo's settings."""
    config = build_recipe(recipe, "hilum", "nano")
    return replace(
        config,
        encoder=replace(config.encoder, image_size=96, patch_size=8),
        mask=replace(config.mask, ratio=0.85),
        data=replace(config.data, views_per_step=VIEWS_PER_STEP, crop=CropConfig(mode="random", min_scale=0.7)),
        optim=replace(config.optim, matrices="muon", lr=3e-3, steps=STEPS),
        run=replace(config.run, meter_every=100),
    )


def print_differences(path: Path) -> None:
    """Macro AUROC of every pair of arms, with its paired interval."""
    table = Table("first", "second", "macro AUROC, first minus second", "95 % interval")
    for entry in json.loads(path.read_bytes())["differences"]:
        result = entry["result"]
        found = next(e for e in result["estimates"] if (e["metric"], e["of"], e["slice"]) == ("auroc", "macro", "all"))
        interval = "-" if found["low"] is None else f"{found['low']:+.3f} to {found['high']:+.3f}"
        table.add_row(result["protocol"]["first"], result["protocol"]["second"], f"{found['value']:+.3f}", interval)
    Console().print(table)
