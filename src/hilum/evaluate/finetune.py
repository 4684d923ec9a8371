"""Fine-tuning: encoder and head trained together, a study's answer the mean of its views' logits (M 4.1).

The epoch with the best macro AUROC on validation is kept; test is scored once, at the end. Layer-wise rate decay and
drop path are what the field found to matter in fine-tuning masked autoencoders (M 7.3 G).
"""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import timm.layers
import torch
from jaxtyping import Float, Int64
from rich.console import Console
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from hilum.augment import prepare
from hilum.batch import StudyBatch
from hilum.cache import Cache
from hilum.config import AugmentConfig, CropConfig, DataConfig
from hilum.errors import UserError
from hilum.launch import choose_precision
from hilum.loader import StudyLoader, iterate_studies
from hilum.model.heads import NUM_VECTORS, Representation, read_tokens
from hilum.model.image_encoder import ImageEncoder
from hilum.optim import schedule_lr

from .features import Precision, hash_weights
from .fusion import fuse_views, masked_cross_entropy
from .probe import LinearProbe, choose_strength, decide, tune_thresholds
from .scores import Scores
from .subject import check_cache
from .task import Task


class StudyClassifier(nn.Module):
    """Encoder, one linear head for every view, mean of logits over the views of a study."""

    def __init__(self, encoder: ImageEncoder, num_findings: int, representation: Representation = "mean") -> None:
        super().__init__()
        if representation in ("class", "both") and not encoder.has_class_token:
            raise UserError(f"This encoder has no class token, which '{representation}' reads. Read mean, 2x2 or 4x4.")
        self.encoder = encoder
        self.representation: Representation = representation
        self.head = nn.Linear(encoder.width * NUM_VECTORS[representation], num_findings)
        nn.init.trunc_normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)

    def score_views(self, batch: StudyBatch) -> Float[Tensor, "view finding"]:
        """Logits of prepared views."""
        tokens = self.encoder.encode(batch.pixels, batch.view_kind).tokens
        read = read_tokens(tokens, self.representation, self.encoder.has_class_token)
        return self.head(read.to(self.head.weight.dtype))

    def forward(self, batch: StudyBatch) -> Float[Tensor, "study finding"]:
        return fuse_views(self.score_views(batch), batch.study, batch.num_studies)


def freeze_probe(encoder: ImageEncoder, probe: LinearProbe, representation: Representation) -> StudyClassifier:
    """The fitted probe as a classifier from pixels: the same answers as from stored features (M 8-31)."""
    classifier = StudyClassifier(encoder, len(probe.intercept), representation)
    classifier.head = probe.fold()
    return classifier.eval()


@dataclass(frozen=True)
class Finetuned:
    """A fine-tuned classifier (its best epoch), how validation went, and its test scores."""

    encoder: str
    task: Task
    classifier: StudyClassifier
    weights_before: str  # hash of the encoder it started from
    history: list[dict[str, float]]  # one entry an epoch: loss, val_macro_auroc, seconds
    best_epoch: int
    settings: dict[str, Any]
    counts: dict[str, int]
    seed: int
    test: Scores


