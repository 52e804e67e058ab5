"""Model FLOPs utilisation against a measured peak, not a data sheet's."""

from __future__ import annotations

import time

import torch


def matmul_peak_gflops(
    device: torch.device, dtype: torch.dtype, *, size: int | None = None, seconds: float = 0.3
) -> float:
    """Best rate of a square matrix product on this device, in GFLOP/s (multiply-add = 2)."""
    size = size or (8192 if device.type == "cuda" else 1024)
    a = torch.randn(size, size, dtype=dtype, device=device)
    b = torch.randn(size, size, dtype=dtype, device=device)
    best, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end or best == float("inf"):
        _synchronise(device)
        began = time.perf_counter()
        torch.matmul(a, b)
        _synchronise(device)
        best = min(best, time.perf_counter() - began)
    return 2 * size**3 / best / 1e9


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
