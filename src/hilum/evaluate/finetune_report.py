"""Fine-tuning of a finished run on a cache, as a cell with its result."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from hilum.cache import Cache
from hilum.errors import UserError
from hilum.labels import UncertainPolicy
from hilum.model.weights import load_encoder

from .features import check_policy, find_weights, hash_weights
from .finetune import finetune_encoder
from .record import record_finetuned
from .result import read_result, write_result
from .slices import list_slices
from .suite import Cell, run_suite
from .task import check_pretraining, read_task


def run_finetune(
    data: Path,
    run: Path,
    out: Path,
    *,
    task: str,
    uncertain: UncertainPolicy,
    epochs: int,
    views_per_step: int,
    lr: float,
    layer_decay: float,
    seed: int,
) -> Path:
    """Fine-tune, write `result.json` in a cell under `out`, and print the macro AUROC; returns the cell's folder.

    Raises:
        UserError: test patients or images were pretrained on, or the fine-tuning failed.
    """
    cache = Cache.open(data)
    folder = run if run.is_dir() else run.parent
    check_pretraining(cache, folder)
    encoder, about = load_encoder(find_weights(run))
    check_policy(cache, about)
    target = read_task(cache, task, uncertain=uncertain)
    settings = {"epochs": epochs, "views_per_step": views_per_step, "lr": lr, "layer_decay": layer_decay}

    def evaluate(cell: Path) -> None:
        found = finetune_encoder(
            cache,
            encoder,
            target,
            name=folder.resolve().name,
            mean=about["mean"],
            std=about["std"],
            epochs=epochs,
            views_per_step=views_per_step,
            lr=lr,
            layer_decay=layer_decay,
            seed=seed,
        )
        write_result(cell / "result.json", record_finetuned(found, slices=list_slices(cache, target)))

    depends = {**settings, "kind": "finetune", "seed": seed, "task": target.name, "labels": target.policy}
    depends |= {"split": target.hash_split(), "weights": hash_weights(encoder)}
    outcome = run_suite([Cell(f"{target.name} seed {seed}", depends, evaluate)], out)
    for name, message in outcome.failed.items():
        raise UserError(f"{out}: fine-tuning of {name} failed: {message}")
    (done,) = outcome.done.values()
    macro = read_result(done / "result.json").find("auroc")
    Console().print(
        f"{target.name}: macro AUROC {macro.value:.3f} ({macro.low:.3f} to {macro.high:.3f}), {done}/result.json"
        if macro.value is not None
        else f"{target.name}: no macro AUROC, {macro.reason}; see {done}/result.json"
    )
    return done
