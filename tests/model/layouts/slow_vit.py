"""A vision transformer as loops over patches, tokens and heads, in 64 bit: what imported weights must compute.

Written from M 2.1 and M 6 alone. A state is a mapping of a file's own names to arrays; nothing here renames them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from scipy.special import erf
from torch import Tensor

Arrays = dict[str, np.ndarray]
BLOCK_EPS = 1e-6  # LayerNorm inside blocks, qk-norm included (M 6.1)


def as_arrays(state: Mapping[str, Tensor]) -> Arrays:
    return {name: value.double().numpy() for name, value in state.items()}


def normalise(vector: np.ndarray, weight: np.ndarray, bias: np.ndarray, eps: float) -> np.ndarray:
    """LayerNorm of one vector: the biased variance, eps under the root."""
    mean = float(vector.sum()) / len(vector)
    variance = float(((vector - mean) ** 2).sum()) / len(vector)
    return (vector - mean) / math.sqrt(variance + eps) * weight + bias


def gelu(value: np.ndarray) -> np.ndarray:
    """x Φ(x), not its tanh approximation."""
    return value * 0.5 * (1.0 + erf(value / math.sqrt(2.0)))


def softmax(scores: Sequence[float]) -> list[float]:
    highest = max(scores)
    powers = [math.exp(score - highest) for score in scores]
    return [power / sum(powers) for power in powers]


def embed_patches(image: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> list[np.ndarray]:
    """A convolution whose stride is its kernel: (channel, height, width) -> one vector a patch, in reading order."""
    dim, _, size, _ = weight.shape
    vectors = []
    for top in range(0, image.shape[1], size):
        for left in range(0, image.shape[2], size):
            pixels = image[:, top : top + size, left : left + size]
            vectors.append(np.array([bias[out] + float((weight[out] * pixels).sum()) for out in range(dim)]))
    return vectors


def attend(tokens: list[np.ndarray], state: Arrays, prefix: str, head_width: int) -> list[np.ndarray]:
    """Self-attention of one image's tokens; rows of qkv are queries, keys, values, each by heads."""
    width = len(tokens[0])
    mixed = [np.zeros(width) for _ in tokens]
    rows = [state[f"{prefix}.qkv.weight"] @ token + state[f"{prefix}.qkv.bias"] for token in tokens]
    for start in range(0, width, head_width):
        queries = [row[start : start + head_width] for row in rows]
        keys = [row[width + start : width + start + head_width] for row in rows]
        values = [row[2 * width + start : 2 * width + start + head_width] for row in rows]
        if f"{prefix}.q_norm.weight" in state:
            queries = [_norm(query, state, f"{prefix}.q_norm") for query in queries]
            keys = [_norm(key, state, f"{prefix}.k_norm") for key in keys]
        for index, query in enumerate(queries):
            weights = softmax([float(query @ key) / math.sqrt(head_width) for key in keys])
            for weight, value in zip(weights, values, strict=True):
                mixed[index][start : start + head_width] += weight * value
    return [state[f"{prefix}.proj.weight"] @ row + state[f"{prefix}.proj.bias"] for row in mixed]


def run_block(tokens: list[np.ndarray], state: Arrays, prefix: str, head_width: int) -> list[np.ndarray]:
    """Pre-norm: x + attention(norm1(x)), then x + mlp(norm2(x))."""
    changes = attend([_norm(token, state, f"{prefix}.norm1") for token in tokens], state, f"{prefix}.attn", head_width)
    tokens = [token + change for token, change in zip(tokens, changes, strict=True)]
    out = []
    for token in tokens:
        hidden = state[f"{prefix}.mlp.fc1.weight"] @ _norm(token, state, f"{prefix}.norm2")
        hidden = gelu(hidden + state[f"{prefix}.mlp.fc1.bias"])
        out.append(token + state[f"{prefix}.mlp.fc2.weight"] @ hidden + state[f"{prefix}.mlp.fc2.bias"])
    return out


def _norm(vector: np.ndarray, state: Arrays, prefix: str) -> np.ndarray:
    return normalise(vector, state[f"{prefix}.weight"], state[f"{prefix}.bias"], BLOCK_EPS)
