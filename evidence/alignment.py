"""Which alignment of views works? All forms on the phantom, with few labels and with all.

Every arm is screened with one seed; presets, the best and the controls get more. Each cell (an arm and a seed) runs on
one thread, two at a time: 10 to 20 minutes where nothing else computes, 50 with the released report decoder. It leaves
results/alignment/cells/*.json as it comes; work is kept in runs/evidence. Stop it at any time; it continues where it
was. `summary.json` and the plots are made from the cells.
"""

from __future__ import annotations

from evidence.alignment_arms import PRESETS, list_arms
from evidence.alignment_caches import WORK, prepare_caches
from evidence.alignment_cell import is_done, name_cell
from evidence.alignment_summary import write_summary
from evidence.processes import run_cells

# Arms with more seeds: what users ask for by name, the best of the screening, and the control of reports.
CHOSEN = (*PRESETS, "InfoNCE", "V2T, InfoNCE within archives", "V2T, others' reports")
SEEDS = 3


def main() -> None:
    """Run the cells that have no result, then sum up."""
    prepare_caches()
    arms = list_arms()
    cells = [(arm, 0) for arm in arms.values()] + [(arms[name], seed) for seed in range(1, SEEDS) for name in CHOSEN]
    waiting = [cell for cell in cells if not is_done(*cell)]
    commands = {name_cell(arm, seed): ["evidence.alignment_cell", arm.name, str(seed)] for arm, seed in waiting}
    run_cells(commands, WORK / "logs", of=len(cells), sum_up=write_summary)
