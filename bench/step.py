"""A training step of ViT-B/16 at 224 px, mask 0.90, 16 studies holding 22 views, optimiser step included.

Prints real views per second, peak memory and the share of the measured matrix-product peak for the released code's
way (a) and three steps away from it (b, c, d); writes results/bench/step.json. Each variant runs in its own process,
so that peak memory is its own, and the variants take turns, so that a noisy machine disturbs all of them alike. It does
not quite: bfloat16 products were seen at a third of their rate for minutes while 32-bit ones were hardly slower.
So the table has two ratios: of the median steps, and of the fastest ones, which is the machine left alone; and the peak
is the best of all rounds. Memory is that of the whole process; its ratio is of what a variant adds to the 0.7 GiB that
Python, torch and timm hold before there is a model (the JSON has the other ratio too).
"""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace

import torch
from rich.console import Console
from rich.table import Table

from hilum.batch import StudyBatch
from hilum.config import CrossDecoder, Reconstruction, SelfDecoder
from hilum.model.masking import draw_masks
from hilum.objective.objective import build_objective, divide_losses, weigh
from hilum.recipes import build_mvmae

from .padded_step import PaddedMAE
from .record import write_result

VARIANTS = {
    "a": "padded to 3 slots, 768x4 decoder, fp32",
    "b": "packed, same decoder, fp32",
    "c": "packed, same decoder, bf16",
    "d": "packed, cross decoder 25 %, bf16",
}
VIEWS_PER_STUDY = (1,) * 11 + (2,) * 4 + (3,)
NUM_STUDIES, NUM_VIEWS, RATIO = len(VIEWS_PER_STUDY), sum(VIEWS_PER_STUDY), 0.90
# Forward GFLOP of a view or slot (M 7.2): encoder with 19 visible patches, then decoder.
_ENCODER, _DECODER, _CROSS = 3.49, 11.71, 2.34 * 44 / 49
_FORWARD = {
    "a": 3 * NUM_STUDIES * (_ENCODER + _DECODER),
    "b": NUM_VIEWS * (_ENCODER + _DECODER),
    "c": NUM_VIEWS * (_ENCODER + _DECODER),
    "d": NUM_VIEWS * (_ENCODER + _CROSS),
}
ROUNDS, STEPS = 3, 4  # the same number for all, so that no variant has more tries at its fastest step


def main() -> dict:
    """Run all variants in turns, print the table, write the JSON."""
    console = Console()
    seconds: dict[str, list[float]] = {name: [] for name in VARIANTS}
    memory, libraries = dict.fromkeys(VARIANTS, 0), dict.fromkeys(VARIANTS, 0)
    peaks = {"float32": 0.0, "bfloat16": 0.0}
    for number in range(ROUNDS):
        peaks = {dtype: max(best, measure_peak(dtype)) for dtype, best in peaks.items()}
        for name in VARIANTS:
            console.print(f"round {number + 1} of {ROUNDS}: {name} ({VARIANTS[name]})", style="dim")
            command = [sys.executable, "-m", "bench.step", name]
            measured = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            seconds[name] += measured["seconds"]
            memory[name] = max(memory[name], measured["peak_bytes"])
            libraries[name] = measured["bytes_before"]
    median = {name: statistics.median(times) for name, times in seconds.items()}
    fastest = {name: min(times) for name, times in seconds.items()}
    added = {name: memory[name] - libraries[name] for name in VARIANTS}
    rows = {}
    for name, meaning in VARIANTS.items():
        peak = peaks["bfloat16" if "bf16" in meaning else "float32"]
        rows[name] = {
            "variant": meaning,
            "views_per_second": NUM_VIEWS / median[name],
            "times_a": median["a"] / median[name],
            "times_a_fastest": fastest["a"] / fastest[name],
            "peak_gib": memory[name] / 2**30,
            "memory_of_a": added[name] / added["a"],
            "whole_process_of_a": memory[name] / memory["a"],
            "share_of_peak": 3 * _FORWARD[name] / fastest[name] / peak,
            "seconds": seconds[name],
        }
    result = {"threads": torch.get_num_threads(), "matmul_peak_gflops": peaks, "variants": rows}
    table = Table(title="training step, ViT-B/16, 16 studies, 22 views")
    for column in ("", "views/s", "times a", "fastest", "peak GiB", "of a", "of matmul peak"):
        table.add_column(column, justify="left" if not column else "right")
    for name, row in rows.items():
        table.add_row(
            f"{name}  {row['variant']}", f"{row['views_per_second']:.2f}", f"{row['times_a']:.1f}",
            f"{row['times_a_fastest']:.1f}",
            f"{row['peak_gib']:.2f}", f"{row['memory_of_a']:.2f}", f"{row['share_of_peak']:.0%}",
        )  # fmt: skip
    console.print(table)
    write_result("step", result)
    return result


