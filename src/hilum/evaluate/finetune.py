"""Fine-tuning: encoder and head trained together, a study's answer the mean of its views' logits (M 4.1).

The epoch with the best macro AUROC on validation is kept (`selection.py`). Layer-wise rate decay and drop path are what
the field found to matter in fine-tuning masked autoencoders (M 7.3 G). Every number a step depends on is a function of
(seed, step) and of what a checkpoint holds: a fine-tuning that was killed and continued ends with the same bits.
"""

from __future__ import annotations

import copy
import math
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import timm.layers
import torch
from jaxtyping import Float, Int64
from timm.utils import ModelEmaV3
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from hilum.augment import prepare
from hilum.batch import StudyBatch
from hilum.cache import Cache
from hilum.checkpoint import Checkpoint, load_latest_checkpoint, save_checkpoint
from hilum.config import AugmentConfig, CropConfig, DataConfig
from hilum.errors import UserError
from hilum.keyed_random import make_keys
from hilum.launch import StopRequest, choose_precision
from hilum.loader import StudyLoader, iterate_studies
from hilum.memory import tells_exhaustion
from hilum.model.heads import NUM_VECTORS, AttentivePool, Pooling, Representation, read_tokens
from hilum.model.image_encoder import ImageEncoder
from hilum.optim import schedule_lr
from hilum.progress import RunProgress

from .features import Precision, hash_weights
from .fusion import Rare, fuse_views, masked_cross_entropy, weigh_positives
from .linear import LinearProbe
from .probe import decide, tune_thresholds
from .scores import Scores
from .selection import Select, Selection
from .subject import check_cache
from .task import Task


