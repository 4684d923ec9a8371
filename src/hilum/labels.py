"""Findings: one vocabulary, raw states kept, mapped to training targets by a named policy."""

from __future__ import annotations

from typing import Literal

import numpy as np
from jaxtyping import Float32

# The 14 CheXpert labels, alphabetical (Irvin et al. 2019; MVMAE section 4).
FINDINGS = (
    "Atelectasis",
    "Cardiomegaly",
    "Consolidation",
    "Edema",
    "Enlarged Cardiomediastinum",
    "Fracture",
    "Lung Lesion",
    "Lung Opacity",
    "No Finding",
    "Pleural Effusion",
    "Pleural Other",
    "Pneumonia",
    "Pneumothorax",
    "Support Devices",
)

# Raw states: 1 present, 0 absent, -1 uncertain, blank (null in tables, NaN in arrays) not mentioned.
RAW_STATES = (1, 0, -1)

UncertainPolicy = Literal["zeros", "ones", "ignore"]
BlankPolicy = Literal["zeros", "ignore"]


def binarize_states(
    raw: Float32[np.ndarray, "study finding"], uncertain: UncertainPolicy = "zeros", blank: BlankPolicy = "zeros"
) -> Float32[np.ndarray, "study finding"]:
    """Raw states (NaN = blank) to targets 0, 1 or NaN (= enters neither a loss nor a metric).

    The paper and its code use zeros for both (M 1.4: {1, 0, -1, blank} -> {1, 0, 0, 0}).
    """
    target = raw.copy()
    target[raw == -1] = {"zeros": 0.0, "ones": 1.0, "ignore": np.nan}[uncertain]
    if blank == "zeros":
        target[np.isnan(raw)] = 0.0
    return target


def mask_unsayable(
    target: Float32[np.ndarray, "study finding"], sayable: np.ndarray
) -> Float32[np.ndarray, "study finding"]:
    """NaN where the study's archive cannot say a finding at all: unknown, not negative.

    sayable: bool (study, finding).

    Example: ChestX-ray14 has no Enlarged Cardiomediastinum, Fracture or Support Devices.
    """
    return np.where(sayable, target, np.float32(np.nan))
