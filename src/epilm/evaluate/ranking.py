"""Scores of rankings with few positives: AUROC, AUPRC, average precision and recall at a false discovery rate.

All of them are functions of how many negatives lie above, and at, each distinct score of a positive
(:class:`RankCounts`). These counts add up over parts of a genome, so that 60 million bins need neither be sorted together
nor lie in one memory; and with leading axes, a thousand resamples are one call.

A larger score is a stronger prediction. What cannot be computed (no positive, or no negative where one is needed) is
NaN; NaN scores are refused, since they have no rank.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import digamma

from epilm.errors import EpilmError

METRICS = ("auroc", "auprc", "average_precision", "recall_at_10_fdr", "recall_at_50_fdr")
"""Keys of :func:`binding_metrics` that are scores: the larger, the better."""


@dataclass(frozen=True)
class RankCounts:
    """Negatives above and at each distinct score of the positives; ``[..., m]`` over resamples.

    Counts may be weights (how often a resample drew them). A threshold without a positive changes nothing.
    """

    thresholds: NDArray[np.float64]
    """[m] descending."""
    positives: NDArray[np.float64]
    """[..., m] positives with that score."""
    above: NDArray[np.float64]
    """[..., m] negatives with a larger score."""
    ties: NDArray[np.float64]
    """[..., m] negatives with that score."""
    num_positives: NDArray[np.float64]
    """[...]"""
    num_negatives: NDArray[np.float64]
    """[...], those below every positive included."""


def count_ranks(scores: ArrayLike, labels: ArrayLike) -> RankCounts:
    """Counts of one ranking, by a sort of the negatives alone.

    Args:
        scores: float[n].
        labels: bool[n], True = positive.

    Raises:
        EpilmError: lengths differ, or a score is NaN.
    """
    scores, labels = _as_scores(scores), np.asarray(labels, dtype=bool)
    if scores.shape != labels.shape or scores.ndim != 1:
        raise EpilmError(f"count_ranks takes [n] scores and [n] labels, got {scores.shape} and {labels.shape}.")
    positives = scores[labels]
    thresholds = positive_thresholds([positives])
    above, ties = count_negatives(scores[~labels], thresholds)
    return RankCounts(
        thresholds=thresholds.astype(np.float64),
        positives=count_positives(positives, thresholds),
        above=above,
        ties=ties,
        num_positives=np.asarray(len(positives), np.float64),
        num_negatives=np.asarray(len(scores) - len(positives), np.float64),
    )


def positive_thresholds(scores: Iterable[ArrayLike]) -> NDArray[np.floating]:
    """Distinct scores of the positives of all parts, descending; of the scores' own type, so that ties stay ties."""
    parts = [_as_scores(part).ravel() for part in scores]
    joined = np.concatenate(parts) if parts else np.empty(0)
    _refuse_nan(joined)
    return np.unique(joined)[::-1]


def count_positives(scores: ArrayLike, thresholds: NDArray[np.floating]) -> NDArray[np.float64]:
    """Positives of one part at each threshold, float64[m]; add up over parts. Every score must be a threshold."""
    scores = np.sort(_as_scores(scores))
    num = np.searchsorted(scores, thresholds, "right") - np.searchsorted(scores, thresholds, "left")
    assert num.sum() == len(scores), "thresholds lack a positive's score"
    return num.astype(np.float64)


