"""A linear probe of 40 epochs as the released code trains it (P 3.2: AdamW on the class token, images flipped at
random) with a frozen ViT-Ti/16 at 224 px: re-encoding every image in every epoch, or reading stored features.

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
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from hilum.evaluate.heads.linear import STRENGTHS, fit_probes
from hilum.evaluate.rows import Rows
from hilum.model.encoder import Encoder
from hilum.recipes import build_recipe

from .record import write_result

SIZE = "tiny"
NUM_TRAIN, NUM_VAL, NUM_LABELS, EPOCHS, BATCH = (
    51,
    9,
    14,
    40,
    32,
)  # shares as of NIH's training and validation images (P 3.7)
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
        for _ in range(EPOCHS // TURNS):
            head, encoded["a"] = next(epochs)
        between = time.process_time()
        stored_head, encoded["b"] = read_stored(problem)
        fitted = time.process_time()
        encoded["c"] = fit_stored(problem)
        for name, took in zip(VARIANTS, np.diff([start, between, fitted, time.process_time()]), strict=True):
            seconds[name].append(float(took))
    difference = float((head.weight - stored_head.weight).detach().abs().max())
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
        "train": NUM_TRAIN, "val": NUM_VAL, "epochs": EPOCHS, "threads": 1, "torch": torch.__version__,
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


class Trainer:
    """The released probe's head, optimiser and schedule; which images an epoch flips and in which order it takes them
    depends on nothing else."""

    def __init__(self, width: int) -> None:
        self.random = torch.Generator().manual_seed(1)
        self.head = nn.Linear(width, NUM_LABELS)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        self.optimizer = torch.optim.AdamW(self.head.parameters(), lr=3e-3, weight_decay=0.01)
        self.schedule = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, EPOCHS)

    def draw(self) -> tuple[Tensor, Tensor]:
        """The order of the images, and which of them are flipped."""
        return torch.randperm(NUM_TRAIN, generator=self.random), torch.rand(NUM_TRAIN, generator=self.random) < 0.5

    def step(self, features: Tensor, target: Tensor) -> None:
        F.binary_cross_entropy_with_logits(self.head(features), target).backward()
        self.optimizer.step()
        self.optimizer.zero_grad()


def re_encode(problem: Problem) -> Iterator[tuple[nn.Linear, int]]:
    """Epoch after epoch: the head, and the images encoded so far."""
    trainer = Trainer(problem.encoder.width)
    for epoch in range(EPOCHS):
        order, flips = trainer.draw()
        for rows in order.split(BATCH):
            images = torch.where(flips[rows, None, None, None], problem.train[rows].flip(3), problem.train[rows])
            trainer.step(encode(problem.encoder, images), problem.target[rows])
        trainer.schedule.step()
        trainer.head(encode(problem.encoder, problem.val))
        yield trainer.head, (epoch + 1) * (NUM_TRAIN + NUM_VAL)


def read_stored(problem: Problem) -> tuple[nn.Linear, int]:
    """All epochs from features of both ways: the head, and the images encoded."""
    both = torch.stack([encode(problem.encoder, images) for images in (problem.train, problem.train.flip(3))])
    val, trainer = encode(problem.encoder, problem.val), Trainer(problem.encoder.width)
    for _ in range(EPOCHS):
        order, flips = trainer.draw()
        for rows in order.split(BATCH):
            trainer.step(both[flips[rows].long(), rows], problem.target[rows])
        trainer.schedule.step()
        trainer.head(val)
    return trainer.head, 2 * NUM_TRAIN + NUM_VAL


def fit_stored(problem: Problem) -> int:
    """Hilum's probes of all strengths, and their logits of validation: the images encoded."""
    features, val = (encode(problem.encoder, images) for images in (problem.train, problem.val))
    owner = torch.arange(NUM_TRAIN)
    rows = Rows(owner.numpy(), problem.target, features, owner, torch.zeros_like(owner))
    for probe in fit_probes(rows, STRENGTHS):
        probe.score_views(val.double())
    return NUM_TRAIN + NUM_VAL


if __name__ == "__main__":
    main()
