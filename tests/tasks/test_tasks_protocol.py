"""Sums over counts, and seeds that belong to samples."""

from __future__ import annotations

import math

import torch

from epilm.tasks.protocol import mean_metrics, sample_seed


def test_metrics_are_sums_over_their_counts() -> None:
    metrics = mean_metrics(
        {"loss": 6.0, "hits": 1.0, "none": 0.0}, {"a": 4.0, "b": 0.0}, {"loss": "a", "hits": "a", "none": "b"}
    )
    assert (metrics["loss"], metrics["hits"]) == (1.5, 0.25)
    assert math.isnan(metrics["none"])


def test_seeds_of_samples_differ_and_fit_torch() -> None:
    seeds = {sample_seed(seed, position) for seed in (0, 1, 2, 2**31 - 1) for position in [*range(500), 2**40]}
    assert len(seeds) == 4 * 501
    for seed in sorted(seeds)[-20:]:
        torch.manual_seed(seed)
    assert sample_seed(3, 10) == sample_seed(3, 10)