class StudyClassifier(nn.Module):
    """Encoder, one linear head for every view, mean of logits over the views of a study."""

    def __init__(self, encoder: ImageEncoder, num_findings: int, representation: Pooling = "mean") -> None:
        super().__init__()
        if representation in ("class", "both") and not encoder.has_class_token:
            raise UserError(f"This encoder has no class token, which '{representation}' reads. Read mean, 2x2 or 4x4.")
        self.encoder = encoder
        self.representation: Pooling = representation
        attends = representation == "attentive"
        self.pool = AttentivePool(encoder.width, encoder.count_patches()) if attends else None
        self.head = nn.Linear(encoder.width * (1 if attends else NUM_VECTORS[representation]), num_findings)
        nn.init.trunc_normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)

    def score_views(self, batch: StudyBatch) -> Float[Tensor, "view finding"]:
        """Logits of prepared views."""
        tokens = self.encoder.encode(batch.pixels, batch.view_kind).tokens
        if self.representation == "attentive":
            assert self.pool is not None
            read = self.pool(tokens[:, int(self.encoder.has_class_token) :])
        else:
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
    """A fine-tuned classifier (its best epoch), how validation went, and its test scores by one selection or both."""

    encoder: str
    task: Task
    classifier: StudyClassifier
    weights_before: str  # hash of the encoder it started from
    # One entry a validation: epoch from 1, loss since the last, val_macro_auroc, seconds.
    history: list[dict[str, int | float]]
    best_epoch: int  # of the macro mean, counted from 0; the classifier and `test` are that epoch's
    best_epoch_of: dict[str, int] | None  # finding -> epoch of `test_per_finding`, where each has its own
    settings: dict[str, Any]
    counts: dict[str, int]
    seed: int
    test: Scores
    test_per_finding: Scores | None  # of each finding's own best epoch (`selection.py`), where that was asked for


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
    min_lr: float = 1e-5,
    weight_decay: float = 0.05,
    warmup: float = 0.1,
    layer_decay: float = 0.65,
    drop_path: float = 0.1,
    ema: float = 0.0,
    representation: Pooling = "mean",
    rare: Rare = "as-is",
    select: Select = "macro",
    train_rows: Int64[np.ndarray, " row"] | None = None,
    label_count: int | None = None,
    crop: CropConfig | None = None,
    shown: CropConfig | None = None,
    max_views: int | None = None,
    augment: AugmentConfig | None = None,
    precision: Precision = "auto",
    seed: int = 0,
    checkpoints: Path | None = None,
    checkpoint_minutes: float = 10.0,
    progress: bool = True,
) -> Finetuned:
    """Train a copy of `encoder` with a new head on a task of studies.

    Args:
        mean, std: normalisation the encoder was trained with; 0 and 1 for a public one, which normalises by itself.
        lr, min_lr: peak rate of the head, and its last; a block d layers below it learns at this * layer_decay**d.
        drop_path: probability of dropping a residual branch for a view in the last block, rising up to there; none,
            and 0 on record, in networks whose branches are not modules of their own.
        ema: decay a step of the moving average of the weights that is then what is evaluated and kept; 0: none. The
            average forgets faster at the start (timm's ModelEmaV3 with its warm-up).
        representation: what the head reads of a view. The mean of patch tokens, since not every objective trains the
            class token; averages are also the usual choice after masked pretraining (M 7.3 F). attentive: learned
            queries read the patch tokens.
        rare: weighted: positives of rare findings count more, see `masked_cross_entropy`.
        select: macro: the epoch that is best in the macro mean; per-finding: also, of the same training, for each
            finding its own.
        train_rows, label_count: training rows to use (all where not given), and how many were asked for, recorded.
        crop, augment: of training images (random crops by default).
        shown: crop of images in evaluation (the centre by default, or squash where training squashes).
        max_views: at most this many views of a study, drawn anew in training and always the same in evaluation.
        checkpoints: folder in which checkpoints are kept, and from whose newest the fine-tuning continues. The caller
            sees to it that it is of the same settings, and is its only writer.
        checkpoint_minutes: time between checkpoints; one is written at a stop signal as well.

    Raises:
        UserError: the task is not one of studies, a split is empty, a loss that is not finite, not enough memory.
        SystemExit: stopped by a signal, after saving a checkpoint; the code is 128 + the signal's number.
    """
    for setting, value in {"epochs": epochs, "views_per_step": views_per_step, "lr": lr}.items():
        if value <= 0:
            raise UserError(f"{setting} is {value:g}: fine-tuning needs more than 0.")
    if min_lr > lr:
        raise UserError(f"min_lr is {min_lr:g}, above lr, {lr:g}: the rate falls from lr to min_lr.")
    if task.unit != "study":
        raise UserError(f"Fine-tuning is for tasks of studies; {task.name} is one of views. Probe it instead.")
    parts = {split: task.rows(split) for split in ("train", "val", "test")}
    for split, rows in parts.items():
        if not len(rows):
            raise UserError(f"There is no {split} study with a known target of task {task.name}.")
    if train_rows is not None:
        parts["train"] = train_rows
    check_cache(cache, encoder)
    crop, chosen = crop or CropConfig(mode="random"), choose_precision(precision)
    shown = shown or DataConfig(crop=crop).shown
    size, device = encoder.image_size, next(encoder.parameters()).device
    loader = StudyLoader(
        cache, parts["train"], views_per_step=views_per_step, seed=seed, max_views=max_views, crop=crop
    )
    per_epoch = loader.steps_per_epoch
    num_steps = epochs * per_epoch
    rhythm = choose_rhythm(len(parts["train"]), len(parts["val"]), epochs)
    target = torch.from_numpy(task.training_target).to(device)
    weight = weigh_positives(target[torch.from_numpy(parts["train"]).to(device)]) if rare == "weighted" else None
    selection = Selection(task.target[parts["val"]], select)
    history: list[dict[str, int | float]] = []
    losses: list[float] = []
    num_done = 0

    def score(classifier: StudyClassifier, split: str) -> Float[np.ndarray, "study finding"]:
        return score_studies(
            classifier, cache, parts[split], mean=mean, std=std, crop=shown, max_views=max_views, precision=chosen
        )

    with ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng())
        torch.manual_seed(seed)
        classifier = StudyClassifier(copy.deepcopy(encoder), len(task.names), representation).to(device)
        optimizer = torch.optim.AdamW(group_by_layer(classifier, weight_decay, layer_decay), lr=lr)
        average = ModelEmaV3(classifier, decay=ema, use_warmup=True) if ema else None
        evaluated: StudyClassifier = classifier if average is None else average.module
        hooks = add_drop_path(classifier.encoder, drop_path)
        before = None if checkpoints is None else load_latest_checkpoint(checkpoints)
        if before is not None:
            classifier.load_state_dict(_take_part(before.weights, "model"))
            if average is not None:
                average.module.load_state_dict(_take_part(before.weights, "average"))
            optimizer.load_state_dict(before.state["optimizer"])
            selection.load_state_dict(before.state["selection"], _take_part(before.weights, "best"))
            num_done, history, losses = before.step, before.state["history"], before.state["losses"]

        def save() -> None:
            if checkpoints is None:
                return
            weights = {f"model.{key}": value for key, value in classifier.state_dict().items()}
            weights |= {f"best.{key}": value for key, value in selection.weights.items()}
            if average is not None:
                weights |= {f"average.{key}": value for key, value in average.module.state_dict().items()}
            state = {
                "optimizer": optimizer.state_dict(),
                "selection": selection.state_dict(),
                "history": history,
                "losses": losses,
            }
            # Copies: tensors that share memory cannot be stored as safetensors.
            copies = {key: value.detach().clone() for key, value in weights.items()}
            save_checkpoint(checkpoints, Checkpoint(num_done, copies, state), keep=0)

        stop = stack.enter_context(StopRequest().listen()) if checkpoints is not None else StopRequest()
        bar = stack.enter_context(RunProgress(f"finetune {name}", num_steps, num_done, silent=not progress))
        if num_done:
            bar.say(f"Continued at step {num_done} of {num_steps}")
        saved_at = began_epoch = time.monotonic()
        try:
            for data in loader.iterate(*divmod(num_done, per_epoch)):
                if num_done == num_steps or stop.signal_number:
                    break
                batch = prepare(
                    data.micro_batches[0], size=size, mean=mean, std=std, augment=augment, seed=seed, device=device,
                    interpolation=encoder.interpolation,
                )  # fmt: skip
                rate = schedule_lr(num_done + 0.5, num_steps, peak=lr, warmup=warmup, least=min_lr)
                for group in optimizer.param_groups:
                    group["lr"] = group["scale"] * rate
                # Drop path draws from torch's own generator: seeded anew, a step draws the same whatever came before.
                torch.manual_seed(int(make_keys("finetune step", seed, num_done)[0] >> np.uint64(1)))
                classifier.train()
                with torch.autocast(device.type, torch.bfloat16, enabled=chosen == "bf16-mixed"):
                    logit = classifier(batch)
                loss = masked_cross_entropy(logit.float(), target[batch.row], weight)
                optimizer.zero_grad()
                loss.backward()
                norm = nn.utils.clip_grad_norm_(classifier.parameters(), 1.0)
                _check_finite(num_done + 1, loss.item(), norm.item(), lr, chosen)
                optimizer.step()
                num_done += 1
                if average is not None:
                    average.update(classifier, step=num_done)
                losses.append(loss.item())
                bar.advance(loss=losses[-1], views=float(batch.num_views), waited=loader.seconds_waited)
                epoch, rest = divmod(num_done, per_epoch)
                if rest == 0 and (epoch % rhythm == 0 or num_done == num_steps):
                    epoch -= 1
                    value = selection.add(
                        epoch, score(evaluated, "val"), evaluated.state_dict, lambda: score(evaluated, "test")
                    )
                    seconds, began_epoch = time.monotonic() - began_epoch, time.monotonic()
                    loss_since = float(np.mean(losses))
                    history.append(
                        {"epoch": epoch + 1, "loss": loss_since, "val_macro_auroc": value, "seconds": seconds}
                    )
                    losses.clear()
                    bar.say(f"epoch {epoch + 1}/{epochs}  loss {history[-1]['loss']:.4f}  validation AUROC {value:.4f}")
                if time.monotonic() - saved_at > 60 * checkpoint_minutes:
                    save()
                    saved_at = time.monotonic()
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
            if not tells_exhaustion(error):
                raise
            told = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise UserError(
                f"Out of memory in a step of {views_per_step} views: lower --views-per-step, or cap the views of a "
                f"study (now {max_views or 'all'}). ({told})"
            ) from error
        if stop.signal_number:
            save()
            bar.say(f"Stopped at step {num_done} of {num_steps} and saved. The same command continues there.")
            raise SystemExit(128 + stop.signal_number)
        for hook in hooks:
            hook.remove()
        classifier.load_state_dict(selection.weights)
        said = {split: score(classifier, split) for split in ("val", "test")}
    rows = parts["test"]

    def judge(said: dict[str, np.ndarray]) -> Scores:
        threshold = tune_thresholds(selection.target, said["val"])
        return Scores(
            names=task.names,
            target=task.target[rows],
            logit=said["test"][None],
            decision=decide(said["test"], threshold)[None],
            patient=task.patient[rows],
            row=rows,
            threshold=1 / (1 + np.exp(-threshold)),
        )

    epoch_of = dict(zip(task.names, selection.finding_epoch.tolist(), strict=True))
    return Finetuned(
        encoder=name,
        task=task,
        classifier=classifier.eval(),
        weights_before=hash_weights(encoder),
        history=history,
        best_epoch=selection.epoch,
        best_epoch_of=epoch_of if select == "per-finding" else None,
        settings={
            "epochs": epochs, "views_per_step": views_per_step, "lr": lr, "min_lr": min_lr,
            "weight_decay": weight_decay, "warmup": warmup, "layer_decay": layer_decay,
            "drop_path": drop_path if hooks else 0.0, "ema": ema, "representation": representation, "rare": rare,
            "label_count": label_count, "crop": crop.mode, "augmented": augment is not None,
            "evaluation_crop": shown.mode, "max_views": max_views, "precision": chosen, "epochs_a_validation": rhythm,
        },
        counts={f"{split}_studies": len(found) for split, found in parts.items()}
        | {f"{split}_patients": len(np.unique(task.patient[found])) for split, found in parts.items()},
        seed=seed,
        test=judge(said),
        test_per_finding=judge(selection.said) if select == "per-finding" else None,
    )  # fmt: skip


def choose_rhythm(num_train: int, num_val: int, epochs: int) -> int:
    """Epochs from one validation to the next: 1, or so many with few labels that validation takes no longer than
    training, whose steps cost three times as much a study; ten validations at least.
    """
    return max(1, min(num_val // (3 * num_train), epochs // 10))


def _take_part(weights: dict[str, Tensor], part: str) -> dict[str, Tensor]:
    return {key.removeprefix(f"{part}."): value for key, value in weights.items() if key.startswith(f"{part}.")}


def _check_finite(step: int, loss: float, norm: float, lr: float, precision: str) -> None:
    """Stop before a step that would spoil the weights.

    Raises:
        UserError: the loss or the gradient is not finite.
    """
    if math.isfinite(loss) and math.isfinite(norm):
        return
    found = f"the gradient norm is {norm}" if math.isfinite(loss) else f"the loss is {loss}"
    exact = " Or compute in 32 bit (--precision 32-true)." if "16" in precision else ""
    raise UserError(f"Stopped at step {step}: {found}. Start anew with a lower --lr (now {lr:g}).{exact}")


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
        layer = depth + 1 if part in ("head", "pool") else classifier.encoder.number_layer(rest)
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
