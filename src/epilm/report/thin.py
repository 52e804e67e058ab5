"""Long metric histories to a few hundred points that still show every extreme."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class ThinColumn:
    """One metric over buckets of neighbouring records; NaN where a bucket holds no finite value."""

    mean: np.ndarray
    low: np.ndarray | None
    """Least and greatest value in each bucket; None where every bucket is a single record."""
    high: np.ndarray | None


def thin(
    steps: np.ndarray, columns: dict[str, np.ndarray], max_points: int
) -> tuple[np.ndarray, dict[str, ThinColumn]]:
    """Reduce records to at most ``max_points`` buckets of equal size (to one record).

    Args:
        steps: int [n], ascending.
        columns: name -> float [n]; infinite counts as NaN.

    Returns:
        The last step of each bucket (the first of all for the first bucket, so that the curve starts where the run
        did), and per column mean, minimum and maximum of the finite values in each bucket.
    """
    num = len(steps)
    if num <= max_points:
        return steps, {name: ThinColumn(_finite(values), None, None) for name, values in columns.items()}
    starts = (np.arange(max_points) * num) // max_points
    at = steps[np.append(starts[1:], num) - 1].copy()
    at[0] = steps[0]
    return at, {name: _bucket(_finite(values), starts) for name, values in columns.items()}


def _finite(values: np.ndarray) -> np.ndarray:
    return np.where(np.isfinite(values), values, np.nan)


def _bucket(values: np.ndarray, starts: np.ndarray) -> ThinColumn:
    counts = np.add.reduceat(np.isfinite(values).astype(np.int64), starts)
    totals = np.add.reduceat(np.nan_to_num(values, nan=0.0), starts)
    mean = np.where(counts > 0, totals / np.maximum(counts, 1), np.nan)
    return ThinColumn(mean, np.fmin.reduceat(values, starts), np.fmax.reduceat(values, starts))
