"""A fine-tuning under way: what is trained, what changes from step to step, and what comes out.

Every number a step depends on is a function of (seed, step) and of what a checkpoint holds: a fine-tuning that was
killed and continued ends with the same bits.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from timm.utils import ModelEmaV3
from torch import Tensor, nn

from hilum.augment import prepare
from hilum.batch import StudyBatch
from hilum.cache import Cache
from hilum.checkpoint import Checkpoint, load_latest_checkpoint, save_checkpoint
from hilum.errors import UserError
from hilum.keyed_random import make_keys
from hilum.launch import choose_precision
from hilum.loader import StudyLoader
from hilum.model.image_encoder import ImageEncoder
from hilum.optim import schedule_lr

from .choice import build_scores, tune_thresholds
from .classifier import StudyClassifier, add_drop_path, group_by_layer, score_studies
from .finetune_settings import FinetuneSettings
from .fusion import masked_cross_entropy, weigh_positives
from .scores import Scores
from .selection import Selection
from .subject import name_refused
from .task import Task


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


class Finetuning:
    """The state of a fine-tuning.

    Args:
        parts: the studies of `train`, `val` and `test`.
        mean, std: normalisation of the encoder's pixels.

    Attributes:
        num_done, num_steps: steps taken, and in all.
        history: one entry a validation, see `Finetuned`.
        losses: of the steps since the last validation.
    """

    def __init__(
        self,
        cache: Cache,
        encoder: ImageEncoder,
        task: Task,
        settings: FinetuneSettings,
        parts: dict[str, Int64[np.ndarray, " study"]],
        *,
        mean: float,
        std: float,
    ) -> None:
        """Seeds torch's generator, as every step does: the caller keeps its own."""
        self.cache, self.task, self.settings, self.parts = cache, task, settings, parts
        self.mean, self.std, self.device = mean, std, next(encoder.parameters()).device
        self.precision = choose_precision(settings.precision)
        self.loader = StudyLoader(
            cache, parts["train"],
            views_per_step=settings.views_per_step, seed=settings.seed, max_views=settings.max_views,
            crop=settings.crop,
        )  # fmt: skip
        self.num_steps = settings.epochs * self.loader.steps_per_epoch
        self.rhythm = choose_rhythm(len(parts["train"]), len(parts["val"]), settings.epochs)
        self.target = torch.from_numpy(task.training_target).to(self.device)
        shown = self.target[torch.from_numpy(parts["train"]).to(self.device)]
        self.positive_weight = weigh_positives(shown) if settings.rare == "weighted" else None

        torch.manual_seed(settings.seed)
        classifier = StudyClassifier(copy.deepcopy(encoder), len(task.names), settings.representation)
        self.classifier = classifier.to(self.device)
        groups = group_by_layer(self.classifier, settings.weight_decay, settings.layer_decay)
        self.optimizer = torch.optim.AdamW(groups, lr=settings.lr)
        self.average = ModelEmaV3(self.classifier, decay=settings.ema, use_warmup=True) if settings.ema else None
        self.hooks = add_drop_path(self.classifier.encoder, settings.drop_path)  # the average has none
        self.selection = Selection(task.target[parts["val"]], settings.select)
        self.history: list[dict[str, int | float]] = []
        self.losses: list[float] = []
        self.num_done = 0
        self._validated_at = time.monotonic()

    def iterate(self) -> Iterator[StudyBatch]:
        """Batches of the steps that are left."""
        first = divmod(self.num_done, self.loader.steps_per_epoch)
        for data in islice(self.loader.iterate(*first), self.num_steps - self.num_done):
            yield data.micro_batches[0]

    def take_step(self, batch: StudyBatch) -> float:
        """One step of the optimiser; returns its loss.

        Raises:
            UserError: the loss or its gradient is not finite, or the encoder refuses images; the weights are those
                before the step.
        """
        settings = self.settings
        encoder = self.classifier.encoder
        batch = prepare(
            batch, size=encoder.image_size, mean=self.mean, std=self.std, augment=settings.augment, seed=settings.seed,
            device=self.device, interpolation=encoder.interpolation,
        )  # fmt: skip
        rate = schedule_lr(
            self.num_done + 0.5, self.num_steps, peak=settings.lr, warmup=settings.warmup, least=settings.min_lr
        )
        for group in self.optimizer.param_groups:
            group["lr"] = group["scale"] * rate
        # Drop path draws from torch's own generator: seeded anew, a step draws the same whatever came before.
        torch.manual_seed(int(make_keys("finetune step", settings.seed, self.num_done)[0] >> np.uint64(1)))
        self.classifier.train()
        autocast = torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16-mixed")
        with autocast, name_refused(self.cache, batch):
            logit = self.classifier(batch)
        loss = masked_cross_entropy(logit.float(), self.target[batch.row], self.positive_weight)
        self.optimizer.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.classifier.parameters(), 1.0)
        self._check_finite(loss.item(), norm.item())
        self.optimizer.step()
        self.num_done += 1
        if self.average is not None:
            self.average.update(self.classifier, step=self.num_done)
        self.losses.append(loss.item())
        return self.losses[-1]

    def _check_finite(self, loss: float, norm: float) -> None:
        """Stop before a step that would spoil the weights."""
        if math.isfinite(loss) and math.isfinite(norm):
            return
        found = f"the gradient norm is {norm}" if math.isfinite(loss) else f"the loss is {loss}"
        exact = " Or compute in 32 bit (--precision 32-true)." if "16" in self.precision else ""
        raise UserError(
            f"Stopped at step {self.num_done + 1}: {found}. Start anew with a lower --lr (now {self.settings.lr:g})."
            f"{exact}"
        )

    def is_validation_due(self) -> bool:
        """Whether an epoch that is to be validated has just ended."""
        epoch, rest = divmod(self.num_done, self.loader.steps_per_epoch)
        return rest == 0 and (epoch % self.rhythm == 0 or self.num_done == self.num_steps)

    def validate(self) -> str:
        """Weigh the epoch that has just ended, note it in `history`, and return what to say of it."""
        epoch = self.num_done // self.loader.steps_per_epoch  # from 1
        shown: StudyClassifier = self.classifier if self.average is None else self.average.module
        value = self.selection.add(
            epoch - 1, self._score(shown, "val"), shown.state_dict, lambda: self._score(shown, "test")
        )
        loss, now = float(np.mean(self.losses)), time.monotonic()
        seconds = now - self._validated_at
        self.history.append({"epoch": epoch, "loss": loss, "val_macro_auroc": value, "seconds": seconds})
        self.losses.clear()
        self._validated_at = now
        return f"epoch {epoch}/{self.settings.epochs}  loss {loss:.4f}  validation AUROC {value:.4f}"

    def _score(self, classifier: StudyClassifier, split: str) -> Float[np.ndarray, "study finding"]:
        return score_studies(
            classifier, self.cache, self.parts[split],
            mean=self.mean, std=self.std, crop=self.settings.evaluation_crop, max_views=self.settings.max_views,
            precision=self.precision,
        )  # fmt: skip

    def save(self, folder: Path) -> None:
        """Write a checkpoint in place of the one before."""
        weights = _name_part("model", self.classifier.state_dict()) | _name_part("best", self.selection.weights)
        if self.average is not None:
            weights |= _name_part("average", self.average.module.state_dict())
        state = {
            "optimizer": self.optimizer.state_dict(),
            "selection": self.selection.state_dict(),
            "history": self.history,
            "losses": self.losses,
        }
        save_checkpoint(folder, Checkpoint(self.num_done, weights, state), keep=0)

    def load(self, folder: Path) -> None:
        """Go on where the newest checkpoint was written, if there is one."""
        checkpoint = load_latest_checkpoint(folder)
        if checkpoint is None:
            return
        weights, state = checkpoint.weights, checkpoint.state
        self.classifier.load_state_dict(_take_part("model", weights))
        if self.average is not None:
            self.average.module.load_state_dict(_take_part("average", weights))
        self.optimizer.load_state_dict(state["optimizer"])
        self.selection.load_state_dict(state["selection"], _take_part("best", weights))
        self.num_done, self.history, self.losses = checkpoint.step, state["history"], state["losses"]

    def finish(self, name: str, weights_before: str) -> Finetuned:
        """The classifier of the best epoch, scored; `name` is the encoder's, `weights_before` its hash."""
        for hook in self.hooks:
            hook.remove()
        self.classifier.load_state_dict(self.selection.weights)
        said = {split: self._score(self.classifier, split) for split in ("val", "test")}
        took_effect = {"precision": self.precision, "epochs_a_validation": self.rhythm}
        if not self.hooks:
            took_effect["drop_path"] = 0.0
        per_finding = self.settings.select == "per-finding"
        epoch_of = dict(zip(self.task.names, self.selection.finding_epoch.tolist(), strict=True))
        return Finetuned(
            encoder=name,
            task=self.task,
            classifier=self.classifier.eval(),
            weights_before=weights_before,
            history=self.history,
            best_epoch=self.selection.epoch,
            best_epoch_of=epoch_of if per_finding else None,
            settings=self.settings.describe() | took_effect,
            counts=self._count_parts(),
            seed=self.settings.seed,
            test=self._judge(said),
            test_per_finding=self._judge(self.selection.said) if per_finding else None,
        )

    def _judge(self, said: Mapping[str, Float[np.ndarray, "study finding"]]) -> Scores:
        """Scores of the test studies, with decisions by the thresholds that are best on validation."""
        threshold, rows = tune_thresholds(self.selection.target, said["val"]), self.parts["test"]
        return build_scores(self.task, rows, self.task.target[rows], said["test"], threshold)

    def _count_parts(self) -> dict[str, int]:
        studies = {f"{split}_studies": len(rows) for split, rows in self.parts.items()}
        patients = {f"{split}_patients": len(np.unique(self.task.patient[rows])) for split, rows in self.parts.items()}
        return studies | patients


def choose_rhythm(num_train: int, num_val: int, epochs: int) -> int:
    """Epochs from one validation to the next: 1, or so many with few labels that validation takes no longer than
    training, whose steps cost three times as much a study; ten validations at least.
    """
    return max(1, min(num_val // (3 * num_train), epochs // 10))


def _name_part(part: str, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies under the name of their part: tensors that share memory cannot be stored as safetensors."""
    return {f"{part}.{name}": value.detach().clone() for name, value in weights.items()}


def _take_part(part: str, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(f"{part}."): value for name, value in weights.items() if name.startswith(f"{part}.")}
