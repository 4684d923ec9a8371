"""A training step of MV-MLM at 1520 x 912 with ResNet-34 and EfficientNet-B5, optimiser step included.

Rows: 18 breasts (36 views) by gradient caching, a view at a time, in bfloat16 and 32 bit, channels last and not; the
largest batch without caching that memory holds; and texts as stored states against running the language model (of
BioClinicalBERT's shape, random weights, 256 tokens a text). Each row runs in a process of its own, so that peak memory
is its own. Prints images (views) per second and peak memory; writes results/bench/mv_clip.json.

A row is measured `STEPS` times after a step of one breast. On two cores the whole takes about an hour and a half, most
of it EfficientNet-B5 in 32 bit; `python -m bench.mv_clip small` runs every row at 190 x 114 in a few minutes, to see
that it works, and writes nothing.
"""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, replace

import torch
from rich.console import Console
from rich.table import Table

from hilum.batch import Descriptions, StudyBatch
from hilum.config import ConvEncoderConfig
from hilum.model.masking import make_no_mask
from hilum.model.text_encoder import build_language_model
from hilum.objective.objective import build_objective, divide_losses, weigh
from hilum.recipes import build_recipe
from hilum.training.memory import measure_available_memory

from .record import write_result

BACKBONES = ("resnet34", "tf_efficientnet_b5")
NUM_BREASTS, NUM_TOKENS, STEPS = 18, 256, 1
FULL, SMALL = (1520, 912), (190, 114)
UNCACHED = (1, 2, 4, 8, NUM_BREASTS)  # breasts
ROOM = 0.8  # share of the free memory that a row may be expected to take


@dataclass(frozen=True)
class Row:
    """What is measured."""

    backbone: str
    breasts: int
    chunk: int | None  # views at a time; None: without caching
    half: bool = True
    channels_last: bool = True
    stored: bool = True  # texts as stored states
    height: int = FULL[0]
    width: int = FULL[1]


def main(size: tuple[int, int] = FULL) -> dict:
    """Run all rows, print the table; at full size write the JSON."""
    console, rows = Console(), []
    for backbone in BACKBONES:
        cached = Row(backbone, NUM_BREASTS, 1, height=size[0], width=size[1])
        of_cached = (
            cached,
            replace(cached, channels_last=False),
            replace(cached, half=False),
            replace(cached, half=False, channels_last=False),
            replace(cached, stored=False),
        )
        rows += [run(row, console) for row in of_cached]
        rows += find_largest(replace(cached, chunk=None), console)
    result = {"rows": rows, "cores": torch.get_num_threads(), "steps": STEPS, "torch": torch.__version__}
    console.print(tabulate(rows))
    if size == FULL:
        write_result("mv_clip", result)
    return result


def find_largest(row: Row, console: Console) -> list[dict]:
    """Rows without caching of more and more breasts, as long as memory is expected to hold them."""
    found: list[dict] = []
    for breasts in UNCACHED:
        if len(found) > 1:
            (less, less_bytes), (more, more_bytes) = ((one["breasts"], one["peak_bytes"]) for one in found[-2:])
            expected = more_bytes + (more_bytes - less_bytes) / (more - less) * (breasts - more)
            if expected > ROOM * (measure_available_memory(torch.device("cpu")) or float("inf")):
                break
        found.append(run(replace(row, breasts=breasts), console))
    return found


def run(row: Row, console: Console) -> dict:
    """Seconds and memory of a row, in a process of its own."""
    console.print(f"{row}", style="dim")
    command = [sys.executable, "-m", "bench.mv_clip", json.dumps(asdict(row))]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return {**asdict(row), **json.loads(done.stdout)}


def measure(row: Row) -> dict:
    """What a step takes: seconds of the clock, and the process's peak memory with and without what libraries hold."""
    torch.manual_seed(0)
    config = build_recipe("mv_clip_tr", "hilum", "base")
    assert isinstance(config.encoder, ConvEncoderConfig)
    assert config.text_encoder is not None
    before = read_peak()
    encoder = replace(
        config.encoder, backbone=row.backbone, chunk=row.chunk, channels_last=row.channels_last,
        image_height=row.height, image_width=row.width,
    )  # fmt: skip
    shape = config.text_encoder.language_model
    reader = None if row.stored else build_language_model(shape)
    objective = build_objective(replace(config, encoder=encoder), language_model=reader).train()
    trained = [parameter for parameter in objective.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-5, fused=True)

    def step(breasts: int) -> float:
        batch = make_batch(breasts, row, shape.width if row.stored else 0)
        begin = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=row.half):
            sums = objective(batch, make_no_mask(batch.num_views))
        losses = divide_losses(sums, objective.count(batch), 1)
        weigh(losses, dict.fromkeys(losses, 1.0)).backward()
        optimizer.step()
        optimizer.zero_grad()
        return time.perf_counter() - begin

    step(1)
    seconds = [step(row.breasts) for _ in range(STEPS)]
    return {"seconds": statistics.median(seconds), "peak_bytes": read_peak(), "bytes_before": before}


def make_batch(breasts: int, row: Row, states: int) -> StudyBatch:
    """Noise as two views of each breast, each of another patient, and a text of full length."""
    study = torch.arange(breasts)
    none, views = torch.zeros_like(study), study.repeat_interleave(2)
    texts = Descriptions(
        torch.randint(5, 28000, (breasts, NUM_TOKENS)), torch.full((breasts,), NUM_TOKENS),
        torch.randn(breasts, NUM_TOKENS, states).half(), study, none, study, torch.eye(breasts, dtype=torch.bool),
        none.bool(),
    )  # fmt: skip
    return StudyBatch(
        patient=study, dataset=none, row=study, key=study, draw=none,
        pixels=torch.randn(2 * breasts, 1, row.height, row.width),
        crop=torch.tensor([0.0, 0.0, row.height, row.width]).repeat(2 * breasts, 1),
        view_kind=torch.tensor([3, 4]).repeat(breasts), laterality=torch.zeros_like(views), study=views,
        view_row=torch.arange(2 * breasts), descriptions=texts,
    )  # fmt: skip


def read_peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def tabulate(rows: list[dict]) -> Table:
    table = Table(title="A training step of MV-MLM", title_justify="left")
    for name in ("network", "breasts", "views at a time", "precision", "channels last", "texts"):
        table.add_column(name)
    for name in ("seconds", "images/s", "peak GiB"):
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(
            row["backbone"], str(row["breasts"]), str(row["chunk"] or "all"), "bf16" if row["half"] else "fp32",
            "yes" if row["channels_last"] else "no", "stored" if row["stored"] else "BERT runs",
            f"{row['seconds']:.1f}", f"{2 * row['breasts'] / row['seconds']:.3f}", f"{row['peak_bytes'] / 2**30:.2f}",
        )  # fmt: skip
    return table


if __name__ == "__main__":
    if sys.argv[1:] == ["small"]:
        main(SMALL)
    elif sys.argv[1:]:
        print(json.dumps(measure(Row(**json.loads(sys.argv[1])))))
    else:
        main()
