"""How often each k-mer occurs in DNA: blocked rolling ids and one histogram a block."""

from __future__ import annotations

import numpy as np

from epilm.tokens.kmers_numpy import kmer_tokens
from epilm.tokens.vocab import NUM_SPECIAL, check_kmers

_BLOCK_BP = 1 << 17
"""Bases counted at a time: the ids and numpy's 64-bit copy of them stay in the second-level cache."""


def count_kmers(codes: np.ndarray, k: int) -> np.ndarray:
    """Counts of the overlapping k-mers, in the order of their ids (A, C, G, T).

    Args:
        codes: uint8 ``[length_bp]`` or ``[B, length_bp]``, A0 C1 G2 T3, anything above = N. A k-mer never crosses
            an N or the end of a row; rows shorter than k have none.

    Returns:
        int64 ``[4**k]``.

    Raises:
        RecipeError: k not in 1..8.
    """
    check_kmers(k, 1)
    rows = np.atleast_2d(np.asarray(codes, dtype=np.uint8))
    length_bp = rows.shape[1]
    counts = np.zeros(4**k + NUM_SPECIAL, dtype=np.int64)
    rows_per_block = max(1, _BLOCK_BP // max(length_bp, 1))
    for row in range(0, len(rows), rows_per_block):
        for start in range(0, length_bp - k + 1, _BLOCK_BP):
            block = rows[row : row + rows_per_block, start : start + _BLOCK_BP + k - 1]
            counts += np.bincount(kmer_tokens(block, k=k, stride=1).ravel(), minlength=len(counts))
    return counts[NUM_SPECIAL:]
