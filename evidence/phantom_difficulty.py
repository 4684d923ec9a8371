"""Is the phantom neither noise nor trivial, and do its views differ?

A supervised network with all labels (`supervised_cnn.py`) says how much of each finding is in the pixels: between 0.75
and 0.98 test AUROC is asked of each common finding. On the studies that have a frontal and a lateral view, each view is
also scored by itself: at least four findings are to be plainer in one of them, by 0.05 or more.

Work is kept in runs/evidence, the result goes to results/phantom_difficulty.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from evidence import supervised_cnn
from evidence.phantom_cache import IMAGE_SIZE, NUM_STUDIES, WORK, prepare_cache
from evidence.supervised_cnn import EPOCHS, SIDE, score_views
from hilum.batch import VIEW_KINDS
from hilum.cache import Cache
from hilum.checksums import hash_parts
from hilum.evaluate.fusion import fuse_views
from hilum.evaluate.record import build_hashes
from hilum.evaluate.result import Estimate, Result, write_result
from hilum.evaluate.scoring.bootstrap import LEVEL, NUM_RESAMPLES
from hilum.evaluate.scoring.estimates import estimate_difference, estimate_scores
from hilum.evaluate.scoring.scores import Scores
from hilum.evaluate.task import Task, read_task
from hilum.phantom.freeze import hash_settings

COMMON = 0.05  # of the test studies
RESULT = Path("results/phantom_difficulty/result.json")


def main() -> None:
    """Build what is missing, train, score, write and print."""
    cache = prepare_cache()
    task = read_task(cache, "findings")
    network = hash_parts([Path(supervised_cnn.__file__).read_text()])[:8]
    logits = WORK / f"supervised-{network}.npy"
    if not logits.exists():
        np.save(logits, score_views(cache, task))
    views = np.load(logits)
    kind = cache.views["view_kind"]
    frontal, lateral = (kind == VIEW_KINDS.index(name) for name in ("frontal", "lateral"))
    whole = fuse_scores(cache, task, views, np.ones(len(views), bool))
    alone = {"frontal alone": frontal, "lateral alone": lateral}
    both = np.intersect1d(fuse_scores(cache, task, views, frontal).row, fuse_scores(cache, task, views, lateral).row)
    parts = {name: fuse_scores(cache, task, views, keep, both) for name, keep in alone.items()}
    estimates: list[Estimate] = [*estimate_scores(whole, ("auroc",))]
    for name, scores in parts.items():
        estimates += estimate_scores(scores, ("auroc",), slice=name)
    estimates += estimate_difference(*parts.values(), ("auroc",), slice="frontal minus lateral")
    result = Result(
        encoder="supervised resnet10t",
        task="findings",
        protocol={
            "kind": "supervised from nothing, all labels",
            "phantom": {"studies": NUM_STUDIES, "size": IMAGE_SIZE, "settings": hash_settings()},
            "image_size": SIDE,
            "epochs": EPOCHS,
            "common": COMMON,
        },
        seed=0,
        estimates=estimates,
        hashes=build_hashes(task, "trained here"),
        counts={f"{split} studies": len(task.rows(split)) for split in ("train", "val", "test")},
        level=LEVEL,
        num_resamples=NUM_RESAMPLES,
    )
    write_result(RESULT, result)
    print_difficulty(result, len(whole.row))


def fuse_scores(
    cache: Cache, task: Task, views: np.ndarray, keep: np.ndarray, rows: np.ndarray | None = None
) -> Scores:
    """Test studies (or those in `rows`) by the mean logit of their views in `keep`; those without one are left out."""
    studies = task.rows("test") if rows is None else rows
    keep = keep & np.isin(cache.views["study"], studies)
    studies, owner = np.unique(cache.views["study"][keep], return_inverse=True)
    logit = fuse_views(torch.from_numpy(views[keep]), torch.from_numpy(owner), len(studies), "mean_logit").numpy()
    return Scores(
        names=task.names,
        target=task.target[studies],
        logit=logit[None],
        decision=np.full((1, *logit.shape), np.nan),
        patient=task.patient[studies],
        row=studies,
    )


def print_difficulty(result: Result, num_studies: int) -> None:
    """One line a finding: all views, each view by itself, and their difference."""
    found: dict[tuple[str, str], Estimate] = {(entry.of, entry.slice): entry for entry in result.estimates}
    slices = ("all", "frontal alone", "lateral alone", "frontal minus lateral")
    table = Table("finding", "test positives", *slices, title="Supervised test AUROC on the phantom")
    for of in dict.fromkeys(entry.of for entry in result.estimates):
        positives = found[of, "all"].positives
        cells = [show(found[of, slice]) for slice in slices]
        mark = " (common)" if positives and positives >= COMMON * num_studies else ""
        table.add_row(of + mark, str(positives or ""), *cells)
    Console().print(table)


def show(estimate: Estimate) -> str:
    if estimate.value is None:
        return "-"
    interval = f" ({estimate.low:.2f} to {estimate.high:.2f})" if estimate.low is not None else ""
    return f"{estimate.value:.3f}{interval}"
