"""The rule of ENCODE-DREAM that makes labels of peaks, as arithmetic on whole columns.

A peak that must share ``m`` bases with a bin decides for a range of consecutive bins, so that the rule costs as much as
there are peaks, however many bins there are.
"""

from __future__ import annotations

import numpy as np

from epilm.labels.grid import BinGrid
from epilm.labels.runs import Runs


def covered_bins(grid: BinGrid, contig: np.ndarray, start: np.ndarray, end: np.ndarray, *, min_overlap_bp: int) -> Runs:
    """Bins that share ``min_overlap_bp`` bases or more with one single interval.

    Intervals that touch or overlap are not joined: two halves of 100 bp do not make one of 200. Bases before or past what
    the grid holds do not count, as no bin lies there.

    Args:
        contig: int64 [n], index into ``grid.contigs``.
        start, end: int64 [n], 0-based half-open; may reach past either end of the contig.
    """
    contig = np.asarray(contig, np.int64)
    first_bp, num_bins, offset = (
        np.array([getattr(c, name) for c in grid.contigs], np.int64)[contig]
        for name in ("first_bp", "num_bins", "offset")
    )
    low, high = _bin_range(
        np.asarray(start, np.int64) - first_bp, np.asarray(end, np.int64) - first_bp, grid, min_overlap_bp
    )
    return Runs.of(offset + np.clip(low, 0, num_bins), offset + np.clip(high, 0, num_bins))


def _bin_range(start: np.ndarray, end: np.ndarray, grid: BinGrid, min_overlap_bp: int) -> tuple[np.ndarray, np.ndarray]:
    """[low, high) of the bins that share enough with each interval, were there bins without end; 0 is the first one's base.

    A bin at b shares min(end, b + bin_bp) - max(start, b) bases, which is the least of four differences: end - start,
    bin_bp, end - b and b + bin_bp - start.
    """
    low = -((grid.bin_bp - min_overlap_bp - start) // grid.step_bp)
    high = (end - min_overlap_bp) // grid.step_bp + 1
    enough = (end - start >= min_overlap_bp) & (grid.bin_bp >= min_overlap_bp)
    return low, np.where(enough, high, low)


def blacklisted_bins(grid: BinGrid, contig: np.ndarray, start: np.ndarray, end: np.ndarray) -> Runs:
    """Bins that share a base with any region."""
    return covered_bins(grid, contig, start, end, min_overlap_bp=1)


def resized(start: np.ndarray, end: np.ndarray, summit: np.ndarray, *, resize_bp: int) -> tuple[np.ndarray, np.ndarray]:
    """Intervals of ``resize_bp`` round the base ``start + summit``, or round the middle where ``summit`` is negative.

    The base stands at ``resize_bp // 2`` of the interval: in its middle where the width is odd.
    """
    centre = np.where(summit >= 0, start + summit, (start + end) // 2)
    first = centre - resize_bp // 2
    return first, first + resize_bp
