"""Fine-tune a run's encoder on a cache and leave its result, its scores and its weights in a folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch

from hilum.atomic import remove_leftovers
from hilum.cache import Cache
from hilum.checksums import hash_weights
from hilum.errors import UserError
from hilum.evaluate.console import name_results, print_finetuned
from hilum.evaluate.heads.kept import HeadRecord, describe_images, list_findings, write_head
from hilum.evaluate.probe.run import has_one_class
from hilum.evaluate.record import THRESHOLD, record_finetuned
from hilum.evaluate.result import write_json, write_result
from hilum.evaluate.scoring.metrics import MIN_POSITIVES
from hilum.evaluate.scoring.scores import write_scores
from hilum.evaluate.slices import list_slices
from hilum.evaluate.subject import Subject, describe_licence, find_subject, save_any
from hilum.evaluate.targets import check_splits, warn_of_no_score
from hilum.evaluate.task import UNITS, Task, read_task
from hilum.labels import BlankPolicy, UncertainPolicy
from hilum.training.launch import choose_precision
from hilum.training.run_folder import describe_training_data, explain_full_disk, lock_run

from .run import finetune_encoder, list_parts
from .settings import LIGHT, FinetuneSettings, choose_settings
from .state import Finetuned

Augment = Literal["none", "light"]
# What `settings.json` says of the settings, beside what they are applied to.
_ASKED = (
    "label_count", "epochs", "lr", "layer_decay", "views_per_step", "min_lr", "drop_path", "ema", "representation",
    "rare", "select", "frozen_statistics",
)  # fmt: skip


def run_finetune(
    data: Path,
    run: Path | str,
    out: Path | None = None,
    *,
    task: str = "findings",
    uncertain: UncertainPolicy = "zeros",
    blank: BlankPolicy = "zeros",
    leave_out: Sequence[str] = (),
    augment: Augment = "none",
    min_positives: int = MIN_POSITIVES,
    progress: bool = True,
    **choices: Any,
) -> Path:
    """Fine-tune end to end and write `out/result.json` (last), `scores.npz`, `weights.safetensors` (the encoder, to
    be probed or embedded like any other), its head (`heads/kept.py`), and `pretraining.json` with all it has now seen.
    `out` is by default a folder in the run's, named after the task. `run` is a run folder, a weights file or a name
    (`subject.py`). `choices` are fields of `FinetuneSettings`; those that are None or not given are as
    `choose_settings` has them.

    `out/settings.json` says what was asked for: the same again continues a fine-tuning that was stopped from its
    `checkpoints`, and leaves one that is finished as it is; anything else needs another folder.

    Raises:
        UserError: test patients or images were pretrained on, a cache of another policy, a split too small, settings
            that train nothing, or a folder of other settings.
        SystemExit: stopped by a signal, after saving.
    """
    subject, cache = find_subject(run), Cache.open(data)
    target = read_task(cache, task, uncertain=uncertain, blank=blank, leave_out=leave_out)
    changes = LIGHT if augment == "light" else None
    settings = choose_settings(from_scratch=subject.is_random, augment=changes, **choices)
    out = subject.name_folder(out, _name_folder(target, settings))
    if subject.is_random and settings.frozen_statistics:
        raise UserError("--frozen-statistics keeps those of pretrained weights; random weights have none to keep.")
    check_splits(target, "Build the cache with larger --fractions of it.")
    warn_of_no_score(target, min_positives)
    list_parts(target, settings)  # or it says that there are not so many labels
    notes = subject.check_pretraining(cache, leave_out)
    encoder = subject.load_for(cache, settings.seed)
    notes = (*notes, *describe_licence(encoder.record))
    settings = settings.show_as(subject.read_settings(encoder))
    asked: dict[str, Any] = {
        "weights": hash_weights(encoder), "data": cache.digest, "split": target.hash_split(), "task": task,
        "labels": target.policy, **{name: getattr(settings, name) for name in _ASKED}, "augment": augment,
        "precision": choose_precision(settings.precision), "seed": settings.seed,
    }  # fmt: skip
    path = out / "result.json"
    with lock_run(out), explain_full_disk(out):
        remove_leftovers(out)
        begin_finetune(out, asked)
        if not path.exists():
            mean, std = subject.read_statistics(cache)
            found = finetune_encoder(
                cache, encoder, target, settings,
                name=subject.name, mean=mean, std=std, checkpoints=out / "checkpoints", progress=progress,
            )  # fmt: skip
            write_classifier(out, cache, found, settings, _describe_origin(cache, subject, settings, found))
            write_json(out / "pretraining.json", describe_training_data(cache, subject.path, leave_out))
            write_scores(out / "scores.npz", found.test_per_finding or found.test)
            slices = list_slices(cache, target)
            result = record_finetuned(
                found, select=settings.select, slices=slices, min_positives=min_positives, notes=notes
            )
            write_result(path, replace(result, protocol=result.protocol | encoder.record))
        shutil.rmtree(out / "checkpoints", ignore_errors=True)
    if progress:
        print_finetuned(path, subject.path or out)
    return path


def _name_folder(task: Task, settings: FinetuneSettings) -> str:
    """Within the run's folder: one for each task and choice, so that none replaces another."""
    choices = {
        "rare": None if settings.rare == "as-is" else settings.rare,
        "select": None if settings.select == "macro" else settings.select,
        "labels": settings.label_count,
        "seed": settings.seed or None,
    }
    return name_results("finetune", task, representation=settings.representation, choices=choices)


