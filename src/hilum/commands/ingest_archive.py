"""What all archives' commands do: check a download, or ingest it and say what comes next."""

from __future__ import annotations

from pathlib import Path

from hilum.commands.terminal import say_next_cache
from hilum.errors import UserError
from hilum.identifiers import Naming


def ingest_archive(name: str, root: Path, out: Path | None, check: bool, naming: Naming, **settings) -> int:
    """Exit code 0; 3 where the download lacks something needed, or files were rejected."""
    from hilum.sources import named

    if check:
        return 0 if named.check_archive(name, root, **settings) else 3
    if out is None:
        raise UserError("--out is missing: name the study table to write, such as --out studies.parquet.")
    summary, cache_settings = named.ingest_archive(name, root, out, naming=naming, **settings)
    say_next_cache(out, *cache_settings)
    return 3 if summary.num_rejected else 0
