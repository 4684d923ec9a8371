"""Training of the laboratory auto-encoder (P 1.2) on the training rows of a laboratory table.

Every number a step depends on is a function of (seed, epoch, step), of the rows' own names and of what a checkpoint
holds: a run that was killed and continued ends with the same bits as one that was not. The run folder:

config.json          the settings
pretraining.json     how many rows of which table it learned from, and, hashed, which patients
environment.json     versions and processor
metrics.jsonl        one line an epoch: the loss, and P 1.2's measures on validation rows
checkpoints/         see training/checkpoint.py
weights.safetensors  the auto-encoder with vocabulary and percentiles, written last: a run that has it is finished
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Collection, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from hilum.atomic import remove_leftovers, write_atomic
from hilum.config.laboratory import LaboratoryConfig, dump_laboratory, load_laboratory
from hilum.errors import UserError
from hilum.keyed_random import make_keys
from hilum.model.lab_autoencoder import LabAutoencoder
from hilum.model.lab_weights import save_lab_teacher
from hilum.objective.lab_reconstruction import corrupt, draw_dropped, sum_squared_errors
from hilum.progress import RunProgress
from hilum.training.checkpoint import Checkpoint, load_latest_checkpoint, save_checkpoint
from hilum.training.launch import StopRequest
from hilum.training.optim import schedule_lr
from hilum.training.run_folder import (
    MetricsFile,
    check_unused,
    describe_environment,
    explain_full_disk,
    lock_run,
)

from .percentiles import fit_percentiles
from .rows import LabRows, collect_rows, measure_autoencoder
from .table import LaboratoryTable


def pretrain_laboratory(
    config: LaboratoryConfig,
    table: LaboratoryTable,
    out: Path,
    *,
    people: Mapping[str, Collection[str]] | None = None,
    resume: bool = False,
    device: torch.device | str = "cpu",
    progress: bool = True,
) -> Path:
    """Train an auto-encoder on the training rows of a table that have a value; validation rows measure it.

    Percentiles are fitted on the training rows alone.

    Args:
        config: `build_laboratory`'s settings.
        table: With splits (`splits.py`).
        out: Run folder.
        people: Training patients as `teacher_table.list_people` names them; None: they are of no study table.
        resume: Continue the run in `out`, or begin it where there is none.

    Returns:
        `out`, which now holds weights.safetensors.

    Raises:
        UserError: a folder that holds something else, other settings or values than those of the run to be continued,
            a table without training rows or splits, a loss that is not finite.
        SystemExit: stopped by a signal, after saving a checkpoint; the code is 128 + the signal's number.
    """
    check_unused(out, resume=resume)
    with ExitStack() as stack:
        stack.enter_context(explain_full_disk(out))
        stop = stack.enter_context(StopRequest().listen())
        stack.enter_context(lock_run(out))
        begin_run(out, config, describe_rows(table, people or {}), resume=resume)
        if (out / "weights.safetensors").exists():
            return out
        run = LaboratoryRun(config, table, out, torch.device(device), silent=not progress)
        stack.callback(run.metrics.close)
        stack.enter_context(run.progress)
        run.announce()
        while run.num_done < run.num_steps and not stop.signal_number:
            run.take_step()
        run.save()
        if stop.signal_number and run.num_done < run.num_steps:
            run.progress.say(f"Stopped at step {run.num_done} of {run.num_steps} and saved: continue with --resume.")
            raise SystemExit(128 + stop.signal_number)
        run.finish()
    return out


def begin_run(out: Path, config: LaboratoryConfig, seen: dict[str, Any], *, resume: bool) -> None:
    """Fill a new run folder, or check that the run in it is of these settings and values."""
    remove_leftovers(out)
    if not (out / "environment.json").exists():  # written last: the run has begun
        found = {path.name for path in out.iterdir() if not path.name.startswith(".")}
        if strange := sorted(found - {"config.json", "pretraining.json"}):
            raise UserError(f"{out}: holds other files ({', '.join(strange[:3])}) and no run. Choose a new folder.")
        write_atomic(out / "config.json", dump_laboratory(config))
        write_atomic(out / "pretraining.json", json.dumps(seen, indent=1) + "\n")
        write_atomic(out / "environment.json", json.dumps(describe_environment(), indent=1) + "\n")
        return
    check_unused(out, resume=resume)
    before, now = (json.loads(dump_laboratory(one)) for one in (load_laboratory(out / "config.json"), config))
    changed = [name for name in now if before[name] != now[name] and name != "checkpoint_minutes"]
    if changed:
        said = "; ".join(f"{name}: was {before[name]}, now {now[name]}" for name in changed)
        raise UserError(f"{out}: was started with other settings: {said}. Choose another folder.")
    if json.loads((out / "pretraining.json").read_bytes()) != seen:
        raise UserError(f"{out}: was started on other laboratory values or splits. Choose another folder.")


def describe_rows(table: LaboratoryTable, people: Mapping[str, Collection[str]]) -> dict[str, Any]:
    """What a run learns from, in counts and digests; patients are hashed."""
    train = table.take(table.find_rows("train"))
    return {
        "datasets": sorted(set(train.dataset)),
        "data_digest": table.digest,
        "num_rows": len(train),
        "num_patients": len(set(train.patient)),
        "num_values": int(train.observed.sum()),
        "people": {salt: sorted(hashes) for salt, hashes in people.items()},
    }


class LaboratoryRun:
    """A run between two steps: the network, its optimiser, its rows and where it is."""

    def __init__(
        self, config: LaboratoryConfig, table: LaboratoryTable, out: Path, device: torch.device, *, silent: bool
    ) -> None:
        self.config, self.vocabulary, self.out, self.device = config, table.vocabulary, out, device
        train = table.take(table.find_rows("train"))
        self.percentiles = fit_percentiles(train, config.ties)
        self.train, self.val = (
            collect_rows(rows, self.percentiles) for rows in (train, table.take(table.find_rows("val")))
        )
        self.batch_size = min(config.batch_size, len(self.train.key))
        self.steps_per_epoch = len(self.train.key) // self.batch_size
        self.num_steps = config.epochs * self.steps_per_epoch
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            self.autoencoder = LabAutoencoder(
                len(table.vocabulary), config.hidden, config.width, mask_missing=config.mask_missing
            ).to(device)
        self.optimizer = torch.optim.AdamW(
            self.autoencoder.parameters(), lr=config.lr, weight_decay=config.weight_decay, fused=True
        )
        self.num_done = 0
        self.sum, self.count = 0.0, 0.0  # of the loss since the epoch began
        checkpoint = load_latest_checkpoint(out / "checkpoints")
        if checkpoint is not None:
            self.autoencoder.load_state_dict(checkpoint.weights)
            self.optimizer.load_state_dict(checkpoint.state["optimizer"])
            self.num_done, self.sum, self.count = checkpoint.step, checkpoint.state["sum"], checkpoint.state["count"]
        self.metrics = MetricsFile(out / "metrics.jsonl", self.num_done)
        self.progress = RunProgress("pretrain labs", self.num_steps, self.num_done, silent=silent, unit="rows")
        self._order: tuple[int, Int64[np.ndarray, " row"]] | None = None
        self._saved_at = time.monotonic()

    def announce(self) -> None:
        """Say what is about to happen, and what is odd about it."""
        observed = self.train.observed
        self.progress.say(
            f"{len(observed):,} training rows with {len(self.vocabulary)} laboratory values, {observed.mean():.0%} of "
            f"them observed; {len(self.val.key):,} validation rows; {self.num_steps:,} steps of {self.batch_size} rows"
        )
        if self.num_steps <= self.config.warmup_steps:
            self.progress.say(
                f"warning: all {self.num_steps} steps are warm-up, so that the learning rate never reaches its peak: "
                "raise epochs, or lower batch_size or warmup_steps."
            )
        if never := [name for name, column in zip(self.vocabulary.names, observed.T, strict=True) if not column.any()]:
            named = ", ".join(never[:5]) + (f" and {len(never) - 5} others" if len(never) > 5 else "")
            self.progress.say(f"warning: no training row has {named}: always taken as missing.")
        if not len(self.val.key):
            self.progress.say("warning: there is no validation row: nothing is measured on rows it did not learn from.")

    def take_step(self) -> None:
        """One optimiser step, and what is due after it."""
        epoch, place = divmod(self.num_done, self.steps_per_epoch)
        rows = self._draw_order(epoch)[place * self.batch_size : (place + 1) * self.batch_size]
        batch = LabRows(*(part[rows] for part in self.train))
        share, observed, dropped = self._to_device(batch, epoch)
        reconstruction, _ = self.autoencoder(*corrupt(share, observed, dropped))
        errors = sum_squared_errors(reconstruction, share, observed)
        loss = errors.value / errors.count.clamp(min=1)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if not math.isfinite(loss.item()):
            raise UserError(
                f"{self.out}: the loss is {loss.item()} at step {self.num_done + 1}. Start anew with a lower lr "
                f"(now {self.config.lr:g})."
            )
        for group in self.optimizer.param_groups:
            group["lr"] = self._schedule()
        self.optimizer.step()
        self.sum, self.count = self.sum + errors.value.item(), self.count + errors.count.item()
        self.num_done += 1
        self.progress.advance(loss=loss.item(), views=float(len(rows)), waited=0.0)
        if place + 1 == self.steps_per_epoch:
            self._end_epoch(epoch)

    def save(self) -> None:
        """A checkpoint, and all lines of metrics up to it."""
        self.metrics.flush_to_disk()
        state = {"optimizer": self.optimizer.state_dict(), "sum": self.sum, "count": self.count}
        checkpoint = Checkpoint(self.num_done, self.autoencoder.state_dict(), state)
        save_checkpoint(self.out / "checkpoints", checkpoint, keep=0)
        self._saved_at = time.monotonic()

    def finish(self) -> None:
        """Write weights.safetensors."""
        seen = json.loads((self.out / "pretraining.json").read_bytes())
        about = {"pretraining": {name: value for name, value in seen.items() if name != "people"}}
        save_lab_teacher(
            self.out / "weights.safetensors", self.autoencoder,
            config=self.config, vocabulary=self.vocabulary, percentiles=self.percentiles, about=about,
        )  # fmt: skip

    def _end_epoch(self, epoch: int) -> None:
        line = {"step": self.num_done, "epoch": epoch + 1, "loss": self.sum / max(self.count, 1.0)}
        line |= measure_autoencoder(self.autoencoder, self.val, self.config.drop, self.config.seed)
        self.metrics.append(line)
        self.sum = self.count = 0.0
        if time.monotonic() - self._saved_at >= 60 * self.config.checkpoint_minutes:
            self.save()

    def _draw_order(self, epoch: int) -> Int64[np.ndarray, " row"]:
        """The rows in the order of an epoch, by their names: another row more moves nobody past anybody."""
        if self._order is None or self._order[0] != epoch:
            keys = make_keys("lab order", self.config.seed, epoch, self.train.key)
            self._order = epoch, np.argsort(keys, kind="stable")
        return self._order[1]

    def _schedule(self) -> float:
        warmup = min(1.0, self.config.warmup_steps / self.num_steps)
        return schedule_lr(self.num_done + 0.5, self.num_steps, peak=self.config.lr, warmup=warmup)

    def _to_device(self, rows: LabRows, draw: int) -> list[Tensor]:
        dropped = draw_dropped(rows.observed, rows.key, self.config.drop, self.config.seed, draw)
        return [torch.from_numpy(part).to(self.device) for part in (rows.share, rows.observed, dropped)]
