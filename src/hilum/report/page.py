"""From folders to one HTML file: each folder is recognised by what lies in it and becomes a section."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from hilum.atomic import write_atomic
from hilum.cache import Cache
from hilum.errors import UserError

from .archive_section import build_archive_section, build_table_section
from .blocks import Section, Tile
from .probe_section import build_probe_section, build_result_section
from .training_section import build_training_section


def write_report(paths: Sequence[Path], out: Path, *, title: str = "Hilum report", subtitle: str = "") -> None:
    """Write one self-contained page about study tables, caches, runs and evaluations, in the order given.

    Raises:
        UserError: a path is none of these.
    """
    sections: list[Section] = []
    tiles: list[Tile] = []
    for path in paths:
        section, numbers = _build_section(path)
        sections.append(section)
        tiles += numbers
    pages = Environment(
        loader=PackageLoader("hilum.report", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    page = pages.get_template("page.html.j2").render(
        title=title, subtitle=subtitle, sections=sections, tiles=tiles, version=version("hilum")
    )
    write_atomic(out, page)


def _build_section(path: Path) -> tuple[Section, list[Tile]]:
    if (path / "index.json").exists():
        return build_archive_section(Cache.open(path))
    if (path / "probe.json").exists():
        return build_probe_section(path)
    if (path / "result.json").exists():
        return build_result_section(path)
    if (path / "metrics.jsonl").exists():
        return build_training_section(path)
    if path.suffix == ".parquet" and path.is_file():
        return build_table_section(path)
    raise UserError(
        f"{path}: nothing to draw. Expected a cache (index.json), a run (metrics.jsonl), a probe (probe.json), the "
        "folder of a fine-tuning (result.json) or a study table (.parquet)."
    )
