"""AUROC, AUPRC, average precision and recall at FDR: against scikit-learn, auc.jar's figure, and slow references."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

from epilm.errors import EpilmError
from epilm.evaluate.ranking import (
    METRICS,
    RankCounts,
    auprc,
    auroc,
    average_precision,
    binding_metrics,
    count_negatives,
    count_positives,
    count_ranks,
    counts_from_histogram,
    metric_values,
    positive_thresholds,
    recall_at_fdr,
)


def davis_goadrich_slow(scores: NDArray[np.floating], labels: NDArray[np.bool_]) -> float:
    """A point at every single true positive between two thresholds, and trapezoids; one by one."""
    points = [(0, 0)]
    for score in np.unique(scores)[::-1]:
        chosen = scores >= score
        points.append((int((chosen & labels).sum()), int((chosen & ~labels).sum())))
    area = 0.0
    for (tp, fp), (next_tp, next_fp) in itertools.pairwise(points):
        for step in range(next_tp - tp):
            heights = []
            for true in (tp + step, tp + step + 1):
                false = fp + (next_fp - fp) * (true - tp) / (next_tp - tp)
                # nothing is predicted yet: the curve begins at the precision of the first threshold
                heights.append(true / (true + false) if true + false else next_tp / (next_tp + next_fp))
            area += sum(heights) / 2
    return area / points[-1][0]


def recall_slow(scores: NDArray[np.floating], labels: NDArray[np.bool_], fdr: float) -> float:
    precisions, recalls, thresholds = precision_recall_curve(labels, scores)
    for i in range(len(thresholds)):  # ascending: the lowest threshold comes first
        if precisions[i] >= 1 - fdr:
            return float(recalls[i])
    return 0.0


def assert_as_references(scores: NDArray[np.floating], labels: NDArray[np.bool_]) -> None:
    counts = count_ranks(scores, labels)
    assert auroc(counts) == pytest.approx(roc_auc_score(labels, scores), abs=1e-9)
    assert average_precision(counts) == pytest.approx(average_precision_score(labels, scores), abs=1e-9)
    assert auprc(counts) == pytest.approx(davis_goadrich_slow(scores, labels), abs=1e-9)
    for fdr in (0.05, 0.1, 0.5, 0.9):
        assert recall_at_fdr(counts, fdr) == recall_slow(scores, labels, fdr)


@given(st.integers(0, 2**32 - 1), st.integers(2, 80), st.integers(1, 40), st.floats(0.02, 0.98), st.floats(-1, 2))
def test_random_rankings_with_ties_as_references(seed: int, n: int, values: int, share: float, shift: float) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.random(n) < share
    labels[:2] = True, False
    scores = np.round(rng.random(n) * values + labels * shift * values).astype(np.float32)
    assert_as_references(scores, labels)


@pytest.mark.parametrize(
    ("scores", "labels"),
    [
        ([1, 1, 1, 1, 1], [0, 1, 0, 1, 0]),  # constant
        ([1, 2, 3, 4], [0, 0, 1, 1]),  # perfect
        ([1, 2, 3, 4], [1, 1, 0, 0]),  # worst
        ([5, 4, 3, 2, 1, 0], [0, 0, 0, 1, 0, 0]),  # one positive
        ([3, 3, 3, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0, 0]),  # a pure tie of positives, then a mixed one
        ([9, 3, 3, 3, 1], [0, 1, 1, 1, 1]),  # the strongest score is wrong
        ([0.0, -0.0, 1.0], [1, 0, 0]),  # zeros are one score
        ([-np.inf, 0, np.inf], [0, 1, 1]),
    ],
)
def test_degenerate_rankings_as_references(scores: list[float], labels: list[int]) -> None:
    scores, labels = np.array(scores, np.float64), np.array(labels, bool)
    if np.isfinite(scores).all():
        assert_as_references(scores, labels)
    else:  # scikit-learn refuses infinite scores: the same ranking in finite ones
        finite = np.nan_to_num(scores, posinf=1e9, neginf=-1e9)
        assert binding_metrics(count_ranks(scores, labels)) == binding_metrics(count_ranks(finite, labels))


def test_larger_random_ranking_as_scikit_learn() -> None:
    rng = np.random.default_rng(1)
    labels = rng.random(20_000) < 0.01
    scores = (rng.normal(size=labels.size) + 2 * labels).astype(np.float32)
    scores[:8000] = np.round(scores[:8000], 1)
    assert_as_references(scores, labels)


def test_davis_goadrich_as_the_authors_program() -> None:
    """PRROC's own test: the figure that auc.jar of Davis and Goadrich gives for R's ``set.seed(101); runif``."""
    uniform = uniform_of_r(101, 200)
    scores = np.concatenate([0.3 + 0.7 * uniform[:100], 0.6 * uniform[100:]])
    assert uniform[:2] == pytest.approx([0.37219838, 0.04382482], abs=1e-8)
    assert auprc(count_ranks(scores, np.arange(200) < 100)) == pytest.approx(0.9018680216532841, abs=1e-12)


def uniform_of_r(seed: int, num: int) -> NDArray[np.float64]:
    """``set.seed(seed); runif(num)`` of R: its way of seeding the Mersenne Twister."""
    states = [seed]
    for _ in range(50 + 625):
        states.append((69069 * states[-1] + 1) % 2**32)
    generator = np.random.MT19937()
    generator.state = {
        "bit_generator": "MT19937",
        "state": {"key": np.array(states[-624:], np.uint32), "pos": 624},
    }
    return generator.random_raw(num) * 2.3283064365386963e-10


def test_tied_positives_are_interpolated_not_averaged() -> None:
    """Two positives and two negatives at one score below a positive: precisions 1, 2/3 ... by hand."""
    counts = count_ranks(np.array([3.0, 1, 1, 1, 1]), np.array([1, 1, 1, 0, 0], bool))
    assert auprc(counts) == pytest.approx((1 + (1 + 2 / 3) / 2 + (2 / 3 + 3 / 5) / 2) / 3)
    assert average_precision(counts) == pytest.approx((1 + 2 * 3 / 5) / 3)


@pytest.mark.parametrize("labels", [[True, True], [False, False]])
def test_one_class_is_undefined_not_zero(labels: list[bool]) -> None:
    values = binding_metrics(count_ranks(np.array([1.0, 2.0]), np.array(labels)))
    assert np.isnan(values["auroc"])
    assert np.isnan(values["auprc"]) == (not any(labels))
    assert values["num_positives"] == sum(labels)
    assert binding_metrics(count_ranks(np.empty(0, np.float32), np.empty(0, bool)))["num_negatives"] == 0


@pytest.mark.parametrize("label", [True, False])
def test_nan_scores_are_refused(label: bool) -> None:
    with pytest.raises(EpilmError, match="1 scores are NaN"):
        count_ranks(np.array([1.0, np.nan, 2.0]), np.array([True, label, False]))
    with pytest.raises(EpilmError, match=r"\(3,\) and \(2,\)"):
        count_ranks(np.zeros(3), np.zeros(2, bool))


def test_counts_add_up_over_parts() -> None:
    rng = np.random.default_rng(2)
    labels, scores = rng.random(3000) < 0.05, rng.integers(0, 200, 3000).astype(np.float32) / 7
    parts = [(scores[i : i + 700], labels[i : i + 700]) for i in range(0, 3000, 700)]
    thresholds = positive_thresholds(s[y] for s, y in parts)
    negatives = [count_negatives(s[~y], thresholds) for s, y in parts]
    whole = count_ranks(scores, labels)
    assert np.array_equal(whole.thresholds, thresholds)
    assert np.array_equal(whole.positives, sum(count_positives(s[y], thresholds) for s, y in parts))
    assert np.array_equal(whole.above, sum(above for above, _ in negatives))
    assert np.array_equal(whole.ties, sum(ties for _, ties in negatives))


def test_thresholds_finer_than_the_scores_do_not_tie() -> None:
    above, ties = count_negatives(np.array([0.1, 0.5], np.float32), np.array([0.5, 0.1]))
    assert (above.tolist(), ties.tolist()) == ([0, 2], [1, 0])  # float32(0.1) > 0.1


@given(st.integers(0, 2**32 - 1), st.integers(1, 12))
def test_weights_equal_repeated_samples(seed: int, num_bins: int) -> None:
    """Histograms of resamples over leading axes give what the repeated scores give."""
    rng = np.random.default_rng(seed)
    positives, negatives = rng.integers(0, 5, (2, 3, num_bins)), rng.integers(0, 9, (2, 3, num_bins))
    values = metric_values(counts_from_histogram(positives, negatives))
    for index in np.ndindex(2, 3):
        bins = np.arange(num_bins)
        scores = np.concatenate([np.repeat(bins, positives[index]), np.repeat(bins, negatives[index])])
        alone = metric_values(count_ranks(scores, np.arange(scores.size) < positives[index].sum()))
        for name in METRICS:
            assert values[name][index] == pytest.approx(float(alone[name]), abs=1e-12, nan_ok=True)


def test_rare_positives_among_many_negatives_keep_their_digits() -> None:
    """A tie of 1e5 positives with 1e8 negatives: the closed form against a sum of every step."""
    before, above, gained, ties = 1e5, 3e4, 1e5, 1e8
    counts = RankCounts(
        thresholds=np.array([1.0, 0.0]),
        positives=np.array([before, gained]),
        above=np.array([0.0, above]),
        ties=np.array([above, ties]),
        num_positives=np.asarray(before + gained),
        num_negatives=np.asarray(above + ties),
    )
    steps = np.arange(gained + 1)
    heights = (before + steps) / (before + above + steps * (1 + ties / gained))
    expected = (before * before / (before + above) + ((heights[1:] + heights[:-1]) / 2).sum()) / (before + gained)
    assert auprc(counts) == pytest.approx(expected, rel=1e-12)
