"""A run between two steps, and the step: the one that every pretraining takes.

Every number that a step depends on is a function of (seed, epoch, step) and of what the checkpoint holds, so a run that
was killed and continued ends with the same bits as one that was not; and every mean is a sum over all processes and
micro-batches divided by a count over all of them, so the number of either changes nothing but rounding. Terms that
compare the views of a batch with each other (contrast, the collapse guard) see all processes' rows, but one micro-batch
at a time: for them `optim.accumulate` is a part of the objective, and a run that has one is continued with the same.
"""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from hilum.augment import prepare
from hilum.batch import StudyBatch
from hilum.cache import Cache
from hilum.config import Config, ConvEncoderConfig
from hilum.cores import count_cores
from hilum.errors import UserError
from hilum.loader import Step, StudyLoader
from hilum.model.conv_encoder import ConvEncoder
from hilum.model.conv_weights import start_conv_encoder
from hilum.model.encoder import Encoder
from hilum.model.heads import summarize_views
from hilum.model.masking import Mask, draw_masks, make_no_mask
from hilum.model.weights import load_weights_into
from hilum.objective.image_text import compare_losses, doubt_first_losses
from hilum.objective.objective import Objective, build_objective, divide_losses, weigh
from hilum.objective.schedule import scale_guards, schedule_weight
from hilum.objective.term import Sum
from hilum.progress import RunProgress
from hilum.teachers.vectors import TeacherVectors
from hilum.text.descriptions import DescriptionTable
from hilum.text.report_tokens import ReportTokens

from .announcement import (
    describe_descriptions,
    describe_findings,
    describe_reports,
    describe_room,
    describe_run,
    describe_start,
    describe_teachers,
    warn_of_missing_views,
    warn_of_small_steps,
)
from .checkpoint import Checkpoint, list_checkpoints, save_checkpoint
from .memory import measure_peak_memory
from .meters import GradientMeter, StepMeter, measure_features
from .optim import build_optimizers, schedule_step_lr
from .run_folder import MetricsFile, record_session
from .validate import Validation


class _Forward(nn.Module):
    """Runs a function of the objective inside the distributed wrapper and the precision's context.

    Fabric casts every tensor that it sees going in to the precision of the matrix products, also the pixels that are to
    be reconstructed; so batches go in, and sums come out, by the function's closure.
    """

    def __init__(self, objective: Objective) -> None:
        super().__init__()
        self.objective = objective

    def forward(self, function: Callable[[Objective], None]) -> None:
        function(self.objective)


