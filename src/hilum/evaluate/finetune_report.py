"""Fine-tune a run's encoder on a cache and leave its result, its scores and its weights in a folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from safetensors.torch import save

from hilum.atomic import remove_leftovers, write_atomic
from hilum.cache import Cache
from hilum.config import AugmentConfig, CropConfig
from hilum.errors import UserError
from hilum.labels import BlankPolicy, UncertainPolicy
from hilum.launch import choose_precision
from hilum.model.heads import Pooling
from hilum.run_folder import describe_training_data, explain_full_disk, lock_run

from .console import name_results, print_finetuned
from .efficiency import pick_labelled
from .features import Precision, hash_weights
from .finetune import finetune_encoder
from .fusion import Rare
from .metrics import MIN_POSITIVES
from .record import record_finetuned
from .result import write_json, write_result
from .scores import write_scores
from .selection import Select
from .slices import list_slices
from .subject import describe_licence, find_subject, save_any
from .targets import check_splits, warn_of_no_score
from .task import read_task

SCHEDULE: dict[str, Any] = {"epochs": 30, "lr": 1e-3, "layer_decay": 0.65}
# Random weights need longer, a lower peak, and no layer held back: what keeps pretrained layers as they are would keep
# random ones random. He et al. (2022, table 11) train from scratch for 200 to 300 epochs, of far larger sets, likewise.
FROM_SCRATCH: dict[str, Any] = {"epochs": 100, "lr": 3e-4, "layer_decay": 1.0}

Augment = Literal["none", "light"]
# Half of pretraining's: light changes helped fine-tuning in the published recipes, whose RandAugment also turns and
# shears (M 7.3 G); flips would exchange left and right.
LIGHT = AugmentConfig(jitter_probability=0.8, brightness=0.2, contrast=0.2)


def run_finetune(
    data: Path,
    run: Path | str,
    out: Path | None = None,
    *,
    task: str = "findings",
    uncertain: UncertainPolicy = "zeros",
    blank: BlankPolicy = "zeros",
    leave_out: Sequence[str] = (),
    label_count: int | None = None,
    epochs: int | None = None,
    views_per_step: int = 64,
    lr: float | None = None,
    min_lr: float = 1e-5,
    layer_decay: float | None = None,
    drop_path: float = 0.1,
    ema: float = 0.0,
    representation: Pooling = "mean",
    rare: Rare = "as-is",
    select: Select = "macro",
    augment: Augment = "none",
    min_positives: int = MIN_POSITIVES,
    precision: Precision = "auto",
    seed: int = 0,
    progress: bool = True,
) -> Path:
    """Fine-tune end to end and write `out/result.json` (last), `scores.npz`, `weights.safetensors` (the encoder, to
    be probed or embedded like any other), `head.safetensors`, and `pretraining.json` with all it has now seen. `out` is
    by default a folder in the run's, named after the task. `run` is a run folder, a weights file or a name
    (`subject.py`); epochs and rates that are not given are those of `SCHEDULE`, or of `FROM_SCRATCH` for random
    weights.

    `out/settings.json` says what was asked for: the same again continues a fine-tuning that was stopped from its
    `checkpoints`, and leaves one that is finished as it is; anything else needs another folder.

    Raises:
        UserError: test patients or images were pretrained on, a cache of another policy, a split too small, or a
            folder of other settings.
        SystemExit: stopped by a signal, after saving.
    """
    subject = find_subject(run)
    cache = Cache.open(data)
    target = read_task(cache, task, uncertain=uncertain, blank=blank, leave_out=leave_out)
    choices: dict[str, Any] = {
        "rare": None if rare == "as-is" else rare,
        "select": None if select == "macro" else select,
        "labels": label_count,
        "seed": seed or None,
    }
    out = subject.name_folder(out, name_results("finetune", target, representation=representation, choices=choices))
    if target.unit == "study":  # of other units it is refused below
        check_splits(target, "Build the cache with larger --fractions of it.")
        warn_of_no_score(target, min_positives)
    train_rows = None if label_count is None else pick_labelled(target, [label_count], seed)[label_count]
    notes = subject.check_pretraining(cache, leave_out)
    encoder = subject.load_for(cache, seed)
    notes = (*notes, *describe_licence(encoder.record))
    settings, (mean, std) = subject.read_settings(encoder), subject.read_statistics(cache)
    schedule = dict(FROM_SCRATCH if subject.is_random else SCHEDULE)
    given = {"epochs": epochs, "lr": lr, "layer_decay": layer_decay}
    schedule |= {name: value for name, value in given.items() if value is not None}
    asked: dict[str, Any] = {
        "weights": hash_weights(encoder), "data": cache.digest, "split": target.hash_split(), "task": task,
        "labels": target.policy, "label_count": label_count, **schedule, "views_per_step": views_per_step,
        "min_lr": min_lr, "drop_path": drop_path, "ema": ema, "representation": representation, "rare": rare,
        "select": select, "augment": augment, "precision": choose_precision(precision), "seed": seed,
    }  # fmt: skip
    path = out / "result.json"
    with lock_run(out), explain_full_disk(out):
        remove_leftovers(out)
        begin_finetune(out, asked)
        if not path.exists():
            found = finetune_encoder(
                cache,
                encoder,
                target,
                name=subject.name,
                mean=mean,
                std=std,
                **schedule,
                views_per_step=views_per_step,
                min_lr=min_lr,
                drop_path=drop_path,
                ema=ema,
                representation=representation,
                rare=rare,
                select=select,
                train_rows=train_rows,
                label_count=label_count,
                crop=CropConfig(mode="squash" if settings.crop.mode == "squash" else "random"),
                shown=settings.shown,
                max_views=settings.max_views,
                augment=LIGHT if augment == "light" else None,
                precision=precision,
                seed=seed,
                checkpoints=out / "checkpoints",
                progress=progress,
            )
            classifier = found.classifier.cpu()
            kept = {name: subject.about[name] for name in ("pretraining",) if name in subject.about}
            kept |= {"mean": mean, "std": std, "image_policy": subject.image_policy or cache.policy}
            kept |= {"crop": settings.shown.mode, "max_views": settings.max_views, "data_digest": cache.digest}
            kept["finetuning"] = {"task": target.name, "num_studies": found.counts["train_studies"]}
            save_any(classifier.encoder, out / "weights.safetensors", kept)
            state = dict(classifier.head.state_dict())
            if classifier.pool is not None:
                state |= {f"pool.{name}": value for name, value in classifier.pool.state_dict().items()}
            names = {"findings": json.dumps(target.names), "representation": representation}
            write_atomic(out / "head.safetensors", save(state, metadata=names))
            write_json(out / "pretraining.json", describe_training_data(cache, subject.path, leave_out))
            write_scores(out / "scores.npz", found.test_per_finding or found.test)
            slices = list_slices(cache, target)
            result = record_finetuned(found, select=select, slices=slices, min_positives=min_positives, notes=notes)
            write_result(path, replace(result, protocol=result.protocol | encoder.record))
        shutil.rmtree(out / "checkpoints", ignore_errors=True)
    if progress:
        print_finetuned(path, subject.path or out)
    return path


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
