"""A linear probe of 40 epochs as the released code trains it (P 3.2, `heads/released.py`: AdamW on the class token,
images flipped at random) with a frozen ViT-Ti/16 at 224 px: re-encoding every image in every epoch, or reading stored
features.

(a) encodes training images, as flipped in that epoch, and validation images in each epoch; (b) encodes training images
once each way and validation images once, and trains the same head on the same flips (P 7.5: exactly equivalent; the
bench stops if the heads differ); (c) is Hilum's probe, of images as they are: one pass, then logistic regressions of
six strengths. Prints encoded images, processor seconds and ratios; writes results/bench/stored_features.json.

(b) and (c) run after every twenty epochs of (a), so that a busy machine disturbs all alike, and the mean of their runs
counts. Processor time of one thread does not count the time that other processes had the core.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from hilum.evaluate.heads.linear import STRENGTHS, fit_probes
from hilum.evaluate.heads.released import RELEASED, ReleasedProbe, ReleasedTraining, fit_released
from hilum.evaluate.rows import Rows
from hilum.model.encoder import Encoder
from hilum.recipes import build_recipe

from .record import write_result

SIZE = "tiny"
NUM_TRAIN, NUM_VAL, NUM_LABELS = 51, 9, 14  # shares as of NIH's training and validation images (P 3.7)
BATCH = 32  # images encoded at a time
HOW = RELEASED
TURNS = 2
VARIANTS = {
    "a": "40 epochs, every image encoded in each",
    "b": "40 epochs on stored features, the same head",
    "c": "stored features, L2 logistic regressions",
}


@dataclass(frozen=True)
class Problem:
    """Images and labels, and who encodes them."""

    encoder: Encoder
    train: Tensor  # image 1 height width
    val: Tensor
    target: Tensor  # image label


def main() -> dict:
    """Run all variants in turns, print the table, write the JSON."""
    torch.set_num_threads(1)
    problem, console = make_problem(), Console()
    seconds: dict[str, list[float]] = {name: [] for name in VARIANTS}
    encoded: dict[str, int] = {}
    epochs = re_encode(problem)
    for turn in range(TURNS):
        console.print(f"turn {turn + 1} of {TURNS}", style="dim")
        start = time.process_time()
        for _ in range(HOW.epochs // TURNS):
            weight, encoded["a"] = next(epochs)
        between = time.process_time()
        stored, encoded["b"] = read_stored(problem)
        fitted = time.process_time()
        encoded["c"] = fit_stored(problem)
        for name, took in zip(VARIANTS, np.diff([start, between, fitted, time.process_time()]), strict=True):
            seconds[name].append(float(took))
    difference = float((weight - stored.weight).abs().max())
    assert difference < 1e-4, f"the heads differ by {difference:g}: stored features are not those of the images"
    total = {"a": sum(seconds["a"]), **{name: statistics.fmean(seconds[name]) for name in "bc"}}
    rows = {
        name: {
            "variant": meaning,
            "encoded_images": encoded[name],
            "work_of_a": encoded["a"] / encoded[name],
            "processor_seconds": total[name],
            "times_a": total["a"] / total[name],
            "turns": seconds[name],
        }
        for name, meaning in VARIANTS.items()
    }
    result = {
        "train": NUM_TRAIN, "val": NUM_VAL, "epochs": HOW.epochs, "threads": 1, "torch": torch.__version__,
        "heads_differ_by": difference, "load_average": os.getloadavg()[0], "variants": rows,
    }  # fmt: skip
    console.print(tabulate(rows))
    write_result("stored_features", result)
    return result


def tabulate(rows: dict[str, dict]) -> Table:
    table = Table(title=f"linear probe of {NUM_TRAIN} and {NUM_VAL} images, ViT-Ti/16")
    for column in ("", "images encoded", "fewer", "processor s", "times a"):
        table.add_column(column, justify="left" if not column else "right")
    for name, row in rows.items():
        table.add_row(
            f"{name}  {row['variant']}", f"{row['encoded_images']:,}", f"{row['work_of_a']:.1f}",
            f"{row['processor_seconds']:.2f}", f"{row['times_a']:.1f}",
        )  # fmt: skip
    return table


def make_problem() -> Problem:
    """Noise, labels of noise, and an encoder that has learned nothing: no time here depends on what they mean."""
    torch.manual_seed(0)
    encoder = Encoder(build_recipe("mae", "hilum", SIZE).transformer).eval().requires_grad_(False)
    side = encoder.side
    train, val = (torch.randn(num, 1, side, side) for num in (NUM_TRAIN, NUM_VAL))
    return Problem(encoder, train, val, (torch.rand(NUM_TRAIN, NUM_LABELS) < 0.3).float())


@torch.no_grad()
def encode(encoder: Encoder, images: Tensor) -> Tensor:
    """Class tokens."""
    parts = [
        encoder.encode(part, torch.zeros(len(part), dtype=torch.long)).tokens[:, 0] for part in images.split(BATCH)
    ]
    return torch.cat(parts)


def re_encode(problem: Problem) -> Iterator[tuple[Tensor, int]]:
    """Epoch after epoch: the head's weights, and the images encoded so far."""
    training = ReleasedTraining(problem.encoder.width, NUM_LABELS, seed=1, how=HOW)
    for epoch in range(HOW.epochs):
        for rows, mirrored in training.begin_epoch(epoch, NUM_TRAIN):
            images = problem.train[rows]
            images = torch.where(mirrored[:, None, None, None], images.flip(3), images)
            training.step(encode(problem.encoder, images), problem.target[rows])
        training.head(encode(problem.encoder, problem.val))
        yield training.head.weight.detach(), (epoch + 1) * (NUM_TRAIN + NUM_VAL)


def read_stored(problem: Problem) -> tuple[ReleasedProbe, int]:
    """All epochs from features of both ways, every epoch's head asked of validation: the last one, and the images
    encoded."""
    as_is, mirrored = (encode(problem.encoder, images) for images in (problem.train, problem.train.flip(3)))
    val = make_rows(encode(problem.encoder, problem.val), torch.zeros(NUM_VAL, NUM_LABELS))
    probes = fit_released(replace(make_rows(as_is, problem.target), mirrored=mirrored), seed=1, how=HOW)
    for probe in probes:
        probe.score_rows(val)
    return probes[-1], 2 * NUM_TRAIN + NUM_VAL


def make_rows(features: Tensor, target: Tensor) -> Rows:
    """Studies of one image each."""
    owner = torch.arange(len(target))
    return Rows(owner.numpy(), target, features, owner, torch.zeros_like(owner))


def fit_stored(problem: Problem) -> int:
    """Hilum's probes of all strengths, and their logits of validation: the images encoded."""
    features, val = (encode(problem.encoder, images) for images in (problem.train, problem.val))
    for probe in fit_probes(make_rows(features, problem.target), STRENGTHS):
        probe.score_views(val.double())
    return NUM_TRAIN + NUM_VAL


if __name__ == "__main__":
    main()
