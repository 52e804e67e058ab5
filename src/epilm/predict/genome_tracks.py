"""Predictions as bigWig: which bases show which bin, and a writer in bounded memory.

Neighbouring bins overlap, a base of a track has one value: it shows the bin whose centre is nearest. Bins of 200 bp every
50 bp show 50 bases each, from 75 on; a contig's first bin also all before it, its last all behind it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyBigWig

from epilm.errors import StorageError
from epilm.labels.grid import BinGrid
from epilm.labels.runs import Runs

BYTES_PER_BIN = 15
"""Most that a bin takes in a file: 4 in a fixed-step block, 32 / 4 in the first zoom level, a quarter in each further one;
all before compression. About 6 after it."""
_LEAST_BYTES = 1 << 20
_SHORT = 16
"""Bins of an even stretch below which a block of its own costs more than it saves."""


@dataclass(frozen=True)
class ShownBases:
    """Which bases show each of a set of bins, in ranges of bins that were asked for; int64 [r] each.

    A range shows its own bases, cut in the middle between two centres where the next range is near, and reaches to the end
    of what the corpus holds of the contig where it has the contig's first or last bin.
    """

    first: np.ndarray
    """First bin of each range, on the grid's axis."""
    last: np.ndarray
    """Its last bin."""
    left: np.ndarray
    """First base that the range shows."""
    right: np.ndarray
    """One past the last."""
    bin_bp: int
    step_bp: int

    @classmethod
    def of(cls, grid: BinGrid, asked: Runs, spans: Mapping[str, tuple[int, int]]) -> ShownBases:
        """Of the asked bins; ``spans`` has (start, end) of what the corpus holds of each contig, by name."""
        contig, first_bp, num_bins = grid.split(asked)
        last_bp = first_bp + (num_bins - 1) * grid.step_bp
        left, right = first_bp.copy(), last_bp + grid.bin_bp
        middle = (last_bp[:-1] + first_bp[1:] + grid.bin_bp) // 2
        same = contig[1:] == contig[:-1]
        right[:-1] = np.where(same, np.minimum(right[:-1], middle), right[:-1])
        left[1:] = np.where(same, np.maximum(left[1:], middle), left[1:])
        offset, total, start, end = (
            np.array(column, np.int64)[contig]
            for column in zip(*[(c.offset, c.num_bins, *spans[c.name]) for c in grid.contigs], strict=True)
        )
        first = grid.index_in(contig, first_bp)
        last = first + num_bins - 1
        left = np.where(first == offset, start, left)
        right = np.where(last == offset + total - 1, end, right)
        return cls(first, last, left, right, grid.bin_bp, grid.step_bp)

    def of_bins(self, bins: np.ndarray, start_bp: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(first base, one past the last) that each of these asked bins shows: int64 [n] each."""
        run = np.searchsorted(self.first, bins, side="right") - 1
        low = start_bp + (self.bin_bp - self.step_bp) // 2
        high = low + self.step_bp
        low = np.where(bins == self.first[run], self.left[run], low)
        return low, np.where(bins == self.last[run], self.right[run], high)


@dataclass(frozen=True)
class TrackPiece:
    """Values of neighbouring stretches of one contig, sorted, disjoint: int64 [n], int64 [n], float32 [n] without NaN."""

    chrom: str
    start: np.ndarray
    end: np.ndarray
    values: np.ndarray


def bigwig_bytes(num_bins: int) -> int:
    """Most bytes of a file of so many bins."""
    return _LEAST_BYTES + num_bins * BYTES_PER_BIN


def write_bigwig(path: Path, contigs: Sequence[tuple[str, int]], pieces: Iterable[TrackPiece]) -> None:
    """Write pieces, in the order of ``contigs`` and of the genome, to a local path.

    One piece is in memory at a time, and of the whole file its zoom levels: 14 bytes a bin, 70 MB for a contig of 250 Mb.
    libBigWig ends the process where a write fails, so the room must have been checked (:func:`bigwig_bytes`).

    Args:
        contigs: (name, length) of the header, in order.

    Raises:
        StorageError: the file cannot be written.
    """
    try:
        with pyBigWig.open(str(path), "w") as track:
            track.addHeader([(name, int(length)) for name, length in contigs])
            for piece in pieces:
                if len(piece.start):
                    _add(track, piece)
    except RuntimeError as error:
        raise StorageError(f"cannot write {path}: {error}. Is the disk full or read-only?") from error


def _add(track: object, piece: TrackPiece) -> None:
    """Even stretches as fixed-step entries, 4 bytes each; the others, and pieces of many short stretches, as intervals."""
    start, end, values = piece.start, piece.end, piece.values
    width = end - start
    breaks = np.flatnonzero((start[1:] != end[:-1]) | (width[1:] != width[:-1])) + 1
    edges = np.concatenate([[0], breaks, [len(start)]])
    if len(edges) > 3 + len(start) // _SHORT:
        edges = np.array([0, len(start)])
    for first, last in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        part = slice(first, last)
        if (width[part] == width[first]).all() and (start[part][1:] == end[part][:-1]).all():
            step = int(width[first])
            track.addEntries(piece.chrom, int(start[first]), values=values[part], span=step, step=step)  # pyright: ignore
        else:
            names = np.full(last - first, piece.chrom)
            track.addEntries(names, start[part], ends=end[part], values=values[part])  # pyright: ignore
