"""Means and spreads over seeds, and margins to a baseline paired by seed. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy import stats

from epilm.tune.metrics import BASELINES, COMPARABLE, PER_TOKEN, PER_TOKEN_BASELINES

CONFIDENCE = 0.95

Runs = Mapping[str, Mapping[int, Mapping[str, float | None]]]
"""arm -> seed -> ``<set>/<figure>`` -> value."""


def comparable(metrics: Mapping[str, Any], *, same_tokens: bool) -> dict[str, float | None]:
    """Of the figures of a run, those that may be compared between arms; those per token where all have the same tokens."""
    kept = (*COMPARABLE, *BASELINES, *((*PER_TOKEN, *PER_TOKEN_BASELINES) if same_tokens else ()))
    return {name: value for name, value in metrics.items() if name.rpartition("/")[2] in kept}


def needs_no_model(name: str) -> bool:
    """Whether a figure is a baseline's."""
    return name.rpartition("/")[2] in (*BASELINES, *PER_TOKEN_BASELINES)


def summary(values: list[float]) -> dict[str, float | int | None]:
    """Mean, standard deviation (n - 1), range and number over seeds; the deviation of one is null."""
    return {
        "mean": float(np.mean(values)),
        "sd": float(np.std(values, ddof=1)) if len(values) > 1 else None,
        "min": min(values),
        "max": max(values),
        "n": len(values),
    }


def margin(own: Mapping[int, float], baseline: Mapping[int, float]) -> dict[str, float | int | None] | None:
    """Mean over seeds of arm minus baseline of the same seed, with its 95 % interval (Student's t with n - 1 degrees).

    None without a common seed; the interval of one seed is null.
    """
    seeds = sorted(set(own) & set(baseline))
    if not seeds:
        return None
    differences = np.array([own[s] - baseline[s] for s in seeds])
    mean, num = float(differences.mean()), len(seeds)
    if num == 1:
        return {"mean": mean, "low": None, "high": None, "n": 1}
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, num - 1) * differences.std(ddof=1) / np.sqrt(num))
    return {"mean": mean, "low": mean - half, "high": mean + half, "n": num}


def compare(runs: Runs, baseline: str) -> tuple[dict[str, dict[str, Any]], list[dict[str, Any]]]:
    """(arm -> metric -> summary, margins of the other arms)."""
    names = list(dict.fromkeys(name for arm in runs.values() for run in arm.values() for name in run))
    by_seed = {
        arm: {name: {s: v for s, run in seeds.items() if (v := run.get(name)) is not None} for name in names}
        for arm, seeds in runs.items()
    }
    summaries = {
        arm: {name: summary(list(values.values())) for name, values in metrics.items() if values}
        for arm, metrics in by_seed.items()
    }
    margins = []
    for arm, metrics in by_seed.items():
        for name, values in metrics.items():
            found = margin(values, by_seed[baseline][name])
            if arm != baseline and not needs_no_model(name) and found is not None:
                margins.append({"arm": arm, "metric": name, **found})
    return summaries, margins
