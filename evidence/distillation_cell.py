"""One cell: an arm trained with one seed on one thread, and everything that is asked of its encoder.

`python -m evidence.distillation_cell ARM SEED`; a stopped cell continues where it was. It leaves three results, of the
two tasks and of what images and places are like, and beside them what paired differences need (`cells/*.npz`).
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from evidence.distillation_arms import ABROAD, Arm, list_arms
from evidence.distillation_caches import STRUCTURES, TEACHERS, WORK, name_teacher, open_cache, open_drawn, read_masks
from hilum.atomic import open_atomic
from hilum.cache import Cache
from hilum.config import CropConfig, dump_config, load_config, parse_config
from hilum.evaluate.alignment_metrics import resample_mean
from hilum.evaluate.alignment_probe import Pairs, estimate_alignment, probe_alignment
from hilum.evaluate.bootstrap import LEVEL, NUM_RESAMPLES
from hilum.evaluate.drift import estimate_drift
from hilum.evaluate.efficiency import probe_label_counts, stack_repeats
from hilum.evaluate.estimates import estimate_scores, resample_macro, score_macro
from hilum.evaluate.features import ViewFeatures, embed_cache
from hilum.evaluate.intervals import resample
from hilum.evaluate.masks import MaskTable
from hilum.evaluate.probe import probe_encoder
from hilum.evaluate.record import record_probe
from hilum.evaluate.record_pacx import record_segmentation
from hilum.evaluate.result import Result, read_result, write_result
from hilum.evaluate.rollout import cover_patches, estimate_shares, measure_shares, roll_out_views
from hilum.evaluate.scores import Scores
from hilum.evaluate.segmentation import segment_encoder
from hilum.evaluate.segmentation_settings import SegmentationSettings
from hilum.evaluate.subject import find_subject
from hilum.evaluate.task import Task, read_task
from hilum.phantom.physiology.effects import TARGETS
from hilum.run_folder import read_metrics
from hilum.teacher_vectors import read_teacher_vectors
from hilum.train import pretrain

RESULTS = Path("results/distillation")
SHARES, DRAWS = (0.01, 0.1), 5  # of the training studies that are labelled, and how often these are drawn
LABELS = (*(f"{share:.0%} of labels" for share in SHARES), "all labels")
READ = ("class", "mean", "both", "4x4")  # of an image, by validation
SEGMENTATION = SegmentationSettings(epochs=20, views_per_step=32, lr=1e-3)
TASKS = ("physiology", "findings")
# What is averaged: physiology that images show and that they do not, and findings that no ECG and no laboratory value
# knows of, which could be harmed.
GROUPS: dict[str, tuple[str, tuple[str, ...] | None]] = {
    "physiology": ("physiology", tuple(name for name, target in TARGETS.items() if target.image != "none")),
    "faint physiology": ("physiology", tuple(name for name, target in TARGETS.items() if target.image == "faint")),
    "invisible physiology": ("physiology", tuple(name for name, target in TARGETS.items() if target.image == "none")),
    "findings": ("findings", None),
    "silent findings": ("findings", ("Fracture", "Lung Lesion", "Support Devices", "Pneumothorax")),
}
ABROAD_SLICE = f"trained and tested at {ABROAD}"
Resamples = dict[str, np.ndarray]


def name_cell(arm: Arm, seed: int) -> str:
    """Readable name of a cell's run folder and of its results."""
    return f"{''.join(letter if letter.isalnum() else '-' for letter in arm.name)}-{seed}"


def name_result(arm: Arm, seed: int, part: str) -> Path:
    """Of a task, or of `images`."""
    return RESULTS / "cells" / f"{name_cell(arm, seed)}-{part}.json"


def name_resamples(arm: Arm, seed: int) -> Path:
    """Every mean on a thousand resamples of the test patients."""
    return RESULTS / "cells" / f"{name_cell(arm, seed)}.npz"


def is_done(arm: Arm, seed: int) -> bool:
    """Whether there are results of these settings."""
    paths = [name_result(arm, seed, part) for part in (*TASKS, "images")]
    if not all(path.exists() for path in (*paths, name_resamples(arm, seed))):
        return False
    protocol = read_result(paths[-1]).protocol
    return protocol["start"] == arm.start and parse_config(protocol["settings"]) == replace(arm.config, seed=seed)


def train_arm(arms: Mapping[str, Arm], name: str, seed: int) -> Path:
    """Train what is not finished, its start before; the run's folder. One that has changed since is thrown away."""
    arm = arms[name]
    config, folder = replace(arm.config, seed=seed), WORK / "runs" / name_cell(arm, seed)
    init = None if arm.start is None else train_arm(arms, arm.start, seed)
    begun = folder / "config.json"
    if begun.exists() and replace(load_config(begun), teachers=config.teachers) != config:
        shutil.rmtree(folder)
    if not (folder / "weights.safetensors").exists():
        teachers = {teacher: name_teacher(teacher) for teacher in arm.teachers}
        pretrain(config, open_cache().path, folder, init=init, teachers=teachers, resume=True)
    return folder