def finetune_encoder(
    cache: Cache,
    encoder: ImageEncoder,
    task: Task,
    *,
    name: str,
    mean: float,
    std: float,
    epochs: int = 30,
    views_per_step: int = 64,
    lr: float = 1e-3,
    weight_decay: float = 0.05,
    warmup: float = 0.1,
    layer_decay: float = 0.65,
    drop_path: float = 0.1,
    representation: Representation = "mean",
    crop: CropConfig | None = None,
    shown: CropConfig | None = None,
    max_views: int | None = None,
    augment: AugmentConfig | None = None,
    precision: Precision = "auto",
    seed: int = 0,
    progress: bool = True,
) -> Finetuned:
    """Train a copy of `encoder` with a new head on a task of studies.

    Args:
        mean, std: normalisation the encoder was trained with; 0 and 1 for a public one, which normalises by itself.
        lr: peak rate of the head; a block d layers below it learns at lr * layer_decay**d.
        drop_path: probability of dropping a residual branch for a view in the last block, rising up to there; none,
            and 0 on record, in networks whose branches are not modules of their own.
        crop, augment: of training images (random crops by default).
        shown: crop of images in evaluation (the centre by default, or squash where training squashes).
        representation: what the head reads of a view. The mean of patch tokens, since not every objective trains the
            class token; averages are also the usual choice after masked pretraining (M 7.3 F).
        max_views: at most this many views of a study, drawn anew in training and always the same in evaluation.

    Raises:
        UserError: the task is not one of studies, or a split is empty.
    """
    for setting, value in {"epochs": epochs, "views_per_step": views_per_step, "lr": lr}.items():
        if value <= 0:
            raise UserError(f"{setting} is {value:g}: fine-tuning needs more than 0.")
    if task.unit != "study":
        raise UserError(f"Fine-tuning is for tasks of studies; {task.name} is one of views. Probe it instead.")
    parts = {split: task.rows(split) for split in ("train", "val", "test")}
    for split, rows in parts.items():
        if not len(rows):
            raise UserError(f"There is no {split} study with a known target of task {task.name}.")
    check_cache(cache, encoder)
    crop, chosen = crop or CropConfig(mode="random"), choose_precision(precision)
    shown = shown or DataConfig(crop=crop).shown
    size, device = encoder.image_size, next(encoder.parameters()).device
    loader = StudyLoader(
        cache, parts["train"], views_per_step=views_per_step, seed=seed, max_views=max_views, crop=crop
    )
    num_steps = epochs * loader.steps_per_epoch
    target = torch.from_numpy(task.training_target).to(device)
    console = Console(stderr=True, quiet=not progress)
    history: list[dict[str, float]] = []
    best: tuple[float, int, dict[str, Tensor]] | None = None

    def score(classifier: StudyClassifier, split: str) -> Float[np.ndarray, "study finding"]:
        return score_studies(
            classifier, cache, parts[split], mean=mean, std=std, crop=shown, max_views=max_views, precision=chosen
        )

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        classifier = StudyClassifier(copy.deepcopy(encoder), len(task.names), representation).to(device)
        hooks = add_drop_path(classifier.encoder, drop_path)
        optimizer = torch.optim.AdamW(group_by_layer(classifier, weight_decay, layer_decay), lr=lr)
        steps = loader.iterate()
        for epoch in range(epochs):
            begin, losses = time.monotonic(), []
            classifier.train()
            for position in range(epoch * loader.steps_per_epoch, (epoch + 1) * loader.steps_per_epoch):
                batch = next(steps).micro_batches[0]
                batch = prepare(
                    batch, size=size, mean=mean, std=std, augment=augment, seed=seed, device=device,
                    interpolation=encoder.interpolation,
                )  # fmt: skip
                for group in optimizer.param_groups:
                    group["lr"] = group["scale"] * schedule_lr(position + 0.5, num_steps, peak=lr, warmup=warmup)
                with torch.autocast(device.type, torch.bfloat16, enabled=chosen == "bf16-mixed"):
                    logit = classifier(batch)
                loss = masked_cross_entropy(logit.float(), target[batch.row])
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(classifier.parameters(), 1.0)
                optimizer.step()
                losses.append(loss.item())
            if not np.isfinite(losses).all():
                raise UserError(f"The loss of epoch {epoch} is not finite: lower lr (now {lr:g}).")
            value = choose_strength(task.target[parts["val"]], [score(classifier, "val")])[1][0]
            seconds = time.monotonic() - begin
            history.append({"loss": float(np.mean(losses)), "val_macro_auroc": value, "seconds": seconds})
            console.print(f"epoch {epoch + 1}/{epochs}  loss {history[-1]['loss']:.4f}  validation AUROC {value:.4f}")
            if best is None or value > best[0]:
                state = {key: tensor.detach().clone() for key, tensor in classifier.state_dict().items()}
                best = (value, epoch, state)
    assert best is not None, "at least one epoch"
    for hook in hooks:
        hook.remove()
    classifier.load_state_dict(best[2])
    threshold = tune_thresholds(task.target[parts["val"]], score(classifier, "val"))
    said = score(classifier, "test")
    rows = parts["test"]
    return Finetuned(
        encoder=name,
        task=task,
        classifier=classifier.eval(),
        weights_before=hash_weights(encoder),
        history=history,
        best_epoch=best[1],
        settings={
            "epochs": epochs, "views_per_step": views_per_step, "lr": lr, "weight_decay": weight_decay,
            "warmup": warmup, "layer_decay": layer_decay, "drop_path": drop_path if hooks else 0.0,
            "representation": representation, "crop": crop.mode,
            "evaluation_crop": shown.mode, "max_views": max_views, "precision": chosen,
        },
        counts={f"{split}_studies": len(found) for split, found in parts.items()}
        | {f"{split}_patients": len(np.unique(task.patient[found])) for split, found in parts.items()},
        seed=seed,
        test=Scores(
            names=task.names,
            target=task.target[rows],
            logit=said[None],
            decision=decide(said, threshold)[None],
            patient=task.patient[rows],
            row=rows,
            threshold=1 / (1 + np.exp(-threshold)),
        ),
    )  # fmt: skip


