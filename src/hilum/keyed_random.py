"""Random numbers that depend on what they are for, not on when or where they are drawn.

A crop, a flip or a mask is a function of (seed, study, how often it was drawn, view, purpose). So a resumed run,
another number of processes, another batch size or another worker count draws the same numbers, and no generator state
needs saving.

The generator is SplitMix64 (Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators"), used as a
counter-based hash; it is vectorised over keys and passes the uses made of it here (crops, masks, orders).
"""

from __future__ import annotations

import hashlib

import numpy as np
from jaxtyping import Float32, Int64, UInt64

_GAMMA = np.uint64(0x9E3779B97F4A7C15)


def _mix(state: UInt64[np.ndarray, "..."]) -> UInt64[np.ndarray, "..."]:
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))


def make_keys(purpose: str, *parts: int | np.ndarray) -> UInt64[np.ndarray, " key"]:
    """One 64-bit key for each row of the broadcast integer `parts`, different for each `purpose`.

    Example: `make_keys("mask", seed, epoch, view_row)` with an array of V view rows gives V keys.
    """
    salt = int.from_bytes(hashlib.blake2b(purpose.encode(), digest_size=8).digest(), "little")
    rows = np.broadcast_arrays(*(np.atleast_1d(np.asarray(part, dtype=np.int64)) for part in parts))
    keys = np.full(rows[0].shape, salt, dtype=np.uint64)
    with np.errstate(over="ignore"):
        for part in rows:
            keys = _mix((keys ^ part.astype(np.uint64)) + _GAMMA)
    return keys


def draw_uniform(keys: UInt64[np.ndarray, " key"], num: int) -> Float32[np.ndarray, "key num"]:
    """`num` uniform numbers in [0, 1) for each key (24 bits: every float32 value drawn is exact)."""
    with np.errstate(over="ignore"):
        counter = np.arange(1, num + 1, dtype=np.uint64) * _GAMMA
        bits = _mix(keys[:, None] + counter[None, :])
    return (bits >> np.uint64(40)).astype(np.float32) * np.float32(2.0**-24)


def draw_order(purpose: str, *parts: int, num: int) -> Int64[np.ndarray, " num"]:
    """A permutation of 0..num-1, the same for the same purpose and parts."""
    keys = make_keys(purpose, *parts, np.arange(num))
    return np.argsort(keys, kind="stable")
