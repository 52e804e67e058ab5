"""Segments to bins: each bin takes the state that covers most of it. Pure numpy, all cells at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

NO_STATE = 255


@dataclass(frozen=True)
class Segments:
    """Disjoint segments of one contig, of all cells, ordered by (cell, start).

    ``first``: int64 [num_cells + 1], the rows of cell c are ``first[c]:first[c + 1]``; ``start``, ``end``: int64 [n];
    ``state``: uint8 [n].
    """

    first: np.ndarray
    start: np.ndarray
    end: np.ndarray
    state: np.ndarray

    @property
    def num_cells(self) -> int:
        return self.first.size - 1


def bin_segments(segments: Segments, start_bp: int, end_bp: int, bin_bp: int) -> np.ndarray:
    """States uint8 [num_cells, ceil((end_bp - start_bp) / bin_bp)] of the bins from ``start_bp`` on.

    The state that covers most of a bin's bases wins. Uncovered bases count like a state of their own, so that a bin
    mostly without data is 255; a tie goes to a state rather than to no data, and to the lower state. Bases at or past
    ``end_bp`` do not count: the last bin of a contig is decided by the bases that exist.
    """
    num_bins = -(-(end_bp - start_bp) // bin_bp)
    rows, cells = _rows_within(segments, start_bp, end_bp)
    begin = np.maximum(segments.start[rows], start_bp) - start_bp
    stop = np.minimum(segments.end[rows], end_bp) - start_bp
    # one piece for each (segment, bin) that meet
    first_bin, last_bin = begin // bin_bp, (stop - 1) // bin_bp
    count = last_bin - first_bin + 1
    owner = np.repeat(np.arange(rows.size), count)
    piece_bin = first_bin[owner] + _ramp(count)
    width = np.minimum(stop[owner], (piece_bin + 1) * bin_bp) - np.maximum(begin[owner], piece_bin * bin_bp)
    cell_bin = cells[owner] * num_bins + piece_bin
    state = segments.state[rows][owner].astype(np.int64)
    # bases of each (cell, bin, state); pieces of one state in a bin need not be neighbours
    key, place = _unique(cell_bin * (NO_STATE + 1) + state)
    bases = np.bincount(place, weights=width, minlength=key.size).astype(np.int64)
    cell_bin, state = key // (NO_STATE + 1), key % (NO_STATE + 1)
    bin_width = np.minimum((np.arange(num_bins) + 1) * bin_bp, end_bp - start_bp) - np.arange(num_bins) * bin_bp
    total = segments.num_cells * num_bins
    empty = np.tile(bin_width, segments.num_cells) - np.bincount(cell_bin, weights=bases, minlength=total).astype(
        np.int64
    )
    # of each bin the last in the order of (bases, -state) wins
    order = np.lexsort((-state, bases, cell_bin))
    is_last = np.ones(order.size, bool)
    is_last[:-1] = cell_bin[order][1:] != cell_bin[order][:-1]
    winner = order[is_last]
    kept = winner[bases[winner] >= empty[cell_bin[winner]]]
    result = np.full(total, NO_STATE, np.uint8)
    result[cell_bin[kept]] = state[kept]
    return result.reshape(segments.num_cells, num_bins)


def _rows_within(segments: Segments, start_bp: int, end_bp: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the segments that meet [start_bp, end_bp), and the cell of each."""
    low, high = np.empty(segments.num_cells, np.int64), np.empty(segments.num_cells, np.int64)
    for cell in range(segments.num_cells):  # a binary search a cell; nothing a row at a time
        rows = slice(segments.first[cell], segments.first[cell + 1])
        low[cell] = rows.start + np.searchsorted(segments.end[rows], start_bp, side="right")
        high[cell] = rows.start + np.searchsorted(segments.start[rows], end_bp, side="left")
    count = np.maximum(high - low, 0)
    return np.repeat(low, count) + _ramp(count), np.repeat(np.arange(segments.num_cells), count)


def _ramp(count: np.ndarray) -> np.ndarray:
    """0 .. count[0]-1, 0 .. count[1]-1, ..."""
    return np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)


def _unique(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.unique(keys, return_inverse=True) if keys.size else (keys, keys)


def run_lengths(states: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First index of every run of equal values, and one past its last."""
    starts = np.flatnonzero(np.append(True, states[1:] != states[:-1])) if states.size else np.zeros(0, np.int64)
    return starts, np.append(starts[1:], states.size) if states.size else starts
