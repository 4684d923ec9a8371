"""What a person sees while a cache is built: a live bar in a terminal, a line now and then in a log file."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

_LINE_SECONDS = 30.0


class CacheProgress:
    """Views done of `num_views`, views/s of this run, time left; a silent one writes nothing."""

    def __init__(self, num_views: int, *, console: Console | None = None, silent: bool = False) -> None:
        self.console = console or Console(stderr=True, quiet=silent)
        self._num_views, self._kept, self._finished, self._reading = num_views, 0, 0, 0
        self._begin = self._last_line = time.monotonic()
        self._bar = Progress(
            TextColumn("cache"), BarColumn(bar_width=None), MofNCompleteColumn(), TextColumn("views"),
            TextColumn("{task.fields[rate]}"), TimeRemainingColumn(), console=self.console,
            disable=silent or not self.console.is_terminal,
        )  # fmt: skip
        self._task = self._bar.add_task("cache", total=num_views, rate="")

    def __enter__(self) -> CacheProgress:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bar.stop()

    def say(self, text: str) -> None:
        """One line, above the bar where there is one."""
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def keep(self, num_views: int) -> None:
        """Views of a shard that an earlier run finished."""
        self._kept += num_views
        self._show()

    def finish(self, num_views: int) -> None:
        """Views of a shard just finished."""
        self._finished += num_views
        self._reading = max(0, self._reading - num_views)
        self._show()

    def report(self, reading: dict[int, int]) -> None:
        """Shard number -> files read of it, for the shards in the making."""
        self._reading = sum(reading.values())
        self._show()

    def _show(self) -> None:
        now, new = time.monotonic(), self._finished + self._reading
        rate = f"{new / max(now - self._begin, 1e-3):.0f} views/s"
        self._bar.update(self._task, completed=self._kept + new, rate=rate)
        if not self.console.is_terminal and new and now - self._last_line > _LINE_SECONDS:
            left = (self._num_views - self._kept - new) / new * (now - self._begin)
            self.say(f"cache  {self._kept + new:,}/{self._num_views:,} views  {rate}  {left:,.0f} s left")
            self._last_line = now
