"""What a person sees while work goes on: a live bar in a terminal, a line now and then in a log file."""

from __future__ import annotations

import time
from datetime import timedelta
from types import TracebackType
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

# Above this share of time spent waiting for data the loader is the limit, and the user is told so once.
MUCH_WAITING = 0.2
_WARM_UP = 20  # steps in which files are read for the first time
_MEMORY = 60.0  # seconds that the figures shown are averaged over, about
_BETWEEN_LINES = 30.0  # seconds


Bar = TypeVar("Bar", bound="LiveBar")


class LiveBar:
    """What has been done of `total`: a bar in a terminal, in a log file a line now and then; a silent one writes
    nothing."""

    def __init__(
        self, title: str, total: int, completed: int = 0, *, console: Console | None = None, silent: bool = False
    ) -> None:
        self.console = console or Console(stderr=True, quiet=silent)
        self._last_line = time.monotonic()
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[state]}"),
            console=self.console,
            disable=silent or not self.console.is_terminal,
            refresh_per_second=2,
        )
        self._task = self._bar.add_task(title, total=total, completed=completed, state="")

    def __enter__(self: Bar) -> Bar:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bar.stop()

    def say(self, text: str) -> None:
        """One line, above the bar where there is one."""
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def show(self, completed: int, state: str, line: str, *, is_due: bool = False) -> None:
        """Move the bar, with `state` beside it; a log file gets `line` if the last was a while ago, or one is due."""
        now = time.monotonic()
        self._bar.update(self._task, completed=completed, state=state)
        if not self.console.is_terminal and (is_due or now - self._last_line > _BETWEEN_LINES):
            self.say(line)
            self._last_line = now


class RunProgress(LiveBar):
    """Progress of a run of `num_steps` steps that starts at `first_step`."""

    def __init__(
        self,
        title: str,
        num_steps: int,
        first_step: int = 0,
        *,
        cores: int = 1,
        unit: str = "views",
        console: Console | None = None,
        silent: bool = False,
    ) -> None:
        """`cores`: those that this process has for itself, for advice about slow data; `unit`: what a step holds."""
        super().__init__(title, num_steps, first_step, console=console, silent=silent)
        self._title, self._num_steps, self._step, self._first_step = title, num_steps, first_step, first_step
        self._cores, self._unit = cores, unit
        # Averages a step, of seconds, seconds waited for data and views; they forget in about `_MEMORY` seconds.
        self._averages: tuple[float, float, float] | None = None
        self._last_time, self._last_waited = time.monotonic(), 0.0
        self._warned = False

    def __enter__(self) -> RunProgress:
        self._last_time = time.monotonic()
        return super().__enter__()

    def advance(self, *, loss: float, views: float, waited: float) -> None:
        """One step is done.

        Args:
            loss: Its total loss.
            views: Its views (or what `unit` says), over all processes.
            waited: Seconds this process has waited for data since it began.
        """
        now = time.monotonic()
        latest = (now - self._last_time, waited - self._last_waited, views)
        self._step, self._last_time, self._last_waited = self._step + 1, now, waited
        keep = 0.0 if self._averages is None else max(0.0, 1 - max(latest[0] / _MEMORY, 1 / (self._num_done + 1)))
        before = self._averages or latest
        seconds, waiting, shown = (keep * old + (1 - keep) * new for old, new in zip(before, latest, strict=True))
        self._averages = (seconds, waiting, shown)
        share = min(1.0, waiting / max(seconds, 1e-9))
        left = timedelta(seconds=round(seconds * (self._num_steps - self._step)))
        state = f"{left} left  loss {loss:.4f}  {shown / max(seconds, 1e-9):.0f} {self._unit}/s  waits {share:.0%}"
        line = f"{self._title}  step {self._step}/{self._num_steps}  {state}"
        self.show(self._step, state, line, is_due=self._num_done == 1 or self._step == self._num_steps)
        if share > MUCH_WAITING and self._num_done > _WARM_UP and not self._warned:
            self._warned = True
            cause = (
                "one core both prepares data and computes: use fewer processes (--run.devices) or more cores"
                if self._cores < 2
                else "the cache is on a slow or remote disk, or read for the first time: copy it to a local disk"
            )
            self.say(f"warning: {share:.0%} of the time is spent waiting for data. Likely cause: {cause}.")

    @property
    def _num_done(self) -> int:
        return self._step - self._first_step
