"""What a person sees while a run goes on: a live bar in a terminal, a line now and then in a log file."""

from __future__ import annotations

import time
from datetime import timedelta
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

# Above this share of time spent waiting for data the loader is the limit, and the user is told so once.
MUCH_WAITING = 0.2
_LINE_SECONDS = 30.0


class RunProgress:
    """Progress of a run of `num_steps` steps that starts at `first_step`; a silent one writes nothing.

    Time left is from the steps of the last minute or so, so that it follows a machine that becomes faster or slower.
    """

    def __init__(
        self, title: str, num_steps: int, first_step: int = 0, *, console: Console | None = None, silent: bool = False
    ) -> None:
        self.console = console or Console(stderr=True, quiet=silent)
        self._title, self._num_steps, self._step = title, num_steps, first_step
        self._seconds_per_step: float | None = None
        self._last_line = -float("inf")
        self._last_time = time.monotonic()
        self._warned = False
        self._bar = Progress(
            TextColumn("{task.description}"), BarColumn(bar_width=None), MofNCompleteColumn(),
            TextColumn("{task.fields[state]}"), console=self.console, disable=silent or not self.console.is_terminal,
        )  # fmt: skip
        self._task = self._bar.add_task(title, total=num_steps, completed=first_step, state="")

    def __enter__(self) -> RunProgress:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bar.stop()

    def say(self, text: str) -> None:
        """One line, above the bar where there is one."""
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def advance(self, step: int, *, loss: float, views_per_second: float, data_wait: float) -> None:
        """Show the state after `step` steps.

        Args:
            step: Steps done.
            loss: Total loss of the step.
            views_per_second: Views through the model in a second of the last steps, over all processes.
            data_wait: Share of that time spent waiting for data.
        """
        now = time.monotonic()
        if step > self._step:
            latest = (now - self._last_time) / (step - self._step)
            before = self._seconds_per_step
            # An average whose memory is about a minute, whatever a step takes.
            share = 1.0 if before is None else min(1.0, max(0.05, (now - self._last_time) / 60))
            self._seconds_per_step = latest if before is None else before + share * (latest - before)
        self._step, self._last_time = step, now
        left = f"{self._format_time_left()} left  " if self._seconds_per_step is not None else ""
        state = f"{left}loss {loss:.4f}  {views_per_second:.0f} views/s  waits {data_wait:.0%}"
        self._bar.update(self._task, completed=step, state=state)
        if not self.console.is_terminal and (now - self._last_line > _LINE_SECONDS or step == self._num_steps):
            self.say(f"{self._title}  step {step}/{self._num_steps}  {state}")
            self._last_line = now

    def warn_if_starved(self, data_wait: float, *, num_threads: int) -> None:
        """Say once what to do when the model waits for data much of the time."""
        if data_wait <= MUCH_WAITING or self._warned:
            return
        self._warned = True
        if num_threads < 2:
            cause = "one core both prepares data and computes"
        else:
            cause = "the cache may lie on a slow or remote disk: copy it to a local one"
        self.say(f"warning: {data_wait:.0%} of the time is spent waiting for data. Likely cause: {cause}.")

    def _format_time_left(self) -> str:
        seconds = (self._seconds_per_step or 0.0) * (self._num_steps - self._step)
        return str(timedelta(seconds=round(seconds)))
