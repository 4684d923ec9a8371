"""A table of a suite: its columns are parts of the test split, its cells estimates, its faults footnotes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from hilum.evaluate.result import TOO_FEW, Estimate, Result

from .index import Suite
from .mvmae import published
from .parts import MEAN, POOLED

NOT_EVALUATED = "not evaluated"
MEAN_TITLE, POOLED_TITLE = "Combined: mean of archives", "Combined: pooled"


@dataclass(frozen=True)
class SuiteTable:
    """A table for people; the second line of a cell (after a line break) is its interval or what else is small."""

    title: str
    columns: list[str]
    rows: list[list[str]]
    caption: str = ""
    footnotes: list[str] = field(default_factory=list)  # "[a] ...", marked in cells


@dataclass(frozen=True)
class Part:
    """A column (or some): a part of the test split, and which published data set stands beside it."""

    title: str
    own: str | None  # archive, MEAN or POOLED; None: only published
    dataset: str | None


class Footnotes:
    """Footnotes in the order they are first marked; `texts` are all there could be, by key."""

    def __init__(self, texts: Mapping[str, str]) -> None:
        self.texts = texts
        self.keys: list[str] = []

    def mark(self, *keys: str) -> str:
        self.keys += [key for key in keys if key not in self.keys]
        return "".join(f" [{chr(97 + place)}]" for place in sorted(self.keys.index(key) for key in keys))

    def explain(self) -> list[str]:
        return [f"[{chr(97 + place)}] {self.texts[key]}" for place, key in enumerate(self.keys)]


def list_parts(suite: Suite, *, paper: bool) -> list[Part]:
    """The user's archives, the two meanings of Combined, and with `paper` the published data sets they lack."""
    archives = suite.index["archives"]
    parts = [Part(name, name, published.match_dataset(name)) for name in archives]
    if len(archives) > 1:
        parts.append(Part(MEAN_TITLE, MEAN, None))
    if len(archives) > 1 or paper:
        parts.append(Part(POOLED_TITLE, POOLED, "combined"))
    if paper:
        there = {part.dataset for part in parts}
        parts += [Part(title, None, key) for key, title in published.DATASETS.items() if key not in there]
    return parts


def find_estimate(result: Result, metric: str, of: str, slice: str) -> Estimate:
    """That estimate, or an undefined one where the result has none."""
    for entry in result.estimates:
        if (entry.metric, entry.of, entry.slice) == (metric, of, slice):
            return entry
    return Estimate(metric, of, None, slice=slice, reason=NOT_EVALUATED)


def summarise(suite: Suite) -> str:
    """The part that stands for all: the mean over archives, or the one archive there is."""
    return MEAN if len(suite.index["archives"]) > 1 else POOLED


def format_percent(estimate: Estimate, *, sign: bool = False) -> str:
    return format_estimate(estimate, 100.0, 1, sign)


def format_estimate(estimate: Estimate, scale: float, digits: int, sign: bool = False) -> str:
    if estimate.value is None:
        few = estimate.of == "macro" and estimate.reason != NOT_EVALUATED
        return TOO_FEW if few or (estimate.reason or "").startswith(TOO_FEW) else "-"
    style = f"{'+' if sign else ''}z.{digits}f"  # z: what rounds to nothing is not -0.0
    value = f"{scale * estimate.value:{style}}"
    if estimate.low is None or estimate.high is None:
        return value
    return f"{value}\n{scale * estimate.low:{style}} to {scale * estimate.high:{style}}"


def write_markdown(tables: Sequence[SuiteTable], notes: Sequence[str] = ()) -> str:
    """The tables as Markdown, after what concerns all of them."""
    lines = [f"{note}\n" for note in notes]
    for table in tables:
        lines += [f"## {table.title}", "", _join(table.columns), _join(["---"] * len(table.columns))]
        lines += [_join(row) for row in table.rows]
        lines += ["", *(f"{text}\n" for text in (table.caption, *table.footnotes) if text)]
    return "\n".join(lines)


def _join(cells: Sequence[str]) -> str:
    said = (_fold(cell).replace("|", "/") for cell in cells)
    return f"| {' | '.join(said)} |"


def _fold(cell: str) -> str:
    value, *small = cell.split("\n")
    return f"{value} ({'; '.join(small)})" if small else value
