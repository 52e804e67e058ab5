"""The two passes over a submission's scores, each over some blocks of the genome: what a Ray task does. Pure but for the
reading.

The first fetches the scores of the positives, which are few; the second counts the negatives above and at each of them.
So the metrics are exact, and no task holds more than its own bins.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from epilm.evaluate.blocks import score_histogram
from epilm.evaluate.dream import NUM_FOLDS, folds_of
from epilm.evaluate.ranking import count_negatives
from epilm.evaluate.submissions import ScoreColumn
from epilm.labels.runs import Runs


@dataclass(frozen=True)
class FoundScores:
    """Scores of the positives of some blocks, in genome order, float32 [n]; missing ones are 0 and counted."""

    scores: NDArray[np.float32]
    missing: int


@dataclass(frozen=True)
class CountedNegatives:
    """Negatives of some blocks."""

    above: NDArray[np.uint32]
    """[num_folds, m] with a larger score than each threshold."""
    ties: NDArray[np.uint32]
    """[num_folds, m] with that score."""
    histograms: NDArray[np.uint32]
    """[num_blocks of the task, 2 num_edges + 1]; see :func:`~epilm.evaluate.blocks.score_histogram`."""
    num: NDArray[np.int64]
    """[num_folds], those below every threshold included."""
    missing: int
    """Of them, those without a prediction, which scored 0."""


@dataclass(frozen=True)
class Stretch:
    """Consecutive blocks, ``first`` to ``last`` of all: the work of one task."""

    first: int
    last: int
    start: NDArray[np.int64]
    end: NDArray[np.int64]
    """Bins of each block, half-open."""

    @property
    def num_bins(self) -> int:
        return int((self.end - self.start).sum())


def find_positives(column: ScoreColumn, bound: Runs, stretch: Stretch) -> FoundScores:
    """Scores of the bound bins of a stretch."""
    scores = []
    for first, last in _spans(stretch):
        mask = bound.mask(first, last)
        if mask.any():
            scores.append(column.read(first, last)[mask])
    return _filled(np.concatenate(scores) if scores else np.empty(0, np.float32))


def count_stretch(
    column: ScoreColumn,
    unbound: Runs,
    stretch: Stretch,
    *,
    thresholds: NDArray[np.float32],
    edges: NDArray[np.float32],
    fold_seed: int | None,
) -> CountedNegatives:
    """Count the unbound bins of a stretch.

    Args:
        thresholds: float32 [m] descending; the positives' distinct scores.
        edges: of the blocks' histograms, ascending; none where nothing is resampled.
        fold_seed: of the folds that the challenge's samples leave out; None = one fold.
    """
    found, bins, histograms, missing = [], [], [], 0
    for first, last in _spans(stretch):
        span = column.read(first, last)
        inside = slice(*np.searchsorted(stretch.start, [first, last]))
        for start, end in zip(stretch.start[inside], stretch.end[inside], strict=True):
            chosen = np.flatnonzero(unbound.mask(int(start), int(end)))
            filled = _filled(span[start - first : end - first][chosen])
            missing += filled.missing
            found.append(filled.scores)
            bins.append(chosen + start)
            if len(edges):
                histograms.append(score_histogram(filled.scores, edges))
    scores = np.concatenate(found)
    if fold_seed is None:
        split = [scores]
    else:
        # a negative's number is its bin's: ten neighbours are in ten folds, so that shares are equal to a few bins
        fold = folds_of(np.concatenate(bins), fold_seed)
        split = [scores[fold == i] for i in range(NUM_FOLDS)]
    counted = [count_negatives(part, thresholds) for part in split]
    return CountedNegatives(
        above=np.stack([above for above, _ in counted]).astype(np.uint32),
        ties=np.stack([ties for _, ties in counted]).astype(np.uint32),
        histograms=np.stack(histograms).astype(np.uint32) if histograms else np.zeros((0, 0), np.uint32),
        num=np.array([len(part) for part in split]),
        missing=missing,
    )


def _spans(stretch: Stretch) -> list[tuple[int, int]]:
    """Bins of the stretch as ranges, touching blocks joined: each is read at once."""
    runs = Runs.of(stretch.start, stretch.end)
    return list(zip(runs.start.tolist(), runs.end.tolist(), strict=True))


def _filled(scores: NDArray[np.float32]) -> FoundScores:
    gaps = np.isnan(scores)
    return FoundScores(np.where(gaps, np.float32(0), scores), int(gaps.sum()))
