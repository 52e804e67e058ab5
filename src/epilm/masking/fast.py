"""Operations that numpy does many times faster than torch on a CPU; the result is the same on any device."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def sorted_rows(values: Tensor) -> Tensor:
    """Every row ascending, ``[B, N]``: for rows of 510 int32 0.5 us each by numpy, 14 us by torch."""
    if values.device.type == "cpu":
        return torch.from_numpy(np.sort(values.numpy(), axis=1))
    return values.sort(dim=1).values


def places(mask: Tensor) -> Tensor:
    """Where a bool tensor is true, counted through its rows: int64, ascending; a quarter of the time of ``nonzero``."""
    if mask.device.type == "cpu":
        return torch.from_numpy(np.flatnonzero(mask.numpy()))
    return mask.reshape(-1).nonzero()[:, 0]


def rows_of(places: Tensor, length: int) -> Tensor:
    """The row of each place in rows of ``length``: int64; a third of the time of ``//``."""
    if places.device.type == "cpu":
        return torch.from_numpy(places.numpy() // length)
    return places // length
