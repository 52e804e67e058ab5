"""How probable a centre must be for a policy to mask a given share of the tokens, for every length of row.

Rows are shorter than a span's reach at their ends, so a fixed probability masks less of a short row. Lengths count the
row's real k-mers; gaps of N within it are taken as none.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import TypeVar, cast

import numpy as np
from scipy.optimize import brentq
from scipy.stats import binom
from torch import Tensor

from epilm.masking.bases import span_offsets
from epilm.masking.draws import DeviceArray, thresholds

Count = TypeVar("Count", int, np.ndarray, Tensor)
ExpectedRate = Callable[[float], float]


def kept_centres(number: Count) -> Count:
    """How many of a row's centres GeneMask widens: half of them, rounded up; all where that is fewer than 5."""
    half = (number + 1) // 2
    return half + (number - half) * (half < 5)


def span_rate(length: int, k: int, stride: int) -> ExpectedRate:
    """Expected share of the tokens that spans mask in a row of ``length`` k-mers, by the centres' probability.

    A token is masked by any of the k centres about it, ``1 - (1 - p)**k``; fewer of them exist near the ends.
    """
    reach, tokens = _tokens_by(_centres_about(length, k, stride))

    def rate(probability: float) -> float:
        return float(tokens @ (1 - (1 - probability) ** reach[:, 0]))

    return rate


def genemask_rate(length: int, k: int, stride: int) -> ExpectedRate:
    """The same for GeneMask, the best k-mer being any of its span with equal probability.

    Of n ~ Binomial(length, p) centres m are widened and mask a token with probability e/length, the others with s/length.
    Centres are distinct, so that the i-th is drawn from length - i: the token escapes with
    ``prod(1 - e/(length - i), i < m) * prod(1 - s/(length - i), m <= i < n)``.
    """
    columns = np.stack([_centres_about(length, k, stride), _widened_about(length, k, stride)], 1)
    reach, tokens = _tokens_by(columns)
    left = length - np.arange(length)
    escapes = np.log1p(-np.minimum(reach / left[:, None, None], 1 - 1e-12)).cumsum(0)
    unwidened, widened = np.moveaxis(np.concatenate([np.zeros_like(escapes[:1]), escapes]), -1, 0)

    def rate(probability: float) -> float:
        mean, spread = length * probability, 8 * math.sqrt(length * probability * (1 - probability)) + 8
        number = np.arange(max(0, math.floor(mean - spread)), min(length, math.ceil(mean + spread)) + 1)
        kept = kept_centres(number)
        escaped = np.exp(widened[kept] + unwidened[number] - unwidened[kept])
        return float(1 - binom.pmf(number, length, probability) @ escaped @ tokens)

    return rate


def probability_for(expected: ExpectedRate, rate: float) -> float:
    """The probability whose expected rate is ``rate``; with every k-mer a centre all tokens are masked, so there is one."""
    return cast(float, brentq(lambda p: expected(p) - rate, 0.0, 1.0, xtol=1e-10))


@lru_cache(maxsize=64)
def span_thresholds(rate: float, probability: float | None, k: int, stride: int, num_kmers: int) -> DeviceArray:
    """By the number of a row's real k-mers (0 to ``num_kmers``): int32 threshold of :func:`epilm.masking.draws.words`.

    Args:
        probability: of a centre, the same for every length; where None it is what reaches ``rate``.
    """
    return _thresholds(span_rate, rate, probability, k, stride, num_kmers)


@lru_cache(maxsize=64)
def genemask_thresholds(rate: float, probability: float | None, k: int, stride: int, num_kmers: int) -> DeviceArray:
    """As :func:`span_thresholds`, for GeneMask."""
    return _thresholds(genemask_rate, rate, probability, k, stride, num_kmers)


def _thresholds(
    expected: Callable[[int, int, int], ExpectedRate],
    rate: float,
    probability: float | None,
    k: int,
    stride: int,
    num_kmers: int,
) -> DeviceArray:
    lengths = np.arange(num_kmers + 1)
    if probability is not None:
        return DeviceArray(thresholds(np.full(len(lengths), probability)))
    # Over lengths of one remainder by the stride the probability is smooth in 1/length; from one remainder to the next it
    # wobbles, as k-mers come without a token of their own. Solve where it bends, for each remainder by itself beyond.
    bends = min(num_kmers, max(40, 8 * stride))
    solved = np.ones(num_kmers + 1)
    for first in range(1, min(stride, num_kmers) + 1):
        alike = lengths[first::stride]
        behind = alike[alike > bends]
        sparse = np.geomspace(1, len(behind), max(60 // stride, 30)).round().astype(np.int64) - 1 if len(behind) else []
        grid = np.concatenate([alike[alike <= bends], behind[np.unique(sparse).astype(np.int64)]])
        exact = [probability_for(expected(int(length), k, stride), rate) for length in grid]
        solved[alike] = np.interp(-1 / alike, -1 / grid, exact)
    return DeviceArray(thresholds(solved))


def _centres_about(length: int, k: int, stride: int) -> np.ndarray:
    """How many centres of the row would hide a base of each token: float64 ``[L]``."""
    start = np.arange(0, length, stride)
    offsets = span_offsets(k)
    first, last = np.maximum(start - offsets[-1], 0), np.minimum(start - offsets[0], length - 1)
    return (last - first + 1).astype(np.float64)


def _widened_about(length: int, k: int, stride: int) -> np.ndarray:
    """Sum over the row's centres of the probability that the centre, widened, masks each token: float64 ``[L]``."""
    centre = np.arange(length)
    best = centre[:, None] + np.array(span_offsets(k))
    inside = (best >= 0) & (best < length)
    weight = np.bincount(best[inside], (inside / inside.sum(1, keepdims=True))[inside], minlength=length)
    upto = np.concatenate([[0.0], weight.cumsum()])
    start = np.arange(0, length, stride)
    return upto[np.minimum(start + k, length)] - upto[np.maximum(start - k + 1, 0)]


def _tokens_by(columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Equal tokens taken together: their values ``[U, columns]`` and the share of each ``[U]``."""
    values, number = np.unique(np.round(columns.reshape(len(columns), -1), 9), axis=0, return_counts=True)
    return values, number / number.sum()
