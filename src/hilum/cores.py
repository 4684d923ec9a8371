"""How many processors there are to use; asked by commands before anything heavy is imported."""

from __future__ import annotations

import os


def count_cores() -> int:
    """Processors that this process may use: those of its batch job or container, where the system tells."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
