"""The one training loop.

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
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from lightning_fabric import Fabric
from rich.console import Console
from torch import Tensor, nn

from .announcement import (
    describe_descriptions,
    describe_reports,
    describe_room,
    describe_run,
    describe_start,
    describe_teachers,
    warn_of_missing_views,
)
from .augment import prepare
from .batch import StudyBatch
from .cache import Cache, hash_file
from .checkpoint import Checkpoint, list_checkpoints, load_latest_checkpoint, save_checkpoint
from .config import Captioning as CaptioningConfig
from .config import (
    Config,
    ConvEncoderConfig,
    EncoderConfig,
    InitialWeights,
    find_batch_terms,
    find_captioning,
    load_config,
)
from .cores import count_cores
from .descriptions import DescriptionTable
from .effects import check_effects
from .errors import UserError
from .language_model_folder import name_language_model
from .launch import StopRequest, launch
from .loader import Step, StudyLoader
from .memory import describe_exhaustion, explain_exhaustion, measure_peak_memory
from .meters import GradientMeter, StepMeter, measure_features
from .model.adapt import merge_adapter
from .model.conv_encoder import ConvEncoder
from .model.conv_weights import start_conv_encoder
from .model.encoder import Encoder, Features
from .model.heads import summarize_views
from .model.masking import Mask, draw_masks, make_no_mask
from .model.places import find_weights
from .model.report_weights import save_report_decoder
from .model.text_weights import save_text_encoder
from .model.weights import load_weights_into, read_header, read_metadata
from .objective.captioning import Captioning
from .objective.image_text import ImageTextContrast, compare_losses
from .objective.objective import Objective, build_objective, divide_losses, weigh
from .objective.schedule import scale_guards, schedule_weight
from .objective.term import Sum
from .optim import build_optimizers, schedule_step_lr
from .progress import RunProgress
from .run_folder import (
    MetricsFile,
    begin_run,
    check_unused,
    explain_full_disk,
    finish_run,
    lock_run,
    record_session,
)
from .teacher_effects import check_asked
from .teacher_vectors import TeacherVectors, name_teachers, open_teachers
from .text.report_tokens import ReportTokens, name_vocabulary, open_report_tokens
from .text_states import open_texts
from .validate import Validation


def pretrain(
    config: Config,
    cache_path: Path,
    out: Path,
    *,
    init: Path | None = None,
    vocabulary: Path | None = None,
    teachers: Mapping[str, Path] | None = None,
    texts: Path | None = None,
    language_model: Path | None = None,
    resume: bool = False,
) -> Path:
    """Train an objective on the training split of a cache, in `run.devices` x `run.num_nodes` processes.

    Args:
        config: A recipe's config.
        cache_path: Cache folder.
        out: Run folder (see run_folder.py); made where needed.
        init: Run folder or weights file that the encoder starts from; a run that has a checkpoint continues from that.
        vocabulary: Given vocabulary of the reports (vocab.txt or tokenizer.json); None: learned from them.
        teachers: Tables of teachers' vectors by name (see teacher_vectors.py), for terms that learn from them.
        texts: File of the texts that images are compared with (see descriptions.py); None: report sections.
        language_model: Folder of the language model that reads them; None: one of random weights is trained.
        resume: Continue the run in `out`, or begin it where there is none.

    Returns:
        `out`, which now holds weights.safetensors.

    Raises:
        UserError: settings, folder or data that do not fit; a loss that is not finite; not enough memory.
        SystemExit: stopped by a signal, after saving a checkpoint; the code is 128 + the signal's number.
    """
    config = replace(config, text=name_vocabulary(config.text, vocabulary))
    config = _name_texts(config, texts, language_model)
    teachers = {name: path.absolute() for name, path in (teachers or {}).items()}
    check_asked(config, init is not None, teachers, is_begun=resume and (out / "config.json").exists())
    if teachers:
        config = replace(config, teachers=name_teachers(config.teachers, Cache.open(cache_path), teachers))
    check_effects(config)
    check_unused(out, resume=resume)  # begin_run asks again, under its lock and after processes have started
    if init is not None:
        init = find_weights(init).absolute()
        if isinstance(config.encoder, EncoderConfig):
            read_header(init)
        start = InitialWeights(file=f"{init.parent.name}/{init.name}", sha256=hash_file(init))
        config = replace(config, initial_weights=start)
    run = config.run
    stopped_by = launch(
        _train, config, cache_path, out, init, vocabulary, teachers, texts, language_model, resume,
        devices=run.devices, num_nodes=run.num_nodes, precision=run.precision,
    )  # fmt: skip
    if stopped_by:
        raise SystemExit(128 + stopped_by)
    return out


def _name_texts(config: Config, texts: Path | None, language_model: Path | None) -> Config:
    """The settings with what is to be known of the texts' file and of the language model's folder."""
    settings = config.text_encoder
    if settings is None:
        given = {"--texts": texts, "--language-model": language_model}
        if named := [flag for flag, path in given.items() if path is not None]:
            raise UserError(f"{named[0]} has no effect: recipe {config.recipe} compares images with no texts.")
        return config
    if texts is not None:
        if not texts.is_file():
            raise UserError(f"{texts}: there is no such file; expected a Parquet file of texts.")
        settings = replace(settings, texts=hash_file(texts))
    if language_model is not None:
        source, shape = name_language_model(language_model)
        settings = replace(settings, source=source, language_model=shape)
    return replace(config, text_encoder=settings)


def _train(
    fabric: Fabric,
    config: Config,
    cache_path: Path,
    out: Path,
    init: Path | None,
    vocabulary: Path | None,
    teachers: Mapping[str, Path],
    texts_file: Path | None,
    language_model: Path | None,
    resume: bool,
) -> int:
    """What each process does. Returns the number of the signal that stopped it; 0 when the run is finished."""
    cache = Cache.open(cache_path)
    cache.check_encoder(config.encoder)
    cache.check_training_split(config.data.leave_out)
    if init is not None:  # published weights name no policy
        cache.check_policy(read_metadata(init).get("image_policy"))
    with ExitStack() as stack:
        stack.enter_context(explain_exhaustion(describe_exhaustion(config.optim.accumulate, find_batch_terms(config))))
        stack.enter_context(explain_full_disk(out))
        stop = stack.enter_context(StopRequest().listen())
        if fabric.is_global_zero:
            stack.enter_context(lock_run(out))
            begin_run(out, config, cache, resume=resume, init=init, teachers=tuple(teachers.values()))
        with fabric.rank_zero_first():  # the first one removes what a killed run left
            checkpoint = load_latest_checkpoint(out / "checkpoints")
        if (out / "weights.safetensors").exists():
            if fabric.is_global_zero:
                Console(stderr=True).print(f"{out} is finished.", highlight=False, soft_wrap=True)
            return 0
        begun = load_config(out / "config.json")
        config = replace(config, initial_weights=begun.initial_weights, text=begun.text)
        texts = None
        if find_captioning(config):
            shuffle_seed = config.seed if config.data.shuffle_reports else None
            with fabric.rank_zero_first():  # the first one makes what is missing
                texts = open_report_tokens(
                    cache,
                    config.text,
                    shuffle_seed=shuffle_seed,
                    leave_out=config.data.leave_out,
                    vocabulary=vocabulary,
                )
        vectors = open_teachers(
            cache, config.teachers, teachers, seed=config.seed, leave_out=config.data.leave_out
        )  # fmt: skip
        descriptions, reader = None, None
        if config.text_encoder is not None:
            with fabric.rank_zero_first():
                descriptions, reader = open_texts(
                    cache, config, texts=texts_file, language_model=language_model, device=fabric.device
                )
        run = Run(fabric, config, cache, out, checkpoint, init, texts, vectors, descriptions, reader)
        if run.metrics is not None:
            stack.callback(run.metrics.close)
        stack.enter_context(run.progress)
        run.announce()
        for data in run.loader.iterate(*divmod(run.num_done, run.loader.steps_per_epoch)):
            if run.num_done == run.num_steps or run.stop_signal:
                break
            run.take_step(data, stop.signal_number)
        run.save()
        if run.stop_signal:
            run.progress.say(
                f"Stopped at step {run.num_done} of {run.num_steps} and saved. "
                "The same command with --resume continues there."
            )
            return run.stop_signal
        if fabric.is_global_zero:
            run.keep_report_decoder()
            run.keep_text_encoder()
            encoder = run.objective.encoder
            finish_run(out, merge_adapter(encoder) if isinstance(encoder, Encoder) else encoder, cache, config)
        fabric.barrier()
    return 0


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
            looks=data.looks,
            multi_view_floor=data.multi_view_floor, max_oversampling=data.max_oversampling, crop=data.crop,
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

    def keep_report_decoder(self) -> None:
        """Write what `hilum describe` needs beside the encoder, if the run learned from reports."""
        if self.texts is None:
            return
        config, encoder = self.config, self.objective.encoder
        assert isinstance(encoder, Encoder)
        name = find_captioning(config)
        assert name is not None
        term, settings = self.objective.terms[name], config.terms[name]
        assert isinstance(term, Captioning)
        assert isinstance(settings, CaptioningConfig)
        # What the term reads for one view of each kind is the table it borrows.
        kinds = torch.arange(config.transformer.num_view_kinds, device=self.fabric.device)
        each_kind = Features(kinds.new_zeros(len(kinds), 1, 1).float(), view_vectors=encoder.view_embed)
        save_report_decoder(
            self.out, term.decoder, self.texts.tokenizer, config=settings.decoder, encoder=config.transformer,
            layout=self.texts.layout, view_table=term.read_view_vectors(each_kind, kinds),
            metadata={"memory": settings.memory, "data_digest": self.cache.digest},
        )  # fmt: skip

    def keep_text_encoder(self) -> None:
        """Write what texts are read by, if the run compared images with any."""
        if self.descriptions is None:
            return
        encoder = self.objective.text_encoder
        term = next(term for term in self.objective.terms.values() if isinstance(term, ImageTextContrast))
        assert encoder is not None
        about = {"scale": float(term.scale().detach()), "data_digest": self.cache.digest}
        save_text_encoder(self.out, encoder, self.descriptions.tokenizer, about)

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