def run_cell(arms: Mapping[str, Arm], name: str, seed: int) -> None:
    """Train, embed, ask everything, and write the results, the one that says it is done last."""
    arm, cache = arms[name], open_cache()
    folder = train_arm(arms, name, seed)
    start = folder if arm.start is None else train_arm(arms, arm.start, seed)
    features = embed_cache(cache, folder, progress=False)
    RESULTS.joinpath("cells").mkdir(parents=True, exist_ok=True)
    stored: Resamples = {}
    for task_name in TASKS:
        result, resamples = probe_task(cache, features, read_task(cache, task_name), arm.name)
        write_result(name_result(arm, seed, task_name), replace(result, seed=seed))
        stored |= resamples
    result, resamples = look_at_images(cache, features, folder, start, arm.name)
    with open_atomic(name_resamples(arm, seed)) as file:
        np.savez_compressed(file, **(stored | resamples))
    steps = read_metrics(folder / "metrics.jsonl")
    result.protocol.update(
        start=arm.start,
        teachers=list(arm.teachers),
        settings=dump_config(replace(arm.config, seed=seed)),
        minutes=steps[-1]["seconds"] / 60,
        last_step={key: value for key, value in steps[-1].items() if key != "seconds"},
    )
    write_result(name_result(arm, seed, "images"), replace(result, seed=seed))


def probe_task(cache: Cache, features: ViewFeatures, task: Task, name: str) -> tuple[Result, Resamples]:
    """A linear probe with all labels and with few, and at one institution alone; the groups' means on resamples."""
    probed = probe_encoder(features, task, name=name, representation=READ)
    counts = [round(share * len(task.rows("train"))) for share in SHARES]
    few = probe_label_counts(
        features, task, name=name, counts=counts, num_seeds=DRAWS, representation=probed.representation
    )
    probes = {**dict(zip(LABELS, few.values(), strict=False)), LABELS[-1]: [probed]}
    others = [archive for archive in cache.archives if archive != ABROAD]
    abroad = read_task(cache, task.name, leave_out=others)
    probes[ABROAD_SLICE] = [probe_encoder(features, abroad, name=name, representation=READ)]
    result, resamples = record_probe(probed), {}
    for labels, found in probes.items():
        test, val = (stack_repeats([getattr(one, part) for one in found]) for part in ("test", "val"))
        if labels != LABELS[-1]:
            result.estimates.extend(estimate_scores(test, ("auroc", "average_precision"), slice=labels))
        for group, (of, members) in GROUPS.items():
            if of == task.name:
                resamples[f"{group}, {labels}"] = resample_macro(keep_findings(test, members))
                result.protocol.setdefault("validation", {})[f"{group}, {labels}"] = score_macro(
                    keep_findings(val, members)
                )[0]
                result.protocol.setdefault("test", {})[f"{group}, {labels}"] = score_macro(
                    keep_findings(test, members)
                )[0]
    result.protocol.update(draws_of_labels=DRAWS, label_counts=dict(zip(LABELS, counts, strict=False)))
    return result, resamples


def keep_findings(scores: Scores, names: Sequence[str] | None) -> Scores:
    """The same scores of some findings, or of all (None)."""
    if names is None:
        return scores
    places = [scores.names.index(name) for name in names]
    return replace(
        scores,
        names=tuple(names),
        target=scores.target[:, places],
        logit=scores.logit[:, :, places],
        decision=scores.decision[:, :, places],
        threshold=None if scores.threshold is None else scores.threshold[places],
    )


def look_at_images(
    cache: Cache, features: ViewFeatures, folder: Path, start: Path, name: str
) -> tuple[Result, Resamples]:
    """Alignment with each teacher, drift from the start, segmentation, and where attention goes."""
    subject = find_subject(folder)
    encoder = subject.load_for(cache)
    masks = read_masks(encoder.image_size, subject.read_settings(encoder).shown)
    mean, std = subject.read_statistics(cache)
    segmented = segment_encoder(
        open_drawn(), encoder, masks, SEGMENTATION, name=name, mean=mean, std=std, progress=False
    )
    result = record_segmentation(segmented, open_drawn())
    dice = segmented.test.read("dice").mean(axis=1)
    resamples = {"dice": resample(partial(resample_mean, dice), segmented.test.patient)}
    result.protocol["test"] = {"dice": float(dice.mean())}
    for estimates, found, values in (
        measure_alignment(cache, features),
        measure_drift(cache, features, start),
        measure_attention(masks, folder),
    ):
        result.estimates.extend(estimates)
        resamples |= found
        result.protocol["test"] |= values
    return replace(result, task="images", level=LEVEL, num_resamples=NUM_RESAMPLES), resamples


def measure_alignment(cache: Cache, features: ViewFeatures) -> tuple[list, Resamples, dict[str, float]]:
    """What the mean feature of a study's views tells of each teacher's vectors (P 3.4)."""
    estimates, resamples, values = [], {}, {}
    for teacher in TEACHERS:
        vectors = read_teacher_vectors(cache, name_teacher(teacher))
        splits = dict(_pair(cache, features, vectors.values, vectors.of_study))
        probe = probe_alignment(*splits.values(), teacher=teacher)
        estimates += estimate_alignment(probe)
    return estimates, resamples, values
