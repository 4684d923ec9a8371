"""One cell: an arm pretrained with one seed on one thread, probed with few and with all labels.

`python -m evidence.alignment_cell ARM SEED`; a stopped cell continues where it was.
"""

from __future__ import annotations

import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from evidence.alignment_arms import SUPERVISED, Arm, list_arms
from evidence.alignment_caches import WORK, name_archive, open_cache
from evidence.alignment_supervised import run_supervised
from hilum.atomic import write_atomic
from hilum.cache import Cache
from hilum.config import dump_config, load_config, parse_config
from hilum.evaluate.efficiency import probe_label_counts, stack_repeats
from hilum.evaluate.estimates import estimate_scores
from hilum.evaluate.features import ViewFeatures, embed_cache
from hilum.evaluate.probe import probe_encoder
from hilum.evaluate.record import record_probe
from hilum.evaluate.result import Result, read_result, write_result
from hilum.evaluate.scores import write_scores
from hilum.evaluate.task import Task, read_task
from hilum.objective.meters import measure_effective_rank, score_retrieval
from hilum.run_folder import read_metrics
from hilum.train import pretrain

COUNTS, DRAWS = (100, 300, 1000), 5
RESULTS = Path("results/alignment")
READ = ("mean", "both", "4x4")  # of an image, by validation
METRICS = ("auroc", "brier_error")  # with few labels; with all there are all


def name_cell(arm: Arm, seed: int) -> str:
    """Readable name of a cell's run folder and of its result."""
    return f"{''.join(letter if letter.isalnum() else '-' for letter in arm.name)}-{seed}"


def name_result(arm: Arm, seed: int) -> Path:
    return RESULTS / "cells" / f"{name_cell(arm, seed)}.json"


def name_scores(arm: Arm, seed: int, labels: int | None) -> Path:
    """Scores of the test studies, for paired differences; they stay in the working folder."""
    return WORK / "runs" / name_cell(arm, seed) / f"scores-{labels or 'all'}.npz"


def is_done(arm: Arm, seed: int) -> bool:
    """Whether there are a result of these settings and the scores it is from."""
    path = name_result(arm, seed)
    if not path.exists() or not name_scores(arm, seed, None).exists():
        return False
    protocol = read_result(path).protocol
    return protocol["archive"] == arm.archive and parse_config(protocol["settings"]) == replace(arm.config, seed=seed)


def run_cell(arm: Arm, seed: int) -> None:
    """Pretrain, embed, probe, and write the cell's result last."""
    folder = WORK / "runs" / name_cell(arm, seed)
    begun, config = folder / "config.json", replace(arm.config, seed=seed)
    if begun.exists() and load_config(begun) != config:
        shutil.rmtree(folder)  # of an arm that has changed since
    cache = open_cache("clean")
    task = read_task(cache, "findings")
    if arm.name == SUPERVISED:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomic(begun, dump_config(config).encode())
        result = run_supervised(cache, task, config.encoder, COUNTS, METRICS, folder, seed)
    else:
        if not (folder / "weights.safetensors").exists():
            pretrain(config, WORK / name_archive(arm.archive), folder, resume=True)
        result = probe_cell(cache, task, arm, folder, seed)
    protocol = {**result.protocol, "question": arm.question, "archive": arm.archive, "settings": dump_config(config)}
    write_result(name_result(arm, seed), replace(result, protocol=protocol, seed=seed))
    read_result(name_result(arm, seed))


def probe_cell(cache: Cache, task: Task, arm: Arm, folder: Path, seed: int) -> Result:
    """A linear probe of a pretrained encoder with each number of labels and with all."""
    features = embed_cache(cache, folder, progress=False)
    probed = probe_encoder(features, task, name=arm.name, representation=READ)
    result = record_probe(probed)
    few = probe_label_counts(
        features, task, name=arm.name, counts=COUNTS, num_seeds=DRAWS, representation=probed.representation
    )
    estimates = list(result.estimates)
    for count, probes in few.items():
        scores = stack_repeats([probe.test for probe in probes])
        write_scores(name_scores(arm, seed, count), scores)
        estimates += estimate_scores(scores, METRICS, slice=f"{count} labels")
    write_scores(name_scores(arm, seed, None), probed.test)
    lines = read_metrics(folder / "metrics.jsonl")
    protocol = {
        **result.protocol,
        **measure_test(cache, features),
        "draws_of_labels": DRAWS,
        "steps": lines[-1]["step"],
        "minutes": lines[-1]["seconds"] / 60,
        "health": {
            name: value
            for line in lines[-max(1, len(lines) // 10) :]
            for name, value in line.items()
            if name.startswith("val/") or name.endswith(("gradient_ratio", "/weight", "/loss"))
        },
    }
    return replace(result, protocol=protocol, estimates=estimates)


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
