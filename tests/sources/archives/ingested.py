"""Archives ingested by the public command, and their study tables looked at by image path."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from hilum.cli import main
from hilum.study import read_studies


def ingest(name: str, folder: Path, out: Path) -> pl.DataFrame:
    """The study table of an archive in which nothing has to be rejected."""
    assert main(["ingest", name, str(folder), "--out", str(out)]) == 0
    return read_studies(out)


def find_study(frame: pl.DataFrame, part: str) -> dict:
    """The one study with an image whose path contains `part`; ids are hashed, paths are not."""
    found = [row for row in frame.iter_rows(named=True) if any(part in view["path"] for view in row["views"])]
    assert len(found) == 1, f"{len(found)} studies have an image at {part}"
    return found[0]


def get_text(study: dict, section: str) -> str | None:
    """The text of a section with single blanks for blank space, None where the study has no such section."""
    texts = [" ".join(entry["text"].split()) for entry in study["sections"] if entry["section"] == section]
    assert len(texts) <= 1, f"two sections {section}"
    return texts[0] if texts else None


def join_sections(study: dict) -> str:
    """All that is kept of a report, with single blanks for blank space."""
    return " ".join(" ".join(entry["text"].split()) for entry in study["sections"])


def get_kinds(study: dict) -> list[tuple[str, str]]:
    """Position as the archive wrote it and kind of every view, sorted."""
    return sorted((view["position"], view["kind"]) for view in study["views"])


def get_states(study: dict, findings: tuple[str, ...]) -> dict[str, int]:
    """States of the findings that are not blank."""
    return {finding: study[finding] for finding in findings if study[finding] is not None}
