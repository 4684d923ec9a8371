"""What fine-tuning and segmentation share: steps towards known targets, validated now and then, the best epoch kept.

Every number a step depends on is a function of (seed, step) and of what a checkpoint holds: a training that was killed
and continued ends with the same bits.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int64
from timm.utils import ModelEmaV3
from torch import Tensor, nn

from hilum.errors import UserError
from hilum.keyed_random import make_keys
from hilum.progress import RunProgress
from hilum.training.checkpoint import Checkpoint, load_latest_checkpoint, save_checkpoint
from hilum.training.launch import StopRequest
from hilum.training.memory import explain_exhaustion
from hilum.training.optim import schedule_lr

Ended = TypeVar("Ended")


@dataclass
class Best:
    """The best epoch so far, by a value of validation that is larger when better."""

    value: float = -1.0
    epoch: int = -1
    weights: dict[str, Tensor] = field(default_factory=dict)

    def offer(self, value: float, epoch: int, weights: Callable[[], Mapping[str, Tensor]]) -> bool:
        """Keep a copy of an epoch's weights if it is better; returns whether it is. The first of equals is kept."""
        if not value > self.value:
            return False
        self.value, self.epoch = value, epoch
        self.weights = {name: tensor.detach().clone() for name, tensor in weights().items()}
        return True

    def state_dict(self) -> dict[str, Any]:
        """All but the weights."""
        return {"value": self.value, "epoch": self.epoch}

    def load_state_dict(self, state: Mapping[str, Any], weights: dict[str, Tensor]) -> None:
        """Go on where `state_dict` was taken, with the weights that were kept then."""
        self.value, self.epoch, self.weights = state["value"], state["epoch"], weights


@runtime_checkable
class Kept(Protocol):
    """What is kept of the epochs so far: `Best`, or `selection.Selection`, which keeps more."""

    @property
    def weights(self) -> dict[str, Tensor]: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any], weights: dict[str, Tensor]) -> None: ...


