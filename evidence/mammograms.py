"""Does MV-MLM's way of learning work, and what of it? Its recipes and ablations on the breast phantom.

Every arm has three networks, the four recipes that matter five. Each cell (an arm and a seed) runs on one thread, two
at a time, and leaves results/mammograms/cells/*.json as it comes; work is kept in runs/evidence. Stop it at any time;
it continues where it was. `summary.json` and the plots are made from the cells; `hilum evaluate mvmlm` judges the four
recipes as users would, and leaves its tables too.
"""

from __future__ import annotations

import shutil

from evidence.mammogram_arms import FINAL, list_arms
from evidence.mammogram_caches import WORK, open_cache, prepare_cache
from evidence.mammogram_judging import DRAWS, FEW, TASKS
from evidence.mammogram_language_model import prepare_language_model
from evidence.mammogram_places import NUM_RESAMPLES, RESULTS, is_done, name_run
from evidence.mammogram_summary import write_summary
from evidence.mammogram_texts import name_texts, prepare_texts
from evidence.processes import run_cells
from hilum.commands.paper import run_evaluate
from hilum.evaluate.paper.index import INDEX

PARTS = ("probe", "retrieval", "matching", "zeroshot", "heatmap", "risk")


def main() -> None:
    """Run the cells that have no result, the final ones last, then sum up."""
    prepare_cache()
    prepare_texts(open_cache())
    prepare_language_model(open_cache())
    arms = list_arms().values()
    cells = sorted(((arm, seed) for arm in arms for seed in range(arm.seeds)), key=lambda cell: cell[1])
    waiting = [(arm.name, str(seed)) for arm, seed in cells if not is_done(arm, seed)]
    commands = {", seed ".join(cell): ["evidence.mammogram_cell", *cell] for cell in waiting}
    run_cells(commands, WORK / "logs", of=len(cells), sum_up=write_summary)
    judge_final()


def judge_final() -> None:
    """`hilum evaluate mvmlm` of the four recipes and of random weights: probes, and what is asked of these alone
    (prompts, maps, pairs, risk beside a clinical table). Its tables and its index are kept.
    """
    out, arms = WORK / "suite", list_arms()
    runs = [
        f"{name.replace(', ', ' ')}={','.join(str(name_run(arms[name], seed)) for seed in range(arms[name].seeds))}"
        for name in FINAL
    ]
    run_evaluate(
        open_cache().path, runs, out, suite="mvmlm", parts=PARTS, tasks=TASKS, texts=name_texts("varied"),
        fractions=(FEW, 1.0), num_seeds=DRAWS, num_resamples=NUM_RESAMPLES, paper=True,
    )  # fmt: skip
    shutil.copy(out / "tables.md", RESULTS / "suite.md")
    shutil.copy(out / INDEX, RESULTS / "suite.json")
