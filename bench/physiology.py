"""What physiology costs beside the images: milliseconds of processor time per study, part by part.

Prints a table and writes results/bench/physiology.json. `image` is what a study's views cost without physiology, `body`
what its heart, vessels and aorta add to them; `record` encodes an ECG, writing it to disk is not counted.
"""

from __future__ import annotations

import platform

import numpy as np
from rich.console import Console
from rich.table import Table
from threadpoolctl import threadpool_limits

from hilum.phantom.anatomy import build_chest
from hilum.phantom.clinic import plan_studies
from hilum.phantom.physiology import body
from hilum.phantom.physiology.ecg import draw_ecg
from hilum.phantom.physiology.laboratory import draw_laboratory
from hilum.phantom.physiology.records import RECORDERS, encode_record
from hilum.phantom.physiology.state import draw_physiology
from hilum.phantom.plan import StudyPlan
from hilum.phantom.render import render_view

from .parts import PartClock
from .record import write_result

SIZE, NUM_STUDIES, ROUNDS = 144, 24, 3
PARTS = ("image", "body", "state", "ecg", "record", "laboratory")


def main() -> dict:
    """Measure, print the table, write the JSON."""
    plans = plan_studies(NUM_STUDIES, seed=0)
    with threadpool_limits(1):
        measure_parts(plans[:1])  # compiled and cached
        rounds = [measure_parts(plans) for _ in range(ROUNDS)]
    # The quickest round of each part: what else runs on the machine only ever adds.
    parts = {part: min(spent[part] for spent in rounds) * 1e3 / NUM_STUDIES for part in PARTS}
    result = {"studies": NUM_STUDIES, "size": SIZE, "milliseconds_per_study": parts, "machine": platform.machine()}
    table = Table(*PARTS, title=f"physiology on one core: milliseconds per study, images of {SIZE} px")
    table.add_row(*(f"{value:.1f}" for value in parts.values()))
    Console().print(table)
    write_result("physiology", {**result, "numpy": np.__version__})
    return result


def measure_parts(plans: list[StudyPlan]) -> dict[str, float]:
    """Seconds of processor time in each part, over all studies."""
    clock = PartClock(PARTS)
    for plan in plans:
        build_chest.cache_clear()
        body.build_body.cache_clear()
        for projection in plan.projections:
            clock("image", render_view, plan, projection, SIZE)
        build_chest.cache_clear()
        physiology = clock("state", draw_physiology.__wrapped__, plan)
        for projection in plan.projections:
            clock("body", body.render_view, plan, physiology, projection, SIZE)
        leads = clock("ecg", draw_ecg, physiology, plan.key)
        clock("record", encode_record, plan.study, leads, RECORDERS[plan.institution])
        clock("laboratory", draw_laboratory, plan, physiology)
    clock.spent["body"] -= clock.spent["image"]
    return clock.spent


if __name__ == "__main__":
    main()
