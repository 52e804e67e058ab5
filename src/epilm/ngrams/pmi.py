"""Pointwise mutual information of n-grams of bases: how much commoner a word is than its pieces foretell.

Natural logarithms; p(x) = f(x) / N with one N for every length of n-gram (CM-GEMS, section on NPMI). Arrays are indexed
by the n-gram's code: its bases A0 C1 G2 T3 as the digits of a number to base 4, the first base highest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from epilm.errors import RecipeError

MIN_COUNT = 101
"""The published threshold, which also stands in the discount ``ln f / (ln f + ln 101)``."""


@dataclass(frozen=True)
class NgramScores:
    """All n-grams of one n; every array is ``[4**n]``, by code."""

    n: int
    count: np.ndarray
    """int64."""
    naive_pmi: np.ndarray
    """float64, NaN where there is none (count 0, n = 1)."""
    dp_pmi: np.ndarray
    """float64, NaN where there is none (count 0, n < 3)."""
    npmi: np.ndarray
    """float64, NaN where there is none (count below the threshold, n < 3)."""
    rank: np.ndarray
    """int32, 1 = highest NPMI; 0 where there is no NPMI."""

    @property
    def scored(self) -> np.ndarray:
        """bool ``[4**n]``: has an NPMI."""
        return ~np.isnan(self.npmi)


def score_ngrams(counts: Sequence[np.ndarray], *, total: float, min_count: int = MIN_COUNT) -> tuple[NgramScores, ...]:
    """Every score of the n-grams of n = 1 .. len(counts).

    Args:
        counts: int64 ``[4**n]`` for n = 1, 2, ...; at least those of n = 1.
        total: N. The number of single bases counted; the published table has twice that.
        min_count: n-grams that are rarer have no NPMI.

    Returns:
        one :class:`NgramScores` an n: naive PMI from n = 2, the others from n = 3 (a pair would be its own piece).
    """
    if not total > 0:
        raise RecipeError("no base was counted: the sequence holds nothing but N. Choose other contigs.")
    scores = []
    for n, count in enumerate(counts, start=1):
        nothing = np.full(4**n, np.nan)
        naive = naive_pmi(counts, n, total=total) if n >= 2 else nothing
        dp = dp_pmi(counts, n, total=total) if n >= 3 else nothing
        npmi = discount(dp, count, min_count=min_count)
        scores.append(NgramScores(n, count, naive, dp, npmi, rank_npmi(npmi)))
    return tuple(scores)


def naive_pmi(counts: Sequence[np.ndarray], n: int, *, total: float) -> np.ndarray:
    """``ln p(w) - sum of ln p(base)`` -> float64 ``[4**n]``, NaN where w was not counted."""
    base = _log(counts[0], total)
    pieces = base
    for _ in range(n - 1):
        pieces = (pieces[:, None] + base).ravel()
    return _against(counts[n - 1], total, pieces)


def dp_pmi(counts: Sequence[np.ndarray], n: int, *, total: float) -> np.ndarray:
    """``min over segmentations of ln p(w) - sum of ln p(piece)``, pieces of one or two bases -> float64 ``[4**n]``.

    The likeliest segmentation is built base by base for all words at once: a word ends in a single or in a pair.
    """
    base, pair = _log(counts[0], total), _log(counts[1], total)
    shorter, best = np.zeros(1), base
    for _ in range(n - 1):
        ends_single = (best[:, None] + base).ravel()
        ends_pair = (shorter[:, None] + pair).ravel()
        shorter, best = best, np.maximum(ends_single, ends_pair)
    return _against(counts[n - 1], total, best)


def discount(dp: np.ndarray, count: np.ndarray, *, min_count: int = MIN_COUNT) -> np.ndarray:
    """NPMI: ``dp * ln f / (ln f + ln min_count)``, NaN for counts below ``min_count`` and where dp has none."""
    log_count = np.log(np.maximum(count, 1))
    return np.where(count >= min_count, dp * log_count / (log_count + np.log(min_count)), np.nan)


def rank_npmi(npmi: np.ndarray) -> np.ndarray:
    """int32: 1 = highest NPMI, ties by code, 0 where there is none (NaN)."""
    order = np.argsort(-npmi, kind="stable")  # NaN sorts last
    num_scored = int(np.count_nonzero(~np.isnan(npmi)))
    rank = np.zeros(len(npmi), np.int32)
    rank[order[:num_scored]] = np.arange(1, num_scored + 1, dtype=np.int32)
    return rank


def reverse_complement_codes(n: int) -> np.ndarray:
    """int64 ``[4**n]``: the code of each n-gram's reverse complement. An involution."""
    rest, turned = np.arange(4**n), np.zeros(4**n, np.int64)
    for _ in range(n):
        turned = turned * 4 + (3 - rest % 4)
        rest //= 4
    return turned


def both_strands(counts: Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
    """f(w) + f(reverse complement of w) of every length: what reading both strands would count."""
    return tuple(count + count[reverse_complement_codes(n)] for n, count in enumerate(counts, start=1))


def _log(count: np.ndarray, total: float) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return np.log(count / total)


def _against(count: np.ndarray, total: float, pieces: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):  # -inf - -inf, of words that were not counted
        return np.where(count > 0, _log(count, total) - pieces, np.nan)
