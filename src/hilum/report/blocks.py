"""What a report page is made of: sections of blocks, each block text, a figure, a table or pictures."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Picture:
    address: str  # data address of a PNG
    caption: str


@dataclass(frozen=True)
class Table:
    columns: list[str]
    rows: list[list[str]]  # a cell's second line (after a line break) is shown small
    strong: list[int] = field(default_factory=list)  # indices of rows that carry the message


@dataclass(frozen=True)
class Block:
    heading: str = ""
    text: list[str] = field(default_factory=list)
    figures: list[str] = field(default_factory=list)  # inline SVG panels; side by side where the page is wide enough
    caption: str = ""
    table: Table | None = None
    pictures: list[Picture] = field(default_factory=list)
    triples: bool = False  # three pictures a row: masked, reconstructed, original
    code: str = ""
    code_title: str = ""
    is_note: bool = False


@dataclass(frozen=True)
class Section:
    anchor: str
    title: str
    blocks: list[Block]


@dataclass(frozen=True)
class Tile:
    value: str
    meaning: str
