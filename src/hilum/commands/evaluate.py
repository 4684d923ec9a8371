"""What a frozen or fine-tuned encoder knows, and the page that shows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from annotated_types import Le, Lt
from tyro.conf import Positional

from hilum.errors import UserError
from hilum.ranges import Count, NotNegative, Positive, Seed, UpTo, Workers

RISK = "risk"  # a task with a head and metrics of its own

if TYPE_CHECKING:  # numpy is not imported for --help
    from hilum.labels import BlankPolicy, UncertainPolicy


def check_inputs(data: Path, *encoders: str) -> None:
    """Refuse what is not there at once: torch and what needs it take seconds to import, and are imported after this."""
    from hilum.cache import Cache
    from hilum.evaluate.asked import find_asked

    for encoder in encoders:
        find_asked(encoder)
    Cache.open(data)


def check_task(
    data: Path,
    task: str,
    uncertain: UncertainPolicy,
    blank: BlankPolicy,
    leave_out: Sequence[str],
    label_counts: Sequence[int] = (),
) -> None:
    """Refuse a task that the cache's table does not hold, or more labels than it has: before torch, too."""
    from hilum.cache import Cache
    from hilum.evaluate.probe.label_subsets import pick_labelled
    from hilum.evaluate.task import read_task

    target = read_task(Cache.open(data), task, uncertain=uncertain, blank=blank, leave_out=leave_out)
    pick_labelled(target, label_counts, 0)


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

    Prints BLEU-4, ROUGE-L and the F1 of stated findings against the real reports, beside those of reports dealt to
    other patients' studies.

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
    from hilum.model.places import find_weights
    from hilum.outputs import REPORTS, check_parquet_output

    check_parquet_output(out, REPORTS, [run / "weights.safetensors"])
    find_weights(run)
    check_inputs(data)
    out.parent.mkdir(parents=True, exist_ok=True)  # before the work, not after it
    from hilum.evaluate.describe import describe_studies

    describe_studies(
        run, data, out, split=split, beam=beam, batch_views=batch_views, precision=precision, num_examples=examples
    )
    print(f"written: {out}")
    return 0


