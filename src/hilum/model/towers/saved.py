"""A public encoder that Hilum fine-tuned, in a file of its own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from hilum.errors import UserError
from hilum.model.weights import write_tensors

from .catalogue import TowerSpec
from .tower import Tower

FORMAT = "hilum-tower-1"


def save_tower(tower: Tower, path: Path, metadata: Mapping[str, Any]) -> None:
    """Write a tower's weights in 32 bit under the names they have in its library, and what it is."""
    weights = {name: value.detach().float().cpu().contiguous() for name, value in tower.model.state_dict().items()}
    write_tensors(path, weights, {"format": FORMAT, **tower.record, **metadata})


def read_tower_header(path: Path) -> dict[str, Any]:
    """What `save_tower` wrote beside the weights; empty for any other file or folder."""
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {}).get("hilum", "{}"))
    except (SafetensorError, OSError):
        return {}  # what it is instead is said by who reads it
    return header if header.get("format") == FORMAT else {}


def find_saved_tower(path: Path) -> TowerSpec | None:
    """The public encoder that a file of `save_tower` holds; None for any other file.

    Raises:
        UserError: it can only be rebuilt with a folder that the file does not name.
    """
    header = read_tower_header(path)
    if not header:
        return None
    name = header["tower"]["name"]
    if name.startswith("hf:"):
        raise UserError(f"{path}: a fine-tuned {name}: give hf:FOLDER={path} with the FOLDER that it started from.")
    return TowerSpec(name, path)
