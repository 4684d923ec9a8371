"""One cell: an arm trained with one seed on one thread, and judged.

`python -m evidence.mammogram_cell ARM SEED`; a stopped cell continues where it was. What is kept of it is a file of
numbers and one of what they are on resamples of the patients, by which any two arms are paired.
"""

from __future__ import annotations

import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from evidence.mammogram_arms import RANDOM, SUPERVISED, Arm, list_arms
from evidence.mammogram_caches import open_cache
from evidence.mammogram_judging import judge_arm
from evidence.mammogram_language_model import FOLDER
from evidence.mammogram_places import name_run, write_cell
from evidence.mammogram_supervised import train_on_labels
from evidence.mammogram_texts import name_texts
from hilum.atomic import write_atomic
from hilum.config import Config, dump_config, load_config
from hilum.evaluate.record import hash_code
from hilum.training.pretrain import pretrain
from hilum.training.run_folder import read_metrics

CURVES = ("image_text/loss", "views/loss", "features/effective_rank", "features/std")
RANDOM_STEPS = 60  # in which batch statistics become those of the images


def run_cell(arm: Arm, seed: int) -> None:
    """Train, judge, and write what came of it last."""
    config, folder = replace(arm.config, seed=seed), make_folder(arm, seed)
    about: dict[str, Any] = {"settings": dump_config(config), "code": hash_code(), "data": open_cache().digest}
    if arm.name == SUPERVISED:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomic(folder / "config.json", dump_config(config).encode())
        judged = train_on_labels(open_cache(), config, seed, folder)
    else:
        if not (folder / "weights.safetensors").exists():
            pretrain(
                take_part(arm, config), open_cache().path, folder, texts=name_texts(arm.texts),
                language_model=FOLDER if arm.reads_given else None, resume=True,
            )  # fmt: skip
        if arm.name != RANDOM:
            about["training"] = describe_training(folder)
        judged = judge_arm(arm, folder)
    write_cell(arm, seed, judged, about)


def take_part(arm: Arm, config: Config) -> Config:
    """The settings that are run: random weights are the end of a run at a rate of next to nothing."""
    if arm.name != RANDOM:
        return config
    return replace(config, optim=replace(config.optim, steps=RANDOM_STEPS, lr=1e-12))


def make_folder(arm: Arm, seed: int) -> Path:
    """A cell's folder, emptied of what an arm left there that has changed since."""
    folder = name_run(arm, seed)
    if (begun := folder / "config.json").exists():
        found, wanted = load_config(begun), take_part(arm, replace(arm.config, seed=seed))
        ours, its = wanted.text_encoder, found.text_encoder
        assert ours is not None
        if its is not None:  # the run names the files that it read
            ours = replace(ours, texts=its.texts, source=its.source)
            ours = replace(ours, language_model=its.language_model) if arm.reads_given else ours
        if found != replace(wanted, text_encoder=ours):
            shutil.rmtree(folder)
    return folder


def describe_training(folder: Path) -> dict[str, Any]:
    """Cost of a run, what its log says at the end, and its curves."""
    lines = read_metrics(folder / "metrics.jsonl")
    last = {name: value for line in lines[-max(1, len(lines) // 10) :] for name, value in line.items()}
    return {
        "steps": last.pop("step"),
        "minutes": last.pop("seconds") / 60,
        "last": last,
        "curves": {
            name: [[line["step"], line[name]] for line in lines if line.get(name) is not None] for name in CURVES
        },
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    run_cell(list_arms()[sys.argv[1]], int(sys.argv[2]))
