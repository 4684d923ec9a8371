"""The evaluation of MVMAE (M 4.2, Tables 1-3 and 5-8) on a user's own cache: a list of cells, and their index.

Reported on test, selected on validation, intervals by patient; the paper selected and reported on validation.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from hilum.errors import UserError
from hilum.evaluate.features import Precision
from hilum.evaluate.heads.fit import Head
from hilum.evaluate.paper.cells import Question, list_jobs, remember_features
from hilum.evaluate.paper.entrants import check_entrants
from hilum.evaluate.paper.index import FINETUNE, FINETUNE_PER_FINDING, ONE_VIEW, PROBE, PROBE_PER_FINDING, TWO_VIEWS
from hilum.evaluate.paper.index_writer import finish_suite
from hilum.evaluate.paper.methods import pair_all, run_methods
from hilum.evaluate.paper.opening import open_suite
from hilum.evaluate.paper.parts import choose_commonest, list_archives
from hilum.evaluate.paper.sizes import CALIBRATION_COUNT, VIEW_COUNT, Sizes, choose_sizes
from hilum.evaluate.scoring.bootstrap import NUM_RESAMPLES
from hilum.evaluate.scoring.metrics import MIN_POSITIVES
from hilum.evaluate.slices import list_slices
from hilum.evaluate.targets import check_splits, warn_of_no_score
from hilum.evaluate.task import read_task
from hilum.labels import BlankPolicy, UncertainPolicy
from hilum.model.heads import Representation

Protocol = Literal["probe", "finetune"]
KINDS: dict[Protocol, tuple[str, ...]] = {
    "probe": (PROBE, PROBE_PER_FINDING, ONE_VIEW, TWO_VIEWS),
    "finetune": (FINETUNE, FINETUNE_PER_FINDING),
}


def run_mvmae(
    data: Path,
    runs: Sequence[str],
    out: Path,
    *,
    protocols: Sequence[Protocol] = ("probe", "finetune"),
    counts: Sequence[int] | None = None,
    num_seeds: int = 3,
    calibration_count: int = CALIBRATION_COUNT,
    view_count: int = VIEW_COUNT,
    uncertain: UncertainPolicy = "zeros",
    blank: BlankPolicy = "zeros",
    leave_out: Sequence[str] = (),
    representation: Representation | None = None,
    head: Head = "linear",
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
        data, runs: a cache folder, and `RUN` or `METHOD=RUN,RUN,...` (run folders or weights files).
        counts: labelled training studies of the label-efficiency curves; those of `sizes.py` below what there is where
            not given, and round numbers where that leaves fewer than two.
        num_seeds: draws of the labelled patients for each of them, and networks behind every method of random weights.
        calibration_count, view_count: labelled studies of the probe whose Brier error is tabulated, and of the probes
            that see one view or two; all where there are fewer.
        representation: what probes read of an image; class token, mean or both by validation where not given.
        head: of probes, see `heads/`; attentive reads the patch tokens. The paper's are linear.
        epochs, views_per_step: of fine-tuning; by default as many epochs as `hilum finetune` takes.
        paper: whether tables show the published numbers; kept in the index.

    Raises:
        UserError: nothing to run or to score, test patients in a pretraining, or some cells failed (the others, and the
            index, are kept).
    """
    cache, entrants = open_suite(data, runs, out, protocols, KINDS, num_seeds)
    if head != "linear" and "probe" not in protocols:
        raise UserError(f"--head {head} has no effect without probes: add probe to --protocols, or leave it out.")
    if head == "attentive" and representation is not None:
        raise UserError(f"The attentive head reads patch tokens, not '{representation}'.")
    task = read_task(cache, "findings", uncertain=uncertain, blank=blank, leave_out=leave_out)
    check_splits(task, "Build the cache with larger --fractions of it.")
    warn_of_no_score(task, min_positives)
    question = Question(
        cache=cache,
        task=task,
        kinds=frozenset(kind for protocol in protocols for kind in KINDS[protocol]),
        tunes_few=True,
        sizes=choose_sizes(cache, task, counts, calibration_count, view_count),
        archives=list_archives(cache, task),
        common=choose_commonest(task),
        slices=list_slices(cache, task),
        representation=representation,
        head=head,
        min_positives=min_positives,
        num_resamples=num_resamples,
        num_seeds=num_seeds,
        epochs=epochs,
        views_per_step=views_per_step,
        precision=precision,
        progress=progress,
        notes=check_entrants(cache, entrants, leave_out),
    )
    folder, load = out / "cells", remember_features(question)
    jobs = [job for entrant in entrants for job in list_jobs(question, entrant, load, folder)]
    found = run_methods(question, jobs, folder, pair_all)
    about = {
        "suite": "mvmae",
        "paper": paper,
        "notes": _list_pair_notes(question.sizes),
        "protocols": list(protocols),
        "commonest_findings": list(question.common),
        "calibration_count": question.sizes.calibration_count,
        "view_count": question.sizes.view_count,
        "two_view_studies": question.sizes.pairs,
    }
    return finish_suite(out, about, question, entrants, jobs, found)


def _list_pair_notes(sizes: Sizes) -> list[str]:
    if sizes.has_pairs:
        return []
    counts = ", ".join(f"{split} {num}" for split, num in sizes.pairs.items())
    return [f"One view is not compared with two: studies with exactly two views and known findings are {counts}."]
