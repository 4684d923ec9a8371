"""Where a run's prompts point: hit rates beside chance and the breast's centre, the test of random weights, maps."""

from __future__ import annotations

import base64
from pathlib import Path

from hilum.evaluate.prompted.heat_report import OVERLAYS
from hilum.evaluate.result import Estimate, Result, read_result

from .blocks import Block, Picture, Section, Table, Tile

_POINTED = {
    "pointing_hit": "hit rate",
    "pointing_chance": "random point",
    "pointing_centre": "breast's centre",
    "pointing_above_chance": "above chance",
    "pointing_above_centre": "above the centre",
}
_MOST_PICTURES = 12


def build_heat_section(folder: Path) -> tuple[Section, list[Tile]]:
    """Tables and pictures of a folder that `hilum heatmap` wrote."""
    result = read_result(folder / "result.json")
    protocol = result.protocol
    text = (
        f"Maps of tokens before pooling ({protocol['tokenizer']}), compared with prompts; no box was read in training. "
        f"Intervals are {result.level:.0%}, by resampling {result.counts['test_patients']:,} patients."
    )
    blocks = [
        Block(text=[text]),
        *([Block(text=list(result.notes), is_note=True)] if result.notes else []),
        _tabulate_pointing(result),
        *_tabulate_random(result),
        *_show_pictures(folder),
    ]
    return Section(f"heatmap-{folder.name}", f"Where the prompts point: {result.encoder}", blocks), _build_tiles(result)


def _tabulate_pointing(result: Result) -> Block:
    rows, hits = [], [one for one in result.estimates if one.metric == "pointing_hit"]
    for hit in hits:
        found = (result.find(metric, hit.of, hit.slice) for metric in _POINTED)
        rows.append([f"{hit.of}, {hit.slice.replace('=', ' ')}", f"{hit.num:,}", *map(_format, found)])
    caption = (
        "Share of views whose map is largest within the lesion (its mask, or its box), or at most the tolerance away. "
        "A random point: the lesion's share of the breast's area. Differences are paired; an interval that holds 0 "
        "settles nothing."
    )
    return Block("Pointing game", table=Table(["", "views", *_POINTED.values()], rows), caption=caption)


def _tabulate_random(result: Result) -> list[Block]:
    found = [one for one in result.estimates if one.metric == "map_rank_correlation"]
    if not found:
        return []
    rows = [
        [
            f"{one.of}, down to the {one.slice.removeprefix('random=')}",
            f"{one.num:,}",
            _format(one),
            _format(result.find("map_structure", one.of, one.slice)),
        ]
        for one in found
    ]
    said = [f"{name}: {verdict['why']}." for name, verdict in result.protocol["verdicts"].items()]
    caption = (
        "How alike maps stay when learned weights give way to random ones, part by part from the top (Adebayo et al. "
        "2018). A map that stays alike shows the image, not what was learned."
    )
    columns = ["random weights", "maps", "rank correlation", "structural similarity"]
    return [Block("With random weights", text=said, table=Table(columns, rows), caption=caption)]


def _show_pictures(folder: Path) -> list[Block]:
    paths = sorted((folder / OVERLAYS).glob("*.png"))[:_MOST_PICTURES]
    pictures = [
        Picture(f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}", path.stem.partition("-")[2])
        for path in paths
    ]
    caption = "Outline: the lesion. Cross: the map's maximum. Drawn by study, not by what came out."
    return [Block("Maps", pictures=pictures, caption=caption, triples=True)] if pictures else []


def _build_tiles(result: Result) -> list[Tile]:
    tiles = []
    for hit in (one for one in result.estimates if one.metric == "pointing_hit" and one.slice == "tolerance=0 mm"):
        chance = result.find("pointing_chance", hit.of, hit.slice)
        tiles.append(Tile(_say(hit), f"pointing game on {hit.of} by {result.encoder}; a random point {_say(chance)}"))
    return tiles


def _say(estimate: Estimate) -> str:
    return "-" if estimate.value is None else f"{estimate.value:.1%}"


def _format(estimate: Estimate) -> str:
    if estimate.value is None:
        return "-"
    interval = "" if estimate.low is None else f"\n{estimate.low:.3f} to {estimate.high:.3f}"
    return f"{estimate.value:.3f}{interval}"
