"""Random words and thresholds for the policies: Bernoulli draws as one comparison of integers.

A 64-bit hash gives two 32-bit draws: half the arithmetic of :func:`epilm.masking.hashing.uniform`, and probabilities to
2**-32 instead of 2**-24.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from epilm.masking.hashing import hash_bits

# One stream of the hash a purpose.
CENTRES, TIES, ROUNDING, BINOMIAL, SHARE = 31, 32, 33, 34, 35


def words(seed: int, stream: int, position: Tensor, num: int) -> Tensor:
    """Random int32 ``[B, num]`` over the whole range, from int64 ``[B]`` sample positions."""
    return hash_bits(seed, stream, position, (num + 1) // 2).view(torch.int32)[:, :num]


def short_words(seed: int, stream: int, position: Tensor, num: int) -> Tensor:
    """Random int16 ``[B, num]`` over the whole range, for ties."""
    return hash_bits(seed, stream, position, (num + 3) // 4).view(torch.int16)[:, :num]


def thresholds(probability: np.ndarray | float) -> np.ndarray:
    """int32 such that ``word < threshold`` has the given probability; 1 becomes 1 - 2**-32."""
    scaled = np.floor(np.asarray(probability, np.float64) * 2.0**32) - 2.0**31
    return np.clip(scaled, -(2.0**31), 2.0**31 - 1).astype(np.int32)


class DeviceArray:
    """A constant numpy array, with a copy kept on each device that asked for it. Pickles without the copies."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array
        self._copies: dict[torch.device, Tensor] = {}

    def on(self, device: torch.device) -> Tensor:
        if device not in self._copies:
            self._copies[device] = torch.from_numpy(self.array).to(device)
        return self._copies[device]

    def __getstate__(self) -> np.ndarray:
        return self.array

    def __setstate__(self, array: np.ndarray) -> None:
        self.array, self._copies = array, {}
