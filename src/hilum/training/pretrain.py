"""Pretraining: from settings and a cache to a finished run folder, in one process or many."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from lightning_fabric import Fabric
from rich.console import Console

from hilum.cache import Cache
from hilum.checksums import hash_file
from hilum.config import Config, EncoderConfig, InitialWeights, find_batch_terms, find_captioning, load_config
from hilum.errors import UserError
from hilum.model.adapt import merge_adapter
from hilum.model.encoder import Encoder
from hilum.model.places import find_weights
from hilum.model.weights import read_header, read_metadata
from hilum.teachers.vectors import name_teachers, open_teachers
from hilum.text.language_model_folder import name_language_model
from hilum.text.report_tokens import name_vocabulary, open_report_tokens
from hilum.text.states import open_texts

from .checkpoint import load_latest_checkpoint
from .effects import check_effects
from .language_weights import keep_report_decoder, keep_text_encoder
from .launch import StopRequest, launch
from .memory import describe_exhaustion, explain_exhaustion
from .run import Run
from .run_folder import begin_run, check_unused, explain_full_disk, finish_run, lock_run
from .teacher_effects import check_asked


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
        teachers: Tables of teachers' vectors by name (see teachers/vectors.py), for terms that learn from them.
        texts: File of the texts that images are compared with (see text/descriptions.py); None: report sections.
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
            keep_report_decoder(run)
            keep_text_encoder(run)
            encoder = run.objective.encoder
            finish_run(out, merge_adapter(encoder) if isinstance(encoder, Encoder) else encoder, cache, config)
        fabric.barrier()
    return 0
