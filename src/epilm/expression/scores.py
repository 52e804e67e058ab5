"""Pearson r of predictions from several seeds, with bootstrap intervals over genes; margins of rows; the choice. Pure.

Every interval resamples genes, by indices that depend on (seed, genes, resamples) alone: all rows of a table see the same
resamples, so that the margin of two of them is paired.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from epilm.errors import EpilmError
from epilm.evaluate.metrics import bootstrap_interval, pearson
from epilm.regress.score import number_or_none

Figure = dict[str, float | None]
"""``{"value", "low", "high"}``; what is undefined is None."""


def seed_scores(
    truth: ArrayLike, predictions: ArrayLike, *, num: int, seed: int, level: float = 0.95
) -> dict[str, Any]:
    """r of each seed's predictions, their mean with its interval, and r of the seeds' mean prediction with its own.

    Args:
        truth: [n] targets of the test genes.
        predictions: [seeds, n].
        num, seed, level: of the bootstrap over genes. The seeds are not resampled: their spread is ``sd``.

    Returns:
        ``{"mean", "sd", "values", "low", "high", "ensemble": {"value", "low", "high"}}``, where ``values`` has one r a seed.
        r of a constant prediction (or of one that is not finite) is None; so is then the mean: without the seeds that
        failed it would flatter. A resample without a defined mean is left out of the interval.
    """
    truth, predictions = _checked(truth, predictions)
    ensemble = predictions.mean(axis=0, keepdims=True)
    spread = seed_summary(truth, predictions)
    low, high = _interval(lambda rows: _mean_r(truth, predictions, rows), len(truth), num=num, seed=seed, level=level)
    return {
        **spread,
        "low": low,
        "high": high,
        "ensemble": _figure(lambda rows: _mean_r(truth, ensemble, rows), len(truth), num=num, seed=seed, level=level),
    }


def seed_summary(truth: ArrayLike, predictions: ArrayLike) -> dict[str, Any]:
    """``{"mean", "sd", "values"}`` of r over seeds, without an interval; [n] and [seeds, n]. sd (ddof 1) is None for one seed."""
    truth, predictions = _checked(truth, predictions)
    values = _each_r(truth, predictions)
    return {
        "mean": number_or_none(float(values.mean())),
        "sd": number_or_none(float(values.std(ddof=1))) if len(values) > 1 else None,
        "values": [number_or_none(float(value)) for value in values],
    }


def margin(
    truth: ArrayLike, first: ArrayLike, second: ArrayLike, *, num: int, seed: int, level: float = 0.95
) -> Figure:
    """Mean r of ``first`` [seeds, n] minus mean r of ``second`` [other seeds, n] on the same genes, with the interval of that
    difference over the same resamples; None where a seed of either is undefined."""
    (truth, first), (_, second) = _checked(truth, first), _checked(truth, second)

    def minus(rows: NDArray[np.int64]) -> NDArray[np.float64]:
        return _mean_r(truth, first, rows) - _mean_r(truth, second, rows)

    return _figure(minus, len(truth), num=num, seed=seed, level=level)


def choose_best(rows: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The row with the highest ``row["validation"]["mean"]``; undefined ones last, ties by order.

    It never looks at ``test``. Rows that may not be chosen (DeepDiff, say) are for the caller to leave out.
    """
    if not rows:
        raise EpilmError("choose_best: there is no row to choose from. Give at least one arm other than deepdiff.")
    means = [row["validation"]["mean"] for row in rows]
    return rows[max(range(len(rows)), key=lambda i: -np.inf if means[i] is None else means[i])]


def _mean_r(
    truth: NDArray[np.float64], predictions: NDArray[np.float64], rows: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Mean over seeds of r on the genes ``rows`` [..., n] -> [...]; NaN where one seed's is undefined."""
    drawn = truth[rows]
    total = np.zeros(rows.shape[:-1])
    for prediction in predictions:  # a seed at a time: resamples x genes is the memory that is held
        total += pearson(drawn, prediction[rows])
    return total / len(predictions)


def _each_r(truth: NDArray[np.float64], predictions: NDArray[np.float64]) -> NDArray[np.float64]:
    return pearson(np.broadcast_to(truth, predictions.shape), predictions)


def _figure(
    statistic: Callable[[NDArray[np.int64]], NDArray[np.float64]], n: int, *, num: int, seed: int, level: float
) -> Figure:
    low, high = _interval(statistic, n, num=num, seed=seed, level=level)
    return {"value": number_or_none(float(statistic(np.arange(n)))), "low": low, "high": high}


def _interval(
    statistic: Callable[[NDArray[np.int64]], NDArray[np.float64]], n: int, *, num: int, seed: int, level: float
) -> tuple[float | None, float | None]:
    """Ends of the interval of a statistic that takes resampled gene indices [..., n]; none where the genes' own is undefined."""
    if not np.isfinite(statistic(np.arange(n))):
        return None, None
    genes = np.arange(n)
    low, high = bootstrap_interval(
        lambda rows, _: statistic(rows.astype(np.int64)), genes, genes, num=num, seed=seed, level=level
    )
    return number_or_none(low), number_or_none(high)


def _checked(truth: ArrayLike, predictions: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """As float64, what is not finite as NaN, so that infinities of two seeds do not meet in a mean."""
    truth, predictions = np.asarray(truth, np.float64), np.asarray(predictions, np.float64)
    if truth.ndim != 1 or predictions.ndim != 2 or predictions.shape[1] != len(truth) or not len(predictions):
        raise EpilmError(
            f"predictions must be [seeds, genes] of the {len(truth) if truth.ndim else 0} genes of truth [genes], with one "
            f"seed or more; got truth {truth.shape} and predictions {predictions.shape}."
        )
    return truth, np.where(np.isfinite(predictions), predictions, np.nan)
