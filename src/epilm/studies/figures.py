"""Means over seeds and data sets, their intervals, and paired differences of arms. Pure.

Two things make a figure uncertain: which stretches of the genome it is measured on, and which seed the model began from. A
resample draws both again: stretches (``evaluate.blocks``) and, with replacement, seeds. It draws the same ones for every arm,
so that a difference is one of the same bins and the same seeds. Three seeds tell little of their spread: with so few, an
interval leans to the narrow side (of a mean of n seeds, the resamples' variance is (n - 1) / n of what it should be).
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from epilm.evaluate.blocks import intervals
from epilm.hashing import hash_u64
from epilm.tune.figures import summary

_STREAM = 0x5EED5
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class ArmScores:
    """What the runs of an arm reached.

    Args:
        values: metric key -> float64 [num_runs].
        resampled: metric key -> float64 [num_runs, num_resamples]; without keys, or with none of a key, no intervals.
    """

    values: dict[str, Floats]
    resampled: dict[str, Floats]


def with_means(scores: ArmScores, means: Mapping[str, Sequence[str]], metrics: Sequence[str]) -> ArmScores:
    """The scores preceded by means over data sets: key ``<mean>/<metric>`` over the keys ``<set>/<metric>`` of its sets.

    A data set without a value (of a resample that drew no bound bin of it) is left out of that mean.
    """
    values, resampled = {}, {}
    for name, sets in means.items():
        for metric in metrics:
            keys = [f"{one}/{metric}" for one in sets]
            if all(key in scores.values for key in keys):
                values[f"{name}/{metric}"] = _nan_mean([scores.values[key] for key in keys])
            if all(key in scores.resampled for key in keys):
                resampled[f"{name}/{metric}"] = _nan_mean([scores.resampled[key] for key in keys])
    return ArmScores(values | scores.values, resampled | scores.resampled)


def _nan_mean(parts: list[Floats]) -> Floats:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a mean of nothing is NaN, and meant
        return np.nanmean(np.stack(parts), axis=0)


def seed_weights(num_seeds: int, *, num: int, seed: int) -> Floats:
    """Share that each resample gives to every seed, [num, num_seeds]; rows sum to 1."""
    draws = hash_u64(seed, _STREAM, np.arange(num)[:, None], np.arange(num_seeds)) >> np.uint64(32)
    drawn = ((draws * np.uint64(num_seeds)) >> np.uint64(32)).astype(np.int64)
    return (drawn[:, :, None] == np.arange(num_seeds)).sum(axis=1) / num_seeds


def summaries(arms: Mapping[str, ArmScores], *, level: float, seed: int) -> dict[str, dict[str, dict[str, Any]]]:
    """Arm -> key -> mean, sd, min, max and n over its runs, with ``low`` and ``high`` where it was resampled."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for name, scores in arms.items():
        bounds = _bounds(scores, level, seed)
        found[name] = {
            key: summary(values.tolist()) | bounds.get(key, {})
            for key, values in scores.values.items()
            if not np.isnan(values).any()
        }
    return found


def _bounds(scores: ArmScores, level: float, seed: int) -> dict[str, dict[str, float]]:
    found = intervals(over_seeds(scores, seed), level)
    return {key: {"low": low, "high": high} for key, (low, high) in found.items() if not np.isnan(low)}


def over_seeds(scores: ArmScores, seed: int) -> dict[str, Floats]:
    """Metric key -> the mean over the seeds that each resample drew, [num_resamples]."""
    found = {}
    for key, resampled in scores.resampled.items():
        weights = seed_weights(len(resampled), num=resampled.shape[1], seed=seed)
        found[key] = np.einsum("sr,rs->r", resampled, weights)
    return found


def margins(
    arms: Mapping[str, ArmScores], pairs: Sequence[tuple[str, str]], *, level: float, seed: int
) -> list[dict[str, Any]]:
    """First minus second of each pair for every key that both have: mean over seeds, interval, number of paired runs.

    An arm of one run (a rival) stands against every run of the other.
    """
    found = []
    for first, second in pairs:
        one, two = arms[first], arms[second]
        both = _difference(one, two)
        bounds, unknown = _bounds(both, level, seed), {"low": None, "high": None}
        found += [
            {"arm": first, "baseline": second, "metric": key, "mean": float(values.mean())}
            | bounds.get(key, unknown)
            | {"n": len(values)}
            for key, values in both.values.items()
            if not np.isnan(values).any()
        ]
    return found


def all_pairs(arms: Sequence[str], baseline: str) -> list[tuple[str, str]]:
    """Every pair of arms once: the others against the baseline first, then later arms against earlier ones."""
    others = [name for name in arms if name != baseline]
    rest = [(second, first) for first, second in itertools.combinations(others, 2)]
    return [(name, baseline) for name in others] + rest


def _difference(one: ArmScores, two: ArmScores) -> ArmScores:
    def paired(a: dict[str, Floats], b: dict[str, Floats]) -> dict[str, Floats]:
        return {key: a[key] - b[key] for key in a if key in b}  # one run broadcasts over those of the other

    return ArmScores(paired(one.values, two.values), paired(one.resampled, two.resampled))
