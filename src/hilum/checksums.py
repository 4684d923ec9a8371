"""Checksums: of files, of what a result depends on, of an encoder's weights. torch is not imported."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch


def hash_file(path: Path) -> str:
    """sha256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_parts(parts: Iterable[Any]) -> str:
    """First 16 hex digits of a sha256 over arrays, bytes, and anything JSON can hold; order counts."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            content = str((part.dtype.str, part.shape)).encode() + np.ascontiguousarray(part).tobytes()
        else:
            content = part if isinstance(part, bytes) else json.dumps(part, sort_keys=True).encode()
        digest.update(len(content).to_bytes(8, "little") + content)
    return digest.hexdigest()[:16]


def hash_weights(encoder: torch.nn.Module) -> str:
    """Digest of all parameters and buffers, names and shapes included."""
    state = sorted(encoder.state_dict().items())
    return hash_parts(part for name, value in state for part in (name, value.detach().float().cpu().numpy()))
