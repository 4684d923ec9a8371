"""From folders to one HTML file: each folder is recognised by what lies in it and becomes a section."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from hilum.atomic import write_atomic
from hilum.cache import Cache

from .archive_section import build_archive_section, build_table_section
from .blocks import Section, Tile
from .evaluation_section import build_evaluation_section
from .heat_section import build_heat_section
from .kinds import Kind, find_kind
from .probe_section import build_probe_section, build_result_section
from .risk_section import build_risk_section
from .training_section import build_training_section

_BUILDERS: dict[Kind, Callable[[Path], tuple[Section, list[Tile]]]] = {
    "archive": lambda path: build_archive_section(Cache.open(path)),
    "evaluation": build_evaluation_section,
    "heatmap": build_heat_section,
    "probe": build_probe_section,
    "risk": build_risk_section,
    "result": build_result_section,
    "training": build_training_section,
    "table": build_table_section,
}


def write_report(paths: Sequence[Path], out: Path, *, title: str = "Hilum report") -> None:
    """Write one self-contained page about study tables, caches, runs and evaluations, in the order given.

    Raises:
        UserError: a path is none of these.
    """
    built = [_build_section(path) for path in paths]
    sections, tiles = _tell_apart(built, _name_paths(paths))
    pages = Environment(
        loader=PackageLoader("hilum.report", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    page = pages.get_template("page.html.j2").render(
        title=title, sections=sections, tiles=tiles, version=version("hilum")
    )
    write_atomic(out, page)


def _name_paths(paths: Sequence[Path]) -> list[str]:
    """The last folders of each path, as few as tell all apart."""
    parts = [path.resolve().parts for path in paths]
    for depth in range(1, max(map(len, parts), default=0) + 1):
        names = ["/".join(part[-depth:]) for part in parts]
        if len(set(names)) == len(set(parts)):
            return names
    return [str(path) for path in paths]


def _tell_apart(built: Sequence[tuple[Section, list[Tile]]], names: Sequence[str]) -> tuple[list[Section], list[Tile]]:
    """All sections and tiles; of equal titles and meanings each says where it is from, and no two anchors are equal."""
    titles = Counter(section.title for section, _ in built)
    meanings = Counter(tile.meaning for _, tiles in built for tile in tiles)
    anchors: Counter[str] = Counter()
    sections, numbers = [], []
    for (section, tiles), name in zip(built, names, strict=True):
        anchor = re.sub(r"[^\w-]+", "-", section.anchor)  # a name with spaces would be no anchor
        anchors[anchor] += 1
        title = section.title
        if titles[title] > 1:
            title += f" ({name})" if ":" in title else f": {name}"
        anchor += f"-{anchors[anchor]}" if anchors[anchor] > 1 else ""
        sections.append(replace(section, title=title, anchor=anchor))
        numbers += [
            replace(tile, meaning=f"{tile.meaning} ({name})") if meanings[tile.meaning] > 1 else tile for tile in tiles
        ]
    return sections, numbers


def _build_section(path: Path) -> tuple[Section, list[Tile]]:
    return _BUILDERS[find_kind(path)](path)
