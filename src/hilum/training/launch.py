"""One function in as many processes as asked for, on this machine or many; signals in, errors for users out.

On one machine the processes come from Python's fork server: a fresh process that has imported this package and done
nothing else, so that forking it is safe, and the seconds that importing torch takes are spent once and not for each.
Where somebody else starts them (torchrun, SLURM's srun) this process is one of them.
"""

from __future__ import annotations

import logging
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial
from types import FrameType
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments import SLURMEnvironment, TorchElasticEnvironment
from lightning_fabric.strategies import DDPStrategy
from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException

from hilum.errors import UserError

from .run_folder import computes_bfloat16

# Fabric's banner ("Initializing distributed: ...") says nothing that the run's own first line does not.
logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
# So does torch's "Terminating process" beside an error that is reported anyway.
logging.getLogger("torch.multiprocessing.spawn").setLevel(logging.ERROR)

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
_MOMENT = 2.0  # seconds
_PATIENCE = 60.0  # seconds


def launch(function: Callable[..., Any], *arguments: Any, devices: int, num_nodes: int, precision: str) -> Any:
    """Run `function(fabric, *arguments)` in `devices` processes on each of `num_nodes` machines.

    Returns:
        What the first process returned.

    Raises:
        UserError: raised in any of the processes, one of them killed, more GPUs asked for than there are, or several
            machines with nobody to tell them of each other.
    """
    num_gpus = torch.cuda.device_count()
    if 0 < num_gpus < devices:
        raise UserError(f"run.devices={devices}, but this machine has {num_gpus} GPUs.")
    external = "LOCAL_RANK" in os.environ or SLURMEnvironment.detect() or TorchElasticEnvironment.detect()
    if num_nodes > 1 and not external and not {"MASTER_ADDR", "NODE_RANK"} <= os.environ.keys():
        raise UserError(
            f"run.num_nodes={num_nodes}: the machines must be told of each other. Let torchrun or SLURM's srun start "
            f"this command on each, for example `torchrun --nnodes {num_nodes} --nproc-per-node {devices} "
            "--rdzv-backend c10d --rdzv-endpoint HOST:PORT -m hilum pretrain ...`."
        )
    strategy = "auto" if devices * num_nodes == 1 else DDPStrategy(start_method="popen" if external else "forkserver")
    fabric = Fabric(
        accelerator="auto",
        devices=devices,
        num_nodes=num_nodes,
        strategy=strategy,
        precision=choose_precision(precision),  # ty: ignore[invalid-argument-type]
    )
    # Bound to the function: Fabric would look for tensors in arguments, and cannot in a frozen config.
    bound = partial(_call, function, arguments)
    if strategy == "auto" or external:
        return fabric.launch(bound)
    multiprocessing.set_forkserver_preload(["hilum.training.pretrain"])
    # When one process ends with an error for the user, the others lose their connection to it: torch says so in a
    # hundred lines of stack frames, above the one line that matters.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    with _forward_signals():
        try:
            return fabric.launch(bound)
        except ProcessRaisedException as error:
            # The exception comes as the text of its traceback; its last line is "module.Name: message".
            name, _, message = error.msg.strip().rpartition("\n")[2].partition(": ")
            if name == f"{UserError.__module__}.{UserError.__name__}":
                raise UserError(message) from None
            raise
        except ProcessExitedException as error:
            raise UserError(
                f"A process of the run was ended from outside ({error.signal_name or error.exit_code}), as when "
                "memory runs out. Continue it with --resume, if need be with a higher --optim.accumulate."
            ) from error


def _call(function: Callable[..., Any], arguments: tuple[Any, ...], fabric: Fabric) -> Any:
    if (parent := multiprocessing.parent_process()) is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()
    return function(fabric, *arguments)


def _end_with(parent_sentinel: int) -> None:
    """Stop this process when the one that started it is gone: nobody else would, and it holds the run folder."""
    multiprocessing.connection.wait([parent_sentinel])
    os.kill(os.getpid(), signal.SIGTERM)  # save and end
    time.sleep(_PATIENCE)
    os.kill(os.getpid(), signal.SIGKILL)


def choose_precision(precision: str) -> str:
    """The precision that "auto" stands for on this machine."""
    if precision != "auto":
        return precision
    return "bf16-mixed" if computes_bfloat16() else "32-true"


class StopRequest:
    """Remembers that somebody asked this process to stop; asking again after a moment stops it at once."""

    def __init__(self) -> None:
        self.signal_number = 0
        self._first_time = 0.0

    @contextmanager
    def listen(self) -> Generator[StopRequest, None, None]:
        """Note SIGTERM, SIGINT (Ctrl-C) and SIGUSR1 (SLURM's warning) instead of dying of them."""

        def note(number: int, frame: FrameType | None) -> None:
            # A terminal and the parent process may both pass the same Ctrl-C on: within a moment it is one request.
            if not self.signal_number:
                self.signal_number, self._first_time = number, time.monotonic()
            elif time.monotonic() - self._first_time > _MOMENT:
                signal.signal(number, before[signal.Signals(number)])
                signal.raise_signal(number)

        before = {}
        if threading.current_thread() is threading.main_thread():
            before = {number: signal.signal(number, note) for number in STOP_SIGNALS}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


@contextmanager
def _forward_signals() -> Generator[None, None, None]:
    """Pass stop signals on to the spawned processes, who save and end; this one waits for them."""

    def forward(number: int, frame: FrameType | None) -> None:
        for child in multiprocessing.active_children():
            if child.pid is not None:
                os.kill(child.pid, number)

    before = {}
    if threading.current_thread() is threading.main_thread():
        before = {number: signal.signal(number, forward) for number in STOP_SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
