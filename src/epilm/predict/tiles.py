"""Intervals of any length and strand as model windows ("tiles") of one length.

All arithmetic is on whole columns. A tile starts at a token of its interval, read along the interval's strand, so that
the tiles' tokens put end to end are exactly the tokens of the whole interval. The last tile of a long interval is moved
back until it is full (a model trained on full windows sees a full window); the tokens shared with the tile before
are *skipped*, i.e. counted once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Tiles:
    """Tiles of a list of intervals, in the intervals' order; all arrays are int64 ``[num_tiles]``."""

    interval: np.ndarray
    """Row of the interval."""
    first_token: np.ndarray
    """Token of the interval that the tile begins with."""
    num_tokens: np.ndarray
    """Tokens of the tile that belong to the interval."""
    skip: np.ndarray
    """Leading tokens that the tile before has already."""

    def __len__(self) -> int:
        return len(self.interval)


def count_tokens(length_bp: np.ndarray, *, k: int, stride: int) -> np.ndarray:
    """Tokens of intervals of ``length_bp``; 0 where an interval is shorter than ``k``."""
    return np.maximum((np.asarray(length_bp, np.int64) - k) // stride + 1, 0)


def span_bp(num_tokens: int, *, k: int, stride: int) -> int:
    """Bases that ``num_tokens`` neighbouring tokens cover."""
    return (num_tokens - 1) * stride + k


def count_tiles(num_tokens: np.ndarray, max_tokens: int) -> np.ndarray:
    """Tiles of intervals with ``num_tokens`` tokens, of at most ``max_tokens`` each."""
    return -(-np.asarray(num_tokens, np.int64) // max_tokens)


def plan_tiles(num_tokens: np.ndarray, max_tokens: int) -> Tiles:
    """Cut intervals of ``num_tokens`` (at least 1 each) into tiles of at most ``max_tokens``."""
    num_tokens = np.asarray(num_tokens, np.int64)
    tiles = count_tiles(num_tokens, max_tokens)
    interval = np.repeat(np.arange(len(tiles)), tiles)
    ordinal = np.arange(len(interval)) - np.repeat(np.cumsum(tiles) - tiles, tiles)
    nominal = ordinal * max_tokens
    first = np.minimum(nominal, np.maximum(num_tokens[interval] - max_tokens, 0))
    count = np.minimum(num_tokens[interval] - first, max_tokens)
    return Tiles(interval=interval, first_token=first, num_tokens=count, skip=nominal - first)


def genomic_starts(
    start: np.ndarray, end: np.ndarray, reverse: np.ndarray, first_token: np.ndarray, *, stride: int, length_bp: int
) -> np.ndarray:
    """Genomic start of windows of ``length_bp`` that begin at ``first_token`` of their interval.

    On the reverse strand an interval's first base is ``end - 1`` and a window runs downwards. Starts may
    lie before the contig.
    """
    offset = first_token * stride
    return np.where(reverse, end - offset - length_bp, start + offset)


def orient_dna(dna: np.ndarray, reverse: np.ndarray) -> np.ndarray:
    """Reverse-complement the rows of ``dna`` (uint8 ``[n, length_bp]``, A0 C1 G2 T3 N4) where ``reverse``."""
    flipped = dna[reverse, ::-1]
    result = dna.copy()
    result[reverse] = np.where(flipped < 4, 3 - flipped, flipped)
    return result


def orient_bins(
    bins: np.ndarray, phase_bp: np.ndarray, reverse: np.ndarray, *, length_bp: int, bin_bp: int, no_data: int
) -> tuple[np.ndarray, np.ndarray]:
    """Reverse the rows of ``bins`` where ``reverse``, with the phase that keeps every base's state.

    Base ``i`` of a window lies ``phase + i`` bases into its bins. Read backwards, base ``j = length - 1 - i`` lies
    ``num_bins * bin_bp - phase - length + j`` into the reversed bins; where that phase is a bin or more, whole bins are
    left out at the front, so that the result obeys the corpus' rule ``0 <= phase < bin_bp``.

    Args:
        bins: uint8 ``[n, cells, num_bins]``.
        phase_bp: ``[n]``, bases from the first bin's start to the window's start.

    Returns:
        bins and phase, oriented; bins past the window's last are ``no_data``.
    """
    num_bins = bins.shape[-1]
    phase_bp = np.asarray(phase_bp, np.int64)
    backward = num_bins * bin_bp - phase_bp - length_bp
    new_phase = np.where(reverse, backward % bin_bp, phase_bp)
    source = num_bins - 1 - (backward // bin_bp)[:, None] - np.arange(num_bins)  # [n, num_bins]
    source = np.where(reverse[:, None], source, np.arange(num_bins))
    taken = np.take_along_axis(bins, np.maximum(source, 0)[:, None, :], axis=-1)
    return np.where(source[:, None, :] >= 0, taken, np.uint8(no_data)), new_phase
