"""Stateless randomness for arrays: a hash of (seed, keys) instead of a generator's state.

A sample's random choices must not depend on which worker draws them, in what batch, or after how many restarts
(Steele, Lea and Flood 2014, SplitMix64; the finaliser is Stafford's variant 13).
"""

from __future__ import annotations

import numpy as np

_GOLDEN = 0x9E3779B97F4A7C15
_MASK = (1 << 64) - 1


def hash_u64(seed: int, *keys: np.ndarray | int) -> np.ndarray:
    """Hash of a seed and any number of integer keys, broadcast against each other; uint64."""
    state = mix(np.asarray((seed + _GOLDEN) & _MASK, dtype=np.uint64))
    for key in keys:
        array = np.asarray(key)
        array = array.astype(np.int64).view(np.uint64) if array.dtype != np.uint64 else array
        with np.errstate(over="ignore"):
            state = mix(state ^ (array * np.uint64(_GOLDEN)))
    return state


def mix(value: np.ndarray) -> np.ndarray:
    """The SplitMix64 finaliser: a bijection of 64 bits."""
    with np.errstate(over="ignore"):
        value = value + np.uint64(_GOLDEN)
        value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return value ^ (value >> np.uint64(31))
