"""Zero-shot scores: what prompts say of images and breasts that nobody labelled for it (L 3.3), as a result.json.

Nothing is chosen: no threshold, no weights of prompts, no view. Of several views of a breast or study the mean of their
logits counts, as in a probe; the largest stands beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64

from hilum.cache import Cache
from hilum.errors import UserError
from hilum.evaluate.console import name_results
from hilum.evaluate.features import Precision
from hilum.evaluate.projection import project_views
from hilum.evaluate.record import build_hashes
from hilum.evaluate.result import Estimate, Result, to_number, write_result
from hilum.evaluate.scoring.bootstrap import LEVEL, NUM_RESAMPLES
from hilum.evaluate.scoring.choice import build_scores
from hilum.evaluate.scoring.estimates import estimate_scores, score_macro
from hilum.evaluate.scoring.metrics import MIN_POSITIVES
from hilum.evaluate.scoring.scores import Scores, write_scores
from hilum.evaluate.targets import warn_of_no_score
from hilum.evaluate.task import UNITS, Task, read_task
from hilum.model.places import place_results
from hilum.outputs import check_result_folder
from hilum.text.prompts import Prompts, hash_prompts, read_prompts

from .similarity import compare_prompts
from .towers import Towers, open_towers

Fusion = Literal["mean", "max"]
Projected = tuple[Int64[np.ndarray, " view"], Float32[np.ndarray, "view dim"]]
NO_THRESHOLD = "one half, which nobody tuned"
_METRICS = ("auroc", "average_precision", "f1_at_half", "brier_error", "calibration_error")


@dataclass(frozen=True)
class ZeroShot:
    """What prompts said of the test rows of a task."""

    scores: Mapping[Fusion, Scores]
    single_auroc: dict[str, list[float | None]]  # of each prompt of presence alone, against all those of absence
    counts: dict[str, int]


def run_zero_shot(
    data: Path,
    run: Path,
    out: Path | None = None,
    *,
    task: str,
    prompts: Path | None = None,
    language_model: Path | None = None,
    batch_views: int = 64,
    precision: Precision = "auto",
    min_positives: int = MIN_POSITIVES,
    num_resamples: int = NUM_RESAMPLES,
    progress: bool = True,
) -> Path:
    """Score the test rows of a task by prompts; writes `out/result.json` and `out/scores.npz`.

    Args:
        data, run: a cache folder, and a run that compared images with texts.
        out: by default a folder in the run's, named after the task.
        task: see `read_task`; of mammograms breast:mass, image:mass and the like.
        prompts: a file of prompts in place of Hilum's.
        language_model: folder of the frozen language model that the run read, where it read one.

    Raises:
        UserError: see `open_towers`; no prompts for a target, or no test row with a known one.
    """
    cache = Cache.open(data)
    target = read_task(cache, task)
    said = read_prompts(target.names, prompts)
    if not len(target.rows("test")):
        raise UserError(f"{cache.path}: there is no test {target.unit} with a known target of task {task}.")
    warn_of_no_score(target, min_positives)
    if out is not None:
        check_result_folder(out)
    out = out or place_results(run, name_results("zeroshot", target, representation="prompts"))
    towers = open_towers(cache, run, said, language_model=language_model, precision=precision)
    found = score_test(towers, target, batch_views=batch_views, title="prompted" if progress else None)
    estimates = _estimate(target, found, min_positives, num_resamples)
    record = record_zero_shot(towers, target, said, found, estimates, min_positives, num_resamples)
    out.mkdir(parents=True, exist_ok=True)
    write_scores(out / "scores.npz", found.scores["mean"])
    return write_result(out / "result.json", record)


def score_test(
    towers: Towers, task: Task, *, projected: Projected | None = None, batch_views: int = 64, title: str | None = None
) -> ZeroShot:
    """What the prompts of every target say of the test rows of a task.

    Args:
        projected: rows and projected vectors of the test views, and maybe of others; made here where not given.
    """
    rows = task.rows("test")
    view, vectors = projected or project_views(towers.viewing, np.unique(task.study[rows]), batch_views, title)
    owner = find_owners(task, towers.viewing.cache, view, rows)
    kept = owner >= 0
    image = torch.from_numpy(vectors[kept])
    seen = np.bincount(owner[kept], minlength=len(rows)) > 0
    rows, place = rows[seen], (np.cumsum(seen) - 1)[owner[kept]]

    def score(single: int | None = None) -> Float[np.ndarray, "view target"]:
        columns = []
        for name in task.names:
            present, absent = (part.cpu() for part in towers.prompts[name])
            present = present if single is None else present[single % len(present)][None]
            columns.append(compare_prompts(image, present, absent, towers.scale))
        return torch.stack(columns, dim=1).numpy()

    def build(logit: np.ndarray, fusion: Fusion) -> Scores:
        fused = fuse_views(logit, place, len(rows), fusion)
        return build_scores(task, rows, task.target[rows], fused, np.full(len(task.names), np.nan))

    fusions: tuple[Fusion, ...] = ("mean", "max")
    logit = score()
    single: dict[str, list[float | None]] = {}
    for column, name in enumerate(task.names):
        single[name] = []
        for number in range(len(towers.prompts[name][0])):
            one = replace(build(score(number), "mean"), names=(name,))
            narrow = replace(
                one, **{part: getattr(one, part)[..., [column]] for part in ("target", "logit", "decision")}
            )
            single[name].append(to_number(score_macro(replace(narrow, threshold=None), min_positives=1)[0]))
    counts = {
        "test_patients": len(np.unique(task.patient[rows])),
        "test_rows": len(rows),
        "test_views": int(kept.sum()),
        "test_studies": len(np.unique(task.study[rows])),
    }
    return ZeroShot({fusion: build(logit, fusion) for fusion in fusions}, single, counts)


def fuse_views(
    logit: Float[np.ndarray, "view target"], owner: Int64[np.ndarray, " view"], num_rows: int, fusion: Fusion
) -> Float[np.ndarray, "row target"]:
    """The mean, or the largest, of the logits of the views that a row owns; every row owns one."""
    if fusion == "max":
        fused = np.full((num_rows, logit.shape[1]), -np.inf, logit.dtype)
        np.maximum.at(fused, owner, logit)
        return fused
    total = np.zeros((num_rows, logit.shape[1]), np.float64)
    np.add.at(total, owner, logit)
    return (total / np.bincount(owner, minlength=num_rows)[:, None]).astype(logit.dtype)


def find_owners(
    task: Task, cache: Cache, view: Int64[np.ndarray, " view"], rows: Int64[np.ndarray, " row"]
) -> Int64[np.ndarray, " view"]:
    """Place among `rows` of the row of the task that each view belongs to; -1: none of them.

    Raises:
        UserError: a view belongs to several rows.
    """
    task.check_views_are_rows()
    of_views = task.owner if task.unit == "breast" else cache.views["study"]
    assert of_views is not None, "a task of breasts knows the owner of each view"
    owner = view if task.unit == "view" else of_views[view]
    place = np.full(len(task.target) + 1, -1)  # the last is what an owner of -1 finds
    place[rows] = np.arange(len(rows))
    return place[owner]


def _estimate(task: Task, found: ZeroShot, min_positives: int, num_resamples: int) -> list[Estimate]:
    rules: dict[str, Any] = {"min_positives": min_positives, "num_resamples": num_resamples, "seed": 0}
    estimates: list[Estimate] = [*estimate_scores(found.scores["mean"], _METRICS, **rules)]
    if task.unit != "view":
        estimates += estimate_scores(found.scores["max"], ("auroc",), **rules, slice="views fused by the largest logit")
    return estimates


def record_zero_shot(
    towers: Towers,
    task: Task,
    prompts: Mapping[str, Prompts],
    found: ZeroShot,
    estimates: list[Estimate],
    min_positives: int,
    num_resamples: int,
) -> Result:
    """The result of what these prompts said of a task."""
    protocol = {
        "kind": "zero-shot",
        "score": "scale x (cosine with the prompts of presence - cosine with those of absence)",
        "ensemble": "mean of the prompts' unit vectors, of length 1",
        "fusion": "one view" if task.unit == "view" else "mean of the views' logits",
        "scale": towers.scale,
        "auroc_of_single_prompts": found.single_auroc,
        "threshold": NO_THRESHOLD,
        "unit": task.unit,
        "targets": list(task.names),
        "labels": task.policy,
        "min_positives": min_positives,
        "image_size": list(towers.image.config.image_size),
        "precision": towers.viewing.precision,
        "prompts": {name: {"present": list(one.present), "absent": list(one.absent)} for name, one in prompts.items()},
        "prompts_digest": hash_prompts(dict(prompts)),
    }
    note = (
        f"No label of any of the {UNITS[task.unit]} was read to make these scores, and nothing was chosen by them; the "
        "run itself learned from texts of its training studies, which say what was found there."
    )
    return Result(
        encoder=towers.name,
        task=task.name,
        protocol=protocol,
        seed=0,
        estimates=estimates,
        hashes=build_hashes(task, towers.weights),
        counts=found.counts,
        level=LEVEL,
        num_resamples=num_resamples,
        notes=(*task.notes, note, *towers.seen),
    )
