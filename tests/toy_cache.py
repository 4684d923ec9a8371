"""Caches built in tests, and what is in them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from hilum.cache import Cache
from hilum.cache.writer import build_cache

VIEWS = [1, 2, 3, 1, 2, 1, 1, 2]


def build(table: Path, out: Path, **settings) -> Cache:
    build_cache(table, out, **{"workers": 0, "short_side": 64, "shard_views": 4, "progress": False, **settings})
    return Cache.open(out)


def read_folder(folder: Path) -> dict[str, bytes]:
    """What a build wrote, but for locks."""
    files = (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".lock"))
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def run_program(code: str, *arguments: object, **how) -> subprocess.CompletedProcess[str]:
    """A program in a file of its own, as worker processes need it."""
    how = {"capture_output": True, "text": True, "timeout": 300, **how}
    return subprocess.run([sys.executable, code, *map(str, arguments)], check=False, **how)
