"""Published tables of PadChest, CheXpert and ChestX-ray14 made into study tables: seconds and peak memory.

The complete tables come with the package torchxrayvision. Each ingest runs in a process of its own, start included;
seconds are those of the clock and of the processor (all threads added up). Writes results/bench/tables.json, and ends
with an error where a count is not the specification's (M 1.3), or an ingest takes more than it may.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

import polars as pl
from rich.console import Console
from rich.table import Table

from .record import write_result

# Archive -> (file of the package, published name, further flags).
ARCHIVES = {
    "padchest": ("PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv.gz",) * 2 + ((),),
    "chexpert": ("chexpert_train.csv.gz", "train.csv.gz", ()),
    "chestxray14": ("Data_Entry_2017_v2020.csv.gz",) * 2 + (("--own-splits",),),
}
TARGET_SECONDS, TARGET_GIGABYTES = 20.0, 2.0
# M 1.3: images, studies, patients; images by kind of view; studies by number of views.
COUNTS = ("images", "studies", "patients", "frontal", "lateral", "unknown", "1 view", "2 views", "3 views or more")
# PadChest's table has one patient more, who shares a study with another and has no other: a study has one patient.
STATED = {
    "padchest": (160_861, 109_931, 67_625 - 1, 110_633, 49_579, 649, 60_677, 48_009, 1_245),
    "chexpert": (223_414, 187_641, 64_540, 191_027, 32_387, 0, 153_647, 32_215, 1_779),
    "chestxray14": (112_120, 112_120, 30_805, 112_120, 0, 0, 112_120, 0, 0),
}


def main() -> dict:
    """Ingest each table, print and write what it took and held.

    Raises:
        SystemExit: after that, where a count is not as stated or a target is missed.
    """
    spec = find_spec("torchxrayvision")
    if spec is None or not spec.submodule_search_locations:
        sys.exit("torchxrayvision, a development dependency, is not installed: it holds the tables.")
    data = Path(spec.submodule_search_locations[0], "data")
    measured = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, (packed, published, flags) in ARCHIVES.items():
            measured[name] = measure_ingest(name, data / packed, published, flags, Path(folder, name))
    faults = [fault for name, found in measured.items() for fault in list_faults(name, found)]
    result = {
        "archives": measured,
        "stated": {name: dict(zip(COUNTS, counts, strict=True)) for name, counts in STATED.items()},
        "faults": faults,
        "target": {"seconds": TARGET_SECONDS, "gigabytes": TARGET_GIGABYTES},
        "polars": pl.__version__,
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),  # programs that shared the cores in the last minute
    }
    print_table(measured)
    write_result("tables", result)
    if faults:
        sys.exit("\n".join(faults))
    return result


def measure_ingest(name: str, table: Path, published: str, flags: tuple[str, ...], root: Path) -> dict:
    """Seconds, gigabytes and counts of `hilum ingest` of one table under its published name."""
    root.mkdir()
    (root / published).symlink_to(table)
    out = root / "studies.parquet"
    command = [sys.executable, "-m", "hilum", "ingest", name, str(root), "--out", str(out), *flags]
    begin = time.perf_counter()
    with (root / "log.txt").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - begin
    if os.waitstatus_to_exitcode(status):
        sys.exit(f"{name}: the ingest failed.\n{(root / 'log.txt').read_text()}")
    unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss, in bytes
    return {
        "seconds": round(seconds, 2),
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 2),
        "gigabytes": round(usage.ru_maxrss * unit / 1e9, 3),
        "bytes": out.stat().st_size,
        "counts": dict(zip(COUNTS, count_table(out), strict=True)),
    }


def count_table(studies: Path) -> tuple[int, ...]:
    """What COUNTS names, of a study table."""
    table = pl.read_parquet(studies, columns=["patient", "views"])
    num = table["views"].list.len()
    kinds = table["views"].explode().struct.field("kind")
    return (
        len(kinds),
        len(table),
        table["patient"].n_unique(),
        *(int((kinds == kind).sum()) for kind in ("frontal", "lateral", "unknown")),
        *(int(views.sum()) for views in (num == 1, num == 2, num >= 3)),
    )


def list_faults(name: str, found: dict) -> list[str]:
    """Counts that are not the stated ones, and targets missed, in words."""
    counts = zip(COUNTS, found["counts"].values(), STATED[name], strict=True)
    faults = [f"{name}: {found:,} {what}, stated {stated:,}" for what, found, stated in counts if found != stated]
    for what, target in (("seconds", TARGET_SECONDS), ("gigabytes", TARGET_GIGABYTES)):
        if found[what] > target:
            faults.append(f"{name}: {found[what]} {what}, at most {target:.0f} wanted")
    return faults


def print_table(measured: dict) -> None:
    console = Console()
    table = Table(title="Published tables to study tables", title_justify="left")
    for name in ("archive", "seconds", "processor s", "peak GB"):
        table.add_column(name, justify="left" if name == "archive" else "right")
    for name, found in measured.items():
        numbers = (f"{found['seconds']:.1f}", f"{found['cpu_seconds']:.1f}", f"{found['gigabytes']:.2f}")
        table.add_row(name, *numbers)
    table.add_row("wanted, at most", f"{TARGET_SECONDS:.0f}", "", f"{TARGET_GIGABYTES:.2f}")
    console.print(table)
    table = Table(title="What they hold, against M 1.3", title_justify="left")
    table.add_column("count")
    for name in measured:
        table.add_column(name, justify="right")
    for place, what in enumerate(COUNTS):
        pairs = [(found["counts"][what], STATED[name][place]) for name, found in measured.items()]
        table.add_row(what, *(f"{num:,}" + ("" if num == stated else f" (not {stated:,})") for num, stated in pairs))
    same = [found["counts"] == dict(zip(COUNTS, STATED[name], strict=True)) for name, found in measured.items()]
    table.add_row("", *("as stated" if agrees else "differs" for agrees in same))
    console.print(table)


if __name__ == "__main__":
    main()