@dataclass
class Training:
    """What is trained, and how far it has come."""

    model: nn.Module
    optimizer: torch.optim.Optimizer  # groups have a `scale` of the learning rate
    kept: Kept
    num_steps: int
    lr: float  # peak
    seed: int
    precision: str
    average: ModelEmaV3 | None = None  # of the model's weights
    num_done: int = 0
    # One entry a validation: epoch from 1, loss since the last, a value of validation, seconds.
    history: list[dict[str, int | float]] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)  # of the steps since the last validation
    validated_at: float = field(default_factory=time.monotonic)

    def prepare_step(self, purpose: str, *, warmup: float, least: float = 0.0) -> None:
        """Set the rates, seed torch's generator and set the model to train.

        What drops at random draws from torch's own generator: seeded anew, a step draws the same whatever came before.
        """
        rate = schedule_lr(self.num_done + 0.5, self.num_steps, peak=self.lr, warmup=warmup, least=least)
        for group in self.optimizer.param_groups:
            group["lr"] = group["scale"] * rate
        torch.manual_seed(int(make_keys(purpose, self.seed, self.num_done)[0] >> np.uint64(1)))
        self.model.train()

    def descend(self, loss: Float[Tensor, ""]) -> float:
        """Take the step that a loss asks for; returns the loss.

        Raises:
            UserError: the loss or its gradient is not finite; the weights are those before the step.
        """
        self.optimizer.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self._check_finite(loss.item(), norm.item())
        self.optimizer.step()
        self.num_done += 1
        if self.average is not None:
            self.average.update(self.model, step=self.num_done)
        self.losses.append(loss.item())
        return self.losses[-1]

    def _check_finite(self, loss: float, norm: float) -> None:
        """Stop before a step that would spoil the weights."""
        if math.isfinite(loss) and math.isfinite(norm):
            return
        found = f"the gradient norm is {norm}" if math.isfinite(loss) else f"the loss is {loss}"
        exact = " Or compute in 32 bit (--precision 32-true)." if "16" in self.precision else ""
        raise UserError(
            f"Stopped at step {self.num_done + 1}: {found}. Start anew with a lower --lr (now {self.lr:g}).{exact}"
        )

    def note_validation(self, epoch: int, name: str, value: float) -> float:
        """Enter an epoch's value of validation into `history`; returns the mean loss since the last."""
        loss, now = float(np.mean(self.losses)), time.monotonic()
        self.history.append({"epoch": epoch, "loss": loss, name: value, "seconds": now - self.validated_at})
        self.losses.clear()
        self.validated_at = now
        return loss

    def save(self, folder: Path) -> None:
        """Write a checkpoint in place of the one before."""
        weights = _name_part("model", self.model.state_dict()) | _name_part("best", self.kept.weights)
        if self.average is not None:
            weights |= _name_part("average", self.average.module.state_dict())
        state = {
            "optimizer": self.optimizer.state_dict(),
            "selection": self.kept.state_dict(),
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
        self.model.load_state_dict(_take_part("model", weights))
        if self.average is not None:
            self.average.module.load_state_dict(_take_part("average", weights))
        self.optimizer.load_state_dict(state["optimizer"])
        self.kept.load_state_dict(state["selection"], _take_part("best", weights))
        self.num_done, self.history, self.losses = checkpoint.step, state["history"], state["losses"]


class Taken(NamedTuple):
    """What a step has to show."""

    loss: float
    num_views: int
    waited: float  # seconds waited for data since the training began


@runtime_checkable
class Supervised(Protocol):
    """A task under way, such as `finetune_state.Finetuning`."""

    training: Training

    def iterate(self) -> Iterator[Any]:
        """What the steps that are left learn from."""
        ...

    def take_step(self, shown: Any, /) -> Taken: ...
    def is_validation_due(self) -> bool: ...
    def validate(self) -> str:
        """Weigh the epoch that has just ended; returns what to say of it."""
        ...


def train_supervised(
    task: Supervised,
    finish: Callable[[], Ended],
    *,
    title: str,
    advice: str,
    checkpoints: Path | None,
    checkpoint_minutes: float,
    progress: bool,
) -> Ended:
    """Take the steps that are left and return what `finish` makes of the task.

    Args:
        title: of the progress bar.
        advice: what to change where memory runs out, see `memory.explain_exhaustion`.
        checkpoints: folder in which checkpoints are kept, and from whose newest the training continues. The caller
            sees to it that it is of the same settings, and is its only writer.
        checkpoint_minutes: time between checkpoints; one is written at a stop signal as well.

    Raises:
        UserError: a loss that is not finite, or not enough memory.
        SystemExit: stopped by a signal, after saving a checkpoint; the code is 128 + the signal's number.
    """
    training, stop = task.training, StopRequest()
    with ExitStack() as stack:
        if checkpoints is not None:
            training.load(checkpoints)
            stack.enter_context(stop.listen())
        bar = stack.enter_context(RunProgress(title, training.num_steps, training.num_done, silent=not progress))
        if training.num_done:
            bar.say(f"Continued at step {training.num_done} of {training.num_steps}")
        with explain_exhaustion(advice):
            _take_steps(task, stop, bar, checkpoints, 60 * checkpoint_minutes)
        if stop.signal_number:
            assert checkpoints is not None, "signals are listened to only where checkpoints are kept"
            training.save(checkpoints)
            done = f"step {training.num_done} of {training.num_steps}"
            bar.say(f"Stopped at {done} and saved. The same command continues there.")
            raise SystemExit(128 + stop.signal_number)
        return finish()


def _take_steps(
    task: Supervised, stop: StopRequest, bar: RunProgress, checkpoints: Path | None, seconds: float
) -> None:
    """Until none is left or somebody asked to stop, with a checkpoint after so many seconds."""
    saved_at = time.monotonic()
    for shown in task.iterate():
        if stop.signal_number:
            return
        taken = task.take_step(shown)
        bar.advance(loss=taken.loss, views=float(taken.num_views), waited=taken.waited)
        if task.is_validation_due():
            bar.say(task.validate())
        if checkpoints is not None and time.monotonic() - saved_at > seconds:
            task.training.save(checkpoints)
            saved_at = time.monotonic()


def count_parts(
    parts: Mapping[str, Int64[np.ndarray, " _"]], patient: Int64[np.ndarray, " row"], unit: str
) -> dict[str, int]:
    """`train_studies` and `train_patients`, and so on: rows of each split, called `unit`, and their patients."""
    rows = {f"{split}_{unit}": len(found) for split, found in parts.items()}
    return rows | {f"{split}_patients": len(np.unique(patient[found])) for split, found in parts.items()}


def _name_part(part: str, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies under the name of their part: tensors that share memory cannot be stored as safetensors."""
    return {f"{part}.{name}": value.detach().clone() for name, value in weights.items()}


def _take_part(part: str, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(f"{part}."): value for name, value in weights.items() if name.startswith(f"{part}.")}
