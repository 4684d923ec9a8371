"""Fine-tune a run's encoder on a cache and leave its result, its scores and its weights in a folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from safetensors.torch import save

from hilum.atomic import write_atomic
from hilum.cache import Cache
from hilum.config import CropConfig
from hilum.labels import BlankPolicy, UncertainPolicy
from hilum.model.heads import Representation
from hilum.run_folder import describe_training_data

from .console import name_results, print_finetuned
from .features import Precision
from .finetune import finetune_encoder
from .metrics import MIN_POSITIVES
from .record import record_finetuned
from .result import write_json, write_result
from .scores import write_scores
from .slices import list_slices
from .subject import describe_licence, find_subject, save_any
from .targets import check_splits
from .task import read_task

SCHEDULE: dict[str, Any] = {"epochs": 30, "lr": 1e-3, "layer_decay": 0.65}
# Random weights need longer, a lower peak, and no layer held back: what keeps pretrained layers as they are would keep
# random ones random. He et al. (2022, table 11) train from scratch for 200 to 300 epochs, of far larger sets, likewise.
FROM_SCRATCH: dict[str, Any] = {"epochs": 100, "lr": 3e-4, "layer_decay": 1.0}


def run_finetune(
    data: Path,
    run: Path | str,
    out: Path | None = None,
    *,
    task: str = "findings",
    uncertain: UncertainPolicy = "zeros",
    blank: BlankPolicy = "zeros",
    leave_out: Sequence[str] = (),
    epochs: int | None = None,
    views_per_step: int = 64,
    lr: float | None = None,
    layer_decay: float | None = None,
    representation: Representation = "mean",
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

    Raises:
        UserError: test patients or images were pretrained on, a cache of another policy, or a split too small.
    """
    subject = find_subject(run)
    cache = Cache.open(data)
    target = read_task(cache, task, uncertain=uncertain, blank=blank, leave_out=leave_out)
    out = subject.name_folder(out, name_results("finetune", target, representation=representation))
    if target.unit == "study":  # of other units it is refused below
        check_splits(target, "Build the cache with larger --fractions of it.")
    notes = subject.check_pretraining(cache, leave_out)
    encoder = subject.load_for(cache, seed)
    settings, (mean, std) = subject.read_settings(encoder), subject.read_statistics(cache)
    schedule = dict(FROM_SCRATCH if subject.is_random else SCHEDULE)
    asked = {"epochs": epochs, "lr": lr, "layer_decay": layer_decay}
    schedule |= {name: value for name, value in asked.items() if value is not None}
    found = finetune_encoder(
        cache,
        encoder,
        target,
        name=subject.name,
        mean=mean,
        std=std,
        **schedule,
        views_per_step=views_per_step,
        representation=representation,
        crop=CropConfig(mode="squash" if settings.crop.mode == "squash" else "random"),
        shown=settings.shown,
        max_views=settings.max_views,
        precision=precision,
        seed=seed,
        progress=progress,
    )
    out.mkdir(parents=True, exist_ok=True)
    classifier = found.classifier.cpu()
    kept = {name: subject.about[name] for name in ("pretraining",) if name in subject.about}
    kept |= {"mean": mean, "std": std, "image_policy": subject.image_policy or cache.policy}
    kept |= {"crop": settings.shown.mode, "max_views": settings.max_views, "data_digest": cache.digest}
    kept["finetuning"] = {"task": target.name, "num_studies": found.counts["train_studies"]}
    save_any(classifier.encoder, out / "weights.safetensors", kept)
    names = {"findings": json.dumps(target.names), "representation": representation}
    write_atomic(out / "head.safetensors", save(classifier.head.state_dict(), metadata=names))
    write_json(out / "pretraining.json", describe_training_data(cache, subject.path, leave_out))
    write_scores(out / "scores.npz", found.test)
    notes = (*notes, *describe_licence(encoder.record))
    result = record_finetuned(found, slices=list_slices(cache, target), min_positives=min_positives, notes=notes)
    result = replace(result, protocol=result.protocol | encoder.record)
    path = write_result(out / "result.json", result)
    if progress:
        print_finetuned(path, subject.path or out)
    return path
