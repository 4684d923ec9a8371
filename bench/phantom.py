"""The phantom: views a second on one core, as `hilum phantom` draws and writes them, and where their time goes.

Prints milliseconds of processor time per view, part by part, and views a second; writes results/bench/phantom.json.
A study's chest is built once for all of its views, and counts as a share of it for each.
"""

from __future__ import annotations

import platform
import tempfile
import time
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from threadpoolctl import threadpool_limits

from hilum.phantom.anatomy import build_chest
from hilum.phantom.archive import write_study
from hilum.phantom.clinic import plan_studies
from hilum.phantom.detector import acquire
from hilum.phantom.dicom_file import encode_view
from hilum.phantom.plan import StudyPlan
from hilum.phantom.projector import aim_beam, project_chest

from .parts import PartClock
from .record import write_result

SIZES, NUM_STUDIES, ROUNDS = (256, 144), 40, 5
PARTS = ("chest", "projection", "detector", "writing")
TARGETS = {256: 10.0, 144: 40.0}


def main() -> dict:
    """Measure, print the table, write the JSON."""
    plans = plan_studies(NUM_STUDIES, seed=0)
    num_views = sum(len(plan.projections) for plan in plans)
    rows = []
    with threadpool_limits(1):
        for size in SIZES:
            rounds = [measure_parts(plans, size) for _ in range(ROUNDS)]
            # The quickest round of each part: what else runs on the machine only ever adds.
            parts = {part: min(spent[part] for spent in rounds) * 1e3 / num_views for part in PARTS}
            whole = min(measure_whole(plans, size) for _ in range(ROUNDS)) / num_views
            rows.append({"size": size, "milliseconds_per_view": parts, "views_per_cpu_second": 1 / whole})
    result = {
        "studies": NUM_STUDIES,
        "views": num_views,
        "rows": rows,
        "target_views_per_second": TARGETS,
        "numpy": np.__version__,
        "machine": platform.machine(),
    }
    print_table(rows)
    write_result("phantom", result)
    return result


def measure_parts(plans: list[StudyPlan], size: int) -> dict[str, float]:
    """Seconds of processor time in each part, over all views."""
    clock = PartClock(PARTS)
    with tempfile.TemporaryDirectory() as folder:
        for plan in plans:
            chest = clock("chest", build_chest.__wrapped__, plan)
            for view, projection in enumerate(plan.projections):
                pixel_mm = 10 * float(np.linalg.norm(aim_beam(chest, projection, size).right))
                integrals = clock("projection", project_chest, chest, projection, size)
                image = clock("detector", acquire, integrals, plan.institution, projection, plan.key, pixel_mm)
                content = clock("writing", encode_view, plan, view, image)
                clock("writing", (Path(folder) / f"{plan.study}-{view}.dcm").write_bytes, content)
    return clock.spent


def measure_whole(plans: list[StudyPlan], size: int) -> float:
    """Seconds of processor time for writing the studies as the command does, reports included."""
    build_chest.cache_clear()
    with tempfile.TemporaryDirectory() as folder:
        begin = time.process_time()
        for plan in plans:
            write_study(plan, Path(folder), size, masks=False)
        return time.process_time() - begin


def print_table(rows: list[dict]) -> None:
    table = Table(title="the phantom on one core: milliseconds per view", title_justify="left")
    for column in ("size", *PARTS, "views/s, all told", "wanted"):
        table.add_column(column, justify="right")
    for row in rows:
        parts = (f"{row['milliseconds_per_view'][part]:.1f}" for part in PARTS)
        table.add_row(f"{row['size']} px", *parts, f"{row['views_per_cpu_second']:.1f}", f"{TARGETS[row['size']]:.0f}")
    Console().print(table)


if __name__ == "__main__":
    main()
