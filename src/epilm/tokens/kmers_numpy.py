"""The numpy twin of :func:`epilm.tokens.kmers.tokenize_kmers`: small dtypes, for counting k-mers and for feeding.

The speed comes from the dtypes (up to 4-mers everything stays in uint8, where one vector instruction treats 32 or 64
bases) and from blocks that stay in the cache.
"""

from __future__ import annotations

import numpy as np

from epilm.tokens.vocab import BASE_N, NUM_SPECIAL, UNK, check_kmers, num_tokens

_BLOCK_BYTES = 1 << 17
"""Bases treated at a time, so that the intermediate arrays stay in the second-level cache."""


def kmer_dtype(k: int) -> type[np.unsignedinteger]:
    """Smallest of uint16 and uint32 that holds every id: uint16 up to k = 7."""
    return np.uint16 if 4**k + NUM_SPECIAL <= 1 << 16 else np.uint32


def kmer_tokens(dna_codes: np.ndarray, *, k: int, stride: int) -> np.ndarray:
    """K-mer ids of a batch of sequences, equal to ``tokenize_kmers``.

    Args:
        dna_codes: uint8 ``[B, length_bp]`` or ``[length_bp]``, A0 C1 G2 T3 N4.

    Returns:
        uint16 (k <= 7) or uint32 ``[B, L]`` or ``[L]``; UNK where the k-mer has an N.

    Raises:
        RecipeError: k not in 1..8, stride < 1, or sequences shorter than k.
    """
    dna_codes = np.asarray(dna_codes, dtype=np.uint8)
    check_kmers(k, stride, dna_codes.shape[-1])
    if dna_codes.ndim == 1:
        return kmer_tokens(dna_codes[None], k=k, stride=stride)[0]
    batch, length_bp = dna_codes.shape
    length = num_tokens(length_bp, k, stride)
    ids = np.empty((batch, length), dtype=kmer_dtype(k))
    step = max(1, _BLOCK_BYTES // length_bp)
    for start in range(0, batch, step):
        block = np.ascontiguousarray(dna_codes[start : start + step])
        out = ids[start : start + step]
        if stride == 1:
            _rolling(block, k, out)
        else:
            _horner(block, k, stride, out)
        if block.max(initial=0) >= BASE_N:
            _mark_unknown(block, k, stride, out)
    return ids


def _rolling(codes: np.ndarray, k: int, out: np.ndarray) -> None:
    """Overlapping k-mers from the 1-, 2- and 4-mers, by the binary digits of k; an N's garbage is marked later."""
    mers = {1: codes}
    for width in (1, 2):
        if k >= 2 * width:
            left, right = mers[width][:, :-width], mers[width][:, width:]
            mers[2 * width] = left * np.uint8(4**width)  # at most 4**4 = 256 values: uint8 throughout
            mers[2 * width] += right
    length = out.shape[1]
    widest = max(width for width in mers if width <= k)
    out[...] = mers[widest][:, :length]
    at = widest
    while at < k:
        width = max(width for width in mers if width <= k - at)
        out *= out.dtype.type(4**width)
        out += mers[width][:, at : at + length]
        at += width
    out += out.dtype.type(NUM_SPECIAL)


def _horner(codes: np.ndarray, k: int, stride: int, out: np.ndarray) -> None:
    end = (out.shape[1] - 1) * stride + 1
    out[...] = codes[:, 0:end:stride]
    for i in range(1, k):
        out *= out.dtype.type(4)
        out += codes[:, i : i + end : stride]
    out += out.dtype.type(NUM_SPECIAL)


def _mark_unknown(codes: np.ndarray, k: int, stride: int, out: np.ndarray) -> None:
    """Write UNK where a k-mer holds an N, in the few rows that have one."""
    rows = np.flatnonzero((codes >= BASE_N).any(axis=1))
    unknown = np.zeros((len(rows), codes.shape[1] + 1), dtype=np.int32)
    np.cumsum(codes[rows] >= BASE_N, axis=1, out=unknown[:, 1:])
    end = (out.shape[1] - 1) * stride + 1
    has_n = unknown[:, k : k + end : stride] > unknown[:, 0:end:stride]
    out[rows] = np.where(has_n, UNK, out[rows])
