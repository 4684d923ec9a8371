"""Pretraining runs of seconds: a tiny cache, tiny recipes, and runs in processes that may be killed."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import multiprocessing.forkserver
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from hilum.cache import Cache
from hilum.config import (
    Captioning,
    Config,
    ContrastAlignment,
    ImageContrast,
    PooledAlignment,
    Reconstruction,
    RunConfig,
    TeacherContrast,
    find_captioning,
    find_whole_terms,
)
from hilum.recipes import Preset, build_recipe

TIMINGS = ("views_per_second", "data_wait", "seconds", "memory_mib")


def write_sections(study: int) -> list[dict[str, str]]:
    """A toy report: every fifth study has none, every third only an impression."""
    sides, size = ("left", "right", "no")[study % 3], ("small", "large")[study % 2]
    found = {"section": "findings", "text": f"The heart is {size}. There is {sides} effusion."}
    said = {"section": "impression", "text": f"{size} heart, {sides} effusion"}
    return [] if study % 5 == 4 else [said] if study % 3 == 2 else [found, said]


def make_tiny_cache(folder: Path) -> Cache:
    """30 studies of 1 to 3 views, most with a report; 18 of them for training."""
    from toy_archive import make_cache  # brings readers and tables, which processes that only train do without

    return make_cache(
        folder,
        [1 + (study * 7) % 3 for study in range(30)],
        split=[("train", "train", "train", "val", "test")[study // 2 % 5] for study in range(30)],
        sections=[write_sections(study) for study in range(30)],
    )


def build_tiny(recipe: str = "mvmae", preset: Preset = "hilum", *, epochs: float = 4.0, **run: Any) -> Config:
    """A recipe with every network shrunk to a few hundred weights; nothing else about it is changed."""
    config = build_recipe(recipe, preset, "tiny")
    terms = {}
    for name, term in config.terms.items():
        if isinstance(term, Reconstruction):
            terms[name] = replace(term, decoder=replace(term.decoder, width=16, depth=2, heads=2))
        elif isinstance(term, (PooledAlignment, ContrastAlignment)) and term.projector:
            terms[name] = replace(term, projector=(16, 8))
        elif isinstance(term, Captioning):
            terms[name] = replace(term, decoder=replace(term.decoder, width=16, depth=1, heads=2))
        elif isinstance(term, TeacherContrast | ImageContrast):
            terms[name] = replace(term, width=8)
        else:
            terms[name] = term
    has_masks = len(find_whole_terms(config)) < len(terms)
    return replace(
        config,
        terms=terms,
        adapter=None if config.adapter is None else replace(config.adapter, rank=2),
        encoder=replace(config.encoder, image_size=32, patch_size=8, width=16, depth=2, heads=2),
        mask=replace(config.mask, ratio=0.75) if has_masks else config.mask,
        data=replace(config.data, views_per_step=12),
        optim=replace(config.optim, epochs=epochs),
        text=replace(config.text, vocabulary_size=300, length=32) if find_captioning(config) else config.text,
        run=RunConfig(**{"precision": "32-true", "log_every": 2, "meter_every": 4, "checkpoint_every": 4, **run}),
    )


def write_tiny_teachers(cache: Cache) -> dict[str, Path]:
    """Tables of two teachers: of 18 training studies 12 have an ECG, 9 laboratory values, 6 both and 3 neither."""
    rows, random = cache.rows(), np.random.default_rng(0)
    place = rows * 7 % 10
    known = {"ecg": rows[place < 6], "labs": rows[(place < 3) | (place >= 8)]}
    widths = {"ecg": 7, "labs": 4}
    return {
        name: write_vectors(
            cache, cache.path.parent / f"{name}.parquet", random.normal(1.0, 1.0, (len(study), widths[name])), study
        )
        for name, study in known.items()
    }


def write_vectors(cache: Cache, out: Path, values: np.ndarray, study: np.ndarray | list[int]) -> Path:
    """A table as `hilum embed` writes it, of a teacher that learned from nobody: vectors of these rows of the cache."""
    from hilum.teachers.table import write_teacher_table  # brings tables

    rows = cache.table().select("dataset", "study", "group", "split")[np.asarray(study)]
    write_teacher_table(out, rows, np.asarray(values, np.float32), made_by={}, people={})
    return out


_preloaded = False


def start_process(function: Callable[..., None], *args: Any) -> multiprocessing.Process:
    """A function in a process of its own, forked from a server that has imported training once."""
    global _preloaded  # noqa: PLW0603
    if not _preloaded:
        multiprocessing.forkserver._forkserver._stop()  # it may have been started for other work
        multiprocessing.set_forkserver_preload(["hilum.training.pretrain"])
        _preloaded = True
    process = multiprocessing.get_context("forkserver").Process(target=function, args=args)
    process.start()
    return process


def start_run(config: Config, cache: Cache, out: Path, *, resume: bool = False) -> multiprocessing.Process:
    """`pretrain` in a process of its own, forked from a server that has imported it."""
    process = multiprocessing.get_context("forkserver").Process(
        target=_pretrain, args=(config, cache.path, out, resume)
    )
    process.start()
    return process


def _pretrain(config: Config, cache_path: Path, out: Path, resume: bool) -> None:
    import torch

    from hilum.training.pretrain import pretrain

    torch.set_num_threads(1)
    pretrain(config, cache_path, out, resume=resume)


def read_metrics(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def drop_timings(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in line.items() if name not in TIMINGS} for line in lines]


def hash_weights(out: Path) -> str:
    return hashlib.sha256((out / "weights.safetensors").read_bytes()).hexdigest()
