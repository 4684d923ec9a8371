"""Folders of runs, named with a hash of their settings: what has changed since is run anew, beside what there was."""

from __future__ import annotations

from hilum.checksums import hash_parts
from hilum.config import Config, dump_config


def name_run(name: str, config: Config, *words: str) -> str:
    """`name` and eight digits of the settings and of `words`, what else decides the run."""
    return f"{name}-{hash_parts([dump_config(config), *words])[:8]}"
