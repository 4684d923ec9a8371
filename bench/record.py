"""Where a bench leaves what it measured."""

from __future__ import annotations

import json
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "results" / "bench"


def write_result(name: str, result: dict) -> None:
    """Write `results/bench/NAME.json`, wherever the bench was started."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n")
