"""Ranks over several submissions: the official one of ENCODE-DREAM, and the one of the EBERT paper's Table 1. Pure.

Official (the challenge's scoring program): the bins of a data set are split into ten folds with equal shares of bound bins;
ten samples leave out one fold each (so a sample is 90 % of the bins). In a sample, every metric ranks the submissions; a
submission's score is the sum over the four metrics of ln(rank / (N + 1)), which is ranked again. Reported is the second
best of the ten ranks. Over data sets, rank / (N + 1), at most 1/2, is averaged; a missing submission counts 1/2.

The paper (section 2.2.3) averages ranks: over the four metrics in a data set, ranked again, then over the data sets.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from epilm.hashing import hash_u64

NUM_FOLDS = 10
RANKED_METRICS = ("auroc", "auprc", "recall_at_10_fdr", "recall_at_50_fdr")
"""The four metrics of ENCODE-DREAM."""

_STREAM = 0x0D12EA3


@dataclass(frozen=True)
class DreamOverall:
    """The official standing over all data sets, [num_submissions] each."""

    rank: NDArray[np.float64]
    """Second best of the ranks in the ten samples."""
    score: NDArray[np.float64]
    """Mean over samples and data sets of min(1/2, rank / (N + 1)): less is better."""
    score_low: NDArray[np.float64]
    score_high: NDArray[np.float64]
    """Least and greatest of the ten samples' means: the challenge's lower and upper bound."""


def folds_of(numbers: NDArray[np.int64], seed: int) -> NDArray[np.uint8]:
    """Fold of each sample of a class by its number within it, uint8[n]: any ten that follow each other from a multiple of
    ten on are in ten different folds, in an order that a hash of (seed, their tenth) turns.

    So folds need no state, and their sizes differ by one at most.
    """
    if not len(numbers):
        return np.empty(0, np.uint8)
    group, place = np.divmod(np.asarray(numbers, np.int64), NUM_FOLDS)
    first = int(group.min())
    tens = np.arange(first, int(group.max()) + 1)  # each hashed once: the numbers of a class lie close together
    turn = ((hash_u64(seed, _STREAM, tens) >> np.uint64(32)) % np.uint64(NUM_FOLDS)).astype(np.uint8)
    return (place.astype(np.uint8) + turn[group - first]) % NUM_FOLDS


def ranks_of(values: NDArray[np.float64], method: str = "average") -> NDArray[np.float64]:
    """Ranks along the last axis, 1 = the largest value; an undefined value (NaN) ranks behind all others."""
    return rankdata(np.where(np.isnan(values), np.inf, -values), method=method, axis=-1)


def dream_ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ranks of the submissions to one data set in every sample.

    Args:
        values: [num_samples, num_submissions, 4], the metrics of ``RANKED_METRICS`` in each sample; a submission that is
            NaN throughout is missing.

    Returns:
        [num_samples, num_submissions]; NaN for missing submissions, which are not counted in N.
    """
    present = ~np.isnan(values).all(axis=(0, 2))
    result = np.full(values.shape[:2], np.nan)
    num = int(present.sum())
    if num:
        ranks = ranks_of(np.moveaxis(values[:, present], 2, 1))  # [num_samples, 4, num]
        # rounded, or two submissions with the same ranks in other metrics would differ by the order of their sum
        score = np.round(np.log(ranks / (num + 1)).sum(axis=1), 12)
        result[:, present] = ranks_of(-score)
    return result


def second_best(ranks: NDArray[np.float64]) -> NDArray[np.float64]:
    """The second smallest over the first axis (the samples); NaN where a column has NaN."""
    return np.sort(ranks, axis=0)[min(1, len(ranks) - 1)] + 0 * ranks.sum(axis=0)


def dream_overall(ranks: NDArray[np.float64]) -> DreamOverall:
    """The standing over data sets from :func:`dream_ranks` of each: [num_sets, num_samples, num_submissions]."""
    num = (~np.isnan(ranks)).sum(axis=2, keepdims=True)
    share = np.where(np.isnan(ranks), 0.5, np.minimum(0.5, ranks / (num + 1)))
    mean = share.mean(axis=0)  # [num_samples, num_submissions]
    return DreamOverall(
        rank=second_best(ranks_of(-np.round(mean, 12))),
        score=mean.mean(axis=0),
        score_low=mean.min(axis=0),
        score_high=mean.max(axis=0),
    )


def metric_ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The paper's rank of each submission in each data set, whole numbers that ties share.

    Args:
        values: [num_sets, num_submissions, 4] metrics; a submission that is NaN throughout a data set is missing there.

    Returns:
        [num_sets, num_submissions]; NaN for missing submissions.
    """
    missing = np.isnan(values).all(axis=2)
    mean = ranks_of(np.moveaxis(values, 2, 1)).mean(axis=1)
    ranks = rankdata(np.where(missing, np.inf, np.round(mean, 12)), method="min", axis=-1)
    return np.where(missing, np.nan, ranks)


def mean_ranks(ranks: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over data sets of ranks [num_sets, num_submissions]; a missing submission has the last rank."""
    return np.where(np.isnan(ranks), ranks.shape[1], ranks).mean(axis=0)
