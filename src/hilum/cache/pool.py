"""Worker processes that make shards, and can be killed: a file that hangs or crashes its reader costs only itself."""

from __future__ import annotations

import multiprocessing
import signal
import time
import traceback
from collections import Counter, deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait

from hilum.worker_imports import check_worker

from .shard import ShardRecord, ShardTask, write_shard

# Never a fork of this process: one in which polars or torch has started threads can deadlock. A server that imported
# the readers once forks the workers, so that another one (after a hang) is there at once.
_PROCESSES = multiprocessing.get_context("forkserver")
_PROCESSES.set_forkserver_preload(["hilum.cache.shard"])


@dataclass
class _Worker:
    task: ShardTask | None = None
    place: int | None = None  # file being read; None: none, so no time limit
    since: float = 0.0
    has_spoken: bool = False

    def __post_init__(self) -> None:
        self.pipe, far_end = _PROCESSES.Pipe()
        self.process = _PROCESSES.Process(target=_serve, args=(far_end,), daemon=True)
        self.process.start()
        far_end.close()  # the worker's copy is the only one: its death is an end of file here, and ours there

    def start(self, task: ShardTask) -> None:
        self.task, self.place = task, None
        with suppress(ConnectionError):  # it ended already: that is heard when it is listened to
            self.pipe.send(task)

    def kill(self) -> None:
        self.process.kill()
        self.process.join()
        self.pipe.close()


def write_shards(
    tasks: list[ShardTask],
    num_workers: int,
    file_timeout: float,
    finish: Callable[[ShardTask, ShardRecord], None],
    report: Callable[[dict[int, int]], None],
) -> None:
    """Make all shards.

    Args:
        tasks: shards to make, in order.
        num_workers: processes; 0 makes them in this process, without a time limit for a file.
        file_timeout: seconds after which the reading of a file is given up.
        finish: called with each shard made.
        report: called now and then with shard number -> files read of it, for the shards in the making.

    Raises:
        OSError: a write failed (`atomic.tells_full_disk` knows a full disk).
    """
    if not num_workers:
        for task in tasks:
            finish(task, write_shard(task, lambda place, number=task.number: report({number: place})))
        return
    waiting, crashes = deque(tasks), Counter()
    workers = [_Worker() for _ in range(min(num_workers, len(tasks)))]
    try:
        while True:
            for worker in workers:
                if worker.task is None and waiting:
                    worker.start(waiting.popleft())
            busy = [worker for worker in workers if worker.task is not None]
            if not busy:
                return
            ready = wait([worker.pipe for worker in busy], timeout=0.2)
            for worker in busy:
                if worker.pipe not in ready:
                    continue
                try:
                    _hear(worker, finish)
                except (EOFError, ConnectionError):
                    again = _blame(worker, "crashed its reader twice", crashes, allowed=1)
                    waiting.appendleft(again)
                    workers[workers.index(worker)] = _replace(worker)
            for worker in list(workers):
                if worker.place is not None and time.monotonic() - worker.since > file_timeout:
                    again = _blame(worker, f"took longer than {file_timeout:g} s to read", crashes, allowed=0)
                    waiting.appendleft(again)
                    workers[workers.index(worker)] = _replace(worker)
            report({worker.task.number: worker.place or 0 for worker in workers if worker.task is not None})
    finally:
        for worker in workers:
            worker.kill()


def _hear(worker: _Worker, finish: Callable[[ShardTask, ShardRecord], None]) -> None:
    """Take one message of a worker."""
    assert worker.task is not None
    kind, value = worker.pipe.recv()
    worker.has_spoken = True
    if kind == "at":
        worker.place, worker.since = (value if value < len(worker.task.paths) else None), time.monotonic()
    elif kind == "done":
        finish(worker.task, value)
        worker.task = worker.place = None
    elif kind == "write failed":
        raise value
    else:
        raise RuntimeError(f"Making shard {worker.task.number} failed:\n{value}")


def _blame(worker: _Worker, reason: str, crashes: Counter, *, allowed: int) -> ShardTask:
    """The worker's task again, without the file it was reading if that failed more often than allowed."""
    task, place = worker.task, worker.place
    assert task is not None
    if not worker.has_spoken:
        worker.process.join()
        check_worker(worker.process.exitcode, "build_cache")
    crashes[task.number, place] += 1
    if crashes[task.number, place] <= allowed:
        return task
    if place is None:
        raise RuntimeError(f"A worker died twice outside of any file (exit code {worker.process.exitcode}).")
    return replace(task, given_up={**task.given_up, place: reason})


def _replace(worker: _Worker) -> _Worker:
    worker.kill()
    return _Worker()


def _serve(pipe: Connection) -> None:
    """A worker's life: make shards until the other end is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent ends its workers
    while True:
        try:
            task = pipe.recv()
        except EOFError:
            return
        try:
            answer = ("done", write_shard(task, lambda place: pipe.send(("at", place))))
        except BrokenPipeError:
            return
        except OSError as error:
            answer = ("write failed", error)
        except BaseException:
            answer = ("failed", traceback.format_exc())
        pipe.send(answer)
