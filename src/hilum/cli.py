"""`hilum`: one command per step of the road. Nothing heavy is imported before a command runs, so that --help is quick.

Exit codes: 0 done, 2 wrong input or settings (the message says what to do), 3 done but some files were rejected.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Ge, Le, Lt
from tyro.conf import Positional, arg

from .atomic import name_target, tells_full_disk
from .errors import UserError
from .identifiers import Naming
from .ranges import Count, NotNegative, Positive, Seed, Workers, check_numbers
from .sources.catalogue import ARCHIVES
from .vocabulary import MODALITIES


def demo(out: Path = Path("runs/demo"), studies: Count = 2000, steps: Count = 800, workers: Workers = 0) -> int:
    """Walk the whole road on the embedded phantom; ends with a report.

    Args:
        out: Folder for everything the demo makes; running again continues there.
        studies: Phantom studies to make.
        steps: Optimiser steps of pretraining.
        workers: Processes for making and reading images; 0: one per core.
    """
    from .demo import run_demo

    return run_demo(out, num_studies=studies, steps=steps, workers=workers or _count_cores())


def phantom(
    out: Path,
    studies: Count = 1000,
    seed: Seed = 0,
    size: Annotated[int, Ge(16)] = 256,
    workers: Workers = 0,
    masks: bool = False,
) -> int:
    """Write an archive of synthetic chest studies: real DICOM files, reports, findings.

    Args:
        out: Folder for the archive.
        studies: Number of studies.
        seed: Another seed gives other patients.
        size: Rows and columns of an image, in pixels.
        workers: Processes; 0: one per core.
        masks: Also write masks of heart, lungs and lesions, and the true severities.
    """
    from .phantom.archive import write_archive

    write_archive(out, studies, seed=seed, size=size, workers=workers or _count_cores(), masks=masks)
    _say_next("ingest", "table", out / "studies.csv", "--out", "studies.parquet")
    return 0


def sources(name: Positional[str | None] = None, check: Path | None = None) -> int:
    """List the archives Hilum can read; with a name, all about one.

    Args:
        name: A public archive.
        check: Folder of a download of it: say what it lacks, within seconds. Exit code 3 if it lacks anything needed.
    """
    from .sources.named import check_archive, print_archive, print_archives

    if name is None and check is not None:
        raise UserError(f"--check needs the name of an archive: {', '.join(ARCHIVES)}.")
    if name is None:
        print(f"{_describe(SOURCES)}\n")
        print_archives()
        return 0
    if name not in ARCHIVES:
        raise UserError(f"There is no archive '{name}'.{_suggest(name, ARCHIVES)} Archives: {', '.join(ARCHIVES)}.")
    if check is not None:
        return 0 if check_archive(name, check) else 3
    print_archive(name)
    return 0


def cache(
    studies: Positional[Path],
    out: Path,
    workers: Workers = 0,
    short_side: Count = 256,
    bits: Literal[8, 16] = 8,
    policy: str = "voi-1",
    modalities: tuple[str, ...] = MODALITIES,
    allow_burned_in: bool = False,
    worker: str | None = None,
    split_rule: Literal["threshold", "rank"] = "threshold",
    fractions: tuple[float, float, float] = (0.8, 0.1, 0.1),
) -> int:
    """Decode a study table's images once into memory-mapped shards.

    Args:
        studies: Study table (Parquet) from `hilum ingest`.
        out: Folder for the cache; running again continues where a kill stopped it.
        workers: Processes; 0: one per core.
        short_side: Shorter side of the kept image, in pixels; smaller images are never enlarged.
        bits: Bits kept per pixel.
        policy: How stored values become grey. voi-1: by the file's own window; range-1: from least to largest value.
        modalities: DICOM modalities that are taken; "" takes files whose header names none.
        allow_burned_in: Also take images that say they have text burned in.
        worker: Share of a cluster's job array, as "i/n" with i from 0.
        split_rule: For patients without an official split. threshold: adding studies moves nobody; rank: exact counts.
        fractions: Shares of training, validation and test patients.
    """
    from .cache_writer import build_cache

    built = build_cache(
        studies,
        out,
        workers=workers or _count_cores(),
        short_side=short_side,
        bits=bits,
        policy=policy,
        modalities=modalities,
        allow_burned_in=allow_burned_in,
        worker=worker,
        split_rule=split_rule,
        split_fractions=dict(zip(("train", "val", "test"), fractions, strict=True)),
    )
    if built.is_whole:  # of a job array, only the last to finish goes on
        from .cache import SPLITS, Cache

        made = Cache.open(out)
        print("Splits: " + ", ".join(f"{len(made.rows(split)):,} {split}" for split in SPLITS) + " studies")
        _say_next("pretrain", "mvmae", "--data", out, "--out", "runs/first")
    return 3 if built.num_rejected else 0


def text(
    data: Positional[Path],
    sections: tuple[str, ...] = ("findings", "impression"),
    fallback: tuple[str, ...] = ("report",),
    leave_out: tuple[str, ...] = (),
    vocabulary_size: Annotated[int, Ge(300)] = 8000,
    vocabulary: Path | None = None,
    length: Annotated[int, Ge(2)] = 128,
    examples: Workers = 3,
) -> int:
    """Turn a cache's reports into tokens, once, and show what a run would learn from them.

    `hilum pretrain mvmae_v2t` does so too where it is missing, by its --text settings. Texts stay in the cache.

    Args:
        data: Cache folder.
        sections: Sections of a report that are read, joined in this order.
        fallback: Sections read instead of a study that has none of these.
        leave_out: Archives whose reports are not read.
        vocabulary_size: Tokens of the vocabulary that is learned from the training split's reports.
        vocabulary: A vocabulary to use instead: BERT's vocab.txt, or a tokenizer.json.
        length: Tokens of a report that would be predicted at most, to see how many are cut.
        examples: Training reports to show, as they are and as their tokens read.
    """
    from .config import TextConfig
    from .text.describe_tokens import show_report_tokens

    chosen = TextConfig(
        sections=sections, fallback=fallback, leave_out=leave_out, vocabulary_size=vocabulary_size, length=length
    )
    show_report_tokens(data, chosen, vocabulary=vocabulary, num_examples=examples)
    flags: list[str | Path] = ["--vocabulary", vocabulary] if vocabulary else []
    for name, value in vars(chosen).items():
        if value != getattr(TextConfig(), name) and name != "vocabulary":
            flags += [f"--text.{name.replace('_', '-')}", *map(str, value if isinstance(value, tuple) else (value,))]
    _say_next("pretrain", "mvmae_v2t", "--data", data, "--out", "runs/reports", *flags)
    return 0


def describe(
    run: Positional[Path],
    data: Path,
    out: Path,
    split: Literal["val", "test"] = "test",
    beam: Count = 1,
    batch_views: Count = 64,
    precision: Literal["auto", "bf16-mixed", "32-true"] = "auto",
    examples: Workers = 3,
) -> int:
    """Let a run that learned from reports write some, to Parquet: one row per study.

    Args:
        run: Run folder of `hilum pretrain mvmae_v2t`.
        data: Cache folder.
        out: Parquet file to write.
        split: Studies to write of.
        beam: Beginnings of a text that are kept at a time; 1: always the most probable next token.
        batch_views: Images at a time.
        precision: auto: bfloat16 where the processor or GPU computes in it.
        examples: Texts to show beside the real reports.
    """
    from .outputs import REPORTS, check_parquet_output

    check_parquet_output(out, REPORTS, [run / "weights.safetensors"])
    out.parent.mkdir(parents=True, exist_ok=True)  # before the work, not after it
    from .evaluate.describe import describe_studies

    describe_studies(
        run, data, out, split=split, beam=beam, batch_views=batch_views, precision=precision, num_examples=examples
    )
    return 0


def embed(
    encoder: Positional[str],
    data: Path,
    out: Path,
    representation: tuple[Literal["class", "mean", "both", "2x2", "4x4"], ...] = ("class", "mean"),
    batch_views: Count = 256,
    precision: Literal["auto", "bf16-mixed", "32-true"] = "auto",
) -> int:
    """Write frozen features of every image to Parquet: one row per image with its study, patient and vectors.

    Args:
        encoder: A run folder, its weights.safetensors, or a public encoder as NAME=WEIGHTS, see `hilum probe --help`.
        data: Cache folder.
        out: Parquet file to write.
        representation: Vectors of an image, a column each: class token, mean of patch tokens, both side by side, means
            in 2 x 2 or 4 x 4 regions.
        batch_views: Images at a time.
        precision: auto: bfloat16 where the processor or GPU computes in it.
    """
    from .outputs import FEATURES, check_parquet_output

    check_parquet_output(out, FEATURES, [Path(encoder), Path(encoder) / "weights.safetensors"])
    out.parent.mkdir(parents=True, exist_ok=True)  # before the work, not after it
    from .evaluate.features import write_embeddings

    write_embeddings(encoder, data, out, representations=representation, batch_views=batch_views, precision=precision)
    return 0


def probe(
    encoder: Positional[str],
    data: Path,
    out: Path | None = None,
    against: tuple[str, ...] = (),
    task: str = "findings",
    representation: Literal["auto", "class", "mean", "both", "2x2", "4x4"] = "auto",
    head: Literal["linear", "knn", "attentive"] = "linear",
    uncertain: Literal["zeros", "ones", "ignore", "soft"] = "zeros",
    blank: Literal["zeros", "ignore"] = "zeros",
    rare: Literal["as-is", "weighted"] = "as-is",
    leave_out: tuple[str, ...] = (),
    label_count: tuple[Count, ...] = (),
    seeds: Count = 5,
    crossval: bool = False,
) -> int:
    """Score frozen features by a probe, linear by default, beside an untrained encoder, raw pixels and shuffled labels.

    Args:
        encoder: A run folder, its weights.safetensors, or a public encoder as NAME=WEIGHTS, such as
            biomedclip=/models/biomedclip. NAME: imagenet-vit-b, biomedclip, biomedclip-projected, chexagent, timm:MODEL
            (any image encoder of timm) or hf:FOLDER (any that transformers reads; it holds its weights). WEIGHTS: a
            file or folder here; random, to try it out; download, which alone uses the network.
        data: Cache folder.
        out: Folder for results; by default `probe` in the run folder, followed by -crossval, -TASK, and choices
            other than the usual. A public encoder has no run folder: needed.
        against: Further encoders to compare with, paired by patient.
        task: "findings", one finding such as "Edema", or a text column: sex, extra_..., or position, kind or laterality
            of the views.
        representation: class token, mean of patch tokens, both side by side, or means in 2 x 2 or 4 x 4 regions; auto:
            what is best on validation, for each encoder by itself.
        head: linear: logistic regression; knn: cosine nearest neighbours among training studies; attentive: learned
            queries that read the patch tokens.
        uncertain: What an uncertain label (-1) counts as: absent, present, not known, or (soft) half present in
            training and not known in every score.
        blank: What a finding that nobody mentioned counts as: absent, or not known.
        rare: weighted: in training, positives of rare findings count more, up to 10 times; probabilities stay those
            of the true prevalence.
        leave_out: Archives of the cache that take no part.
        label_count: Labelled training studies in the label-efficiency curve; by default round numbers up to all. A
            smaller subset is part of every larger one.
        seeds: Seeds of the label-efficiency curve.
        crossval: Repeated cross-validation by patient over the whole cache, for archives too small to split.
    """
    if crossval and label_count:
        raise UserError("--label-count has no effect beside --crossval, which draws no such curve: leave one out.")
    from .evaluate.probe_report import run_probe_report

    run_probe_report(
        data,
        [encoder, *against],
        out,
        task=task,
        representation=representation,
        head=head,
        rare=rare,
        uncertain=uncertain,
        blank=blank,
        leave_out=leave_out,
        counts=label_count,
        num_seeds=seeds,
        crossval=crossval,
    )
    return 0


def finetune(
    encoder: Positional[str],
    data: Path,
    out: Path | None = None,
    task: str = "findings",
    uncertain: Literal["zeros", "ones", "ignore", "soft"] = "zeros",
    blank: Literal["zeros", "ignore"] = "zeros",
    leave_out: tuple[str, ...] = (),
    label_count: Count | None = None,
    representation: Literal["class", "mean", "both", "2x2", "4x4", "attentive"] = "mean",
    epochs: Count | None = None,
    views_per_step: Count = 64,
    lr: Positive | None = None,
    min_lr: NotNegative = 1e-5,
    layer_decay: Annotated[Positive, Le(1.0)] | None = None,
    drop_path: Annotated[NotNegative, Lt(1.0)] = 0.1,
    ema: Annotated[NotNegative, Lt(1.0)] = 0.0,
    rare: Literal["as-is", "weighted"] = "as-is",
    select: Literal["macro", "per-finding"] = "macro",
    augment: Literal["none", "light"] = "none",
    precision: Literal["auto", "bf16-mixed", "32-true"] = "auto",
    seed: Seed = 0,
) -> int:
    """Train an encoder end to end on findings; a study's score is the mean of its views' logits.

    Args:
        encoder: A run folder, its weights.safetensors, a public encoder as NAME=WEIGHTS, see `hilum probe --help`, or
            supervised:SIZE (such as supervised:tiny): Hilum's own with random weights, the baseline without
            pretraining.
        data: Cache folder.
        out: Folder for the result; by default `finetune` in the run folder, followed by -TASK and choices other
            than the usual. Needed where there is no run folder.
        task: "findings", one finding such as "Edema", or a text column of studies: sex, extra_...
        uncertain: What an uncertain label (-1) counts as: absent, present, not known, or (soft) half present in
            training and not known in every score.
        blank: What a finding that nobody mentioned counts as: absent, or not known.
        leave_out: Archives of the cache that take no part.
        label_count: Labelled training studies that are used, whole patients drawn by --seed; a smaller subset is part
            of every larger one. By default all.
        representation: What the head reads of an image, see `hilum probe --help`; attentive: learned queries read the
            patch tokens.
        epochs: Passes over the training studies; the one best on validation is reported on test. By default 30, or
            100 for random weights.
        views_per_step: Views in one optimiser step.
        lr: Peak learning rate of the head; by default 1e-3, or 3e-4 for random weights.
        min_lr: Learning rate of the head at the end.
        layer_decay: Factor on the learning rate for each block below the head; by default 0.65, or 1 for random
            weights.
        drop_path: Probability of skipping a branch of the last block; lower blocks skip less.
        ema: Decay a step of the average of the weights that is then what is scored and kept, such as 0.999; 0: none.
        rare: weighted: in training, positives of rare findings count more, up to 10 times; probabilities stay those
            of the true prevalence.
        select: macro: the epoch with the best mean over findings on validation; per-finding: each finding's own best.
        augment: light: change brightness and contrast of training images a little.
        precision: auto: bfloat16 where the processor or GPU computes in it.
        seed: Seeds the head, order, crops and the labelled subset.

    Typed again, it continues where it was stopped.
    """
    from .evaluate.finetune_report import run_finetune

    run_finetune(
        data,
        encoder,
        out,
        task=task,
        uncertain=uncertain,
        blank=blank,
        leave_out=leave_out,
        label_count=label_count,
        representation=representation,
        epochs=epochs,
        views_per_step=views_per_step,
        lr=lr,
        min_lr=min_lr,
        layer_decay=layer_decay,
        drop_path=drop_path,
        ema=ema,
        rare=rare,
        select=select,
        augment=augment,
        precision=precision,
        seed=seed,
    )
    return 0


def evaluate(
    suite: Positional[Literal["mvmae"]],
    data: Path,
    runs: tuple[str, ...],
    out: Path,
    protocols: tuple[Literal["probe", "finetune"], ...] = ("probe", "finetune"),
    label_counts: tuple[Count, ...] = (),
    seeds: Count = 3,
    calibration_count: Count = 20_000,
    view_count: Count = 5_000,
    uncertain: Literal["zeros", "ones", "ignore", "soft"] = "zeros",
    blank: Literal["zeros", "ignore"] = "zeros",
    leave_out: tuple[str, ...] = (),
    epochs: Count | None = None,
    views_per_step: Count = 64,
    paper: bool = False,
    leave_one_out: bool = False,
) -> int:
    """Run a paper's whole evaluation on your cache: every table and figure, resumable cell by cell.

    Args:
        suite: Whose evaluation.
        data: Cache folder, of one archive or several.
        runs: RUN, or METHOD=RUN,RUN,... for runs of one method that differ in their seed: run folders, weights files or
            public encoders, see `hilum probe --help`.
        out: Folder for results; running again continues there.
        protocols: Linear probe of frozen features, fine-tuning of the whole encoder.
        label_counts: Labelled training studies of the label-efficiency curves; by default 5,000 to 100,000, as far as
            there are so many.
        seeds: Draws of the labelled patients for each count.
        calibration_count: Labelled studies of the probe whose calibration is shown; all if there are fewer.
        view_count: Labelled two-view studies of the probes that see one view or two; all if there are fewer.
        uncertain: What an uncertain label (-1) counts as: absent, present, not known, or (soft) half present in
            training and not known in every score.
        blank: What a finding that nobody mentioned counts as: absent, or not known.
        leave_out: Archives of the cache that take no part.
        epochs: Passes over the training studies in fine-tuning; by default 30, or 100 for random weights.
        views_per_step: Views in one optimiser step of fine-tuning.
        paper: Show the published numbers beside yours.
        leave_one_out: Print the commands to pretrain on each archive alone and on all but one, where no run did so.
    """
    from .evaluate_command import run_evaluate

    run_evaluate(
        data,
        runs,
        out,
        protocols=protocols,
        counts=label_counts or None,
        num_seeds=seeds,
        calibration_count=calibration_count,
        view_count=view_count,
        uncertain=uncertain,
        blank=blank,
        leave_out=leave_out,
        epochs=epochs,
        views_per_step=views_per_step,
        paper=paper,
        leave_one_out=leave_one_out,
    )
    return 0


def report(paths: Positional[tuple[Path, ...]], out: Path = Path("report.html"), title: str = "Hilum report") -> int:
    """Draw runs, probes and archives as one HTML page that needs nothing outside itself.

    Args:
        paths: Cache folders, run folders, probe and evaluation folders, in the order to show them.
        out: HTML file to write.
        title: Title of the page.
    """
    from .outputs import check_suffix

    if not paths:
        raise UserError("hilum report draws the paths it is given: name at least one cache, run, probe or study table.")
    check_suffix(out, ".html")
    from .report.page import write_report

    out.parent.mkdir(parents=True, exist_ok=True)
    write_report(paths, out, title=title)
    print(f"Report: {out}")
    return 0


def doctor(path: Positional[Path | None] = None) -> int:
    """Check this installation; with a path, also the checksums of a cache or the files of a run.

    Args:
        path: Cache or run folder.
    """
    from .doctor import run_checks

    return run_checks(path)


def pretrain(arguments: Sequence[str]) -> int:
    """Learn an encoder from whole studies by a recipe."""
    from .pretrain_command import run_pretrain

    return run_pretrain(arguments)


def ingest(arguments: Sequence[str]) -> int:
    """Read an archive's studies into a study table (Parquet)."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(f"usage: hilum ingest SOURCE ... --out studies.parquet\n\n{ingest.__doc__}\n\n{_describe(SOURCES)}")
        print("\n`hilum ingest SOURCE --help` explains a source.")
        return 0
    name, rest = arguments[0], arguments[1:]
    if name not in SOURCES:
        raise UserError(f"There is no source '{name}'.{_suggest(name, SOURCES)} Sources: {', '.join(SOURCES)}.")
    return _parse(SOURCES[name], f"ingest {name}", rest)


