"""A pretraining run: what was run, its curves, whether its features stay alive, and what it sees."""

from __future__ import annotations

import json
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np

from hilum.config import Config, ConvEncoderConfig, find_whole_terms, load_config
from hilum.errors import UserError
from hilum.training.run_folder import read_metrics

from .blocks import Block, Picture, Section, Table, Tile
from .figures import PALETTE, THIRD, draw_figure, encode_png, encode_svg

_TRIPLE = {"input": "what the encoder saw", "prediction": "its guess", "original": "truth"}


def build_training_section(run: Path) -> tuple[Section, list[Tile]]:
    """Curves, health and example reconstructions of a run folder."""
    config = load_config(run / "config.json")
    lines = read_metrics(run / "metrics.jsonl")
    if not lines:
        raise UserError(f"{run}: no step was logged yet, so there is nothing to draw. Draw it again in a minute.")
    seen = json.loads((run / "pretraining.json").read_bytes())
    last = lines[-1]
    seconds = last["seconds"]
    blocks = [
        Block(
            text=[
                f"Recipe {config.recipe}, preset {config.preset}, size {config.size}: {_describe_encoder(config)}.",
                f"It learned from {seen['num_studies']:,} studies of {seen['num_groups']:,} patients in "
                f"{last['step']:,} steps of about {config.data.views_per_step} views: each study was drawn "
                f"{last['epoch']:.1f} times on average. This took {_format_duration(seconds)}.",
            ]
        ),
        Block("Losses", figures=_plot_losses(lines, list(config.terms)), caption="Each term, unweighted, by step."),
        *_describe_health(lines),
        *_show_pictures(run / "reconstructions"),
        _tabulate_speed(lines),
        Block(code=(run / "config.json").read_text(), code_title="The full config, which repeats this run"),
        Block(code=(run / "environment.json").read_text(), code_title="Where it ran"),
    ]
    tiles = [Tile(_format_duration(seconds), f"to pretrain {config.recipe}, {config.size}")]
    return Section(f"run-{run.name}", f"Pretraining: {run.name}", blocks), tiles


def _describe_encoder(config: Config) -> str:
    encoder = config.encoder
    if isinstance(encoder, ConvEncoderConfig):
        return f"{encoder.backbone} on {encoder.image_height} x {encoder.image_width} px, tokens by {encoder.tokenizer}"
    return (
        f"a vision transformer of width {encoder.width} and {encoder.depth} blocks on {encoder.image_size} px in "
        f"patches of {encoder.patch_size} px, {_describe_passes(config)}"
    )


def _describe_passes(config: Config) -> str:
    """What the terms saw of a view."""
    masked = f"{config.mask.ratio:.0%} of them masked"
    whole = find_whole_terms(config)
    if not whole:
        return masked
    return "seen whole" if len(whole) == len(config.terms) else f"{masked}, and seen whole by {', '.join(whole)}"


def _plot_losses(lines: list[dict[str, Any]], terms: list[str]) -> list[str]:
    panels = []
    for term, color in zip(terms, cycle(PALETTE[:-1]), strict=False):
        with draw_figure(THIRD) as (figure, axis):
            _plot_curve(axis, lines, f"{term}/loss", color, "training")
            _plot_curve(axis, lines, f"val/{term}", PALETTE[-1], "validation", marker=".")
            axis.set_title(term, loc="left", fontsize=9)
            axis.set_xlabel("step")
            axis.legend()
            panels.append(encode_svg(figure, f"{term} by step"))
    return panels


def _describe_health(lines: list[dict[str, Any]]) -> list[Block]:
    panels = []
    pulls = sorted({name for line in lines for name in line if name.endswith("/gradient_ratio")})
    for name, title, unit in (
        ("features/effective_rank", "effective rank", "dimensions"),
        ("features/retrieval", "frontal finds its lateral", "top-1 share"),
        *((name, f"pull of {name.split('/')[0]}", "of reconstruction's") for name in pulls),
    ):
        if all(line.get(name) is None for line in lines):
            continue
        with draw_figure(THIRD) as (figure, axis):
            _plot_curve(axis, lines, name, PALETTE[0], "this run")
            if name == "features/retrieval":
                _plot_curve(axis, lines, "features/retrieval_chance", PALETTE[-1], "chance")
                axis.legend()
            axis.set_title(title, loc="left", fontsize=9)
            axis.set_ylabel(unit)
            axis.set_xlabel("step")
            axis.set_ylim(bottom=0)
            panels.append(encode_svg(figure, f"{title} by step"))
    if not panels:
        return []
    caption = (
        "A rank that falls towards 1 is a collapse. Retrieval: does the nearest lateral view of a batch belong to the "
        "same study? Pull: how strongly a term changes the encoder, as a multiple of reconstruction."
    )
    return [Block("Health", figures=panels, caption=caption)]


def _show_pictures(folder: Path, num_views: int = 4) -> list[Block]:
    files = sorted(folder.glob("step-*.npz"))
    if not files:
        return []
    pictures = []
    with np.load(files[-1]) as stored:
        step = int(files[-1].stem.split("-")[1])
        for view in range(min(num_views, len(stored["original"]))):
            for name, caption in _TRIPLE.items():
                pictures.append(Picture(encode_png(stored[name][view]), caption))
    caption = (
        f"Step {step:,}. Visible patches of the guess are the true ones; predictions of normalised patches are shown "
        "with the true patch's mean and contrast, so they tell structure, not grey values."
    )
    return [Block("Reconstructions", pictures=pictures, triples=True, caption=caption)]


def _tabulate_speed(lines: list[dict[str, Any]]) -> Block:
    speed = np.median([line["views_per_second"] for line in lines])
    wait = np.mean([line["data_wait"] for line in lines])
    memory = max(line["memory_mib"] for line in lines)
    rows = [[f"{speed:,.0f}", f"{wait:.1%}", f"{memory / 1024:.2f}"]]
    return Block(
        "Speed", table=Table(["views a second (median)", "of the time waiting for data", "peak memory, GiB"], rows)
    )


def _plot_curve(
    axis, lines: list[dict[str, Any]], name: str, color: str, label: str, marker: str | None = None
) -> None:
    points = [(line["step"], line[name]) for line in lines if line.get(name) is not None]
    if points:
        steps, values = zip(*points, strict=True)
        axis.plot(steps, values, color=color, linewidth=1.3, marker=marker, label=label)


def _format_duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    return f"{minutes:.1f} min" if minutes < 90 else f"{minutes / 60:.1f} h"
