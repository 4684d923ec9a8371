"""Rows as the auto-encoder takes them, and how well it knows rows that it did not learn from."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int64

from hilum.model.lab_autoencoder import LabAutoencoder
from hilum.objective.lab_reconstruction import corrupt, draw_dropped, sum_squared_errors
from hilum.objective.term import Sum

from .percentiles import Percentiles, PercentileTables
from .table import LaboratoryTable

_ROWS = 8192  # at a time
VALIDATION_DRAW = -1  # no epoch: validation drops the same entries each time


class LabRows(NamedTuple):
    """Shares in [0, 1], 0 where missing; where there is one; and the rows' lasting names, which key what is drawn."""

    share: Float32[np.ndarray, "row lab"]
    observed: Bool[np.ndarray, "row lab"]
    key: Int64[np.ndarray, " row"]


def collect_rows(table: LaboratoryTable, percentiles: PercentileTables) -> LabRows:
    """A table's rows that have a value, as percentiles."""
    shares: Percentiles = percentiles.transform(table)
    rows = np.flatnonzero(shares.observed.any(axis=1))
    return LabRows(shares.share[rows], shares.observed[rows], table.key[rows])


@torch.inference_mode()
def measure_autoencoder(autoencoder: LabAutoencoder, rows: LabRows, drop: float, seed: int) -> dict[str, float]:
    """P 1.2's measures on rows it did not learn from; nothing where there are none.

    clean_mse: error of observed entries when all are shown. denoise_mse: of the same when some are dropped (the loss).
    imputation_mse: of the dropped ones alone. vector_std: deviation over rows of a number of the vector, averaged over
    its numbers; near 0 the vectors have collapsed. Which entries are dropped is the same each time.
    """
    if not len(rows.key):
        return {}
    was_training, device = autoencoder.training, next(autoencoder.parameters()).device
    autoencoder.eval()
    sums: dict[str, list[Sum]] = {"clean_mse": [], "denoise_mse": [], "imputation_mse": []}
    vectors = []
    for start in range(0, len(rows.key), _ROWS):
        part = LabRows(*(array[start : start + _ROWS] for array in rows))
        hidden = draw_dropped(part.observed, part.key, drop, seed, VALIDATION_DRAW)
        share, observed, dropped = (torch.from_numpy(array).to(device) for array in (part.share, part.observed, hidden))
        clean, vector = autoencoder(share.where(observed, 0.0), observed)
        denoised, _ = autoencoder(*corrupt(share, observed, dropped))
        sums["clean_mse"].append(sum_squared_errors(clean, share, observed))
        sums["denoise_mse"].append(sum_squared_errors(denoised, share, observed))
        sums["imputation_mse"].append(sum_squared_errors(denoised, share, dropped))
        vectors.append(vector)
    autoencoder.train(was_training)
    found = {name: _divide(parts) for name, parts in sums.items()}
    return found | {"vector_std": float(torch.cat(vectors).std(dim=0, correction=0).mean())}


def _divide(parts: list[Sum]) -> float:
    count = sum(float(part.count) for part in parts)
    return sum(float(part.value) for part in parts) / count if count else math.nan
