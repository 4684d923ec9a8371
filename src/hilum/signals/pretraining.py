"""Train our own ECG encoder on a user's records, without labels, where ECGFounder's weights are not at hand.

A run folder: config.json, pretraining.json (which records and, hashed, which patients it learns from),
environment.json, metrics.jsonl, checkpoints/ and, at its end, weights.safetensors. One process: records are small, and
a run on a processor takes minutes. A step is a function of (seed, step) and of what
the checkpoint holds, so that a run that was killed and continued ends with the same bits.
"""

from __future__ import annotations

import json
import math
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, Int64
from torch import nn

from hilum.atomic import remove_leftovers, write_atomic
from hilum.checksums import hash_parts
from hilum.config.ecg import EcgPretrainingConfig, dump_ecg, load_ecg
from hilum.errors import UserError
from hilum.keyed_random import draw_order, make_keys
from hilum.model.ecg_encoder import save_ecg_encoder
from hilum.objective.ecg import EcgObjective, draw_crops, weigh_losses
from hilum.progress import RunProgress
from hilum.teachers.table import People
from hilum.training.checkpoint import Checkpoint, load_latest_checkpoint, save_checkpoint
from hilum.training.launch import StopRequest
from hilum.training.meters import StepMeter
from hilum.training.optim import build_parameter_groups, schedule_step_lr
from hilum.training.run_folder import MetricsFile, check_unused, explain_full_disk, lock_run, record_session

REJECTED = "rejected.parquet"  # of a run folder: records that could not be used


def pretrain_ecg(
    values: Float32[np.ndarray, "record 12 thin_time"],
    patient: Int64[np.ndarray, " record"],
    out: Path,
    config: EcgPretrainingConfig,
    *,
    people: People | None = None,
    resume: bool = False,
) -> Path:
    """Train an encoder on prepared records (`ecg_records.prepare_thin`) and write `out/weights.safetensors`.

    Args:
        patient: equal for records of one patient, which are then no negatives of each other.
        people: the patients as `teacher_table.list_people` names them; None: they are of no study table.
        resume: continue the run in `out`, or begin it where there is none.

    Raises:
        UserError: too few records, a folder with another run, or a loss that is not finite.
        SystemExit: stopped by a signal, after saving a checkpoint; the code is 128 + the signal's number.
    """
    if len(np.unique(patient)) < 2:
        raise UserError(f"{len(values)} ECG records of {len(np.unique(patient))} patient: at least two are needed.")
    check_unused(out, resume=resume)
    seen = _describe_records(values, patient, people or {})
    with ExitStack() as stack:
        stack.enter_context(explain_full_disk(out))
        stop = stack.enter_context(StopRequest().listen())
        stack.enter_context(lock_run(out))
        _begin(out, config, seen)
        if (out / "weights.safetensors").exists():
            return out
        run = _Run(values, patient, out, config)
        stack.callback(run.metrics.close)
        stack.enter_context(run.progress)
        record_session(out, run.num_done, precision="32-true", num_processes=1)
        while run.num_done < config.steps and not stop.signal_number:
            run.take_step()
        if run.num_done < config.steps:
            run.save()
            run.progress.say(f"Stopped at step {run.num_done} of {config.steps} and saved: continue with --resume.")
            raise SystemExit(128 + stop.signal_number)
        counts = {name: value for name, value in seen.items() if name != "people"}
        about = {"pretraining": {**counts, "settings": json.loads(dump_ecg(config))}}
        save_ecg_encoder(run.objective.encoder, out / "weights.safetensors", about)
    return out


def _begin(out: Path, config: EcgPretrainingConfig, seen: dict[str, Any]) -> None:
    """Fill a new run folder, or check that the run in it may be continued with this config and these records."""
    remove_leftovers(out)
    if not (out / "environment.json").exists():  # written when the first step is about to be taken
        found = {entry.name for entry in out.iterdir() if not entry.name.startswith(".")}
        if strange := sorted(found - {"config.json", "pretraining.json", REJECTED}):
            raise UserError(f"{out}: holds other files ({', '.join(strange[:3])}) and no run. Choose a new folder.")
        write_atomic(out / "pretraining.json", json.dumps(seen, indent=1) + "\n")
        write_atomic(out / "config.json", dump_ecg(config))
        return
    before, now = (json.loads(dump_ecg(one)) for one in (load_ecg(out / "config.json"), config))
    changed = [f"{name}: was {before[name]}, now {now[name]}" for name in now if before[name] != now[name]]
    if changed:
        raise UserError(f"{out}: was started otherwise: {'; '.join(changed)}. Repeat that, or choose another folder.")
    if json.loads((out / "pretraining.json").read_bytes()) != seen:
        raise UserError(f"{out}: was started on other records or patients. Give the same, or choose another folder.")


