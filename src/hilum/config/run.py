"""How a run is carried out, and what it starts from."""

from __future__ import annotations

from typing import Literal

from pydantic.dataclasses import dataclass

from hilum.ranges import Count, Positive

from .strict import STRICT


@dataclass(frozen=True, config=STRICT)
class RunConfig:
    """How the run is carried out; nothing here changes what is learned, but for rounding (beside optim.accumulate,
    the number of processes also decides which views contrast and the collapse guard see together)."""

    precision: Literal["auto", "bf16-mixed", "32-true"] = "auto"
    """auto: bfloat16 where the processor or GPU computes in it, else 32 bit."""
    devices: Count = 1
    """Processes (or GPUs) on this machine."""
    num_nodes: Count = 1
    """Machines."""
    log_every: Count = 10
    """Steps between lines of metrics.jsonl."""
    meter_every: Count = 25
    """Steps between measurements of gradient ratio, effective rank and retrieval (an extra backward pass a term)."""
    checkpoint_minutes: Positive = 5.0
    """Minutes between checkpoints."""
    checkpoint_every: Count | None = None
    """Steps between checkpoints instead, for runs that must be comparable."""
    keep_checkpoints: Count = 2
    """Checkpoints kept besides the last."""
    picture_every: Count | None = None
    """Steps between example reconstructions; None: at the start, the middle and the end."""


@dataclass(frozen=True, config=STRICT)
class InitialWeights:
    """The file that a run's encoder starts from."""

    file: str
    """Its folder's and its own name."""
    sha256: str
    """Of its bytes."""
