"""Pictures that differ as X-rays do, and changed copies of them: for sets that are known by their pixels alone."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter


def draw(seed: int, side: tuple[int, int] = (96, 96)) -> np.ndarray:
    """Structures of all sizes, bright in the middle: 8-bit grey."""
    rng = np.random.default_rng(seed)
    noise = sum(size * gaussian_filter(rng.normal(size=side), size, mode="wrap") for size in (1, 2, 4, 8, 16))
    down, across = (np.abs(np.linspace(-1, 1, number)) for number in side)
    grey = noise / noise.std() - 2 * np.hypot(down[:, None], across)
    return np.interp(grey, (grey.min(), grey.max()), (0, 255)).astype(np.uint8)


def compress(picture: np.ndarray, *, quality: int = 60) -> np.ndarray:
    """Through JPEG."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer).convert("L"))


def resize(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.BILINEAR))


def turn(picture: np.ndarray, degrees: float, *, mirror: bool = False) -> np.ndarray:
    turned = Image.fromarray(picture).rotate(degrees, Image.Resampling.BILINEAR)
    return np.asarray(turned.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if mirror else turned)


def save(picture: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path)
