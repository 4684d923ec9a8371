"""The evaluation of PaCX-MAE (P 3, P 8) on a user's own cache, with what it lacks (P 7.4): a list of cells.

Arms are whatever the user names, the first one what all others are compared with: patient by patient, on the same
resamples. Probes are logistic regressions on standardised features, chosen on validation by the same grid for every
arm, or, to reproduce published numbers, trained as the released code does (`heads/released.py`); every number is of
test.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from hilum.errors import UserError
from hilum.evaluate.features import Precision
from hilum.evaluate.heads.fit import Head
from hilum.evaluate.paper.cells import list_jobs, remember_features
from hilum.evaluate.paper.entrants import Entrant, check_entrants, check_representation
from hilum.evaluate.paper.index import FINETUNE, PROBE
from hilum.evaluate.paper.index_writer import finish_suite
from hilum.evaluate.paper.methods import pair_with, run_methods
from hilum.evaluate.paper.opening import open_suite
from hilum.evaluate.paper.parts import list_archives
from hilum.evaluate.paper.sizes import Sizes, count_labels
from hilum.evaluate.scoring.bootstrap import NUM_RESAMPLES
from hilum.evaluate.scoring.metrics import MIN_POSITIVES
from hilum.evaluate.slices import LEAST_ROWS
from hilum.evaluate.targets import check_splits, warn_of_no_score
from hilum.evaluate.task import read_task
from hilum.labels import BlankPolicy, UncertainPolicy
from hilum.model.heads import Representation
from hilum.model.segmentation import Decoder
from hilum.teachers.vectors import read_teacher_vectors

from .cells import find_start, list_distillation_jobs
from .controls import list_missing_controls, list_unequal_controls, match_controls
from .distillation import DistillationQuestion, remember_masks
from .mask_sources import find_masks
from .rescued import list_rescue_jobs

Part = Literal["probe", "finetune", "alignment", "segmentation", "rollout", "drift"]
PARTS: tuple[Part, ...] = ("probe", "finetune", "alignment", "segmentation", "rollout", "drift")
FRACTIONS = (0.01, 0.1, 1.0)
SEEDS = 5
READ_TITLES: dict[Representation, str] = {
    "class": "the class token",
    "mean": "the mean of the patch tokens",
    "both": "class token and mean of the patch tokens",
    "max": "the largest of the patch tokens",
}
METRICS = ("auroc", "average_precision", "f1", "f1_at_half", "brier_error")


def run_pacx(
    data: Path,
    runs: Sequence[str],
    out: Path,
    *,
    parts: Sequence[Part] = PARTS,
    teachers: Mapping[str, Path] | None = None,
    task: str = "findings",
    fractions: Sequence[float] = FRACTIONS,
    num_seeds: int = SEEDS,
    masks: Path | None = None,
    structures: Sequence[str] = (),
    decoders: Sequence[Decoder] = ("light", "dpt"),
    decoder_epochs: int = 50,
    uncertain: UncertainPolicy = "zeros",
    blank: BlankPolicy = "zeros",
    leave_out: Sequence[str] = (),
    head: Literal["linear", "released"] = "linear",
    representation: Representation | None = None,
    epochs: int | None = None,
    views_per_step: int = 64,
    min_positives: int = MIN_POSITIVES,
    num_resamples: int = NUM_RESAMPLES,
    precision: Precision = "auto",
    paper: bool = False,
    progress: bool = True,
) -> Path:
    """Run every cell that has no result yet and write `out/suite.json`, the index of all.

    Args:
        data, runs: a cache folder, and `RUN` or `ARM=RUN,RUN,...`; the others are compared with the first arm.
        parts: of the evaluation; those that there is nothing for (no teachers, no masks) are left out.
        teachers: tables of teachers' vectors by name.
        task: see `read_task`.
        fractions: shares of the labelled training studies that probes learn from; whole patients, nested, findings in
            proportion, `num_seeds` draws of each. All labels have a probe in any case.
        masks, structures: see `find_masks`.
        decoders, decoder_epochs: of segmentation, on frozen encoders.
        head: of probes: ours, or as the released code trains its (P 3.2).
        representation: what probes read of an image; where not given by validation, for each encoder by itself, but
            for the released head, which reads the class token.
        epochs, views_per_step: of fine-tuning; a step of segmentation has as many views.
        paper: whether tables show the published numbers; kept in the index.

    Raises:
        UserError: nothing to run or to score, something to read that an encoder does not offer, test patients in a
            pretraining, or some cells failed (the others, and the index, are kept).
    """
    cache, entrants = open_suite(data, runs, out, parts, PARTS, num_seeds, beside_random=False)
    representation = choose_representation(entrants, parts, head, representation)
    asked = read_task(cache, task, uncertain=uncertain, blank=blank, leave_out=leave_out)
    check_splits(asked, "Build the cache with larger --fractions of it.")
    warn_of_no_score(asked, min_positives)
    counts = count_labels(asked, fractions)
    found_masks = find_masks(cache, masks, structures)
    kinds = [kind for part, kind in (("probe", PROBE), ("finetune", FINETUNE)) if part in parts]
    question = DistillationQuestion(
        cache=cache,
        task=asked,
        kinds=frozenset(kinds),
        metrics=METRICS,
        few_metrics=METRICS,
        metrics_of_differences=METRICS,
        sizes=Sizes(len(asked.rows("train")), sorted(counts)),
        archives=list_archives(cache, asked),
        common=(),
        slices={},
        representation=representation,
        head=head,
        min_positives=min_positives,
        num_resamples=num_resamples,
        few_resamples=num_resamples,  # gains are asked of few labels too
        num_seeds=num_seeds,
        epochs=epochs,
        views_per_step=views_per_step,
        precision=precision,
        progress=progress,
        notes=check_entrants(cache, entrants, leave_out),
        teachers={name: read_teacher_vectors(cache, path) for name, path in (teachers or {}).items()}
        if "alignment" in parts
        else {},
        masks=found_masks if {"segmentation", "rollout"} & set(parts) else None,
        lay_masks=remember_masks(cache, found_masks, leave_out),
        decoders=decoders if "segmentation" in parts else (),
        decoder_epochs=decoder_epochs,
        rolls_out="rollout" in parts,
        drifts="drift" in parts,
        leave_out=leave_out,
    )
    folder, load = out / "cells", remember_features(question)
    jobs = [
        job
        for entrant in entrants
        for list_them in (
            functools.partial(list_jobs, question, entrant, load, folder),
            functools.partial(list_distillation_jobs, question, entrant, entrants, load),
        )
        for job in list_them()
    ]
    jobs += list_rescue_jobs(question, entrants, jobs, folder)
    if not jobs:
        raise UserError(
            f"There is nothing for --protocols {' '.join(parts)}: alignment needs --teachers, segmentation and rollout "
            "masks, drift the run that another one started from."
        )
    first = entrants[0].method
    found = run_methods(question, jobs, folder, pair_with(first))
    controls = match_controls(entrants)
    about = {
        "suite": "pacx",
        "paper": paper,
        "notes": [
            *list_notes(question, parts, entrants),
            *list_missing_controls(controls),
            *list_unequal_controls(controls),
        ],
        "protocols": list(parts),
        "first": first,
        "controls": controls,
        "shares": {str(count): share for count, share in counts.items()},
        "teachers": list(question.teachers),
        "decoders": list(question.decoders),
        "structures": [] if question.masks is None else list(question.masks.structures),
        "num_labels": len(asked.names),
    }
    return finish_suite(out, about, question, entrants, jobs, found)


def choose_representation(
    entrants: Sequence[Entrant], parts: Sequence[Part], head: Head, representation: Representation | None
) -> Representation | None:
    """What probes read of all encoders; None: what validation chooses. The released head reads the class token unless
    it is told another.

    Raises:
        UserError: an encoder does not offer it, or there are no probes.
    """
    asked = {"--head": head != "linear", "--representation": representation is not None}
    if "probe" not in parts and any(asked.values()):
        flag = next(name for name, given in asked.items() if given)
        raise UserError(f"{flag} has no effect without --protocols probe: leave it out.")
    if head == "released" and representation is None:
        check_representation(entrants, "class", "--head released reads it: add --representation mean to read that.")
        return "class"
    if representation is not None:
        check_representation(entrants, representation)
    return representation


def list_notes(question: DistillationQuestion, parts: Sequence[Part], entrants: Sequence[Entrant]) -> list[str]:
    """What was asked for and is not there, and why."""
    missing = []
    if "alignment" in parts and not question.teachers:
        missing.append("no alignment: no --teachers were named")
    if {"segmentation", "rollout"} & set(parts) and question.masks is None:
        missing.append("no segmentation and no rollout shares: the cache names no masks")
    if "drift" in parts and not any(find_start(entrant, entrants) for entrant in entrants):
        missing.append("no drift: no arm is the run that another one started from")
    if "rollout" in parts:
        missing += note_unread(entrants)
    tested = question.find_rows("test")
    counts = {name: len(vectors.find_known(tested)) for name, vectors in question.teachers.items()}
    few = [f"{name} ({num} test studies have a vector)" for name, num in counts.items() if num < LEAST_ROWS]
    notes = [f"Left out: {'; '.join(missing)}."] if missing else []
    if question.representation is not None:
        notes.append(f"Probes of all arms read one thing of an image: {READ_TITLES[question.representation]}.")
    return [*notes, f"Too few for alignment, {LEAST_ROWS} at least: {', '.join(few)}."] if few else notes


def note_unread(entrants: Sequence[Entrant]) -> list[str]:
    """Of those whose attention cannot be read, which they are."""
    others = [one.name for one in entrants if not one.is_own]
    reason = "attention is read in Hilum's own transformers alone"
    return [f"no rollout and no rescued cases of {', '.join(others)}: {reason}"] * bool(others)
