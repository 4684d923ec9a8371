"""Where studies come from: one archive per file, each read into the same study table.

The registry imports nothing: `load_source` imports the one file that is needed.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module

from hilum.errors import UserError


@dataclass(frozen=True)
class Source:
    """An archive or a kind of archive that `hilum ingest NAME` reads."""

    description: str
    module: str  # of hilum.sources
    function: str


SOURCES = {
    "folder": Source("a tree of DICOM, PNG or JPEG files, with report texts beside them", "folder", "ingest_folder"),
    "table": Source("your own CSV, TSV or Parquet: one row per image or per study", "table", "ingest_table"),
}


def load_source(name: str) -> Callable:
    """The ingest function of a source: `function(root_or_file, out, ...) -> IngestSummary`."""
    if name not in SOURCES:
        close = difflib.get_close_matches(name, SOURCES, n=1)
        suggestion = f" Did you mean '{close[0]}'?" if close else ""
        raise UserError(f"There is no source '{name}'.{suggestion} `hilum sources` lists them: {', '.join(SOURCES)}.")
    source = SOURCES[name]
    return getattr(import_module(f"{__name__}.{source.module}"), source.function)
