"""Fine-tune a run's encoder on a cache and leave its result, its scores and its weights in a folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import save

from hilum.atomic import write_atomic
from hilum.cache import Cache
from hilum.config import CropConfig
from hilum.labels import BlankPolicy, UncertainPolicy
from hilum.model.heads import Representation
from hilum.model.weights import find_folder, find_weights, load_encoder, name_run, place_results, save_encoder
from hilum.run_folder import describe_training_data

from .console import name_results, print_finetuned
from .features import Precision, read_data_settings
from .finetune import finetune_encoder
from .metrics import MIN_POSITIVES
from .record import record_finetuned
from .result import write_json, write_result
from .scores import write_scores
from .slices import list_slices
from .targets import check_splits
from .task import check_pretraining, read_task


def run_finetune(
    data: Path,
    run: Path,
    out: Path | None = None,
    *,
    task: str = "findings",
    uncertain: UncertainPolicy = "zeros",
    blank: BlankPolicy = "zeros",
    leave_out: Sequence[str] = (),
    epochs: int = 30,
    views_per_step: int = 64,
    lr: float = 1e-3,
    layer_decay: float = 0.65,
    representation: Representation = "mean",
    min_positives: int = MIN_POSITIVES,
    precision: Precision = "auto",
    seed: int = 0,
    progress: bool = True,
) -> Path:
    """Fine-tune end to end and write `out/result.json` (last), `scores.npz`, `weights.safetensors` (the encoder, to
    be probed or embedded like any other), `head.safetensors`, and `pretraining.json` with all it has now seen. `out` is
    by default a folder in the run's, named after the task.

    Raises:
        UserError: test patients or images were pretrained on, a cache of another policy, or a split too small.
    """
    folder, weights = find_folder(run), find_weights(run)
    cache = Cache.open(data)
    target = read_task(cache, task, uncertain=uncertain, blank=blank, leave_out=leave_out)
    out = out or place_results(run, name_results("finetune", target, representation=representation))
    if target.unit == "study":  # of other units it is refused below
        check_splits(target, "Build the cache with larger --fractions of it.")
    notes = check_pretraining(cache, run, leave_out)
    encoder, about = load_encoder(weights)
    cache.check_policy(about["image_policy"])
    settings = read_data_settings(run)
    found = finetune_encoder(
        cache,
        encoder.to("cuda" if torch.cuda.is_available() else "cpu"),
        target,
        name=name_run(run),
        mean=about["mean"],
        std=about["std"],
        epochs=epochs,
        views_per_step=views_per_step,
        lr=lr,
        layer_decay=layer_decay,
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
    kept = {name: about[name] for name in ("mean", "std", "image_policy", "pretraining") if name in about}
    kept["image_policy"] = about["image_policy"] or cache.policy  # of imported weights nobody knows it
    kept |= {"crop": settings.shown.mode, "max_views": settings.max_views}
    kept["finetuning"] = {"task": target.name, "num_studies": found.counts["train_studies"]}
    save_encoder(classifier.encoder, out / "weights.safetensors", {**kept, "data_digest": cache.digest})
    names = {"findings": json.dumps(target.names), "representation": representation}
    write_atomic(out / "head.safetensors", save(classifier.head.state_dict(), metadata=names))
    write_json(out / "pretraining.json", describe_training_data(cache, run, leave_out))
    write_scores(out / "scores.npz", found.test)
    result = record_finetuned(found, slices=list_slices(cache, target), min_positives=min_positives, notes=notes)
    path = write_result(out / "result.json", result)
    if progress:
        print_finetuned(path, folder)
    return path
