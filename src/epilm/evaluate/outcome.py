"""The figures of one submission on one data set, from what its tasks counted. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from epilm.evaluate.blocks import block_histograms, resampled_metrics
from epilm.evaluate.counting import CountedNegatives, Stretch
from epilm.evaluate.dream import NUM_FOLDS, RANKED_METRICS, folds_of
from epilm.evaluate.ranking import (
    RankCounts,
    binding_metrics,
    count_positives,
    counts_from_histogram,
    metric_values,
    precision,
)

CURVE_POINTS = 200


@dataclass(frozen=True)
class Outcome:
    """What is known of (data set, submission)."""

    metrics: dict[str, float]
    """As :func:`~epilm.evaluate.ranking.binding_metrics`."""
    samples: NDArray[np.float64]
    """[10, 4]: the challenge's metrics in each of its samples; [0, 4] where ranks are not wanted."""
    resampled: dict[str, NDArray[np.float64]]
    """Metrics of every block resample; empty where there are none."""
    curve: dict[str, list[float]]
    """``recall`` and ``precision`` at up to 200 thresholds, recall ascending."""
    missing_bins: int
    """Scored bins without a prediction."""


@dataclass
class Tally:
    """Adds up the stretches of one (data set, submission) as they come."""

    scores: NDArray[np.float32]
    """Of the positives, in genome order."""
    blocks: NDArray[np.int64]
    """Block of each positive."""
    thresholds: NDArray[np.float32]
    edges: NDArray[np.float32]
    num_blocks: int
    fold_seed: int | None
    missing: int
    """Positives without a prediction; grows by the negatives without one."""
    above: NDArray[np.float64] = field(init=False)
    ties: NDArray[np.float64] = field(init=False)
    num_negatives: NDArray[np.float64] = field(init=False)
    histograms: NDArray[np.float64] = field(init=False)

    def __post_init__(self) -> None:
        folds = 1 if self.fold_seed is None else NUM_FOLDS
        self.above, self.ties = np.zeros((2, folds, len(self.thresholds)))
        self.num_negatives = np.zeros(folds)
        self.histograms = np.zeros((self.num_blocks, 2 * len(self.edges) + 1))

    def add(self, stretch: Stretch, counted: CountedNegatives) -> None:
        self.above += counted.above
        self.ties += counted.ties
        self.num_negatives += counted.num
        if counted.histograms.size:
            self.histograms[stretch.first : stretch.last] += counted.histograms
        self.missing += counted.missing

    def outcome(self, weights: NDArray[np.float64]) -> Outcome:
        """The figures; ``weights`` [num, num_blocks] of the resamples, [0, num_blocks] for no intervals."""
        folds = self._folds()
        whole = _of(folds, lambda counts: counts.sum(axis=0))
        return Outcome(
            metrics=binding_metrics(whole),
            samples=_samples(folds),
            resampled=self._resampled(weights) if len(weights) else {},
            curve=thinned_curve(whole),
            missing_bins=self.missing,
        )

    def _folds(self) -> RankCounts:
        """Counts of each fold: [num_folds, m]."""
        if self.fold_seed is None:
            positives = count_positives(self.scores, self.thresholds)[None]
        else:
            fold = folds_of(np.arange(len(self.scores)), self.fold_seed)
            positives = np.stack([count_positives(self.scores[fold == i], self.thresholds) for i in range(NUM_FOLDS)])
        return RankCounts(
            thresholds=self.thresholds.astype(np.float64),
            positives=positives,
            above=self.above,
            ties=self.ties,
            num_positives=positives.sum(axis=1),
            num_negatives=self.num_negatives,
        )

    def _resampled(self, weights: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        positives = block_histograms(self.scores, self.blocks, self.edges, self.num_blocks)
        return resampled_metrics(positives, self.histograms, weights)


def constant_outcome(
    positives: NDArray[np.float64], negatives: NDArray[np.float64], weights: NDArray[np.float64]
) -> Outcome:
    """What a constant score reaches (the base rate), from the counts [num_blocks] of both classes."""
    resampled = resampled_metrics(positives[:, None], negatives[:, None], weights) if len(weights) else {}
    whole = counts_from_histogram(positives.sum(keepdims=True), negatives.sum(keepdims=True))
    return Outcome(
        metrics=binding_metrics(whole),
        samples=np.empty((0, len(RANKED_METRICS))),
        resampled=resampled,
        curve=thinned_curve(whole),
        missing_bins=0,
    )


def thinned_curve(counts: RankCounts, most: int = CURVE_POINTS) -> dict[str, list[float]]:
    """Recall and precision at up to ``most`` thresholds, evenly spaced in recall, for a plot."""
    recall = np.cumsum(counts.positives) / counts.num_positives
    at = np.unique(np.searchsorted(recall, np.linspace(recall[0], recall[-1], most)))
    chosen = at[at < len(recall)]
    return {
        "recall": np.round(recall[chosen], 6).tolist(),
        "precision": np.round(precision(counts)[chosen], 6).tolist(),
    }


def _samples(folds: RankCounts) -> NDArray[np.float64]:
    """The challenge's metrics in each sample, which leaves out one fold: [num_folds, 4]; none of a single fold."""
    if len(folds.num_positives) == 1:
        return np.empty((0, len(RANKED_METRICS)))
    values = metric_values(_of(folds, lambda counts: counts.sum(axis=0) - counts))
    return np.stack([values[name] for name in RANKED_METRICS], axis=1)


def _of(counts: RankCounts, change: Callable[[NDArray[np.float64]], NDArray[np.float64]]) -> RankCounts:
    return RankCounts(
        thresholds=counts.thresholds,
        positives=change(counts.positives),
        above=change(counts.above),
        ties=change(counts.ties),
        num_positives=change(counts.num_positives),
        num_negatives=change(counts.num_negatives),
    )
