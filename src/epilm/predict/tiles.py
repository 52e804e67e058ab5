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


def count_tokens(length_bp: np.ndarray | int, *, k: int, stride: int) -> np.ndarray:
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
