"""Letters burnt into the image: side and view near the upper corner away from the chest wall."""

from __future__ import annotations

import numpy as np

from hilum.phantom.breast.plan import ViewPlan

_GLYPHS = {
    "L": ("10000", "10000", "10000", "10000", "10000", "10000", "11111"),
    "R": ("11110", "10001", "10001", "11110", "10100", "10010", "10001"),
    "C": ("01110", "10001", "10000", "10000", "10000", "10001", "01110"),
    "M": ("10001", "11011", "10101", "10101", "10001", "10001", "10001"),
    "O": ("01110", "10001", "10001", "10001", "10001", "10001", "01110"),
    "H": ("10001", "10001", "10001", "11111", "10001", "10001", "10001"),
    "I": ("11111", "00100", "00100", "00100", "00100", "00100", "11111"),
    "K": ("10001", "10010", "10100", "11000", "10100", "10010", "10001"),
    "T": ("11111", "00100", "00100", "00100", "00100", "00100", "00100"),
    "A": ("01110", "10001", "10001", "11111", "10001", "10001", "10001"),
    "E": ("11111", "10000", "10000", "11110", "10000", "10000", "11111"),
}
_INITIALS = ("HI", "KT", "LA", "ME", "TE", "KA")  # of made-up technologists


def _draw(word: str, step: int) -> np.ndarray:
    dots = np.concatenate([np.array([[*map(int, line), 0] for line in _GLYPHS[letter]]) for letter in word], axis=1)
    return np.kron(dots, np.ones((step, step), dtype=int)).astype(bool)


def burn_markers(grey: np.ndarray, view: ViewPlan, height: float, style: int, rng: np.random.Generator) -> None:
    """Write onto an image whose chest wall is at the left for left breasts and at the right for right ones."""
    rows, cols = grey.shape
    word = _draw(view.laterality + view.projection, max(round(rows * height / 7), 1))
    initials = _draw(_INITIALS[int(rng.integers(len(_INITIALS)))], max(round(rows * height / 14), 1))
    top = int(rows * rng.uniform(0.02, 0.06))
    aside = int(cols * rng.uniform(0.02, 0.06))
    white = 0.95 if style == 1 else 1.05
    for bitmap, at in ((word, top), (initials, top + int(1.4 * word.shape[0]))):
        left = cols - aside - bitmap.shape[1] if view.laterality == "L" else aside
        window = grey[at : at + bitmap.shape[0], max(left, 0) : max(left, 0) + bitmap.shape[1]]
        window[bitmap[: window.shape[0], : window.shape[1]]] = white
    if style == 2:  # a lead frame's corner marks
        arm, thick = max(rows // 60, 2), max(rows // 500, 1)
        right = view.laterality == "L"
        edge = cols - aside // 2 - thick if right else aside // 2
        begin = edge - arm if right else edge
        grey[top - top // 2 : top - top // 2 + thick, begin : begin + arm] = white
        grey[top - top // 2 : top - top // 2 + arm, edge : edge + thick] = white
