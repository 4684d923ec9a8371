"""Published tables of PadChest, CheXpert and ChestX-ray14 made into study tables: seconds and peak memory.

The complete tables come with the package torchxrayvision. Each ingest runs in a process of its own, start included;
seconds are those of the clock and of the processor (all threads added up). Writes results/bench/tables.json.
"""

from __future__ import annotations

import json
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

# Archive -> (file of the package, published name, further flags).
ARCHIVES = {
    "padchest": ("PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv.gz",) * 2 + ((),),
    "chexpert": ("chexpert_train.csv.gz", "train.csv.gz", ()),
    "chestxray14": ("Data_Entry_2017_v2020.csv.gz",) * 2 + (("--own-splits",),),
}
TARGET_SECONDS, TARGET_GIGABYTES = 20.0, 2.0


def main() -> dict:
    """Ingest each table, print and write what it took."""
    spec = find_spec("torchxrayvision")
    if spec is None or not spec.submodule_search_locations:
        sys.exit("torchxrayvision, a development dependency, is not installed: it holds the tables.")
    data = Path(spec.submodule_search_locations[0], "data")
    measured = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, (packed, published, flags) in ARCHIVES.items():
            measured[name] = measure_ingest(name, data / packed, published, flags, Path(folder, name))
    result = {
        "archives": measured,
        "target": {"seconds": TARGET_SECONDS, "gigabytes": TARGET_GIGABYTES},
        "polars": pl.__version__,
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),  # programs that shared the cores in the last minute
    }
    print_table(measured)
    out = Path(__file__).parents[1] / "results" / "bench" / "tables.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=1) + "\n")
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
    studies = pl.read_parquet(out, columns=["patient", "views"])
    unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss, in bytes
    return {
        "seconds": round(seconds, 2),
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 2),
        "gigabytes": round(usage.ru_maxrss * unit / 1e9, 3),
        "studies": len(studies),
        "images": int(studies["views"].list.len().sum()),
        "bytes": out.stat().st_size,
    }


def print_table(measured: dict) -> None:
    table = Table(title="Published tables to study tables", title_justify="left")
    for name in ("archive", "images", "studies", "seconds", "processor s", "peak GB"):
        table.add_column(name, justify="left" if name == "archive" else "right")
    for name, found in measured.items():
        table.add_row(
            name,
            f"{found['images']:,}",
            f"{found['studies']:,}",
            f"{found['seconds']:.1f}",
            f"{found['cpu_seconds']:.1f}",
            f"{found['gigabytes']:.2f}",
        )
    table.add_row("wanted, at most", "", "", f"{TARGET_SECONDS:.0f}", "", f"{TARGET_GIGABYTES:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