def measure_variant(name: str) -> dict:
    """Seconds of each step after two to warm up, and resident memory of this process: before the model, and at most."""
    torch.manual_seed(0)
    before = measure_bytes()
    step = _build_padded() if name == "a" else _build_packed(name)
    seconds = []
    for _ in range(2 + STEPS):
        start = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - start)
    return {"seconds": seconds[2:], "bytes_before": before, "peak_bytes": measure_bytes()}


def measure_bytes() -> int:
    """Most memory this process has held so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _build_padded() -> Callable[[], None]:
    model = PaddedMAE()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    present = torch.tensor([[slot < count for slot in range(3)] for count in VIEWS_PER_STUDY]).float()
    images = torch.randn(NUM_STUDIES, 3, 1, 224, 224) * present[:, :, None, None, None]
    view = torch.zeros(NUM_STUDIES, 3, dtype=torch.long)

    def step() -> None:
        optimizer.zero_grad()
        model(images, present, view, RATIO).backward()
        optimizer.step()

    return step


def _build_packed(name: str) -> Callable[[], None]:
    """The recipe `mvmae` with pooled alignment as in the released code's place, on rows that exist."""
    recipe = build_mvmae("code", "base")
    decoder = CrossDecoder() if name == "d" else SelfDecoder()
    terms = {**recipe.terms, "reconstruction": Reconstruction(decoder=decoder)}
    objective = build_objective(replace(recipe, terms=terms, mask=replace(recipe.mask, ratio=RATIO)))
    optimizer = torch.optim.AdamW(objective.parameters(), lr=1e-4, fused=True)
    batch = _make_batch()
    mask = draw_masks(batch, num_patches=196, ratio=RATIO, seed=0)
    weights = dict.fromkeys(terms, 1.0)

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=name in "cd"):
            sums = objective(batch, mask)
        weigh(divide_losses(sums, objective.count(batch), 1), weights).backward()
        optimizer.step()

    return step


def _make_batch() -> StudyBatch:
    studies = torch.arange(NUM_STUDIES)
    views = torch.zeros(NUM_VIEWS, dtype=torch.long)
    return StudyBatch(
        patient=studies,
        dataset=torch.zeros_like(studies),
        row=studies,
        key=studies,
        draw=torch.zeros_like(studies),
        pixels=torch.randn(NUM_VIEWS, 1, 224, 224),
        crop=torch.tensor([[0.0, 0.0, 224.0, 224.0]]).repeat(NUM_VIEWS, 1),
        view_kind=views,
        laterality=views,
        study=studies.repeat_interleave(torch.tensor(VIEWS_PER_STUDY)),
        view_row=torch.arange(NUM_VIEWS),
    )


def measure_peak(dtype: str) -> float:
    """Best GFLOP/s of a square matrix product of 2048 in this precision."""
    a, b = (torch.randn(2048, 2048, dtype=getattr(torch, dtype)) for _ in range(2))
    best = float("inf")
    for _ in range(12):
        start = time.perf_counter()
        torch.mm(a, b)
        best = min(best, time.perf_counter() - start)
    return 2 * 2048**3 / best / 1e9


if __name__ == "__main__":
    print(json.dumps(measure_variant(sys.argv[1])))
