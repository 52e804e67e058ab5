"""Exact counts of all n-grams of n = 1 .. max_n in one pass over the bases; pure.

Only the longest n is counted base by base. Every shorter count follows from it: an n-gram is the head of an (n+1)-gram,
or it is the last of its run of known bases, and those are few.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from epilm.tokens.counts import count_kmers
from epilm.tokens.vocab import BASE_N, check_kmers

Counts = tuple[np.ndarray, ...]
"""int64 ``[4**n]`` for n = 1, 2, ..., max_n, each by n-gram code (A, C, G, T order)."""


def count_ngrams(codes: np.ndarray, max_n: int, *, num_starts: int | None = None) -> Counts:
    """Counts of the n-grams that start in a chunk; none crosses an N or the end of ``codes``.

    Args:
        codes: uint8 ``[length_bp]``, A0 C1 G2 T3, anything above = N: the chunk and, behind it, up to ``max_n - 1`` bases
            of the same contig (all that are left, at its end).
        num_starts: length of the chunk; all of ``codes`` where absent. Chunks that tile a contig have counts that add
            up to the whole contig's, wherever the borders lie.

    Raises:
        RecipeError: max_n not in 1..8.
    """
    check_kmers(max_n, 1)
    num_starts = len(codes) if num_starts is None else num_starts
    codes = np.asarray(codes[: num_starts + max_n - 1], dtype=np.uint8)
    run_start, run_end = known_runs(codes)
    counts = [count_kmers(codes, max_n)]
    for n in range(max_n - 1, 0, -1):
        start = run_end - n
        # where the chunk ends within a run, its last n-grams have a base behind them, or start in the next chunk
        start = start[(start >= run_start) & (start < num_starts)]
        last = np.zeros(len(start), np.int64)
        for i in range(n):
            last = last * 4 + codes[start + i]
        counts.append(counts[-1].reshape(-1, 4).sum(axis=1) + np.bincount(last, minlength=4**n))
    return tuple(reversed(counts))


def known_runs(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(start, end) int64 of the longest runs without N, 0-based half-open, in order."""
    known = codes < BASE_N
    if known.all():
        edges = np.array([0, len(codes)] if len(codes) else [], np.int64)
    else:
        edges = np.flatnonzero(known[1:] != known[:-1]) + 1
        edges = np.concatenate([[0] if known[0] else [], edges, [len(codes)] if known[-1] else []]).astype(np.int64)
    return edges[0::2], edges[1::2]


def no_counts(max_n: int) -> Counts:
    """What an empty sequence has."""
    return tuple(np.zeros(4**n, np.int64) for n in range(1, max_n + 1))


def add_counts(one: Sequence[np.ndarray], other: Sequence[np.ndarray]) -> Counts:
    """The counts of two chunks together."""
    return tuple(a + b for a, b in zip(one, other, strict=True))
