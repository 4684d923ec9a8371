"""Pretraining on one archive, or on all but one: what is there, and the commands for what is missing."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from hilum.cache import Cache
from hilum.config import load_config
from hilum.model.places import find_folder


def list_missing(
    tested: Sequence[str], archives: Sequence[str], saw: Sequence[Mapping[str, bool | None]]
) -> dict[str, tuple[str, ...]]:
    """Name -> archives to pretrain on, for each tested archive by itself and each one left out, where no encoder saw
    exactly those.

    Args:
        tested: archives with test studies of the task; only these are left out, or pretrained on alone.
        archives: of the cache: others than the tested stay in pretraining, as ChestX-ray14 does in the paper's.
        saw: of each encoder, archive -> whether its pretraining saw it.
    """
    wanted = {f"without-{name}": tuple(other for other in archives if other != name) for name in tested}
    wanted |= {f"only-{name}": (name,) for name in tested}
    there = {frozenset(name for name in archives if seen.get(name)) for seen in saw}
    missing: dict[str, tuple[str, ...]] = {}
    for label, names in wanted.items():
        if names and frozenset(names) not in there and names not in missing.values():
            missing[label] = names
    return missing


def say_missing(commands: Sequence[str], archives: Sequence[str]) -> list[str]:
    """What a reader is told: the commands, or why there is none."""
    if commands:
        return ["No run saw exactly these archives; pretrain, then evaluate again with the new runs:", *commands]
    if len(archives) < 2:
        return [f"The cache holds one archive, {archives[0]}, which a run was pretrained on: none can be left out."]
    return ["Every archive was left out once, and pretrained on alone."]


def list_commands(cache: Cache, run: Path, out: Path, missing: Mapping[str, Sequence[str]]) -> list[str]:
    """The commands that pretrain on the archives missing, with the settings of `run`: patients keep their splits."""
    config = find_folder(run) / "config.json"
    recipe = [str(config)] if config.is_file() else ["mvmae"]
    start = load_config(config).initial_weights if config.is_file() else None
    if start is not None:  # the run knows the file, not where it lay
        recipe += ["--init", start.file]
    commands = []
    for label, names in missing.items():
        words = ["hilum", "pretrain", *recipe, "--data", str(cache.path), "--out", str(out / label), "--resume"]
        others = [name for name in cache.datasets if name not in names]
        commands.append(shlex.join([*words, "--data.leave-out", *others]))
    return commands
