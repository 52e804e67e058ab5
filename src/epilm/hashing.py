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


def permute(index: np.ndarray, size: int, seed: int, *keys: int) -> np.ndarray:
    """Images of ``index`` under a random permutation of ``range(size)`` that is never written out; int64 [n].

    A Feistel network of four rounds over the smallest even number of bits that holds ``size``; what falls outside walks on
    until it falls inside (Black and Rogaway 2002), so that it is a bijection for every size.

    Args:
        index: int64 [n] within ``range(size)``.
        keys: with the seed they name the permutation.
    """
    half = max(1, (int(size - 1).bit_length() + 1) // 2)
    value = np.array(index, dtype=np.uint64)
    outside = np.ones(value.shape, dtype=bool)
    while outside.any():
        value[outside] = _feistel(value[outside], half, seed, *keys)
        outside = value >= np.uint64(size)
    return value.astype(np.int64)


def _feistel(value: np.ndarray, half: int, seed: int, *keys: int) -> np.ndarray:
    bits, mask = np.uint64(half), np.uint64((1 << half) - 1)
    left, right = value >> bits, value & mask
    for number in range(4):
        left, right = right, left ^ (hash_u64(seed, *keys, number, right) & mask)
    return (left << bits) | right
