"""A log file gets a line now and then, and is told once where the time goes."""

from __future__ import annotations

import io
import time

import pytest
from rich.console import Console

from hilum.cache.progress import CacheProgress
from hilum.progress import RunProgress


def run(num_steps: int, *, wait: float, cores: int = 4, silent: bool = False, terminal: bool = False) -> str:
    text = io.StringIO()
    console = Console(file=text, width=160, force_terminal=terminal, quiet=silent)
    waited = 0.0
    with RunProgress("pretrain mvmae", num_steps, cores=cores, console=console, silent=silent) as progress:
        for _ in range(num_steps):
            time.sleep(0.002)
            waited += wait * 0.003
            progress.advance(loss=0.5, views=64.0, waited=waited)
    return text.getvalue()


def test_a_log_file_gets_the_first_and_the_last_step():
    lines = run(30, wait=0.0).splitlines()
    assert [line.split("step ")[1].split()[0] for line in lines] == ["1/30", "30/30"]
    assert "0:00:00 left  loss 0.5000" in lines[-1]
    assert "waits 0%" in lines[-1]
    assert 2000 < float(lines[-1].split("loss 0.5000")[1].split()[0]) < 32000  # 64 views in 2 ms and more


def test_a_terminal_gets_a_live_bar():
    assert "30/30" in run(30, wait=0.0, terminal=True)


def test_waiting_for_data_is_said_once_with_its_cause():
    many, one = run(60, wait=0.9), run(60, wait=0.9, cores=1)
    assert many.count("warning:") == one.count("warning:") == 1
    assert "copy it to a local disk" in many
    assert "one core both" in one
    assert "warning" not in run(60, wait=0.0)


def test_other_processes_are_silent():
    assert run(30, wait=0.9, silent=True) == ""


def build(terminal: bool) -> str:
    """What a cache of ten views says, of which an earlier run made four."""
    text = io.StringIO()
    with CacheProgress(10, console=Console(file=text, width=160, force_terminal=terminal)) as progress:
        progress.keep(4)
        progress.report({1: 2})
        progress.finish(3)
        progress.say("done [so far]")
    return text.getvalue()


def test_a_cache_counts_what_is_there_and_what_it_makes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert build(terminal=False) == "done [so far]\n"  # no line within half a minute
    monkeypatch.setattr("hilum.progress._BETWEEN_LINES", -1.0)
    lines = build(terminal=False).splitlines()
    assert [line.split("  ")[1] for line in lines[:-1]] == ["4/10 views", "6/10 views", "7/10 views"]
    assert "views/s" not in lines[0]  # nothing made yet
    assert lines[2].endswith("left")
    assert "7/10" in build(terminal=True)
