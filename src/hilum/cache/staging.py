"""The shards of one build: which are there, and where new ones wait while the folder still holds a good cache."""

from __future__ import annotations

import os
import shutil
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from hilum.atomic import tells_full_disk
from hilum.errors import UserError

from .reader import name_shard
from .shard import ShardRecord, ShardTask, read_shard_record

_STAGING = ".building"  # new shards of a folder whose cache is still good


class ShardSet:
    """The shards that a cache consists of, as far as they are made.

    Attributes:
        out: folder of the cache.
        tasks: all shards, in order.
        done: number of a shard -> its record, where it is finished.
    """

    def __init__(self, out: Path, tasks: Sequence[ShardTask]) -> None:
        self.out, self.tasks = out, tasks
        self.done: dict[int, ShardRecord] = {}
        self._staged: set[int] = set()

    def find(self, task: ShardTask, *, is_mine: bool) -> bool:
        """Whether the shard is there already, as another run or worker left it. One's own is checked byte by byte, and
        made again where files hung or crashed their reader."""
        for place in (_stage(task), task):
            record = read_shard_record(place, check_bytes=is_mine)
            if record is not None and not (is_mine and record.given_up):
                self.done[task.number] = record
                if place is not task:
                    self._staged.add(task.number)
                return True
        return False

    def stage(self, tasks: Sequence[ShardTask]) -> list[ShardTask]:
        """The shards that are to be made, in the folder where they wait for each other if there is a cache here."""
        if not tasks or not (self.out / "index.json").exists():
            return list(tasks)
        (self.out / _STAGING).mkdir(exist_ok=True)
        self._staged.update(task.number for task in tasks)
        return [_stage(task) for task in tasks]

    def unstage(self) -> None:
        """Move finished shards to their places. Another worker of an array may be at the same point."""
        for number in sorted(self._staged):
            for place in (Path(name_shard(number)), Path(name_shard(number)).with_suffix(".json")):
                with suppress(FileNotFoundError):
                    os.replace(self.out / _STAGING / place, self.out / place)  # noqa: PTH105 - atomic on every system
        shutil.rmtree(self.out / _STAGING, ignore_errors=True)  # with what a failed build left in it

    @property
    def missing(self) -> list[ShardTask]:
        """The shards that are not there."""
        return [task for task in self.tasks if task.number not in self.done]

    @property
    def records(self) -> list[ShardRecord]:
        """Records of all shards, in order, once all are there."""
        return [self.done[task.number] for task in self.tasks]

    @contextmanager
    def explain_full_disk(self) -> Generator[None, None, None]:
        """Turn a full disk into how much room is needed.

        Raises:
            UserError: the disk ran full within the block.
        """
        try:
            yield
        except OSError as error:
            if not tells_full_disk(error):
                raise
            raise UserError(self._describe_full_disk()) from error

    def _describe_full_disk(self) -> str:
        free, num_left = shutil.disk_usage(self.out).free, sum(len(task.paths) for task in self.missing)
        made = self.done.values()
        num_made, num_bytes = sum(len(record.images) for record in made), sum(record.bytes for record in made)
        # Before the first shard is made: a square of the size that is kept.
        policy = self.tasks[0].policy
        needed = num_left * (num_bytes / num_made if num_made else policy.short_side**2 * policy.bits / 8)
        return (
            f"{self.out}: the disk is full. {num_left:,} images are left, which need about {format_bytes(needed)}; "
            f"{format_bytes(free)} are free. The {len(made)} finished of {len(self.tasks)} shards are kept: make room, "
            "or move the folder to a larger disk, and run the same command again."
        )


def _stage(task: ShardTask) -> ShardTask:
    """The same shard, where it waits for the others."""
    return replace(task, out=task.out / _STAGING)


def format_bytes(count: float) -> str:
    """1.5 GB, 20 MB, 3 kB."""
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count / 1e3:.3g} kB"
