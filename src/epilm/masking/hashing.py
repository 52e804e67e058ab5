"""Random numbers that are a pure function of (seed, stream, sample position, index), on any torch device.

The torch form of :func:`epilm.hashing.hash_u64`: the same bits on CPU, GPU and in numpy, and for any batching, so that
a sample is masked alike by whatever worker draws it, before or after a restart. ``stream`` tells apart the several
things that are drawn for one sample. SplitMix64 (Steele, Lea and Flood 2014).
"""

from __future__ import annotations

import torch
from torch import Tensor

from epilm import hashing

_MASK = (1 << 64) - 1


def _signed(value: int) -> int:
    """The int64 with the same 64 bits: torch multiplies int64 modulo 2**64, but has no uint64 arithmetic."""
    value &= _MASK
    return value - (1 << 64) if value >> 63 else value


_GOLDEN = _signed(0x9E3779B97F4A7C15)
_FIRST = _signed(0xBF58476D1CE4E5B9)
_SECOND = _signed(0x94D049BB133111EB)


def _shift(value: Tensor, bits: int) -> Tensor:
    """Logical right shift; ``>>`` on int64 copies the sign bit."""
    return (value >> bits).bitwise_and_((1 << (64 - bits)) - 1)


def _mix(value: Tensor) -> Tensor:
    # In place on what `_shift` allocates: a fresh megabyte for each operation costs three times the arithmetic.
    value = value + _GOLDEN
    value = _shift(value, 30).bitwise_xor_(value).mul_(_FIRST)
    value = _shift(value, 27).bitwise_xor_(value).mul_(_SECOND)
    return _shift(value, 31).bitwise_xor_(value)


def hash_bits(seed: int, stream: int, sample: Tensor, num: int) -> Tensor:
    """64 random bits for each of ``num`` indices of each sample: int64 ``[B, num]`` from int64 ``[B]`` positions."""
    state = _signed(int(hashing.hash_u64(seed, stream)))
    per_sample = _mix((sample.to(torch.int64) * _GOLDEN) ^ state)
    index = torch.arange(num, device=sample.device, dtype=torch.int64) * _GOLDEN
    return _mix(per_sample[:, None] ^ index[None, :])


def uniform(seed: int, stream: int, sample: Tensor, num: int) -> Tensor:
    """Uniform numbers in [0, 1): float32 ``[B, num]`` in steps of 2**-24, from int64 ``[B]`` sample positions."""
    return _shift(hash_bits(seed, stream, sample, num), 40).to(torch.float32).mul_(2.0**-24)


def uniform_at(seed: int, stream: int, sample: Tensor, row: Tensor, index: Tensor) -> Tensor:
    """``uniform(seed, stream, sample, num)[row, index]`` without the rest, to the last bit: float32 ``[N]``.

    Args:
        sample: int64 ``[B]`` sample positions.
        row, index: int64 ``[N]``.
    """
    state = _signed(int(hashing.hash_u64(seed, stream)))
    per_sample = _mix((sample.to(torch.int64) * _GOLDEN) ^ state)
    bits = _mix(per_sample.index_select(0, row).bitwise_xor_(index * _GOLDEN))
    return _shift(bits, 40).to(torch.float32).mul_(2.0**-24)
