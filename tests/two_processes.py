"""Run a function in real processes that talk to each other over gloo, and collect what each returns."""

from __future__ import annotations

import datetime
import multiprocessing
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp


def run_in_processes(function: Callable[..., Any], *args: Any, num_processes: int = 2) -> list[Any]:
    """`function(rank, world_size, *args)` in each process; the results in the order of ranks.

    The function must be importable (at the top of a module), and its result must survive `torch.save`. An exception in
    any process fails the caller with that process's traceback.
    """
    # One clean process imports the heavy libraries, all others are forked from it.
    multiprocessing.set_forkserver_preload(["hilum.objective.objective"])
    with tempfile.TemporaryDirectory() as folder:
        arguments = (num_processes, folder, function, args)
        mp.start_processes(_enter, arguments, nprocs=num_processes, start_method="forkserver")
        return [torch.load(Path(folder) / f"{rank}.pt", weights_only=True) for rank in range(num_processes)]


def _enter(rank: int, world_size: int, folder: str, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    store = dist.FileStore(f"{folder}/store", world_size)
    dist.init_process_group(
        "gloo", store=store, rank=rank, world_size=world_size, timeout=datetime.timedelta(seconds=60)
    )
    try:
        torch.save(function(rank, world_size, *args), f"{folder}/{rank}.pt")
    except BaseException:
        traceback.print_exc()
        raise
    finally:
        dist.destroy_process_group()
