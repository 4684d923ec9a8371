"""What a person sees while a cache is built."""

from __future__ import annotations

import time
from datetime import timedelta

from rich.console import Console

from hilum.progress import LiveBar


class CacheProgress(LiveBar):
    """Views done of `num_views`, views/s of this run, time left."""

    def __init__(self, num_views: int, *, console: Console | None = None, silent: bool = False) -> None:
        super().__init__("cache", num_views, console=console, silent=silent)
        self._num_views, self._kept, self._finished, self._reading = num_views, 0, 0, 0
        self._begin = time.monotonic()

    def keep(self, num_views: int) -> None:
        """Views of a shard that an earlier run finished."""
        self._kept += num_views
        self._show_views()

    def finish(self, num_views: int) -> None:
        """Views of a shard just finished."""
        self._finished += num_views
        self._reading = max(0, self._reading - num_views)
        self._show_views()

    def report(self, reading: dict[int, int]) -> None:
        """Shard number -> files read of it, for the shards in the making."""
        self._reading = sum(reading.values())
        self._show_views()

    def _show_views(self) -> None:
        new, seconds = self._finished + self._reading, max(time.monotonic() - self._begin, 1e-3)
        done, state = self._kept + new, "views"
        if new:
            left = timedelta(seconds=round((self._num_views - done) / new * seconds))
            state = f"views  {new / seconds:.0f} views/s  {left} left"
        self.show(done, state, f"cache  {done:,}/{self._num_views:,} {state}")
