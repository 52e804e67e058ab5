"""Block bootstrap over the genome: intervals of ranking metrics, and of their differences between submissions. Pure.

Neighbouring bins share bases, peaks and chromatin, so bins are no independent samples; stretches of a megabase nearly
are. A resample draws as many blocks as there are, with replacement. All submissions are resampled by the same draws, so
that a difference is one of the same bins.

A block is kept as histograms of its positives' and negatives' scores; a resample's histograms are a weighted sum of
them, and all resamples one matrix product. The histograms' edges are scores of positives, at most ``MAX_EDGES`` of them: up
to that many distinct scores the resampled metrics are exact; above, scores between two edges count as tied.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from epilm.evaluate.ranking import counts_from_histogram, metric_values
from epilm.hashing import hash_u64
from epilm.labels.grid import BinGrid
from epilm.labels.runs import Runs

MAX_EDGES = 1000
_CHUNK_VALUES = 4_000_000  # histogram entries of the resamples held at once: 32 MB
_STREAM = 0xB10C5


@dataclass(frozen=True)
class Blocks:
    """Consecutive stretches of bins, none across two contigs: int64 [num_blocks] each, ascending, half-open."""

    start: NDArray[np.int64]
    end: NDArray[np.int64]

    @classmethod
    def cut(cls, bins: Runs, grid: BinGrid, block_bp: int) -> Blocks:
        """Cut a set of bins into stretches of ``block_bp``; the last of a contig or a region is shorter."""
        contig, start_bp, num_bins = grid.split(bins)
        first = grid.index_in(contig, start_bp)
        per_block = max(1, block_bp // grid.step_bp)
        pieces = -(-num_bins // per_block)
        piece = np.repeat(np.arange(pieces.size), pieces)
        number = np.arange(pieces.sum()) - np.repeat(np.cumsum(pieces) - pieces, pieces)
        start = first[piece] + number * per_block
        return cls(start, np.minimum(start + per_block, (first + num_bins)[piece]))

    def __len__(self) -> int:
        return len(self.start)

    def of(self, bins: NDArray[np.int64]) -> NDArray[np.int64]:
        """Number of the block that each bin lies in, int64 [n]; every bin must lie in one."""
        return np.searchsorted(self.start, bins, side="right") - 1

    def groups(self, bins_per_group: int) -> list[tuple[int, int]]:
        """Ranges of blocks of about so many bins each: the units of work."""
        done = np.cumsum(self.end - self.start)
        group = (done - 1) // bins_per_group
        edges = [0, *(np.flatnonzero(np.diff(group)) + 1).tolist(), len(self)]
        return [(first, last) for first, last in itertools.pairwise(edges) if last > first]


def score_edges(scores: NDArray[np.floating], most: int = MAX_EDGES) -> NDArray[np.floating]:
    """Distinct scores of the positives, ascending; where there are more than ``most``, those at even ranks."""
    distinct = np.unique(scores)
    if len(distinct) <= most:
        return distinct
    ranks = np.linspace(0, len(scores) - 1, most).round().astype(np.int64)
    return np.unique(np.sort(scores)[ranks])


def score_histogram(scores: NDArray[np.floating], edges: NDArray[np.floating]) -> NDArray[np.int64]:
    """Counts below the first edge, at it, between it and the second, at the second, ... int64 [2 num_edges + 1]."""
    ordered = np.sort(scores)
    cuts = np.stack([np.searchsorted(ordered, edges, "left"), np.searchsorted(ordered, edges, "right")], axis=1)
    return np.diff(cuts.ravel(), prepend=0, append=len(ordered))


def block_histograms(
    scores: NDArray[np.floating], block: NDArray[np.int64], edges: NDArray[np.floating], num_blocks: int
) -> NDArray[np.int64]:
    """Histogram of each block, int64 [num_blocks, 2 num_edges + 1]; for the positives, which are few."""
    place = np.searchsorted(edges, scores, "left") + np.searchsorted(edges, scores, "right")
    width = 2 * len(edges) + 1
    return np.bincount(block * width + place, minlength=num_blocks * width).reshape(num_blocks, width)


def draw_weights(num_blocks: int, *, num: int, seed: int) -> NDArray[np.float64]:
    """How often each resample has each block, [num, num_blocks]; rows sum to ``num_blocks``."""
    weights = np.empty((num, num_blocks))
    for row in range(num):
        draws = hash_u64(seed, _STREAM, row, np.arange(num_blocks)) >> np.uint64(32)
        drawn = (draws * np.uint64(num_blocks)) >> np.uint64(32)
        weights[row] = np.bincount(drawn.astype(np.int64), minlength=num_blocks)
    return weights


def resampled_metrics(
    positives: NDArray[np.number], negatives: NDArray[np.number], weights: NDArray[np.float64]
) -> dict[str, NDArray[np.float64]]:
    """Metrics of every resample, [num] each; NaN where a resample has drawn no positive.

    Args:
        positives, negatives: [num_blocks, bins] histograms over the same ascending bins.
        weights: [num, num_blocks].
    """
    of_positives, of_negatives = positives.astype(np.float64), negatives.astype(np.float64)
    rows = max(1, _CHUNK_VALUES // positives.shape[1])
    parts = [
        metric_values(counts_from_histogram(weights[i : i + rows] @ of_positives, weights[i : i + rows] @ of_negatives))
        for i in range(0, len(weights), rows)
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def intervals(values: Mapping[str, NDArray[np.float64]], level: float) -> dict[str, tuple[float, float]]:
    """Percentile interval of each metric over its resamples; (NaN, NaN) where none is defined."""
    result = {}
    for name, resampled in values.items():
        defined = resampled[np.isfinite(resampled)]
        bounds = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2]) if defined.size else (np.nan, np.nan)
        result[name] = (float(bounds[0]), float(bounds[1]))
    return result


def difference_intervals(
    values: Mapping[str, NDArray[np.float64]], baseline: Mapping[str, NDArray[np.float64]], level: float
) -> dict[str, tuple[float, float]]:
    """Percentile interval of ``values`` minus ``baseline``, resample by resample."""
    return intervals({name: resampled - baseline[name] for name, resampled in values.items()}, level)
