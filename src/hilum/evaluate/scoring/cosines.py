"""Rows as directions: unit length, and cosines of rows."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float


def normalize_rows(vectors: Float[np.ndarray, "row dim"]) -> Float[np.ndarray, "row dim"]:
    """Rows of length 1; a row of zeros stays one, so that its cosine with anything is 0."""
    vectors = vectors.astype(np.float64)
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, length, out=np.zeros_like(vectors), where=length > 0)


def measure_cosines(
    first: Float[np.ndarray, "row dim"], second: Float[np.ndarray, "row dim"]
) -> Float[np.ndarray, " row"]:
    """Cosine of each row of `first` with the same row of `second`."""
    return np.einsum("nd,nd->n", normalize_rows(first), normalize_rows(second))
