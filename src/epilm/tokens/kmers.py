"""Base codes (A0 C1 G2 T3 N4) to k-mer ids on any torch device; :mod:`epilm.tokens.kmers_numpy` is the numpy twin.

Shapes: B = sequences, L = tokens.
"""

from __future__ import annotations

import torch
from torch import Tensor

from epilm.tokens.kmers_numpy import kmer_tokens
from epilm.tokens.vocab import BASE_N, NUM_SPECIAL, UNK, check_kmers, num_tokens

__all__ = ["kmer_tokens", "num_tokens", "tokenize_kmers"]

# An N counts as 4**8, more than the largest 8-mer: any k-mer that holds one comes out at 4**k or above, so that one
# int32 pass gives both the code and its validity. The largest sum is 4**8 * 4**7 * 4/3 < 2**31.
_N_VALUE = 4**8


def tokenize_kmers(dna_codes: Tensor, *, k: int, stride: int) -> Tensor:
    """K-mer ids of a batch of sequences.

    Args:
        dna_codes: uint8 ``[B, length_bp]``, A0 C1 G2 T3 N4.

    Returns:
        int64 ``[B, L]``, ``L = num_tokens(length_bp, k, stride)``; id ``5 + sum base_i * 4**(k-1-i)``, UNK where the
        k-mer has an N. Bases behind the last whole k-mer are unused.

    Raises:
        RecipeError: k not in 1..8, stride < 1, or sequences shorter than k.
    """
    check_kmers(k, stride, dna_codes.shape[1])
    length = num_tokens(dna_codes.shape[1], k, stride)
    codes = dna_codes.to(torch.int32)
    codes = torch.where(codes >= BASE_N, _N_VALUE, codes)
    value = _rolling(codes, k) if stride == 1 else _horner(codes, k, stride, length)
    return torch.where(value < 4**k, value + NUM_SPECIAL, UNK).to(torch.int64)


def _rolling(codes: Tensor, k: int) -> Tensor:
    """Values of all overlapping k-mers by doubling: a 2m-mer is two neighbouring m-mers, ~2 log2(k) passes."""
    value, width = codes, 1
    for bit in bin(k)[3:]:
        value = value[:, :-width] * 4**width + value[:, width:]
        width *= 2
        if bit == "1":
            value = value[:, :-1] * 4 + codes[:, width:]
            width += 1
    return value


def _horner(codes: Tensor, k: int, stride: int, length: int) -> Tensor:
    end = (length - 1) * stride + 1
    value = codes[:, 0:end:stride]
    for i in range(1, k):
        value = value * 4 + codes[:, i : i + end : stride]
    return value
