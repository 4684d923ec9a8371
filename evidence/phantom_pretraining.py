"""A longer pretraining on the phantom, under an hour on two cores: does it beat pixels, not only random weights?

The demo's recipe and size for more steps on more studies; the same probes and controls as `hilum probe`. `independent`
beside it says what the alignment of views adds.

Work is kept in runs/evidence, results go to results/phantom_pretraining.
"""

from __future__ import annotations

import json
import shlex
import shutil
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.table import Table

from evidence.phantom_cache import WORK, prepare_cache
from evidence.run_names import name_run
from hilum import cli
from hilum.cache import Cache
from hilum.config import CropConfig, load_config
from hilum.demo import SETTINGS
from hilum.evaluate.controls import embed_pixels, embed_untrained
from hilum.evaluate.features import embed_cache
from hilum.evaluate.probe.protocol import Arm, ProbeProtocol
from hilum.evaluate.probe.report import report_probes
from hilum.evaluate.subject import build_random
from hilum.evaluate.task import read_task
from hilum.recipes import build_recipe

RECIPES, STEPS = ("mvmae", "independent"), 3000
RESULTS = Path("results/phantom_pretraining")


def main() -> None:
    """Pretrain what is not finished, probe, keep the result, print the differences."""
    cache = prepare_cache()
    arms = []
    for recipe in RECIPES:
        name = f"{recipe}-{STEPS}"
        run = WORK / name_run(name, build_recipe(recipe, "hilum", "nano"), SETTINGS)
        train(recipe, cache, run)
        arms.append(Arm(name, "encoder", embed_cache(cache, run, title=name)))
    encoder = load_config(run / "config.json").encoder
    arms += [
        Arm(
            "untrained",
            "untrained",
            embed_untrained(cache, partial(build_random, encoder), crop=CropConfig(mode="center")),
        ),
        Arm("pixels 32x32", "pixels", embed_pixels(cache)),
    ]
    report = report_probes(cache, arms, read_task(cache, "findings"), WORK / "probe", ProbeProtocol())
    RESULTS.mkdir(parents=True, exist_ok=True)
    shutil.copy(report.parent / "probe.json", RESULTS / "probe.json")
    print_differences(RESULTS / "probe.json")


def train(recipe: str, cache: Cache, run: Path) -> None:
    """The demo's pretraining, but for recipe and steps; a finished run is kept."""
    words = ["pretrain", recipe, "--data", str(cache.path), "--out", str(run), *shlex.split(SETTINGS)]
    code = cli.main([*words, "--optim.steps", str(STEPS), "--resume"])
    if code:
        raise SystemExit(code)


def print_differences(path: Path) -> None:
    """Macro AUROC of every pair of arms, with its paired interval."""
    table = Table("first", "second", "macro AUROC, first minus second", "95 % interval")
    for entry in json.loads(path.read_bytes())["differences"]:
        result = entry["result"]
        found = next(e for e in result["estimates"] if (e["metric"], e["of"], e["slice"]) == ("auroc", "macro", "all"))
        interval = "-" if found["low"] is None else f"{found['low']:+.3f} to {found['high']:+.3f}"
        table.add_row(result["protocol"]["first"], result["protocol"]["second"], f"{found['value']:+.3f}", interval)
    Console().print(table)
