"""Scores of numeric predictions, pure and vectorised over leading axes.

All take arrays whose last axis is the sample, so that a thousand bootstrap resamples are one call. What cannot be
computed (a constant side, fewer than two samples, NaN or infinite input) is NaN, never a warning and never 0: a report
shows the gap.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata

from epilm.errors import EpilmError

Metric = Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]]

_CHUNK_VALUES = 4_000_000  # resampled values held at once: 32 MB a side, whatever num and n are


def pearson(x: ArrayLike, y: ArrayLike) -> NDArray[np.float64]:
    """Pearson correlation along the last axis: [..., n] and [..., n] -> [...].

    NaN where a side is constant, has fewer than two values, or holds NaN.
    """
    x, y = _pair(x, y)
    if x.shape[-1] < 2:
        return np.full(x.shape[:-1], np.nan)
    x_centred = x - x.mean(axis=-1, keepdims=True)
    y_centred = y - y.mean(axis=-1, keepdims=True)
    r = np.clip((_unit(x_centred) * _unit(y_centred)).sum(axis=-1), -1.0, 1.0)
    return np.where(_constant(x) | _constant(y), np.nan, r)


def spearman(x: ArrayLike, y: ArrayLike) -> NDArray[np.float64]:
    """Spearman correlation along the last axis: Pearson of the ranks, ties at their average rank.

    NaN where a side is constant, has fewer than two values, or holds NaN.
    """
    x, y = _pair(x, y)
    if x.shape[-1] < 2:
        return np.full(x.shape[:-1], np.nan)
    return pearson(rankdata(x, axis=-1), rankdata(y, axis=-1))


def r2(truth: ArrayLike, prediction: ArrayLike) -> NDArray[np.float64]:
    """Coefficient of determination, 1 - SS_residual / SS_total, along the last axis; negative when worse than the mean.

    Not the squared correlation: a shifted or scaled prediction is punished. NaN where the truth is constant.
    """
    truth, prediction = _pair(truth, prediction)
    if truth.shape[-1] < 2:
        return np.full(truth.shape[:-1], np.nan)
    with np.errstate(over="ignore"):  # a prediction that diverged scores -inf
        residual = ((truth - prediction) ** 2).sum(axis=-1)
    total = ((truth - truth.mean(axis=-1, keepdims=True)) ** 2).sum(axis=-1)
    return np.where(_constant(truth), np.nan, 1.0 - _divide(residual, total))


def bootstrap_interval(
    fn: Metric, x: ArrayLike, y: ArrayLike, *, num: int, seed: int, level: float = 0.95
) -> tuple[float, float]:
    """Percentile bootstrap interval of ``fn(x, y)`` over samples drawn with replacement.

    Args:
        fn: a metric over the last axis, as those of this module.
        x, y: [n] values of the same samples.
        num: number of resamples.
        seed: of the resamples; the same seed resamples the same rows for every metric and model.
        level: coverage of the interval.

    Returns:
        (low, high); (nan, nan) where no resample has a defined value. Resamples without one are left out.
    """
    x, y = _pair(x, y)
    if x.ndim != 1:
        raise EpilmError(f"bootstrap_interval takes one value a sample, got an array of shape {x.shape}.")
    if num < 1 or not 0.0 < level < 1.0:
        raise EpilmError(f"bootstrap_interval: num={num}, level={level}. Allowed: num >= 1 and 0 < level < 1.")
    n = x.shape[0]
    if n == 0:
        return float("nan"), float("nan")
    rng = np.random.Generator(np.random.Philox(seed))
    rows_at_once = max(1, _CHUNK_VALUES // n)
    values = []
    for first in range(0, num, rows_at_once):
        index = rng.integers(n, size=(min(rows_at_once, num - first), n))
        values.append(fn(x[index], y[index]))
    defined = np.concatenate(values)
    defined = defined[np.isfinite(defined)]
    if defined.size == 0:
        return float("nan"), float("nan")
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _pair(x: ArrayLike, y: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if x.shape != y.shape or x.ndim == 0:
        raise EpilmError(f"a metric takes two arrays of one shape, got {x.shape} and {y.shape}.")
    return np.where(np.isfinite(x), x, np.nan), np.where(np.isfinite(y), y, np.nan)


def _unit(centred: NDArray[np.float64]) -> NDArray[np.float64]:
    # by the largest value before the norm, whose squares would under- or overflow at extreme scales
    scaled = _divide(centred, np.abs(centred).max(axis=-1, keepdims=True))
    return _divide(scaled, np.linalg.norm(scaled, axis=-1, keepdims=True))


def _constant(x: NDArray[np.float64]) -> NDArray[np.bool_]:
    # on the values, not on the variance: the mean of equal floats need not equal them
    return (x == x[..., :1]).all(axis=-1)


def _divide(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.divide(a, b, out=np.full(np.broadcast(a, b).shape, np.nan), where=b != 0)
