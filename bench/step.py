"""A training step of ViT-B/16 at 224 px, mask 0.90, 16 studies holding 22 views, optimiser step included.

Prints real views per second, peak memory and the share of the measured matrix-product peak for the released code's
way (a) and three steps away from it (b, c, d); writes results/bench/step.json. Each variant runs in its own process,
so that peak memory is its own, and the variants take turns, so that a noisy machine disturbs all of them alike.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

VARIANTS = {
    "a": "padded to 3 slots, 768x4 decoder, fp32, gather after embedding",
    "b": "packed, same decoder, fp32",
    "c": "packed, same decoder, bf16",
    "d": "packed, cross decoder predicting 25 %, bf16",
}
NUM_STUDIES, NUM_VIEWS, RATIO = 16, 22, 0.90
VIEWS_PER_STUDY = (1,) * 11 + (2,) * 4 + (3,)
# Forward GFLOP a view or slot (M 7.2), times three for forward and backward.
_GFLOP = {"a": 3 * 48 * (3.49 + 11.71), "b": 3 * 22 * (3.49 + 11.71), "c": 3 * 22 * (3.49 + 11.71), "d": 3 * 22 * (3.49 + 2.1)}


def measure_variant(variant: str, num_steps: int) -> dict[str, float]:
    """Seconds a step (median) and peak resident memory of this process."""
    import resource
    import statistics

    import torch

    torch.manual_seed(0)
    step = _build_padded() if variant == "a" else _build_packed(variant)
    step()
    seconds = []
    for _ in range(num_steps):
        start = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"seconds": statistics.median(seconds), "peak_bytes": peak, "threads": torch.get_num_threads()}


def _build_padded():
    import torch

    from .padded_step import PaddedMAE

    model = PaddedMAE()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    present = torch.tensor([[slot < count for slot in range(3)] for count in VIEWS_PER_STUDY]).float()
    images = torch.randn(NUM_STUDIES, 3, 1, 224, 224) * present[:, :, None, None, None]
    view = torch.zeros(NUM_STUDIES, 3, dtype=torch.long)

    def step() -> None:
        optimizer.zero_grad()
        model(images, present, view, RATIO).backward()
        optimizer.step()

    return step


def measure_peak(dtype: str) -> float:
    """Best GFLOP/s of a square matrix product of 2048 in this precision."""
    import torch

    a, b = (torch.randn(2048, 2048, dtype=getattr(torch, dtype)) for _ in range(2))
    best = float("inf")
    for _ in range(12):
        start = time.perf_counter()
        a @ b
        best = min(best, time.perf_counter() - start)
    return 2 * 2048**3 / best / 1e9
