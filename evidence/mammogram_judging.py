"""What is asked of every pretrained encoder: probes of frozen features.

Probes are those of `hilum evaluate mvmlm`: of breasts, by the mean of their views' logits, with all labels and with
those of a tenth of the patients, drawn five times; what is read of a view is best on validation.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
import torch

from evidence.mammogram_arms import TRANSFERRED, Arm
from evidence.mammogram_caches import HOME, open_cache
from evidence.mammogram_places import NUM_RESAMPLES, Judged, Number
from hilum.breasts import BREAST_FINDINGS, tabulate_breasts
from hilum.cache import Cache
from hilum.evaluate.features import NO_CAP, ViewFeatures, embed_cache
from hilum.evaluate.paper.sizes import count_labels
from hilum.evaluate.probe.efficiency import probe_label_counts, stack_repeats
from hilum.evaluate.probe.run import probe_encoder
from hilum.evaluate.scoring.estimates import estimate_scores
from hilum.evaluate.scoring.scores import Scores
from hilum.evaluate.task import read_task
from hilum.model.heads import Representation
from hilum.objective.meters import measure_effective_rank, score_retrieval
from hilum.vocabulary import LATERALITIES, VIEW_KINDS

TASKS = ("breast:mass", "breast:calcification", "breast:malignancy", "breast:birads", "breast:density")
SINGLE = "breast:asymmetry"  # by definition on one view alone
FEW, DRAWS = 0.1, 5
READ: tuple[Representation, ...] = ("mean", "max")


def judge_arm(arm: Arm, folder: Path) -> Judged:
    """All that is asked of a run."""
    cache = open_cache()
    features = embed_cache(cache, str(folder), max_views=NO_CAP, title=arm.name)
    found = measure_test(cache, features) | judge_probes(cache, features, (*TASKS, SINGLE))
    if arm.name in TRANSFERRED:
        abroad = judge_probes(cache, features, TASKS, leave_out=(HOME,))
        found |= {f"abroad, {name}": one for name, one in abroad.items()}
    return found


def judge_probes(cache: Cache, features: ViewFeatures, tasks: Sequence[str], leave_out: Sequence[str] = ()) -> Judged:
    """Macro test AUROC of linear probes with all and few labels; of masses also of those alone that one view shows."""
    found: Judged = {}
    for name in tasks:
        task = read_task(cache, name, leave_out=leave_out)
        probed = probe_encoder(features, task, name=name, representation=READ)
        found |= score_task(cache, name, "all labels", probed.test)
        (count,) = count_labels(task, [FEW])
        few = probe_label_counts(
            features, task, name=name, counts=[count], num_seeds=DRAWS, representation=probed.representation
        )[count]
        found |= score_task(cache, name, f"{FEW:.0%} of labels", stack_repeats([one.test for one in few]))
    return found


def score_task(cache: Cache, name: str, labels: str, scores: Scores) -> Judged:
    found = {f"{name}, {labels}": score(scores)}
    if name == "breast:mass":
        found[f"{name} on one view, {labels}"] = score(scores.take(find_single_view(cache, scores)))
    return found


def score(scores: Scores) -> Number:
    """Macro AUROC; a class that is too rare takes no part."""
    macro = estimate_scores(scores, ("auroc",), num_resamples=NUM_RESAMPLES)[-1]
    return Number(np.nan if macro.value is None else macro.value, macro.resamples)


def find_single_view(cache: Cache, scores: Scores) -> np.ndarray:
    """Rows without a mass, and those all of whose masses one view alone shows."""
    keys, table = ["dataset", "study", "laterality"], cache.table()
    found = table.select("dataset", "study", pl.col(BREAST_FINDINGS)).explode(BREAST_FINDINGS).unnest(BREAST_FINDINGS)
    masses = found.filter(pl.col("kind") == "mass").group_by(*keys, "finding").agg(views=pl.col("path").n_unique())
    single = masses.group_by(keys).agg(single=pl.col("views").max() == 1)
    breasts = tabulate_breasts(table).select(keys).join(single, on=keys, how="left", maintain_order="left")
    return (scores.target[:, 0] == 0) | breasts["single"].fill_null(value=False).to_numpy()[scores.row]


def measure_test(cache: Cache, features: ViewFeatures) -> Judged:
    """How often a CC view finds the MLO view of its exam and side first among the test views, how many directions are
    used (RankMe); without resamples."""
    test = np.flatnonzero(np.isin(features.study, cache.rows("test")))
    mean = torch.from_numpy(features.mean[test])
    # `score_retrieval` knows of frontal and lateral views of a study: here CC and MLO of a breast.
    is_cc = features.view_kind[test] == VIEW_KINDS.index("cc")
    kind = np.where(is_cc, VIEW_KINDS.index("frontal"), VIEW_KINDS.index("lateral"))
    breast = features.study[test] * len(LATERALITIES) + cache.views["laterality"][features.view_row[test]]
    found = score_retrieval(mean, torch.from_numpy(kind), torch.from_numpy(breast))
    assert found is not None, "the phantom's breasts have two views"
    values = {"retrieval": found.score, "retrieval by chance": found.chance}
    values["effective rank"] = float(measure_effective_rank(mean))
    return {name: Number(value, np.zeros(0)) for name, value in values.items()}