def _describe_origin(cache: Cache, subject: Subject, settings: FinetuneSettings, found: Finetuned) -> dict[str, Any]:
    """For the header of the weights: how to feed the encoder, and what it has learned from."""
    mean, std = subject.read_statistics(cache)
    return {
        **{name: subject.about[name] for name in ("pretraining",) if name in subject.about},
        "mean": mean,
        "std": std,
        "image_policy": subject.image_policy or cache.policy,
        "crop": settings.evaluation_crop.mode,
        "max_views": settings.max_views,
        "data_digest": cache.digest,
        "finetuning": {"task": found.task.name, "unit": UNITS[found.task.unit], "num_rows": found.num_train},
    }


def write_classifier(
    out: Path, cache: Cache, found: Finetuned, settings: FinetuneSettings, about: dict[str, Any]
) -> None:
    """Write `weights.safetensors`, the encoder with what the reader must know of it, and its head (`heads/kept.py`)."""
    classifier, task = found.classifier.cpu(), found.task
    save_any(classifier.encoder, out / "weights.safetensors", about)
    state = {name: value for name, value in classifier.state_dict().items() if not name.startswith("encoder.")}
    shown = torch.from_numpy(task.training_target[list_parts(task, settings)["train"]])
    one_class = tuple(name for place, name in enumerate(task.names) if has_one_class(shown[:, place]))
    record = HeadRecord(
        kind="fine-tuning",
        encoder=found.encoder,
        weights=hash_weights(classifier.encoder),
        task=task.name,
        unit=task.unit,
        findings=list_findings(task.names, found.test.threshold, one_class),
        threshold_chosen_by=THRESHOLD,
        representation=classifier.representation,
        fusion="mean_logit",
        crop=settings.evaluation_crop.mode,
        max_views=settings.max_views,
        precision=found.settings["precision"],
        counts=found.counts,
        seed=found.seed,
        **describe_images(cache, task.policy),
    )
    write_head(out, state, record)


def begin_finetune(out: Path, asked: dict[str, Any]) -> None:
    """Note what was asked for in a new folder, or check that a folder is of the same.

    A folder without result and checkpoint holds nothing that other settings could spoil: what was refused, or stopped
    before it had begun, can be typed again otherwise.

    Raises:
        UserError: it is of something else, with the settings that differ.
    """
    path = out / "settings.json"
    is_finished = (out / "result.json").exists()
    if not path.exists() or not (is_finished or any((out / "checkpoints").glob("*"))):
        if is_finished:
            raise UserError(
                f"{out}: holds a result without settings.json, of an earlier Hilum or of another command. Choose "
                "another --out, or delete the folder."
            )
        write_json(path, asked)
        return
    before = json.loads(path.read_bytes())
    differing = [name for name, value in asked.items() if before.get(name) != value]
    hashed = {"weights": "another encoder", "data": "another cache", "split": "other studies"}
    changed = [
        f"{name}: was of {hashed[name]}"
        if name in hashed
        else f"{name}: was {before.get(name, 'unset')}, now {asked[name]}"
        for name in differing
    ]
    if changed:
        raise UserError(
            f"{out}: was started with other settings: {'; '.join(changed)}. Repeat the first command to continue it, "
            "or choose another --out."
        )
