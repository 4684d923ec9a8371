"""The MVMAE paper's tables and figures on the phantom, the published numbers beside: `hilum evaluate mvmae --paper`.

What is judged are the runs of `alignment.py` (pretrained again where they are no longer there): probes of three seeds,
fine-tuning of one, and the preset `hilum` pretrained at one institution alone and at all but one. Every run and every
cell that is done is kept. `results/paper_tables` gets the tables, the figures and the index of each of the three.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from evidence.alignment import SEEDS
from evidence.alignment_arms import PRESETS, Arm, list_arms
from evidence.alignment_caches import WORK, open_cache, prepare_caches
from evidence.alignment_cell import pretrain_arm
from hilum.commands.paper import run_evaluate
from hilum.evaluate.paper.mvmae.leave_one_out import list_missing

METHODS = {"independent": "independent", "mvmae, hilum": "mvmae", "mvmae_v2t, hilum": "mvmae_v2t"}  # preset -> method
FINETUNE_EPOCHS = 5  # of 30 by default, which would take hours a method
FINETUNE_COUNT = 1000  # labelled studies, beside all of them
RESULTS = Path("results/paper_tables")
SHOWN = ("tables.md", "suite.json", "figures")


def main() -> None:
    """Pretrain what is missing, run the cells that are missing, copy what a reader looks at."""
    prepare_caches()
    arms = {METHODS[preset]: list_arms()[name] for name, preset in PRESETS.items() if preset in METHODS}
    judge("probes", [list_runs(method, arm, SEEDS) for method, arm in arms.items()], protocols=("probe",))
    judge(
        "institutions",
        [f"{name}={run}" for name, run in pretrain_institutions(arms["mvmae"]).items()],
        protocols=("probe",),
        leave_one_out=True,
    )
    judge(
        "finetuned",
        [list_runs(method, arm, 1) for method, arm in arms.items()],
        protocols=("finetune",),
        counts=(FINETUNE_COUNT,),
        epochs=FINETUNE_EPOCHS,
    )


def list_runs(method: str, arm: Arm, seeds: int) -> str:
    """METHOD=RUN,RUN,... of an arm's seeds."""
    return f"{method}={','.join(str(pretrain_arm(arm, seed)) for seed in range(seeds))}"


def pretrain_institutions(arm: Arm) -> dict[str, Path]:
    """Runs of all institutions, of each alone and of all but one: the names of `list_missing`, and `all`."""
    names = open_cache("clean").datasets
    runs = {"all": pretrain_arm(arm, 0)}
    for label, kept in list_missing(names, names, ()).items():
        others = tuple(name for name in names if name not in kept)
        config = replace(arm.config, data=replace(arm.config.data, leave_out=others))
        runs[label] = pretrain_arm(replace(arm, name=f"{arm.name}, {label}", config=config), 0)
    return runs


def judge(name: str, runs: list[str], **settings: Any) -> None:
    """One suite, and what of it is committed."""
    out = WORK / "paper" / name
    run_evaluate(open_cache("clean").path, runs, out, suite="mvmae", paper=True, **settings)
    (RESULTS / name).mkdir(parents=True, exist_ok=True)
    for shown in SHOWN:
        source, target = out / shown, RESULTS / name / shown
        shutil.copytree(source, target, dirs_exist_ok=True) if source.is_dir() else shutil.copy(source, target)
