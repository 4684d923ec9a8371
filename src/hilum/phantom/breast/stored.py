"""One grey image in the forms that vendors store: a viewer shows the same, whichever it is (L 4.6, L 9).

window: MONOCHROME2 with a linear window; inverted: the same as MONOCHROME1; lut: a VOI LUT Sequence; sigmoid: VOI LUT
Function SIGMOID. All have 12 bits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import UInt16

Form = Literal["window", "inverted", "lut", "sigmoid"]
FORMS: tuple[Form, ...] = ("window", "inverted", "lut", "sigmoid")
LEVELS = 4095  # 12 bits
_BLACK, _SPAN = 400, 3000  # stored value of grey 0, and how far grey 1 is from it
_TABLE = 3500  # greatest stored value of the form with a table
_CENTER, _WIDTH = 2047.5, 1480.0  # of the sigmoid: grey 0.004 to 0.996 spans the 12 bits


@dataclass(frozen=True)
class Stored:
    """Stored values and what the header says of showing them (PS3.3 C.11.2)."""

    pixels: UInt16[np.ndarray, "row col"]
    photometric: Literal["MONOCHROME1", "MONOCHROME2"]
    function: Literal["", "LINEAR", "SIGMOID"]
    window: tuple[float, float] | None  # center, width
    table: UInt16[np.ndarray, " entry"] | None  # VOI LUT of 12 bits; its first entry is for stored value 0


def store(grey: np.ndarray, form: Form) -> Stored:
    """`grey` is 0 black to 1 white; only "window" and "inverted" keep what is beyond, for another window."""
    if form in ("window", "inverted"):
        pixels = np.clip(np.rint(_BLACK + _SPAN * grey), 0, LEVELS).astype(np.uint16)
        center = _BLACK + _SPAN / 2 + 0.5  # so that grey 0 and 1 are the ends of PS3.3 C.11.2.1.2.1
        if form == "window":
            return Stored(pixels, "MONOCHROME2", "LINEAR", (center, _SPAN + 1.0), None)
        return Stored(LEVELS - pixels, "MONOCHROME1", "LINEAR", (LEVELS - center + 1.0, _SPAN + 1.0), None)
    shown = np.clip(grey, 0.0, 1.0).astype(np.float64)
    if form == "lut":
        table = np.rint(LEVELS * (np.arange(_TABLE + 1) / _TABLE) ** 1.5).astype(np.uint16)
        pixels = np.rint(_TABLE * shown ** (1 / 1.5)).astype(np.uint16)
        return Stored(pixels, "MONOCHROME2", "", None, table)
    logit = np.log(np.clip(shown, 1e-9, 1.0) / np.clip(1 - shown, 1e-9, 1.0))
    pixels = np.clip(np.rint(_CENTER + _WIDTH / 4 * logit), 0, LEVELS).astype(np.uint16)
    return Stored(pixels, "MONOCHROME2", "SIGMOID", (_CENTER, _WIDTH), None)
