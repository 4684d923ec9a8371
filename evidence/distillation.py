"""Does physiology teach an encoder of images? PaCX-MAE and its controls on the phantom, with few labels and with all.

Every arm is trained with one seed, the best of these and the controls with three; each run takes minutes on one
thread, two at a time. `hilum evaluate pacx` then judges them all on physiology, on findings, at an
institution that one of them has not seen, and on images with masks. Stop it at any time; it continues where it was.
Work is kept in runs/evidence, means and differences with their intervals go to results/distillation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from evidence.distillation_arms import MAE, list_arms
from evidence.distillation_caches import WORK, prepare_caches
from evidence.distillation_run import is_trained
from evidence.distillation_suites import SUITES
from evidence.distillation_summary import write_summary
from evidence.processes import run_all

SEEDS = 3
# Arms with more seeds: what others begin with, the best of a screening, and what must not gain as they do.
CHOSEN = (
    MAE, "pacx", "pacx, standardised", "pacx, paper", "ECG only", "pacx of one institution", "shuffled pairs",
    "random teachers", "continued mae", "images alone",
)  # fmt: skip


def main() -> None:
    """Train what is not trained, judge, and sum up."""
    prepare_caches()
    arms = list_arms()
    runs = [(arm, 0) for arm in arms.values()] + [(arms[name], seed) for seed in range(1, SEEDS) for name in CHOSEN]
    starts = {arm.start for arm in arms.values()}
    # What others begin with comes first, so that no two processes train the same.
    for are_starts in (True, False):
        chosen = [(arm, seed) for arm, seed in runs if (arm.name in starts) == are_starts and not is_trained(arm, seed)]
        run_or_stop({f"{arm.name} {seed}": ["evidence.distillation_run", arm.name, str(seed)] for arm, seed in chosen})
    run_or_stop({name: ["evidence.distillation_suites", name] for name in SUITES})
    write_summary()


def run_or_stop(commands: Mapping[str, Sequence[str]]) -> None:
    """Run all of them before any failure is reported; what comes next needs them."""
    if failed := run_all(commands, WORK / "logs"):
        raise SystemExit("\n".join(failed))