def weights(arguments: Sequence[str]) -> int:
    """Import published weights, or say what a weights file holds."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(f"usage: hilum weights ACTION FILE ...\n\n{weights.__doc__}\n\n{_describe(WEIGHTS)}")
        print("\n`hilum weights ACTION --help` explains an action.")
        return 0
    name, rest = arguments[0], arguments[1:]
    if name not in WEIGHTS:
        raise UserError(f"There is no action '{name}'.{_suggest(name, WEIGHTS)} Actions: {', '.join(WEIGHTS)}.")
    return _parse(WEIGHTS[name], f"weights {name}", rest)


def weights_import(
    file: Positional[Path],
    layout: Literal["mvmae", "mae", "crossmae", "timm"],
    out: Path,
    image_size: Count | None = None,
    heads: Count | None = None,
    normalization: Literal["auto", "imagenet", "chest", "given"] = "auto",
    mean: tuple[float, ...] = (),
    std: tuple[float, ...] = (),
    licence: str = "not stated",
) -> int:
    """Make an encoder's published weights a weights file that embed, probe, finetune and pretrain --init read.

    Args:
        file: Checkpoint: .safetensors, .pth, .pt, .ckpt, .bin. Nothing in it is run.
        layout: Whose names its tensors have. mvmae: its Lightning or classifier file; mae: also medical_mae's files.
        out: Weights file to write (.safetensors).
        image_size: Side of the square it is to read, in pixels; positions are resized. By default as in the file.
        heads: Attention heads; by default 64 numbers wide, or as is usual at its width.
        normalization: What its pixels in [0, 1] were normalised by. imagenet: ImageNet's three means; chest: 0.5056 and
            0.252; given: --mean and --std; auto: those, or imagenet for three channels and chest for one.
        mean: Mean of its pixels, of all channels or each.
        std: Standard deviation of its pixels, of all channels or each.
        licence: What its publishers allow, such as "CC-BY-NC 4.0"; kept with the weights and all that starts from them.
    """
    from .model.import_weights import import_weights

    import_weights(
        file,
        out,
        layout=layout,
        heads=heads,
        image_size=image_size,
        normalization=normalization,
        mean=mean,
        std=std,
        licence=licence,
    )
    return 0


def weights_info(file: Positional[Path]) -> int:
    """Say what a weights file holds: architecture, preprocessing, where it was trained.

    Args:
        file: A weights.safetensors, or the run folder it is in.
    """
    from .model.weights import describe_weights

    print(describe_weights(file))
    return 0


def ingest_folder(
    root: Positional[Path],
    out: Path,
    layout: str | None = None,
    dataset: str | None = None,
    modalities: tuple[str, ...] = MODALITIES,
    allow_burned_in: bool = False,
    naming: Annotated[Naming, arg(name="")] = Naming(),
    workers: Workers = 0,
) -> int:
    """Read a tree of DICOM, PNG or JPEG files, with report texts beside them, into a study table.

    Args:
        root: Folder with the files. DICOM files are grouped into studies by their headers.
        out: Study table to write (Parquet).
        layout: What folders and names of PNG and JPEG files mean, such as "{patient}/{study}/{view}". Fields: patient,
            study, view, split, image, and _ for anything; others are kept as columns extra_NAME, and near misses of
            these ("{studie}") are refused. Without {study} every image is a study, without {patient} every study a
            patient.
        dataset: Name of the archive; by default the folder's.
        modalities: DICOM modalities that are taken; "" takes files whose header names none. Give `cache` the same.
        allow_burned_in: Also take images that say they have text burned in. Give `cache` the same.
        naming: What patients and studies are called.
        workers: Processes that read headers; 0: one per core.
    """
    from .sources.folder import ingest_folder as read

    summary = read(
        root,
        out,
        layout=layout,
        dataset=dataset,
        modalities=modalities,
        allow_burned_in=allow_burned_in,
        naming=naming,
        workers=workers or _count_cores(),
    )
    same = ["--allow-burned-in"] if allow_burned_in else []
    same += ["--modalities", *modalities] if modalities != MODALITIES else []
    _say_next_cache(out, *same)
    return 3 if summary.num_rejected else 0


def ingest_table(
    file: Positional[Path],
    out: Path,
    columns: tuple[str, ...] = (),
    root: Path | None = None,
    dataset: str | None = None,
    study_ids_per_patient: bool = False,
    naming: Annotated[Naming, arg(name="")] = Naming(),
) -> int:
    """Read your own CSV, TSV or Parquet, one row per image or per study, into a study table.

    Args:
        file: The table. Usual column names are recognised, and the mapping used is printed.
        out: Study table to write (Parquet).
        columns: What columns mean where their names do not say it, as "patient=PatientID" "image=path".
        root: Folder that image paths start from; by default the table's.
        dataset: Name of the archive; by default the table's.
        study_ids_per_patient: Study ids are numbered anew for every patient.
        naming: What patients and studies are called.
    """
    from .sources.table import ingest_table as read

    unclear = [pair for pair in columns if "=" not in pair]
    if unclear:
        raise UserError(f"--columns {unclear[0]}: expected meaning=column, such as patient=PatientID.")
    summary = read(
        file,
        out,
        columns=dict(pair.split("=", 1) for pair in columns),
        root=root,
        dataset=dataset,
        study_ids_per_patient=study_ids_per_patient,
        naming=naming,
    )
    _say_next_cache(out)
    return 3 if summary.num_rejected else 0


def ingest_mimic_cxr(
    root: Positional[Path],
    out: Path | None = None,
    check: bool = False,
    labels: Literal["chexpert", "negbio", "none"] = "chexpert",
    own_splits: bool = False,
    naming: Annotated[Naming, arg(name="")] = Naming(),
) -> int:
    """MIMIC-CXR-JPG, or MIMIC-CXR (DICOM): tables, and reports where they are there.

    Args:
        root: Folder of the download, with its tables and the folder `files`.
        out: Study table to write (Parquet).
        check: Only say what the download lacks, within seconds.
        labels: Whose findings: the CheXpert labeler's, NegBio's, or none.
        own_splits: Leave the official split out; `hilum cache` draws one.
        naming: What patients and studies are called.
    """
    return _ingest_archive("mimic-cxr", root, out, check, naming, labels=labels, own_splits=own_splits)


def ingest_chexpert(
    root: Positional[Path],
    out: Path | None = None,
    check: bool = False,
    own_splits: bool = False,
    naming: Annotated[Naming, arg(name="")] = Naming(),
) -> int:
    """CheXpert v1: train.csv, valid.csv and the test set's labels.

    Args:
        root: Folder of the download, with train.csv.
        out: Study table to write (Parquet).
        check: Only say what the download lacks, within seconds.
        own_splits: Leave the official split out; `hilum cache` draws one.
        naming: What patients and studies are called; ids are those of CheXpert Plus too.
    """
    return _ingest_archive("chexpert", root, out, check, naming, own_splits=own_splits)


def ingest_chexpert_plus(
    root: Positional[Path],
    out: Path | None = None,
    check: bool = False,
    labels: Literal["auto", "impression", "findings", "report", "none"] = "auto",
    own_splits: bool = False,
    naming: Annotated[Naming, arg(name="")] = Naming(),
) -> int:
    """CheXpert Plus: CheXpert with reports and their sections.

    Args:
        root: Folder of the download, with df_chexpert_plus_*.csv.
        out: Study table to write (Parquet).
        check: Only say what the download lacks, within seconds.
        labels: Text that findings were read from; auto: impression, else report, else findings, as files are there.
        own_splits: Leave the official split out; `hilum cache` draws one.
        naming: What patients and studies are called; ids are those of CheXpert too.
    """
    return _ingest_archive("chexpert-plus", root, out, check, naming, labels=labels, own_splits=own_splits)


def ingest_padchest(
    root: Positional[Path],
    out: Path | None = None,
    check: bool = False,
    naming: Annotated[Naming, arg(name="")] = Naming(),
) -> int:
    """PadChest: views, labels and Spanish reports; it has no official split.

    Args:
        root: Folder of the download, with PADCHEST_chest_x_ray_images_labels_160K_*.csv.
        out: Study table to write (Parquet).
        check: Only say what the download lacks, within seconds.
        naming: What patients and studies are called.
    """
    return _ingest_archive("padchest", root, out, check, naming)


def ingest_chestxray14(
    root: Positional[Path],
    out: Path | None = None,
    check: bool = False,
    own_splits: bool = False,
    naming: Annotated[Naming, arg(name="")] = Naming(),
) -> int:
    """ChestX-ray14 of the NIH: frontal images, eleven of the findings, the official test list.

    Args:
        root: Folder of the download, with Data_Entry_2017*.csv, train_val_list.txt and test_list.txt.
        out: Study table to write (Parquet).
        check: Only say what the download lacks, within seconds.
        own_splits: Leave the official lists out; `hilum cache` draws a split.
        naming: What patients and studies are called.
    """
    return _ingest_archive("chestxray14", root, out, check, naming, own_splits=own_splits)


def ingest_open_i(
    root: Positional[Path],
    out: Path | None = None,
    check: bool = False,
    naming: Annotated[Naming, arg(name="")] = Naming(),
) -> int:
    """Open-i's Indiana University collection: reports with MeSH terms, images of unknown view.

    Args:
        root: Folder of the download, with ecgen-radiology (or NLMCXR_reports.tgz) and NLMCXR_png.
        out: Study table to write (Parquet).
        check: Only say what the download lacks, within seconds.
        naming: What patients and studies are called.
    """
    return _ingest_archive("open-i", root, out, check, naming)


def _ingest_archive(name: str, root: Path, out: Path | None, check: bool, naming: Naming, **settings) -> int:
    from .sources.named import check_archive, ingest_archive

    if check:
        return 0 if check_archive(name, root, **settings) else 3
    if out is None:
        raise UserError("--out is missing: name the study table to write, such as --out studies.parquet.")
    summary, cache_settings = ingest_archive(name, root, out, naming=naming, **settings)
    _say_next_cache(out, *cache_settings)
    return 3 if summary.num_rejected else 0


# What `hilum ingest` reads: anybody's files, and archives by name.
SOURCES: dict[str, Callable[..., int]] = {
    "folder": ingest_folder,
    "table": ingest_table,
    "mimic-cxr": ingest_mimic_cxr,
    "chexpert": ingest_chexpert,
    "chexpert-plus": ingest_chexpert_plus,
    "padchest": ingest_padchest,
    "chestxray14": ingest_chestxray14,
    "open-i": ingest_open_i,
}

# What `hilum weights` does.
WEIGHTS: dict[str, Callable[..., int]] = {"import": weights_import, "info": weights_info}

# The order is the order of the road, and of `hilum --help`. Commands marked raw read their own arguments.
COMMANDS: dict[str, Callable[..., int]] = {
    function.__name__: function
    for function in (
        demo,
        phantom,
        sources,
        ingest,
        cache,
        text,
        pretrain,
        embed,
        describe,
        probe,
        finetune,
        evaluate,
        report,
        weights,
        doctor,
    )
}
RAW = (pretrain, ingest, weights)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(f"usage: hilum COMMAND [options]\n\n{_describe(COMMANDS)}\n\n`hilum COMMAND --help` explains a command.")
        return 0
    if arguments[0] == "--version":
        from importlib.metadata import version

        print(f"hilum {version('hilum')}")
        return 0
    os.environ.setdefault("PYDANTIC_ERRORS_INCLUDE_URL", "0")  # a page on types helps nobody at a terminal
    name, rest = arguments[0], arguments[1:]
    try:
        if name not in COMMANDS:
            raise UserError(f"There is no command '{name}'.{_suggest(name, COMMANDS)} `hilum --help` lists them.")
        command = COMMANDS[name]
        return command(rest) if command in RAW else _parse(command, name, rest)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; the same command continues where it was, for steps that can.", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `hilum ... | head`: the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if tells_full_disk(error):
            print(
                f"error: {error.filename or 'an output'}: the disk is full, or a quota is reached. What was written "
                "before is whole. Make room, or choose a place on another disk, and run the same command again.",
                file=sys.stderr,
            )
            return 2
        place = error.filename2 or error.filename  # of a rename, where it leads
        if not isinstance(place, str | os.PathLike):  # not the user's affair: a socket, a pipe, a defect
            raise
        print(f"error: {name_target(os.fspath(place))}: {error.strerror}", file=sys.stderr)
        return 2


def _describe(functions: dict[str, Callable[..., int]]) -> str:
    return "\n".join(f"  {name:13} {(function.__doc__ or '').splitlines()[0]}" for name, function in functions.items())


def _suggest(name: str, known) -> str:
    import difflib

    close = difflib.get_close_matches(name, list(known), n=1)
    return f" Did you mean '{close[0]}'?" if close else ""


def _parse(function: Callable[..., int], name: str, arguments: Sequence[str]) -> int:
    import tyro

    return tyro.cli(check_numbers(function), prog=f"hilum {name}", args=list(arguments))


def _say_next(*words: str | Path) -> None:
    """The command that comes next, ready to be pasted into a shell."""
    print(f"Next: hilum {shlex.join(map(str, words))}")


def _say_next_cache(out: Path, *settings: str) -> None:
    folder = out.with_name("cache" if out.stem == "studies" else f"{out.stem}-cache")
    _say_next("cache", out, "--out", folder, *settings)


def _count_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
