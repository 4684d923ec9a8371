"""What is asked of a pretrained encoder: probes of frozen features, prompts, risk.

Probes are those of `hilum evaluate mvmlm`: of breasts, by the mean of their views' logits, with all labels and with
those of a tenth of the patients, drawn five times; what is read of a view is best on validation.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
import torch

from evidence.mammogram_arms import FINAL, RANDOM, TRANSFERRED, Arm
from evidence.mammogram_caches import HOME, open_cache
from evidence.mammogram_places import NUM_RESAMPLES, Judged, Number
from hilum.breasts import BREAST_FINDINGS, tabulate_breasts
from hilum.cache import Cache
from hilum.evaluate.features import NO_CAP, ViewFeatures, embed_cache
from hilum.evaluate.paper.sizes import count_labels
from hilum.evaluate.probe.efficiency import probe_label_counts, stack_repeats
from hilum.evaluate.probe.run import probe_encoder
from hilum.evaluate.prompted.heat_report import MAPS, run_heatmap
from hilum.evaluate.prompted.zero_shot import run_zero_shot
from hilum.evaluate.risk.arms import RiskArm
from hilum.evaluate.risk.follow_up import read_follow_up
from hilum.evaluate.risk.risk_report import report_risk
from hilum.evaluate.risk.scoring import RiskPlan
from hilum.evaluate.scoring.estimates import resample_macro, score_macro
from hilum.evaluate.scoring.intervals import estimate_weighted, resample_mean
from hilum.evaluate.scoring.resamples import FILE as RISK_NUMBERS
from hilum.evaluate.scoring.scores import Scores, read_scores
from hilum.evaluate.task import read_task
from hilum.model.heads import Representation
from hilum.objective.meters import measure_effective_rank, score_retrieval
from hilum.vocabulary import LATERALITIES, VIEW_KINDS

TASKS = ("breast:mass", "breast:calcification", "breast:malignancy", "breast:birads", "breast:density")
SINGLE = "breast:asymmetry"  # by definition on one view alone
FEW, DRAWS = 0.1, 5
READ: tuple[Representation, ...] = ("mean", "max")
PROMPTED = ("mass", "calcification")
# Of a risk report: its names of a number (metric and what it is of), ours; and of exams, without cancers so soon after
# one that they may have been there to be seen (L 3.4).
RISKS = {
    ("c_index_uno", "risk"): "C-index (Uno)",
    ("auc_ipcw", "2 years"): "AUC at 2 years",
    ("auc_ipcw", "5 years"): "AUC at 5 years",
}
RISK_EXAMS = {"all": "", "cancer=after 180 days": ", cancers after 180 days"}
TABLE = "age and density"


def judge_arm(arm: Arm, folder: Path) -> Judged:
    """All that is asked of a run."""
    cache = open_cache()
    features = embed_cache(cache, str(folder), max_views=NO_CAP, title=arm.name)
    found = measure_test(cache, features) | judge_probes(cache, features, (*TASKS, SINGLE))
    if arm.name in TRANSFERRED:
        abroad = judge_probes(cache, features, TASKS, leave_out=(HOME,))
        found |= {f"abroad, {name}": one for name, one in abroad.items()}
    if arm.name in FINAL:
        found |= judge_prompts(cache, folder)
    if arm.name in (*FINAL, RANDOM):
        found |= judge_risk(cache, features, folder)
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
    return Number(score_macro(scores)[0], resample_macro(scores, num_resamples=NUM_RESAMPLES))


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


def judge_prompts(cache: Cache, folder: Path) -> Judged:
    """AUROC by prompts alone, and how often their map is largest in the lesion, beside a random point."""
    found: Judged = {}
    for name in PROMPTED:
        path = run_zero_shot(cache.path, folder, task=f"breast:{name}", progress=False)
        found[f"breast:{name}, by prompts"] = score(read_scores(path.with_name("scores.npz")))
    path = run_heatmap(cache.path, folder, findings=PROMPTED, examples=0, randomised_views=0, progress=False)
    maps = pl.read_parquet(path.with_name(MAPS)).filter(pl.col("tolerance_mm") == 0)
    for name in PROMPTED:
        part = maps.filter(pl.col("finding") == name)
        patient = cache.studies["patient"][cache.views["study"][part["view"].to_numpy()]]
        hit, chance = part["hit"].to_numpy(), part["chance"].to_numpy()
        for title, value in {"pointing": hit, "pointing minus chance": hit - chance}.items():
            mean = estimate_weighted(
                lambda weight, value=value: resample_mean(value, weight), patient, metric=title, of=name,
                num_resamples=NUM_RESAMPLES,
            )  # fmt: skip
            assert mean.value is not None
            found[f"{name}, {title}"] = Number(mean.value, mean.resamples)
    return found


def judge_risk(cache: Cache, features: ViewFeatures, folder: Path) -> Judged:
    """Risk of cancer by frozen features, by age and density, and by both; and minus age and density."""
    arms = [
        RiskArm("features", "encoder", features),
        RiskArm(f"features with {TABLE}", "both", features, with_table=True),
        RiskArm(TABLE, "table", None, with_table=True),
    ]
    plan = RiskPlan(cache, read_follow_up(cache), READ, 0, {}, NUM_RESAMPLES)
    path = report_risk(plan, arms, folder / "risk", progress=False)
    told = {arm["name"]: path.parent / arm["path"] for arm in json.loads(path.read_bytes())["arms"]}
    risks = {name: read_risks(result.with_name(RISK_NUMBERS)) for name, result in told.items()}
    found = {f"risk by {name}, {title}": one for name, some in risks.items() for title, one in some.items()}
    for arm in arms[:2]:
        for title, one in risks[arm.name].items():
            table = risks[TABLE][title]
            less = Number(one.value - table.value, one.resampled - table.resampled)
            found[f"risk by {arm.name} minus {TABLE}, {title}"] = less
    return found


def read_risks(path: Path) -> Judged:
    """The numbers of `RISKS` of one arm of a risk report, of the exams of `RISK_EXAMS`."""
    with np.load(path, allow_pickle=False) as stored:
        names = [tuple(map(str, name)) for name in stored["names"]]
        places = {
            f"{title}{exams}": names.index((*asked, slice))
            for asked, title in RISKS.items()
            for slice, exams in RISK_EXAMS.items()
        }
        return {title: Number(float(stored["value"][i]), stored["resampled"][i]) for title, i in places.items()}
