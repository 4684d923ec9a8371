"""One cell: an arm pretrained with one seed on one thread, probed with few and with all labels.

`python -m evidence.alignment_cell ARM SEED`; a stopped cell continues where it was.
"""

from __future__ import annotations

import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from evidence.alignment_arms import SUPERVISED, Arm, list_arms
from evidence.alignment_caches import WORK, name_archive, open_cache
from evidence.alignment_supervised import run_supervised
from hilum.atomic import open_atomic, write_atomic
from hilum.cache import Cache
from hilum.config import EncoderConfig, dump_config, load_config, parse_config
from hilum.evaluate.features import ViewFeatures, embed_cache
from hilum.evaluate.probe.efficiency import probe_label_counts, stack_repeats
from hilum.evaluate.probe.run import probe_encoder
from hilum.evaluate.record import record_probe
from hilum.evaluate.result import Result, read_result, write_result
from hilum.evaluate.scoring.estimates import estimate_scores, score_macro
from hilum.evaluate.scoring.scores import Scores
from hilum.evaluate.task import Task, read_task
from hilum.objective.meters import measure_effective_rank, score_retrieval
from hilum.training.pretrain import pretrain
from hilum.training.run_folder import read_metrics

COUNTS, DRAWS = (100, 300, 1000), 5
RESULTS = Path("results/alignment")
READ = ("mean", "both", "4x4")  # of an image, by validation
METRICS = ("auroc", "brier_error")  # with few labels; with all there are all
LABELS: tuple[int | None, ...] = (*COUNTS, None)
CURVES = ("features/effective_rank", "features/std", "alignment/gradient_ratio")


def name_cell(arm: Arm, seed: int) -> str:
    """Readable name of a cell's run folder and of its result."""
    return f"{''.join(letter if letter.isalnum() else '-' for letter in arm.name)}-{seed}"


def name_result(arm: Arm, seed: int) -> Path:
    return RESULTS / "cells" / f"{name_cell(arm, seed)}.json"


def name_resamples(arm: Arm, seed: int) -> Path:
    """Macro AUROC on a thousand resamples of the test patients, for paired differences, by number of labels."""
    return name_result(arm, seed).with_suffix(".npz")


def name_labels(count: int | None) -> str:
    return f"{count or 'all'} labels"


def is_done(arm: Arm, seed: int) -> bool:
    """Whether there are a result of these settings and its resamples."""
    path = name_result(arm, seed)
    if not path.exists() or not name_resamples(arm, seed).exists():
        return False
    protocol = read_result(path).protocol
    return protocol["archive"] == arm.archive and parse_config(protocol["settings"]) == replace(arm.config, seed=seed)


def pretrain_arm(arm: Arm, seed: int) -> Path:
    """Pretrain what is not finished; the run's folder. One of an arm that has changed since is thrown away."""
    folder = make_folder(arm, seed)
    if not (folder / "weights.safetensors").exists():
        pretrain(replace(arm.config, seed=seed), WORK / name_archive(arm.archive), folder, resume=True)
    return folder


def make_folder(arm: Arm, seed: int) -> Path:
    """A cell's folder, emptied of what an arm left there that has changed since."""
    folder = WORK / "runs" / name_cell(arm, seed)
    begun = folder / "config.json"
    if begun.exists() and load_config(begun) != replace(arm.config, seed=seed):
        shutil.rmtree(folder)
    return folder


def run_cell(arm: Arm, seed: int) -> None:
    """Pretrain, embed, probe, and write the cell's result last."""
    config = replace(arm.config, seed=seed)
    cache = open_cache("clean")
    task = read_task(cache, "findings")
    if arm.name == SUPERVISED:
        assert isinstance(config.encoder, EncoderConfig), "arms of chests are transformers"
        folder = make_folder(arm, seed)
        folder.mkdir(parents=True, exist_ok=True)
        write_atomic(folder / "config.json", dump_config(config).encode())
        result, scores = run_supervised(cache, task, config.encoder, COUNTS, folder, seed)
    else:
        folder = pretrain_arm(arm, seed)
        result, scores = probe_cell(cache, task, arm, folder, seed)
        result.protocol.update(describe_training(folder))
    few = [one for count in COUNTS for one in estimate_scores(scores[count], METRICS, slice=name_labels(count))]
    result.protocol.update(question=arm.question, archive=arm.archive, settings=dump_config(config))
    RESULTS.joinpath("cells").mkdir(parents=True, exist_ok=True)
    with open_atomic(name_resamples(arm, seed)) as file:
        resampled = {name_labels(count): estimate_scores(scores[count], ("auroc",))[-1].resamples for count in LABELS}
        np.savez_compressed(file, allow_pickle=False, **resampled)
    write_result(name_result(arm, seed), replace(result, estimates=[*result.estimates, *few], seed=seed))


def probe_cell(cache: Cache, task: Task, arm: Arm, folder: Path, seed: int) -> tuple[Result, dict[int | None, Scores]]:
    """A linear probe of a pretrained encoder with each number of labels and with all (None)."""
    features = embed_cache(cache, folder, progress=False)
    probed = probe_encoder(features, task, name=arm.name, representation=READ)
    few = probe_label_counts(
        features, task, name=arm.name, counts=COUNTS, num_seeds=DRAWS, representation=probed.representation
    )
    found = {**few, None: [probed]}
    result = record_probe(probed)
    result.protocol.update(measure_test(cache, features), draws_of_labels=DRAWS)
    # By these arms are chosen, so that the test studies do not flatter the choice.
    result.protocol["validation"] = {
        name_labels(count): score_macro(stack_repeats([one.val for one in probes]))[0]
        for count, probes in found.items()
    }
    return result, {count: stack_repeats([one.test for one in probes]) for count, probes in found.items()}


def describe_training(folder: Path) -> dict[str, Any]:
    """Cost of a run, what its log says at the end, and how spread and pull went."""
    lines = read_metrics(folder / "metrics.jsonl")
    return {
        "steps": lines[-1]["step"],
        "minutes": lines[-1]["seconds"] / 60,
        "health": {
            name: value
            for line in lines[-max(1, len(lines) // 10) :]
            for name, value in line.items()
            if name.startswith("val/") or name.endswith(("gradient_ratio", "/weight", "/loss"))
        },
        "curves": {
            name: [[line["step"], line[name]] for line in lines if line.get(name) is not None] for name in CURVES
        },
    }


def measure_test(cache: Cache, features: ViewFeatures) -> dict[str, float]:
    """Of all test studies, by the mean of an image's tokens: how often a frontal view finds its lateral first, and how
    many directions are used (RankMe)."""
    test = np.isin(features.study, cache.rows("test"))
    mean = torch.from_numpy(features.mean[test])
    kind, study = torch.from_numpy(features.view_kind[test]), torch.from_numpy(features.study[test])
    retrieval = score_retrieval(mean, kind, study)
    assert retrieval is not None, "the phantom has studies of two views"
    return {
        "retrieval": retrieval.score,
        "retrieval_chance": retrieval.chance,
        "effective_rank": float(measure_effective_rank(mean)),
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    run_cell(list_arms()[sys.argv[1]], int(sys.argv[2]))
