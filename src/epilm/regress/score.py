"""Scores of predictions on the test rows, with bootstrap intervals over the intervals, and the baselines. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from epilm.evaluate.metrics import bootstrap_interval, pearson, r2, spearman

Metric = Callable[[np.ndarray, np.ndarray], np.ndarray]

METRICS: dict[str, Metric] = {"pearson": pearson, "spearman": spearman, "r2": r2}
"""Each takes (truth, prediction)."""


def score(
    truth: np.ndarray, prediction: np.ndarray, group: np.ndarray, *, num: int, seed: int, level: float
) -> dict[str, dict[str, float | None]]:
    """``{metric: {value, low, high}}`` of n predictions; what is undefined is None.

    Args:
        group: [n] int, the interval of each row. Intervals are resampled, not rows: a gene's cell types are no
            independent observations, and resampling them apart would make the interval too narrow.
        num, seed, level: of the bootstrap.
    """
    return {
        name: with_interval(metric, truth, prediction, group, num=num, seed=seed, level=level)
        for name, metric in METRICS.items()
    }


def with_interval(
    metric: Metric, truth: np.ndarray, prediction: np.ndarray, group: np.ndarray, *, num: int, seed: int, level: float
) -> dict[str, float | None]:
    """A metric's value and its percentile bootstrap interval over groups."""
    order = np.argsort(group, kind="stable")
    sizes = np.unique(group, return_counts=True)[1]
    begins = np.cumsum(sizes) - sizes
    truth, prediction = truth[order], prediction[order]

    def resampled(groups: np.ndarray, _: np.ndarray) -> np.ndarray:
        return np.array(
            [float(metric(truth[rows], prediction[rows])) for rows in map(rows_of, groups.astype(np.int64))]
        )

    def rows_of(groups: np.ndarray) -> np.ndarray:
        lengths = sizes[groups]
        return np.arange(lengths.sum()) + np.repeat(begins[groups] - np.cumsum(lengths) + lengths, lengths)

    if sizes.max(initial=1) == 1:
        low, high = bootstrap_interval(metric, truth, prediction, num=num, seed=seed, level=level)
    else:
        number = np.arange(len(sizes))
        low, high = bootstrap_interval(resampled, number, number, num=num, seed=seed, level=level)
    return {
        "value": number_or_none(float(metric(truth, prediction))),
        "low": number_or_none(low),
        "high": number_or_none(high),
    }


def difference(
    truth: np.ndarray, first: np.ndarray, second: np.ndarray, group: np.ndarray, *, num: int, seed: int, level: float
) -> dict[str, float | None]:
    """Pearson of ``first`` minus Pearson of ``second`` on the same rows, with the paired interval."""
    both = np.arange(len(truth))

    def minus(rows: np.ndarray, _: np.ndarray) -> np.ndarray:
        index = rows.astype(np.int64)
        return pearson(truth[index], first[index]) - pearson(truth[index], second[index])

    return with_interval(minus, both, both, group, num=num, seed=seed, level=level)


def baselines(rows: pd.DataFrame) -> dict[str, np.ndarray]:
    """Predictions for the test rows that need no features: the training rows' mean, and their mean in the cell type.

    The second only where there are several cell types; a cell type without training rows gets the mean of all.
    """
    train, test = rows[rows["split"] == "train"], rows[rows["split"] == "test"]
    overall = float(train["target"].mean())
    result = {"mean": np.full(len(test), overall)}
    if rows["cell_type"].nunique() > 1:
        by_cell = train.groupby("cell_type")["target"].mean()
        result["mean_of_cell"] = test["cell_type"].map(by_cell).fillna(overall).to_numpy(np.float64)
    return result


def by_cell_type(test: pd.DataFrame, prediction: np.ndarray) -> dict[str, dict[str, float | None]]:
    """Scores within each cell type, without intervals."""
    result = {}
    for cell, index in test.reset_index(drop=True).groupby("cell_type").indices.items():
        truth = test["target"].to_numpy()[index]
        scores: dict[str, Any] = {n: number_or_none(float(m(truth, prediction[index]))) for n, m in METRICS.items()}
        result[str(cell)] = {**scores, "num_test": len(index)}
    return result


def over_seeds(truth: np.ndarray, predictions: Mapping[int, np.ndarray]) -> dict[str, dict[str, Any]]:
    """``{metric: {mean, sd, values}}`` over boosters that differ in their seed alone; sd is None for one seed."""
    result = {}
    for name, metric in METRICS.items():
        values = np.array([float(metric(truth, prediction)) for prediction in predictions.values()])
        sd = float(values.std(ddof=1)) if len(values) > 1 else math.nan
        result[name] = {
            "mean": number_or_none(float(values.mean())),
            "sd": number_or_none(sd),
            "values": [number_or_none(float(v)) for v in values],
        }
    return result


def number_or_none(value: float) -> float | None:
    """JSON has no NaN: what is undefined is null."""
    return round(value, 6) if math.isfinite(value) else None
