"""`hilum evaluate SUITE`: a paper's whole evaluation on a user's own cache."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from hilum.commands.evaluate import check_inputs, check_task
from hilum.commands.terminal import describe, parse, suggest
from hilum.errors import UserError
from hilum.ranges import Count, Positive


def evaluate(arguments: Sequence[str]) -> int:
    """Run a paper's whole evaluation on your cache: every table and figure, resumable cell by cell."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(f"usage: hilum evaluate SUITE ...\n\n{evaluate.__doc__}\n\n{describe(SUITES)}")
        print("\n`hilum evaluate SUITE --help` explains a suite.")
        return 0
    name, rest = arguments[0], arguments[1:]
    if name not in SUITES:
        raise UserError(f"There is no suite '{name}'.{suggest(name, SUITES)} Suites: {', '.join(SUITES)}.")
    return parse(SUITES[name], f"evaluate {name}", rest)


def evaluate_mvmae(
    data: Path,
    runs: tuple[str, ...],
    out: Path,
    protocols: tuple[Literal["probe", "finetune"], ...] = ("probe", "finetune"),
    head: Literal["linear", "knn", "attentive"] = "linear",
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
    """MVMAE's evaluation on your cache: every table and figure, resumable cell by cell.

    Args:
        data: Cache folder, of one archive or several.
        runs: RUN, or METHOD=RUN,RUN,... for runs of one method that differ in their seed: run folders, weights files or
            public encoders, see `hilum probe --help`.
        out: Folder for results; running again continues there.
        protocols: Probe of frozen features, fine-tuning of the whole encoder.
        head: Of probes: linear, as the paper's; knn or attentive, see `hilum probe --help`.
        label_counts: Labelled training studies of the label-efficiency curves; by default 5,000 to 100,000, as far as
            there are so many.
        seeds: Draws of the labelled patients for each count, and networks of random weights where these are compared
            (supervised): three at least, or the numbers are of a network, not of a method.
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
    from hilum.evaluate.asked import group_asked

    group_asked(runs)
    check_inputs(data)
    check_task(data, "findings", uncertain, blank, leave_out, label_counts)
    from hilum.commands.paper import run_evaluate

    run_evaluate(
        data,
        runs,
        out,
        protocols=protocols,
        head=head,
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


def evaluate_pacx(
    data: Path,
    runs: tuple[str, ...],
    out: Path,
    protocols: tuple[Literal["probe", "finetune", "alignment", "segmentation", "rollout", "drift"], ...] = (
        "probe",
        "finetune",
        "alignment",
        "segmentation",
        "rollout",
        "drift",
    ),
    teachers: tuple[str, ...] = (),
    task: str = "findings",
    representation: Literal["auto", "class", "mean", "both", "max"] = "auto",
    head: Literal["linear", "released"] = "linear",
    fractions: tuple[Positive, ...] = (0.01, 0.1, 1.0),
    seeds: Count = 5,
    masks: Path | None = None,
    structures: tuple[str, ...] = (),
    decoders: tuple[Literal["light", "dpt"], ...] = ("light", "dpt"),
    decoder_epochs: Count = 50,
    uncertain: Literal["zeros", "ones", "ignore", "soft"] = "zeros",
    blank: Literal["zeros", "ignore"] = "zeros",
    leave_out: tuple[str, ...] = (),
    epochs: Count | None = None,
    views_per_step: Count = 64,
    paper: bool = False,
) -> int:
    """PaCX-MAE's evaluation on your cache, with the intervals, pairs and controls that it lacks; resumable by cells.

    Args:
        data: Cache folder, of one archive or several.
        runs: RUN, or ARM=RUN,RUN,... for runs of one arm that differ in their seed: run folders, weights files or
            public encoders, see `hilum probe --help`. All others are compared with the first arm.
        out: Folder for results; running again continues there.
        protocols: Probe of frozen features with all and few labels, fine-tuning of the whole encoder, ridge regression
            to teachers' vectors and retrieval, segmentation, attention rollout inside masks (and, beside the probe, of
            test studies whose finding the first arm misses and another finds), drift from the run that an arm started
            from (which must be an arm too).
        teachers: Tables of teachers' vectors as NAME=TABLE, such as ecg=ecg.parquet.
        task: See `hilum probe --help`.
        representation: What probes read of an image, of all arms: class token, mean of patch tokens, both side by side,
            or the maximum over the tokens (of convolutional encoders); auto: what is best on validation, for each
            encoder by itself.
        head: Of probes. linear: logistic regression on standardised features. released: as the paper's code trains
            its, to be put beside published numbers: one linear layer on the raw class token (or --representation) of
            whole images squashed to squares and mirrored at random, AdamW at rate 0.003 for 40 epochs of 512 images a
            step, the epoch with the best AUROC on validation.
        fractions: Shares of the labelled training studies that probes learn from.
        seeds: Draws of the labelled patients for each share, and networks of random weights.
        masks: Archive of `hilum phantom --masks` of which the cache was made; by default the masks that the cache's
            study table names, if any.
        structures: Which of that archive's masks; by default heart, lungs and bone.
        decoders: Of segmentation on the frozen encoder: the paper's, and a stronger one that reads four layers.
        decoder_epochs: Passes of a decoder over the training views.
        uncertain: What an uncertain label (-1) counts as: absent, present, not known, or (soft) half present in
            training and not known in every score.
        blank: What a finding that nobody mentioned counts as: absent, or not known.
        leave_out: Archives of the cache that take no part.
        epochs: Passes over the training studies in fine-tuning; by default 30, or 100 for random weights.
        views_per_step: Views in one optimiser step of fine-tuning and segmentation.
        paper: Show the published numbers beside yours, and what is wrong with them.
    """
    from hilum.commands.pretrain import parse_teachers
    from hilum.evaluate.asked import group_asked

    group_asked(runs)
    tables = parse_teachers(teachers)
    check_inputs(data)
    check_task(data, task, uncertain, blank, leave_out)
    from hilum.commands.paper import run_evaluate

    run_evaluate(
        data,
        runs,
        out,
        suite="pacx",
        parts=protocols,
        teachers=tables,
        task=task,
        representation=None if representation == "auto" else representation,
        head=head,
        fractions=fractions,
        num_seeds=seeds,
        masks=masks,
        structures=structures,
        decoders=decoders,
        decoder_epochs=decoder_epochs,
        uncertain=uncertain,
        blank=blank,
        leave_out=leave_out,
        epochs=epochs,
        views_per_step=views_per_step,
        paper=paper,
    )
    return 0


def evaluate_mvmlm(
    data: Path,
    runs: tuple[str, ...],
    out: Path,
    protocols: tuple[
        Literal["probe", "finetune", "folds", "retrieval", "matching", "zeroshot", "heatmap", "risk"], ...
    ] = ("probe", "finetune", "folds", "retrieval", "matching", "zeroshot", "heatmap", "risk"),
    tasks: tuple[str, ...] = (),
    texts: Path | None = None,
    language_model: Path | None = None,
    folds: Count | None = None,
    fractions: tuple[Positive, ...] = (0.01, 0.1, 0.5, 1.0),
    seeds: Count = 5,
    leave_out: tuple[str, ...] = (),
    epochs: Count | None = None,
    views_per_step: Count = 64,
    frozen_statistics: bool = False,
    paper: bool = False,
) -> int:
    """MV-MLM's evaluation on your mammograms: tasks of breasts and of their images, with intervals, pairs and nested
    labels; resumable by cells.

    Args:
        data: Cache folder of mammograms, of one archive or several.
        runs: RUN, or METHOD=RUN,RUN,... for runs of one method that differ in their seed: run folders, weights files or
            public encoders, see `hilum probe --help`. All others are compared with the first method; its architecture
            with random weights joins as supervised.
        out: Folder for results; running again continues there.
        protocols: Linear probes of frozen features, fine-tuning of the whole encoder, and probes by the folds that the
            study table's column extra_fold names, if any (RSNA's four), of encoders that saw nobody of them. Without
            labels: retrieval of the texts of test breasts by their images and back (needs --texts), and matching of
            the CC with the MLO view of a breast; by prompts, scores of mass and calcification (or of --tasks), and
            heat maps where findings are drawn. Risk of cancer within 1 to 5 years where follow-up is known. What the
            cache or a run does not allow is left out with a note.
        tasks: Such as breast:mass, breast:malignancy, image:calcification, see `hilum probe --help`; by default mass,
            calcification, malignancy, BI-RADS and density of breasts, and mass and calcification of images, as far as
            the archive knows them.
        texts: Parquet file of texts of breasts, as `hilum pretrain --texts` reads it; one text of each test breast is
            read.
        language_model: Folder of the frozen language model that the runs read; runs with a small one of their own need
            none.
        folds: How many folds are drawn, by the hash of each patient, where the study table has no column extra_fold.
        fractions: Shares of the labelled training breasts or images that are learned from: whole patients, nested.
        seeds: Draws of the labelled patients for each share, fine-tunings with all labels, and networks of random
            weights.
        leave_out: Archives of the cache that take no part.
        epochs: Passes over the training studies in fine-tuning; by default 30, or 100 for random weights.
        views_per_step: Views in one optimiser step of fine-tuning.
        frozen_statistics: In fine-tuning, batch normalisations keep the statistics that pretrained weights came with.
        paper: Show the published numbers beside yours, and what is wrong with them.
    """
    from hilum.evaluate.asked import group_asked

    group_asked(runs)
    check_inputs(data)
    for task in tasks:
        check_task(data, task, "zeros", "zeros", leave_out)
    from hilum.commands.paper import run_evaluate

    run_evaluate(
        data,
        runs,
        out,
        suite="mvmlm",
        parts=protocols,
        tasks=tasks,
        texts=texts,
        language_model=language_model,
        num_folds=folds,
        fractions=fractions,
        num_seeds=seeds,
        leave_out=leave_out,
        epochs=epochs,
        views_per_step=views_per_step,
        frozen_statistics=frozen_statistics,
        paper=paper,
    )
    return 0


SUITES: dict[str, Callable[..., int]] = {
    "mvmae": evaluate_mvmae,
    "pacx": evaluate_pacx,
    "mvmlm": evaluate_mvmlm,
}