class Run:
    """A run between two steps: model, optimiser, data and where it is (`num_done` of `num_steps` steps)."""

    def __init__(
        self,
        fabric: Fabric,
        config: Config,
        cache: Cache,
        out: Path,
        checkpoint: Checkpoint | None,
        init: Path | None,
        texts: ReportTokens | None,
        teachers: Mapping[str, TeacherVectors],
        descriptions: DescriptionTable | None = None,
        language_model: nn.Module | None = None,
    ) -> None:
        self.fabric, self.config, self.cache, self.out = fabric, config, cache, out
        self.texts, self.teachers, self.descriptions, self.init = texts, teachers, descriptions, init
        optim, data = config.optim, config.data
        cores = max(1, count_cores() // config.run.devices)
        self.loader = StudyLoader(
            cache, cache.rows("train", data.leave_out),
            views_per_step=data.views_per_step, seed=config.seed, max_views=data.max_views, breasts=data.breasts,
            one_per_patient=data.one_per_patient, looks=data.looks,
            multi_view_floor=data.multi_view_floor, max_oversampling=data.max_oversampling,
            finding_share=data.finding_share, crop=data.crop,
            texts=texts, teachers=teachers, descriptions=descriptions, rank=fabric.global_rank,
            world_size=fabric.world_size,
            accumulate=optim.accumulate, num_threads=min(cores, 8),
        )  # fmt: skip
        self.num_steps = optim.steps or max(1, round(optim.epochs * self.loader.steps_per_epoch))
        self.epochs = self.num_steps / self.loader.steps_per_epoch
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            self.starts_at_zero: tuple[str, ...] = ()
            self.starts_anew: tuple[str, ...] = ()
            start = self._start if checkpoint is None and config.initial_weights is not None else None
            self.objective = build_objective(
                config, layout=texts.layout if texts else None, start=start, language_model=language_model
            )
        optimizers = build_optimizers(self.objective, optim)
        if checkpoint is not None:
            self.objective.load_state_dict(checkpoint.weights)
        self.model, *self.optimizers = fabric.setup(_Forward(self.objective), *optimizers)
        self.gradients = GradientMeter(config.terms, self.objective.encoder.parameters())
        self.validation = Validation(cache, config, texts, teachers, descriptions)
        self.precision = fabric.strategy.precision.precision
        self.computes_half = "16" in self.precision
        self.num_done, self.stop_signal = 0, 0
        self.meter = StepMeter()
        if checkpoint is not None:
            if "optimizers" not in checkpoint.state:
                raise UserError(
                    f"{out}: its checkpoints were written by an earlier Hilum, whose optimiser's state this one does "
                    "not read. Continue it with that version, or start a new run (--init takes an encoder's weights)."
                )
            self.num_done = checkpoint.step
            for optimizer, state in zip(optimizers, checkpoint.state["optimizers"], strict=True):
                optimizer.load_state_dict(state)
            self.gradients.load_state_dict(checkpoint.state["gradients"])
            self.meter.load_state_dict(checkpoint.state["meter"])
        # The first process writes for all.
        self.metrics = MetricsFile(out / "metrics.jsonl", self.num_done) if fabric.is_global_zero else None
        self.progress = RunProgress(
            f"pretrain {config.recipe}", self.num_steps, self.num_done, cores=cores, silent=not fabric.is_global_zero
        )
        self._saved_at = time.monotonic()

    def _start(self, encoder: Encoder | ConvEncoder) -> None:
        """Give the encoder the weights that the run starts from."""
        config, about = self.config, self.config.initial_weights
        assert about is not None
        if self.init is None:
            raise UserError(
                f"{self.out}: this config starts from {about.file} (sha256 {about.sha256[:16]}). Say where it is: "
                "--init PATH."
            )
        if isinstance(encoder, ConvEncoder):
            self.starts_anew = start_conv_encoder(encoder, self.init)
            return
        self.starts_at_zero = load_weights_into(
            encoder, self.init, mean=self.cache.mean, std=self.cache.std,
            any_norm_eps=config.adapter is not None and config.adapter.any_norm_eps,
        )  # fmt: skip

    def announce(self) -> None:
        """Say what is about to happen, note where it happens, and draw the untrained model's pictures."""
        if not self.fabric.is_global_zero:
            return
        views = self.config.data.views_per_step / (self.fabric.world_size * self.config.optim.accumulate)
        for line in (
            *describe_run(
                self.config, self.objective, precision=self.precision, num_processes=self.fabric.world_size,
                num_steps=self.num_steps, num_done=self.num_done, epochs=self.epochs,
            ),
            *(
                describe_start(self.config, self.objective.encoder, self.starts_at_zero, self.starts_anew)
                if self.num_done == 0
                else ()
            ),
            *warn_of_missing_views(self.config, self.cache, self.loader.multi_view_floor),
            *describe_findings(self.config, self.loader.findings),
            *warn_of_small_steps(self.config, self.loader.mean_views, self.loader.steps_per_epoch),
            *describe_reports(self.config, self.cache, self.texts),
            *describe_teachers(self.config, self.cache, self.teachers),
            *describe_descriptions(self.config, self.cache, self.descriptions),
            describe_room(self.objective, self.config, views, half=self.computes_half, device=self.fabric.device),
        ):  # fmt: skip
            self.progress.say(line)
        record_session(self.out, self.num_done, precision=self.precision, num_processes=self.fabric.world_size)
        if self.num_done == 0:
            self.draw_pictures()

    def take_step(self, data: Step, asked_to_stop: int) -> None:
        """One optimiser step over all processes' micro-batches, and what is due after it.

        Args:
            data: This process's micro-batches.
            asked_to_stop: The number of the signal this process got, or 0; one process that got one stops them all.
        """
        config, fabric, step = self.config, self.fabric, self.num_done + 1
        rate, weights, full_weights = self._schedule()
        # Gradients change fastest at the start: there the meter looks at steps 1, 2, 4, 8, ... as well.
        measures = step % config.run.meter_every == 0 or (step < config.run.meter_every and not step & (step - 1))

        # Counts first, over all micro-batches and processes: every loss below is a part of the one mean.
        own_counts = [self.objective.count(batch) for batch in data.micro_batches]
        totals = self._add_over_processes(
            {name: sum(part[name] for part in own_counts) for name in weights}
            | {
                "step/views": float(sum(batch.num_views for batch in data.micro_batches)),
                "step/asked": float(asked_to_stop > 0),
            }
        )
        self.stop_signal = (asked_to_stop or signal.SIGTERM) if totals["step/asked"] else 0

        sums: dict[str, float] = {}
        vectors: list[Tensor] = []
        batches: list[StudyBatch] = []
        for index, on_host in enumerate(data.micro_batches):
            batch, mask = self._prepare(on_host)
            with fabric.no_backward_sync(self.model, enabled=index + 1 < len(data.micro_batches)):
                found = _Found()
                self.model(partial(found.compute, batch=batch, mask=mask))
                parts = divide_losses(found.sums, totals, fabric.world_size)
                if measures:
                    self.gradients.add(parts)
                fabric.backward(weigh(parts, weights))
            _add_sums(sums, found.sums)
            vectors.append(found.vectors)
            batches.append(batch)
        sums = self._add_over_processes(sums)
        losses = {name: sums[f"{name}/loss"] / max(totals[name], 1.0) for name in weights}
        norm = float(nn.utils.clip_grad_norm_(self.objective.parameters(), config.optim.clip_norm or math.inf))
        self._check_finite(step, losses, norm)
        if self.num_done == 0:
            for line in doubt_first_losses(losses, sums):
                self.progress.say(line)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        for term in self.objective.terms.values():
            term.constrain()
        self.num_done = step

        loss = sum(weights[name] * losses[name] for name in weights)
        self.progress.advance(loss=loss, views=totals["step/views"], waited=self.loader.seconds_waited)
        self.meter.add(
            {"loss": (loss, 1.0), "gradient_norm": (norm, 1.0)}
            | {f"{name}/loss": (sums[f"{name}/loss"], totals[name]) for name in weights}
            | {name: (sums[name], sums[f"{name}/count"]) for name in sums if f"{name}/count" in sums}
            | {
                name: (ratio, 1.0) for name, ratio in compare_losses(dict(self.objective.terms.items()), losses).items()
            },
            views=totals["step/views"],
        )
        measured = {}
        if measures:
            measured = self.gradients.finish(weights, full_weights)
            measured |= measure_features(torch.cat(vectors), batches, "features/")
        if fabric.is_global_zero:
            self._write_what_is_due(rate, weights, measured)

    def _schedule(self) -> tuple[float, dict[str, float], dict[str, float]]:
        """Learning rate, weights of the terms, and their weights at the end of their ramps, for the next step."""
        optim, terms = self.config.optim, self.config.terms
        rate = schedule_step_lr(
            self.num_done, self.num_steps, epochs=self.epochs, per_epoch=optim.per_epoch,
            peak=optim.lr, warmup=optim.warmup, warmup_start=optim.warmup_start, floor=optim.floor,
        )  # fmt: skip
        full = {name: self.gradients.get_full_weight(name, term.weight.value) for name, term in terms.items()}
        progress = self.num_done / self.num_steps
        weights = {
            name: schedule_weight(term.weight, progress, epochs=self.epochs, warmup=optim.warmup, target=full[name])
            for name, term in terms.items()
        }
        return rate, scale_guards(terms, weights), scale_guards(terms, full)

    def _prepare(self, batch: StudyBatch) -> tuple[StudyBatch, Mask]:
        """The micro-batch as the encoder sees it, on the device, and its mask."""
        encoder, mask, seed, device = self.config.encoder, self.config.mask, self.config.seed, self.fabric.device
        if isinstance(encoder, ConvEncoderConfig):
            drawn = make_no_mask(batch.num_views)
        else:
            drawn = draw_masks(
                batch, num_patches=encoder.num_patches, ratio=mask.ratio, sharing=mask.sharing, seed=seed
            )
        ready = prepare(
            batch, size=encoder.image_size, mean=self.cache.mean, std=self.cache.std,
            augment=self.config.data.augment, seed=seed, device=device,
        )  # fmt: skip
        return ready, drawn.to(device)

    def _add_over_processes(self, values: dict[str, float]) -> dict[str, float]:
        """Each value's sum over processes; all of them must have the same names."""
        if self.fabric.world_size == 1:
            return values
        flat = torch.tensor(list(values.values()), dtype=torch.float64, device=self.fabric.device)
        self.fabric.all_reduce(flat, reduce_op="sum")  # in place
        return dict(zip(values, flat.tolist(), strict=True))

    def _check_finite(self, step: int, losses: dict[str, float], norm: float) -> None:
        """Stop before a step that would spoil the weights."""
        bad = [f"the loss of {name} is {loss}" for name, loss in losses.items() if not math.isfinite(loss)]
        if not bad and math.isfinite(norm):
            return
        saved = list_checkpoints(self.out / "checkpoints")
        kept = f"The last good checkpoint, {saved[-1].name}, is kept" if saved else "No checkpoint was written yet"
        exact = "Continue it with --resume --run.precision 32-true, or start" if self.computes_half else "Start"
        raise UserError(
            f"Stopped at step {step}: {', '.join(bad) or f'the gradient norm is {norm}'}. {kept}. "
            f"{exact} a new run with a lower --optim.lr or with --optim.clip-norm 1."
        )

    def _write_what_is_due(self, rate: float, weights: dict[str, float], measured: dict[str, float]) -> None:
        """After a step, the first process's part: validation, a line of metrics, pictures, a checkpoint."""
        run, step = self.config.run, self.num_done
        if self.validation.is_due(step, self.num_steps):
            measured |= self.validation.score(self.objective, self.fabric)
        if measured or step % run.log_every == 0 or step == self.num_steps:
            means, timing = self.meter.take(self.loader.seconds_waited)
            assert self.metrics is not None
            self.metrics.append(
                {
                    "step": step,
                    "epoch": step / self.loader.steps_per_epoch,
                    "progress": step / self.num_steps,
                    "lr": rate,
                }
                | means
                | {f"{name}/weight": weight for name, weight in weights.items()}
                | measured
                | timing
                | {"memory_mib": measure_peak_memory(self.fabric.device)}
            )
        every = run.picture_every
        if step == self.num_steps or (step % every == 0 if every else step == self.num_steps // 2):
            self.draw_pictures()
        seconds = time.monotonic() - self._saved_at
        if step % run.checkpoint_every == 0 if run.checkpoint_every else seconds > 60 * run.checkpoint_minutes:
            self.save()

    def draw_pictures(self) -> None:
        path = self.out / "reconstructions" / f"step-{self.num_done:08d}.npz"
        self.validation.draw_pictures(self.objective, self.fabric, path)

    def save(self) -> None:
        """Write a checkpoint, if this is the first process."""
        if self.metrics is None:
            return
        self.metrics.flush_to_disk()
        state = {
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "gradients": self.gradients.state_dict(),
            "meter": self.meter.state_dict(),
        }
        checkpoint = Checkpoint(self.num_done, self.objective.state_dict(), state)
        save_checkpoint(self.out / "checkpoints", checkpoint, keep=self.config.run.keep_checkpoints)
        self._saved_at = time.monotonic()


class _Found:
    """What a forward pass leaves: the terms' sums, and one vector for each view."""

    sums: dict[str, dict[str, Sum]]
    vectors: Tensor

    def compute(self, objective: Objective, batch: StudyBatch, mask: Mask) -> None:
        passes = objective.encode(batch, mask)
        self.sums = objective.measure(passes, mask, batch)
        self.vectors = summarize_views(passes.visible or passes.get(whole=True)).detach()


def _add_sums(total: dict[str, float], sums: dict[str, dict[str, Sum]]) -> None:
    """Add a micro-batch's sums as numbers: `<term>/loss`, and for the rest `<term>/<key>` and `<term>/<key>/count`."""
    flat = {}
    for name, parts in sums.items():
        for key, part in parts.items():
            flat[f"{name}/{key}"] = part.value
            if key != "loss":
                flat[f"{name}/{key}/count"] = part.count
    values = torch.stack([value.detach().float() for value in flat.values()]).tolist()  # one wait for the device
    for name, value in zip(flat, values, strict=True):
        total[name] = total.get(name, 0.0) + value