@torch.inference_mode()
def score_studies(
    classifier: StudyClassifier,
    cache: Cache,
    rows: Int64[np.ndarray, " study"],
    *,
    mean: float,
    std: float,
    crop: CropConfig | None = None,
    max_views: int | None = None,
    views_per_batch: int = 256,
    precision: str = "32-true",
) -> Float[np.ndarray, "study finding"]:
    """The classifier's logits of studies, in the order of `rows`, nothing random."""
    device = next(classifier.parameters()).device
    classifier.eval()
    said = []
    for batch in iterate_studies(cache, rows, views_per_batch=views_per_batch, crop=crop, max_views=max_views):
        seen = classifier.encoder
        batch = prepare(
            batch, size=seen.image_size, mean=mean, std=std, device=device, interpolation=seen.interpolation
        )
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16-mixed"):
            said.append(classifier(batch).double().cpu().numpy())
    return np.concatenate(said)


def group_by_layer(classifier: StudyClassifier, weight_decay: float, layer_decay: float) -> list[dict[str, Any]]:
    """AdamW groups with a `scale` of the learning rate: 1 for the head and the last norm, layer_decay for the last
    block, layer_decay**2 for the one before, and least for patches, positions and tokens (Clark et al. 2020, BEiT).

    Matrices decay, vectors and tokens do not.
    """
    depth = classifier.encoder.depth
    groups: dict[tuple[int, bool], dict[str, Any]] = {}
    for name, parameter in classifier.named_parameters():
        part, _, rest = name.partition(".")
        layer = depth + 1 if part == "head" else classifier.encoder.number_layer(rest)
        decays = parameter.ndim > 1 and name.endswith(".weight")
        group = {"params": [], "scale": layer_decay ** (depth + 1 - layer), "weight_decay": decays * weight_decay}
        groups.setdefault((layer, decays), group)["params"].append(parameter)
    return list(groups.values())


def add_drop_path(encoder: ImageEncoder, probability: float) -> list[RemovableHandle]:
    """Let training skip residual branches of single views, more often in later blocks (Huang et al. 2016).

    Attached as hooks, because the encoder of pretraining has no such thing; remove them afterwards.
    """
    hooks = []
    layers = encoder.list_branches()
    for place, branches in enumerate(layers):
        rate = probability * (place + 1) / len(layers)
        for branch in branches:

            def drop(module: nn.Module, _inputs: Any, output: Tensor, rate: float = rate) -> Tensor:
                return timm.layers.drop_path(output, rate, module.training)

            hooks.append(branch.register_forward_hook(drop))
    return hooks
