"""Tiny real images; no two files hold the same pixels, since equal pixels make two patients one."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
from PIL import Image


def write_image(path: Path, *, bits: int = 8) -> None:
    """A grey JPEG or PNG of 24 x 32 noisy pixels, different for every path; PNG with 8 or 16 bits."""
    rng = np.random.default_rng(zlib.crc32("/".join(path.parts[-4:]).encode()))
    path.parent.mkdir(parents=True, exist_ok=True)
    if bits == 16:
        Image.fromarray(rng.integers(0, 4096, (24, 32), dtype=np.uint16)).save(path)
    else:
        Image.fromarray(rng.integers(0, 256, (24, 32), dtype=np.uint8)).save(path)
