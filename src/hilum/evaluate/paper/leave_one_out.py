"""Pretraining on one archive, or on all but one: what is there, and the commands for what is missing."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl

from hilum.cache import Cache
from hilum.study import read_studies, write_studies


def list_missing(archives: Sequence[str], saw: Sequence[Mapping[str, bool | None]]) -> dict[str, tuple[str, ...]]:
    """Name -> archives to pretrain on, for each archive by itself and each one left out, where no encoder saw exactly
    those.

    Args:
        archives: of the cache.
        saw: of each encoder, archive -> whether its pretraining saw it.
    """
    wanted = {f"without-{name}": tuple(other for other in archives if other != name) for name in archives}
    wanted |= {f"only-{name}": (name,) for name in archives}
    there = {frozenset(name for name in archives if seen.get(name)) for seen in saw}
    missing: dict[str, tuple[str, ...]] = {}
    for label, names in wanted.items():
        if names and frozenset(names) not in there and names not in missing.values():
            missing[label] = names
    return missing


def write_commands(cache: Cache, run: Path, out: Path, missing: Mapping[str, Sequence[str]]) -> list[str]:
    """Study tables of the archives to pretrain on, and the commands from there: patients keep their splits, settings
    are those of `run`.

    The caches are decoded anew; images cannot be left out of a cache that is there.
    """
    everything = read_studies(cache.path / "studies.parquet")
    policy, side, depth = cache.policy.split("/")
    config = run / "config.json"
    recipe = [str(config)] if config.is_file() else ["mvmae"]
    commands = []
    for label, names in missing.items():
        table, made, learned = out / f"{label}.parquet", out / f"{label}-cache", out / f"{label}-run"
        write_studies(everything.filter(pl.col("dataset").is_in(list(names))), table)
        kept = ["--policy", policy, "--short-side", side.removeprefix("short"), "--bits", depth.removeprefix("uint")]
        commands.append(shlex.join(["hilum", "cache", str(table), "--out", str(made), *kept]))
        commands.append(
            shlex.join(["hilum", "pretrain", *recipe, "--data", str(made), "--out", str(learned), "--resume"])
        )
    return commands