def _describe_records(values: np.ndarray, patient: np.ndarray, people: People) -> dict[str, Any]:
    """What a run learns from: counts, a digest, and hashed patients."""
    return {
        "records_digest": hash_parts([values, patient]),
        "num_records": len(patient),
        "num_patients": len(np.unique(patient)),
        "people": {salt: sorted(hashes) for salt, hashes in people.items()},
    }


class _Run:
    """A run between two steps."""

    def __init__(self, values: np.ndarray, patient: np.ndarray, out: Path, config: EcgPretrainingConfig) -> None:
        self.values, self.patient, self.out, self.config = values, patient, out, config
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            self.objective = EcgObjective(config)
        groups = build_parameter_groups(self.objective, weight_decay=config.weight_decay)
        self.optimizer = torch.optim.AdamW(groups, lr=config.lr, betas=(0.9, 0.95), fused=True)
        self.num_done, self.meter = 0, StepMeter()
        self.size = min(config.records_per_step, len(values))
        checkpoint = load_latest_checkpoint(out / "checkpoints")
        if checkpoint is not None:
            self.num_done = checkpoint.step
            self.objective.load_state_dict(checkpoint.weights)
            self.optimizer.load_state_dict(checkpoint.state["optimizer"])
            self.meter.load_state_dict(checkpoint.state["meter"])
        self.metrics = MetricsFile(out / "metrics.jsonl", self.num_done)
        self.progress = RunProgress("pretrain ecg", config.steps, self.num_done, unit="records")

    def take_step(self) -> None:
        """One optimiser step, and what is due after it."""
        config, step = self.config, self.num_done + 1
        rows = draw_rows(config.seed, self.num_done, self.size, len(self.values))
        generator = torch.Generator().manual_seed(int(make_keys("ecg step", config.seed, step)[0] >> 1))
        records, patient = torch.from_numpy(self.values[rows]), torch.from_numpy(self.patient[rows])
        losses = self.objective(draw_crops(records, patient, config, generator))
        loss = weigh_losses(losses, config)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = float(nn.utils.clip_grad_norm_(self.objective.parameters(), config.clip_norm))
        if not math.isfinite(norm):
            raise UserError(f"Stopped at step {step}: the gradient is {norm}. Start a new run with a lower rate.")
        rate = schedule_step_lr(
            self.num_done, config.steps, epochs=1.0, per_epoch=False, peak=config.lr, warmup=config.warmup,
            warmup_start=0.0,
        )  # fmt: skip
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        self.num_done = step
        self.progress.advance(loss=loss.item(), views=float(self.size), waited=0.0)
        found = {"loss": loss, **losses}
        self.meter.add({name: (value.item(), 1.0) for name, value in found.items()}, views=float(self.size))
        if step % config.log_every == 0 or step == config.steps:
            means, timing = self.meter.take(0.0)
            self.metrics.append({"step": step, "lr": rate, **means, "seconds": timing["seconds"]})
        if step % config.checkpoint_every == 0:
            self.save()

    def save(self) -> None:
        self.metrics.flush_to_disk()
        state = {"optimizer": self.optimizer.state_dict(), "meter": self.meter.state_dict()}
        save_checkpoint(self.out / "checkpoints", Checkpoint(self.num_done, self.objective.state_dict(), state))


def draw_rows(seed: int, step: int, size: int, num: int) -> Int64[np.ndarray, " row"]:
    """Records of a step: each once an epoch, in an order of its own; what does not fill a step waits for another."""
    epoch, place = divmod(step, num // size)
    return draw_order("ecg order", seed, epoch, num=num)[place * size : (place + 1) * size]
