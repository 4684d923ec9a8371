"""A distillation step of PaCX-MAE: ViT-B/16 at 224 px with low-rank updates, contrast and regression with an ECG and a
laboratory teacher (`pacx`, preset code: one grey image three times, the class token, the final norm).

Prints images per second of one core and peak memory of (a) 32 bit with both teachers' networks run in every step (the
filters of ECGs are not counted), (b) 32 bit with their vectors stored, as in the released code and in Hilum (P 0), and
(c) the same in bfloat16 autocast; writes results/bench/distill.json.

Each variant runs in a process of its own, so that peak memory is its own, and variants take turns. What is measured is
processor time on one thread, which does not count the time that other processes had the core: on a machine of one's own
it is the clock's (the JSON has that too). Ratios are of the medians and of the fastest steps; memory's is of what a
variant adds to the libraries it has loaded.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace

import torch
from rich.console import Console
from rich.table import Table

from hilum.batch import StudyBatch, Vectors
from hilum.config import TeacherTable
from hilum.model.lab_autoencoder import LabEncoder
from hilum.model.masking import make_no_mask
from hilum.model.net1d import Net1D
from hilum.objective.objective import build_objective, divide_losses, weigh
from hilum.recipes import build_recipe

from .record import write_result
from .step import measure_bytes

VARIANTS = {
    "a": "teachers run each step, fp32",
    "b": "stored vectors, fp32",
    "c": "stored vectors, bf16",
}
WIDTHS = {"ecg": 1024, "labs": 256}
NUM_IMAGES, NUM_LABS, LEADS_AND_SAMPLES = 8, 50, (12, 5000)
ROUNDS, STEPS = 2, 2


def main() -> dict:
    """Run all variants in turns, print the table, write the JSON."""
    console = Console()
    found: dict[str, list[dict]] = {name: [] for name in VARIANTS}
    for number in range(ROUNDS):
        for name, meaning in VARIANTS.items():
            console.print(f"round {number + 1} of {ROUNDS}: {name} ({meaning})", style="dim")
            command = [sys.executable, "-m", "bench.distill", name]
            found[name].append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
    seconds = {name: [one for part in parts for one in part["seconds"]] for name, parts in found.items()}
    added = {name: max(one["peak_bytes"] - one["bytes_before"] for one in parts) for name, parts in found.items()}
    rows = {
        name: {
            "variant": meaning,
            "images_per_second": NUM_IMAGES / statistics.median(seconds[name]),
            "times_a": statistics.median(seconds["a"]) / statistics.median(seconds[name]),
            "times_a_fastest": min(seconds["a"]) / min(seconds[name]),
            "peak_gib": max(one["peak_bytes"] for one in found[name]) / 2**30,
            "memory_of_a": added[name] / added["a"],
            "processor_seconds": seconds[name],
            "clock_seconds": [one for part in found[name] for one in part["clock_seconds"]],
        }
        for name, meaning in VARIANTS.items()
    }
    result = {
        "images": NUM_IMAGES, "cores": os.cpu_count(), "torch": torch.__version__, "variants": rows,
        "threads": 1, "load_average": os.getloadavg()[0],  # how many processes wanted the cores
    }  # fmt: skip
    console.print(tabulate(rows))
    write_result("distill", result)
    return result


def tabulate(rows: dict[str, dict]) -> Table:
    table = Table(title=f"distillation step, ViT-B/16, {NUM_IMAGES} images")
    for column in ("", "images/s", "times a", "fastest", "peak GiB", "of a"):
        table.add_column(column, justify="left" if not column else "right")
    for name, row in rows.items():
        table.add_row(
            f"{name}  {row['variant']}", f"{row['images_per_second']:.2f}", f"{row['times_a']:.2f}",
            f"{row['times_a_fastest']:.2f}", f"{row['peak_gib']:.2f}", f"{row['memory_of_a']:.2f}",
        )  # fmt: skip
    return table


def measure_variant(name: str) -> dict:
    """Seconds of each step after one to warm up, and resident memory of this process: before the model, and at most."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    before, seconds, clock = measure_bytes(), [], []
    step = build_step(runs_teachers=name == "a", half=name == "c")
    for _ in range(1 + STEPS):
        start = time.process_time(), time.perf_counter()
        step()
        seconds.append(time.process_time() - start[0])
        clock.append(time.perf_counter() - start[1])
    memory = {"bytes_before": before, "peak_bytes": measure_bytes()}
    return {"seconds": seconds[1:], "clock_seconds": clock[1:], **memory}


def build_step(*, runs_teachers: bool, half: bool) -> Callable[[], None]:
    """One optimiser step on noise: images, and the teachers' vectors or what their networks read."""
    recipe = build_recipe("pacx", "code", "base")
    tables = {name: TeacherTable(file=name, sha256="0", width=width) for name, width in WIDTHS.items()}
    config = replace(recipe, teachers=replace(recipe.teachers, tables=tables))
    objective = build_objective(config).train()
    trained = [parameter for parameter in objective.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4, fused=True)
    stored = {name: torch.randn(NUM_IMAGES, width) for name, width in WIDTHS.items()}
    read = build_teachers() if runs_teachers else lambda: stored
    weights = {name: term.weight.value for name, term in config.terms.items()}

    def step() -> None:
        batch = make_batch(read())
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            sums = objective(batch, make_no_mask(batch.num_views))
        weigh(divide_losses(sums, objective.count(batch), 1), weights).backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return step


def build_teachers() -> Callable[[], dict[str, torch.Tensor]]:
    """Networks of the published shapes, random weights, that read the same signals anew each time."""
    ecg, labs = Net1D().eval(), LabEncoder(NUM_LABS).eval()
    leads, share = torch.randn(NUM_IMAGES, *LEADS_AND_SAMPLES), torch.rand(NUM_IMAGES, NUM_LABS)
    observed = torch.rand(NUM_IMAGES, NUM_LABS) < 0.7

    @torch.no_grad()
    def read() -> dict[str, torch.Tensor]:
        return {"ecg": ecg(leads), "labs": labs(share, observed)}

    return read


def make_batch(vectors: dict[str, torch.Tensor]) -> StudyBatch:
    """Noise as one image of each study, each of another patient, each with all teachers' vectors."""
    study = torch.arange(NUM_IMAGES)
    none = torch.zeros_like(study)
    return StudyBatch(
        patient=study, dataset=none, row=study, key=study, draw=none,
        pixels=torch.randn(NUM_IMAGES, 1, 224, 224),
        crop=torch.tensor([[0.0, 0.0, 224.0, 224.0]]).repeat(NUM_IMAGES, 1),
        view_kind=none, laterality=none, study=study, view_row=study,
        vectors={name: Vectors(value, study) for name, value in vectors.items()},
    )  # fmt: skip


if __name__ == "__main__":
    print(json.dumps(measure_variant(sys.argv[1])))