def probe(
    encoder: Positional[str],
    data: Path,
    out: Path | None = None,
    against: tuple[str, ...] = (),
    task: str = "findings",
    representation: Literal["auto", "class", "mean", "max", "both", "2x2", "4x4"] = "auto",
    head: Literal["linear", "knn", "attentive", "sgd-parity"] = "linear",
    uncertain: Literal["zeros", "ones", "ignore", "soft"] = "zeros",
    blank: Literal["zeros", "ignore"] = "zeros",
    rare: Literal["as-is", "weighted"] = "as-is",
    leave_out: tuple[str, ...] = (),
    label_count: tuple[Count, ...] = (),
    seeds: Count | None = None,
    crossval: bool = False,
    earlier_exams: UpTo = 0,
    mask_after_event: bool = False,
    uno_weight: Literal["before", "at"] = "before",
    hazard: Literal["additive", "logistic", "cox"] = "additive",
    sides: Literal["together", "apart"] = "together",
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
        task: "findings", one finding such as "Edema", an archive's own labels ("vindr", "phenotype") or one of them
            ("vindr:ILD"); of mammograms breast:mass, another finding, breast:malignancy, breast:birads (4 or more),
            the ordered classes breast:birads5, breast:birads3 and breast:density, image:mass of single images, or risk
            (cancer within 1 to 5 years); or a text column: sex, extra_..., or position, kind or laterality of the
            views. mammo-clip-rows:mass and mammo-clip:mass (or calcification) repeat a published protocol on
            VinDr-Mammo, which is not sound.
        representation: class token, mean of patch tokens, both side by side, the maximum over the tokens
            (of convolutional encoders), or means in 2 x 2 or 4 x 4 regions; auto: what is best on validation, for each
            encoder by itself.
        head: linear: logistic regression; knn: cosine nearest neighbours among training studies; attentive: learned
            queries that read the patch tokens; sgd-parity: a linear layer trained as Mammo-CLIP's probe, by AdamW in
            small steps, to compare numbers with it.
        uncertain: What an uncertain label (-1) counts as: absent, present, not known, or (soft) half present in
            training and not known in every score.
        blank: What a finding that nobody mentioned counts as: absent, or not known.
        rare: weighted: in training, positives of rare findings count more, up to 10 times; probabilities stay those
            of the true prevalence.
        leave_out: Archives of the cache that take no part.
        label_count: Labelled training studies in the label-efficiency curve; by default round numbers up to all. A
            smaller subset is part of every larger one.
        seeds: Seeds of the label-efficiency curve; by default 5.
        crossval: Repeated cross-validation by patient over the whole cache, for archives too small to split.
        earlier_exams: With --task risk: earlier exams of the same woman that are read too, at most.
        mask_after_event: With --task risk: learn nothing from the years after a cancer's, as Mirai does. Without it
            they count as years with cancer, which they are.
        uno_weight: With --task risk: weights of Uno's C-index. before: by the share still followed just before each
            cancer, as Uno defines it; at: at each cancer, as torchsurv and scikit-survival have it.
        hazard: With --task risk: what is fitted. additive: hazards that add up over the years (Mirai's head); logistic:
            the chance of each year by itself, by the likelihood of discrete time; cox: one hazard relative to other
            women's, by the partial likelihood. The last ranks women and knows no risk within so many years: errors of
            absolute risk are given of recalibrated risks alone.
        sides: With --task risk: one head for all views of an exam, or one for left breasts and one for right ones,
            whose risks become that of either.
    """
    if task == RISK:
        unused = {
            "--head": head != "linear", "--uncertain": uncertain != "zeros", "--blank": blank != "zeros",
            "--rare": rare != "as-is", "--label-count": label_count, "--seeds": seeds, "--crossval": crossval,
        }  # fmt: skip
        chosen = {
            "earlier_exams": earlier_exams, "mask_after_event": mask_after_event, "uno_weight": uno_weight,
            "hazard": hazard, "sides": sides,
        }  # fmt: skip
        _probe_risk(encoder, data, out, against, representation, leave_out, chosen, unused)
        return 0
    for flag, given in {
        "--earlier-exams": earlier_exams, "--mask-after-event": mask_after_event,
        "--uno-weight": uno_weight != "before", "--hazard": hazard != "additive", "--sides": sides != "together",
    }.items():  # fmt: skip
        if given:
            raise UserError(f"{flag} has no effect on other tasks than risk: leave it out.")
    for flag, given in {"--label-count": label_count, "--seeds": seeds}.items():
        if crossval and given:
            raise UserError(f"{flag} has no effect beside --crossval, which draws no such curve: leave one out.")
    check_inputs(data, encoder, *against)
    check_task(data, task, uncertain, blank, leave_out, label_count)
    from hilum.evaluate.probe.report import run_probe_report

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
        num_seeds=seeds or 5,
        crossval=crossval,
    )
    return 0


def _probe_risk(
    encoder: str,
    data: Path,
    out: Path | None,
    against: Sequence[str],
    representation: Literal["auto", "class", "mean", "max", "both", "2x2", "4x4"],
    leave_out: Sequence[str],
    chosen: dict[str, Any],
    unused: Mapping[str, object],
) -> None:
    """`probe` of the task risk; `chosen` are its own settings, `unused` flags it does not have, with whether they were
    given."""
    for flag, given in unused.items():
        if given:
            raise UserError(f"{flag} has no effect on --task risk: leave it out.")
    check_inputs(data, encoder, *against)
    from hilum.cache import Cache
    from hilum.evaluate.risk.follow_up import read_follow_up

    read_follow_up(Cache.open(data), leave_out)  # before torch, too
    from hilum.evaluate.risk.risk_report import run_risk_report

    run_risk_report(
        data,
        [encoder, *against],
        out,
        representation=representation,
        leave_out=leave_out,
        **chosen,
    )


def finetune(
    encoder: Positional[str],
    data: Path,
    out: Path | None = None,
    task: str = "findings",
    uncertain: Literal["zeros", "ones", "ignore", "soft"] = "zeros",
    blank: Literal["zeros", "ignore"] = "zeros",
    leave_out: tuple[str, ...] = (),
    label_count: Count | None = None,
    representation: Literal["class", "mean", "max", "both", "2x2", "4x4", "attentive"] = "mean",
    epochs: Count | None = None,
    views_per_step: Count = 64,
    lr: Positive | None = None,
    min_lr: NotNegative = 1e-5,
    layer_decay: Annotated[Positive, Le(1.0)] | None = None,
    drop_path: Annotated[NotNegative, Lt(1.0)] = 0.1,
    ema: Annotated[NotNegative, Lt(1.0)] = 0.0,
    rare: Literal["as-is", "weighted"] = "as-is",
    frozen_statistics: bool = False,
    select: Literal["macro", "per-finding"] = "macro",
    augment: Literal["none", "light"] = "none",
    precision: Literal["auto", "bf16-mixed", "32-true"] = "auto",
    seed: Seed = 0,
) -> int:
    """Train an encoder end to end; the score of a study or a breast is the mean of its views' logits.

    Args:
        encoder: A run folder, its weights.safetensors, a public encoder as NAME=WEIGHTS, see `hilum probe --help`, or
            supervised:SIZE (such as supervised:tiny) or supervised:RUN (of that run's architecture and image size):
            Hilum's own with random weights, the baseline without pretraining.
        data: Cache folder.
        out: Folder for the result; by default `finetune` in the run folder, followed by -TASK and choices other
            than the usual. Needed where there is no run folder.
        task: "findings", one finding such as "Edema", an archive's own labels ("vindr", "phenotype") or one of them
            ("vindr:ILD"), a task of breasts or of their images ("breast:mass", "breast:malignancy", "image:mass"), or a
            text column of studies or views: sex, extra_..., position.
        uncertain: What an uncertain label (-1) counts as: absent, present, not known, or (soft) half present in
            training and not known in every score.
        blank: What a finding that nobody mentioned counts as: absent, or not known.
        leave_out: Archives of the cache that take no part.
        label_count: Labelled training studies (breasts, images) that are used, whole patients drawn by --seed; a
            smaller subset is part of every larger one. By default all.
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
        frozen_statistics: Batch normalisations keep the statistics the weights came with, in training too: for steps
            of few images, whose own are noise.
        select: macro: the epoch with the best mean over findings on validation; per-finding: each finding's own best.
        augment: light: change brightness and contrast of training images a little.
        precision: auto: bfloat16 where the processor or GPU computes in it.
        seed: Seeds the head, order, crops and the labelled subset.

    Typed again, it continues where it was stopped.
    """
    check_inputs(data, encoder)
    check_task(data, task, uncertain, blank, leave_out, () if label_count is None else (label_count,))
    from hilum.evaluate.finetune.report import run_finetune

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
        frozen_statistics=frozen_statistics,
        select=select,
        augment=augment,
        precision=precision,
        seed=seed,
    )
    return 0


def report(paths: Positional[tuple[Path, ...]], out: Path = Path("report.html"), title: str = "Hilum report") -> int:
    """Draw runs, probes and archives as one HTML page that needs nothing outside itself.

    Args:
        paths: Cache folders, run folders, probe and evaluation folders, in the order to show them.
        out: HTML file to write.
        title: Title of the page.
    """
    from hilum.outputs import check_suffix
    from hilum.report.kinds import find_kind

    if not paths:
        raise UserError("hilum report draws the paths it is given: name at least one cache, run, probe or study table.")
    check_suffix(out, ".html")
    for path in paths:
        find_kind(path)
    from hilum.report.page import write_report

    out.parent.mkdir(parents=True, exist_ok=True)
    write_report(paths, out, title=title)
    print(f"Report: {out}")
    return 0