def count_negatives(
    scores: ArrayLike, thresholds: NDArray[np.floating]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Negatives of one part (above, at) each threshold, float64[m] both; they add up over parts.

    Raises:
        EpilmError: a score is NaN.
    """
    scores = np.sort(_as_scores(scores))  # NaN sorts last
    _refuse_nan(scores[-1:])
    at = thresholds[::-1].astype(scores.dtype)  # ascending: each search begins where the last one ended
    if not np.array_equal(at, thresholds[::-1]):  # thresholds finer than the scores: compare in the finer type
        scores, at = scores.astype(thresholds.dtype), thresholds[::-1]
    right = np.searchsorted(scores, at, "right")[::-1]
    ties = right - np.searchsorted(scores, at, "left")[::-1]
    return (len(scores) - right).astype(np.float64), ties.astype(np.float64)


def counts_from_histogram(positives: ArrayLike, negatives: ArrayLike) -> RankCounts:
    """Counts from histograms over the same bins of scores, ``[..., bins]``, ascending; a bin is a tie."""
    positives, negatives = np.asarray(positives, np.float64)[..., ::-1], np.asarray(negatives, np.float64)[..., ::-1]
    if positives.shape != negatives.shape or not positives.ndim:
        raise EpilmError(f"two histograms of one shape are needed, got {positives.shape} and {negatives.shape}.")
    return RankCounts(
        thresholds=np.arange(positives.shape[-1], dtype=np.float64)[::-1],
        positives=positives,
        above=np.cumsum(negatives, axis=-1) - negatives,
        ties=negatives,
        num_positives=positives.sum(axis=-1),
        num_negatives=negatives.sum(axis=-1),
    )


def auroc(counts: RankCounts) -> NDArray[np.float64]:
    """Area under the ROC curve, [...]: the share of (positive, negative) pairs in the right order, ties half."""
    below = counts.num_negatives[..., None] - counts.above - counts.ties
    won = (counts.positives * (below + counts.ties / 2)).sum(axis=-1)
    return _divide(won, counts.num_positives * counts.num_negatives)


def average_precision(counts: RankCounts) -> NDArray[np.float64]:
    """Precision at each threshold, weighted by the recall it adds, [...]; no interpolation, as scikit-learn's."""
    return _divide((counts.positives * _zeroed(precision(counts))).sum(axis=-1), counts.num_positives)


def auprc(counts: RankCounts) -> NDArray[np.float64]:
    """Area under the precision-recall curve as interpolated by Davis and Goadrich (2006, section 4), [...].

    Between two thresholds the false positives grow in proportion to the true ones; the curve has a point at each single
    true positive, and the area is that of the trapezoids below. At the first threshold precision is constant from recall 0 on,
    where it is the strongest score of all; a negative above it starts the curve at precision 0. That is
    ``auc.davis.goadrich`` of PRROC, the official figure of ENCODE-DREAM.

    Weights that are no whole numbers are cut into ceil(weight) equal steps.
    """
    gained = counts.positives
    before = np.cumsum(gained, axis=-1) - gained
    start, end = before + counts.above, before + gained + counts.above + counts.ties  # predicted positive
    first, last = _zeroed(_divide(before, start)), _zeroed(_divide(before + gained, end))
    first = np.where(start == 0, last, first)
    steps = np.ceil(gained)
    area = (first + last) / 2 + _between(before, start, gained, end - start, steps)
    heights = _zeroed(_divide(area, steps))
    return _divide((gained * heights).sum(axis=-1), counts.num_positives)


def recall_at_fdr(counts: RankCounts, fdr: float) -> NDArray[np.float64]:
    """Recall at the lowest threshold whose precision is at least 1 - fdr, [...]; 0 where there is none."""
    reached = np.cumsum(counts.positives, axis=-1)
    allowed = np.where(_zeroed(precision(counts)) >= 1 - fdr, reached, 0.0)
    return _divide(allowed.max(axis=-1, initial=0.0), counts.num_positives)


def precision(counts: RankCounts) -> NDArray[np.float64]:
    """Share of positives among all at or above each threshold, [..., m]; NaN where a resample has none."""
    reached = np.cumsum(counts.positives, axis=-1)
    return _divide(reached, reached + counts.above + counts.ties)


def metric_values(counts: RankCounts) -> dict[str, NDArray[np.float64]]:
    """All of ``METRICS``, [...] each."""
    return {
        "auroc": auroc(counts),
        "auprc": auprc(counts),
        "average_precision": average_precision(counts),
        "recall_at_10_fdr": recall_at_fdr(counts, 0.1),
        "recall_at_50_fdr": recall_at_fdr(counts, 0.5),
    }


def binding_metrics(counts: RankCounts) -> dict[str, float]:
    """``METRICS`` of one ranking with its ``num_positives`` and ``num_negatives``, as plain numbers."""
    values = {name: float(value) for name, value in metric_values(counts).items()}
    return values | {"num_positives": float(counts.num_positives), "num_negatives": float(counts.num_negatives)}


def _between(
    before: NDArray[np.float64],
    start: NDArray[np.float64],
    gained: NDArray[np.float64],
    predicted: NDArray[np.float64],
    steps: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Sum of the interpolated precisions strictly between two thresholds, at steps 1 to ``steps`` - 1.

    Precision at step x is (before + u x) / (start + g x) = u/g + (before - u q)/(g (x + q)) with q = start/g, u true positives
    and g predictions a step; the sum of 1/(x + q) is a difference of digammas, so that no step is written out.
    """
    inner = np.maximum(steps - 1, 0)
    several = inner > 0
    steps = np.where(several, steps, 1.0)
    per_step, growth = gained / steps, np.where(several, predicted / steps, 1.0)
    offset = start / growth
    harmonic = np.zeros(np.shape(offset))
    harmonic[several] = digamma(steps[several] + offset[several]) - digamma(1 + offset[several])
    return np.where(several, inner * per_step / growth + (before - per_step * offset) / growth * harmonic, 0.0)


def _as_scores(scores: ArrayLike) -> NDArray[np.floating]:
    array = np.asarray(scores)
    return array if array.dtype in (np.float32, np.float64) else array.astype(np.float64)


def _refuse_nan(scores: NDArray[np.floating]) -> None:
    if num := int(np.isnan(scores).sum()):
        raise EpilmError(
            f"{num:,} scores are NaN, which have no rank. Score what was not predicted as 0, or leave it out."
        )


def _divide(a: ArrayLike, b: ArrayLike) -> NDArray[np.float64]:
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    return np.divide(a, b, out=np.full(np.broadcast(a, b).shape, np.nan), where=b != 0)


def _zeroed(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.nan_to_num(values, nan=0.0)
