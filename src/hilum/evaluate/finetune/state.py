"""A fine-tuning under way: what is trained, what a step is, what comes out; trained by `supervised_training.py`."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from timm.utils import ModelEmaV3

from hilum.augment import prepare
from hilum.batch import StudyBatch
from hilum.cache import Cache
from hilum.evaluate.fusion import masked_cross_entropy, weigh_positives
from hilum.evaluate.grouping import group_views, keep_owners, list_owners, list_studies
from hilum.evaluate.scoring.choice import build_scores, tune_specificities, tune_thresholds
from hilum.evaluate.scoring.scores import Scores
from hilum.evaluate.subject import name_refused
from hilum.evaluate.supervised_training import Taken, Training, count_parts
from hilum.evaluate.task import Task
from hilum.loader import StudyLoader
from hilum.model.image_encoder import ImageEncoder
from hilum.training.launch import choose_precision

from .classifier import StudyClassifier, add_drop_path, group_by_layer, score_rows
from .selection import Selection
from .settings import FinetuneSettings


@dataclass(frozen=True)
class Finetuned:
    """A fine-tuned classifier (its best epoch), how validation went, and its test scores by one selection or both."""

    encoder: str
    task: Task
    classifier: StudyClassifier
    weights_before: str  # hash of the encoder it started from
    # One entry a validation: epoch from 1, loss since the last, val_macro_auroc, seconds.
    history: list[dict[str, int | float]]
    num_train: int  # rows it learned from
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
        parts: the task's rows (studies, breasts or views) of `train`, `val` and `test`.
        mean, std: normalisation of the encoder's pixels.

    Attributes:
        training: its classifier, and how far it has come.
    """

    def __init__(
        self,
        cache: Cache,
        encoder: ImageEncoder,
        task: Task,
        settings: FinetuneSettings,
        parts: dict[str, Int64[np.ndarray, " row"]],
        *,
        mean: float,
        std: float,
    ) -> None:
        """Seeds torch's generator, as every step does: the caller keeps its own."""
        self.cache, self.task, self.settings, self.parts = cache, task, settings, parts
        self.mean, self.std, self.device = mean, std, next(encoder.parameters()).device
        self.owner = list_owners(cache, task)
        self.shown = keep_owners(self.owner, parts["train"])
        self.loader = StudyLoader(
            cache, list_studies(cache, self.shown),
            views_per_step=settings.views_per_step, seed=settings.seed, max_views=settings.max_views,
            crop=settings.crop,
        )  # fmt: skip
        self.rhythm = choose_rhythm(len(parts["train"]), len(parts["val"]), settings.epochs)
        self.target = torch.from_numpy(task.training_target).to(self.device)
        shown = self.target[torch.from_numpy(parts["train"]).to(self.device)]
        self.positive_weight = weigh_positives(shown) if settings.rare == "weighted" else None

        torch.manual_seed(settings.seed)
        classifier = StudyClassifier(
            copy.deepcopy(encoder), len(task.names), settings.representation,
            frozen_statistics=settings.frozen_statistics,
        )  # fmt: skip
        self.classifier = classifier.to(self.device)
        groups = group_by_layer(self.classifier, settings.weight_decay, settings.layer_decay)
        average = ModelEmaV3(self.classifier, decay=settings.ema, use_warmup=True) if settings.ema else None
        self.hooks = add_drop_path(self.classifier.encoder, settings.drop_path)  # the average has none
        self.selection = Selection(task.target[parts["val"]], settings.select)
        self.training = Training(
            self.classifier,
            torch.optim.AdamW(groups, lr=settings.lr),
            self.selection,
            num_steps=settings.epochs * self.loader.steps_per_epoch,
            lr=settings.lr,
            seed=settings.seed,
            precision=choose_precision(settings.precision),
            average=average,
        )

    def iterate(self) -> Iterator[StudyBatch]:
        """Batches of the steps that are left."""
        training = self.training
        first = divmod(training.num_done, self.loader.steps_per_epoch)
        for data in islice(self.loader.iterate(*first), training.num_steps - training.num_done):
            yield data.micro_batches[0]

    def take_step(self, batch: StudyBatch) -> Taken:
        """One step of the optimiser.

        Raises:
            UserError: the loss or its gradient is not finite, or the encoder refuses images; the weights are those
                before the step.
        """
        settings, encoder = self.settings, self.classifier.encoder
        batch = prepare(
            batch, size=encoder.image_size, mean=self.mean, std=self.std, augment=settings.augment, seed=settings.seed,
            device=self.device, interpolation=encoder.interpolation,
        )  # fmt: skip
        batch = group_views(batch, self.shown)
        self.training.prepare_step("finetune step", warmup=settings.warmup, least=settings.min_lr)
        autocast = torch.autocast(self.device.type, torch.bfloat16, enabled=self.training.precision == "bf16-mixed")
        with autocast, name_refused(self.cache, batch):
            logit = self.classifier(batch)
        loss = masked_cross_entropy(logit.float(), self.target[batch.row], self.positive_weight)
        return Taken(self.training.descend(loss), batch.num_views, self.loader.seconds_waited)

    def is_validation_due(self) -> bool:
        """Whether an epoch that is to be validated has just ended."""
        num_done = self.training.num_done
        epoch, rest = divmod(num_done, self.loader.steps_per_epoch)
        return rest == 0 and (epoch % self.rhythm == 0 or num_done == self.training.num_steps)

    def validate(self) -> str:
        """Weigh the epoch that has just ended, and return what to say of it."""
        training = self.training
        epoch = training.num_done // self.loader.steps_per_epoch  # from 1
        shown: StudyClassifier = self.classifier if training.average is None else training.average.module
        value = self.selection.add(
            epoch - 1, self._score(shown, "val"), shown.state_dict, lambda: self._score(shown, "test")
        )
        loss = training.note_validation(epoch, "val_macro_auroc", value)
        return f"epoch {epoch}/{self.settings.epochs}  loss {loss:.4f}  validation AUROC {value:.4f}"

    def _score(self, classifier: StudyClassifier, split: str) -> Float[np.ndarray, "row finding"]:
        return score_rows(
            classifier, self.cache, self.parts[split], self.owner,
            mean=self.mean, std=self.std, crop=self.settings.evaluation_crop, max_views=self.settings.max_views,
            precision=self.training.precision,
        )  # fmt: skip

    def finish(self, name: str, weights_before: str) -> Finetuned:
        """The classifier of the best epoch, scored; `name` is the encoder's, `weights_before` its hash."""
        for hook in self.hooks:
            hook.remove()
        self.classifier.load_state_dict(self.selection.weights)
        said = {split: self._score(self.classifier, split) for split in ("val", "test")}
        took_effect = {"precision": self.training.precision, "epochs_a_validation": self.rhythm}
        if not self.hooks:
            took_effect["drop_path"] = 0.0
        per_finding = self.settings.select == "per-finding"
        epoch_of = dict(zip(self.task.names, self.selection.finding_epoch.tolist(), strict=True))
        return Finetuned(
            encoder=name,
            task=self.task,
            classifier=self.classifier.eval(),
            weights_before=weights_before,
            history=self.training.history,
            num_train=len(self.parts["train"]),
            best_epoch=self.selection.best.epoch,
            best_epoch_of=epoch_of if per_finding else None,
            settings=self.settings.describe() | took_effect,
            counts=count_parts(self.parts, self.task.patient, "studies" if self.task.unit == "study" else "rows"),
            seed=self.settings.seed,
            test=self._judge(said),
            test_per_finding=self._judge(self.selection.said) if per_finding else None,
        )

    def _judge(self, said: Mapping[str, Float[np.ndarray, "row finding"]]) -> Scores:
        """Scores of the test rows, with decisions by the thresholds that are best on validation."""
        rows, chosen_by = self.parts["test"], (self.selection.target, said["val"])
        thresholds = tune_thresholds(*chosen_by), tune_specificities(*chosen_by)
        return build_scores(self.task, rows, self.task.target[rows], said["test"], *thresholds)


def choose_rhythm(num_train: int, num_val: int, epochs: int) -> int:
    """Epochs from one validation to the next: 1, or so many with few labels that validation takes no longer than
    training, whose steps cost three times as much a study; ten validations at least.
    """
    return max(1, min(num_val // (3 * num_train), epochs // 10))
