"""Which alignment of views works? All forms on the phantom, with few labels and with all.

Every arm is screened with one seed; presets, the best and the controls get more. Each cell (an arm and a seed) runs on
one thread, two at a time: 10 to 20 minutes where nothing else computes, 50 with the released report decoder. It leaves
results/alignment/cells/*.json as it comes; work is kept in runs/evidence. Stop it at any time; it continues where it
was. `summary.json` and the plots are made from the cells.
"""

from __future__ import annotations

from rich.console import Console

from evidence.alignment_arms import PRESETS, list_arms
from evidence.alignment_caches import WORK, prepare_caches
from evidence.alignment_cell import is_done, name_cell
from evidence.alignment_summary import write_summary
from evidence.processes import AT_ONCE, run_all

# Arms with more seeds: what users ask for by name, the best of the screening, and the control of reports.
CHOSEN = (*PRESETS, "InfoNCE", "V2T, InfoNCE within archives", "V2T, others' reports")
SEEDS = 3


def main() -> None:
    """Run the cells that have no result, then sum up."""
    console = Console(stderr=True)
    prepare_caches()
    arms = list_arms()
    cells = [(arm, 0) for arm in arms.values()] + [(arms[name], seed) for seed in range(1, SEEDS) for name in CHOSEN]
    waiting = [cell for cell in cells if not is_done(*cell)]
    console.print(f"{len(cells)} cells, {len(waiting)} to run, {AT_ONCE} at a time")
    commands = {name_cell(arm, seed): ["evidence.alignment_cell", arm.name, str(seed)] for arm, seed in waiting}
    failed = run_all(commands, WORK / "logs")
    for line in failed:
        console.print(line, style="red", markup=False)
    write_summary()
    if failed:
        raise SystemExit(1)
