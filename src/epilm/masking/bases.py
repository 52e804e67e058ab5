"""From hidden bases to masked tokens, the one step that all policies but the uniform one share.

A policy chooses bases, and a hidden base masks every token that holds it; so one description serves overlapping and
non-overlapping tokens, and no visible token gives a hidden base away. The other bases of a masked token may well be seen:
those that it shares with a token that holds no hidden base. With k = 6, stride 1, DNABERT's span
``c - 2 ... c + 3`` are the tokens that hold base ``c + 3``, and GeneMask's ``b - 5 ... b + 5`` those that share a base
with k-mer ``b``.

Shapes: B = sequences, P = k-mers at every base, N = P + k - 1 bases, L = tokens of (k, stride).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor


def span_offsets(k: int) -> range:
    """A span's k-mers relative to its centre: ``-((k-1)//2) ... k//2``, as DNABERT for k = 3 to 6 (k=6: -2 ... 3)."""
    return range(-((k - 1) // 2), k // 2 + 1)


def bases_of_centres(centres: Tensor, k: int) -> Tensor:
    """The base that each centre's span is about, ``c + k//2``: bool ``[B, P]`` -> ``[B, N]``."""
    return F.pad(centres, (k // 2, k - 1 - k // 2))


def bases_of_kmers(chosen: Tensor, k: int) -> Tensor:
    """All bases of the chosen k-mers: bool ``[B, P]`` -> ``[B, N]``."""
    return _slide(F.pad(chosen, (k - 1, k - 1)), k, torch.logical_or)


def tokens_of_bases(hidden: Tensor, *, k: int, stride: int) -> Tensor:
    """The tokens that hold a hidden base: bool ``[B, N]`` -> ``[B, L]``."""
    return _slide(hidden, k, torch.logical_or)[:, ::stride]


def least_of_sharing(values: Tensor, *, k: int, stride: int) -> Tensor:
    """For each token the least value of the k-mers that share a base with it: int32 ``[B, P]`` -> ``[B, L]``."""
    padded = F.pad(values, (k - 1, k - 1), value=torch.iinfo(values.dtype).max)
    return _slide(padded, 2 * k - 1, torch.minimum)[:, ::stride]


def _slide(values: Tensor, width: int, combine: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Combine every ``width`` neighbours, ``[B, M] -> [B, M - width + 1]``, by doubling: ~log2(width) passes.

    ``combine`` must be idempotent: the last pass overlaps.
    """
    have = 1
    while have < width:
        step = min(have, width - have)
        values = combine(values[:, :-step], values[:, step:])
        have += step
    return values
