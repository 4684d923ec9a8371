"""A published map from PadChest's labels to the 14 findings, read from a user's own copy: the paper's targets (M 1.4).

Such a table gives every label one finding, No Finding among them, and some labels two: 17 of the official one stand
first with No Finding and later with another, so that the targets depend on which row counts.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Literal

import numpy as np

from hilum.errors import UserError
from hilum.labels import FINDINGS, LabelMap, read_label_map

Conflict = Literal["first", "last"]
NO_LABEL = "(no label)"  # stands for the empty string, which the table maps too


def read_published_map(path: Path, conflict: Conflict | None = None) -> LabelMap:
    """The map of a CSV with a column of PadChest's labels and one of findings, whatever they are called.

    Spaces around labels do not count. `conflict` says which row counts of a label that has several findings.

    Raises:
        UserError: there is no such column, a label has two findings and `conflict` is None, or the file is no CSV.
    """
    try:
        text = path.read_text("utf-8-sig")
        rows = [[cell.strip() for cell in row] for row in csv.reader(text.splitlines()) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} cannot be read as a CSV ({error}): --label-map takes a table of labels.") from None
    if len(rows) < 2 or len({len(row) for row in rows}) > 1:
        raise UserError(f"{path}: expected a header and rows with as many cells. Give the map as published.")
    header, *body = rows
    labels = _find_column(path, header, body, {*read_label_map("padchest").decisions, ""}, "labels of PadChest")
    targets = _find_column(path, header, body, set(FINDINGS), "findings")
    said: dict[str, list[str]] = {}
    for row in body:
        said.setdefault(row[labels] or NO_LABEL, []).append(row[targets])
    split = {label: list(dict.fromkeys(names)) for label, names in said.items() if len(set(names)) > 1}
    if split and conflict is None:
        label = min(split)
        raise UserError(
            f"{path} gives {len(split):,} labels several findings ('{label}': {', '.join(split[label])}): say which "
            "counts, with --conflict first or --conflict last."
        )
    chosen = [names[-1 if conflict == "last" else 0] for names in said.values()]
    positive = np.array([[finding == name for finding in FINDINGS] for name in chosen])
    return LabelMap(path.name, dict.fromkeys(said, "finding"), positive)


def _find_column(path: Path, header: list[str], body: list[list[str]], words: set[str], what: str) -> int:
    """The column whose cells are all among `words`."""
    strange = [{row[place] for row in body} - words for place in range(len(header))]
    place = min(range(len(header)), key=lambda place: len(strange[place]))
    if strange[place]:
        raise UserError(
            f"{path} has no column of {what}: of {', '.join(map(repr, header))} the nearest is '{header[place]}', "
            f"which has '{min(strange[place])}'. Give the map as published."
        )
    return place
