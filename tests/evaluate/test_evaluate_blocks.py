"""The block bootstrap: blocks by hand, resamples equal repeated bins, coverage, paired differences."""

from __future__ import annotations

import numpy as np
import pytest

from epilm.evaluate.blocks import (
    Blocks,
    block_histograms,
    difference_intervals,
    draw_weights,
    intervals,
    resampled_metrics,
    score_edges,
    score_histogram,
)
from epilm.evaluate.ranking import METRICS, auroc, count_ranks, metric_values
from epilm.labels.grid import BinGrid
from epilm.labels.runs import Runs


def test_blocks_end_with_their_contig_and_region() -> None:
    grid = BinGrid.of_spans([("a", 0, 650), ("b", 0, 100), ("c", 0, 500)], 200, 50)  # 10, 0 and 7 bins
    blocks = Blocks.cut(grid.select(["a", "b", "c"]), grid, 200)
    assert list(zip(blocks.start, blocks.end, strict=True)) == [(0, 4), (4, 8), (8, 10), (10, 14), (14, 17)]
    assert blocks.of(np.array([0, 3, 4, 9, 10, 16])).tolist() == [0, 0, 1, 2, 3, 4]
    parts = Blocks.cut(Runs.of(np.array([1, 12]), np.array([4, 17])), grid, 200)
    assert list(zip(parts.start, parts.end, strict=True)) == [(1, 4), (12, 16), (16, 17)]


def test_groups_cover_all_blocks_in_order() -> None:
    blocks = Blocks(np.arange(0, 100, 10), np.arange(10, 110, 10))
    assert blocks.groups(30) == [(0, 3), (3, 6), (6, 9), (9, 10)]
    assert blocks.groups(10**9) == [(0, 10)]
    assert blocks.groups(1) == [(i, i + 1) for i in range(10)]


def test_histograms_of_a_block_and_of_many_agree() -> None:
    scores, edges = np.array([0.1, 0.5, 0.5, 0.7, 0.9, 0.95], np.float32), np.array([0.5, 0.9], np.float32)
    assert score_histogram(scores, edges).tolist() == [1, 2, 1, 1, 1]
    block = np.array([0, 0, 2, 2, 2, 2])
    many = block_histograms(scores, block, edges, 3)
    for i in range(3):
        assert many[i].tolist() == score_histogram(scores[block == i], edges).tolist()


def test_edges_keep_every_score_or_even_ranks() -> None:
    assert score_edges(np.array([3.0, 1, 3, 2])).tolist() == [1, 2, 3]
    scores = np.random.default_rng(0).random(5000)
    edges = score_edges(scores, most=11)
    assert np.abs(edges - np.quantile(scores, np.linspace(0, 1, 11))).max() < 1e-3
    assert (edges[0], edges[-1]) == (scores.min(), scores.max())


def test_draws_are_with_replacement_and_repeatable() -> None:
    weights = draw_weights(40, num=500, seed=3)
    assert (weights.sum(axis=1) == 40).all()
    assert weights.mean(axis=0) == pytest.approx(np.ones(40), abs=0.2)
    assert (weights == 0).mean() == pytest.approx(np.exp(-1), abs=0.02)
    assert np.array_equal(weights[:7], draw_weights(40, num=7, seed=3))
    assert not np.array_equal(weights, draw_weights(40, num=500, seed=4))


def test_a_resample_equals_the_metrics_of_its_repeated_bins() -> None:
    rng = np.random.default_rng(4)
    n, num_blocks = 3000, 12
    block, labels = np.arange(n) * num_blocks // n, rng.random(n) < 0.05
    scores = (np.round(rng.normal(size=n) + 2 * labels, 1)).astype(np.float32)
    edges = score_edges(scores[labels])
    histograms = [block_histograms(scores[keep], block[keep], edges, num_blocks) for keep in (labels, ~labels)]
    weights = draw_weights(num_blocks, num=5, seed=0)
    values = resampled_metrics(histograms[0], histograms[1], weights)
    for row in range(5):
        repeated = np.repeat(np.arange(n), weights[row].astype(int)[block])
        expected = metric_values(count_ranks(scores[repeated], labels[repeated]))
        for name in METRICS:
            assert values[name][row] == pytest.approx(float(expected[name]), abs=1e-12)


def test_thinned_edges_hardly_change_a_metric() -> None:
    rng = np.random.default_rng(5)
    labels = rng.random(400_000) < 0.02
    scores = (rng.normal(size=labels.size) + 1.5 * labels).astype(np.float32)
    edges = score_edges(scores[labels], most=500)
    zero = np.zeros(labels.size, np.int64)
    histograms = [block_histograms(scores[keep], zero[keep], edges, 1) for keep in (labels, ~labels)]
    thinned = resampled_metrics(histograms[0], histograms[1], np.ones((1, 1)))
    exact = metric_values(count_ranks(scores, labels))
    for name in METRICS:
        assert float(thinned[name][0]) == pytest.approx(float(exact[name]), abs=2.5e-3)


def test_intervals_are_as_wide_as_repeated_genomes_vary() -> None:
    """Blocks that share their quality: blocks as samples give the spread of the AUROC, single bins far less."""
    rng = np.random.default_rng(6)
    num_blocks, size = 80, 100

    def genome() -> tuple[np.ndarray, np.ndarray]:
        labels = rng.random((num_blocks, size)) < 0.2
        return rng.normal(size=labels.shape) + labels * rng.normal(1, 1, (num_blocks, 1)), labels

    spread = np.std(
        [float(auroc(count_ranks(scores.ravel(), labels.ravel()))) for scores, labels in (genome() for _ in range(150))]
    )
    scores, labels = genome()
    edges, weights = score_edges(scores[labels]), draw_weights(num_blocks, num=200, seed=1)
    block = np.repeat(np.arange(num_blocks), size)
    widths = []
    for blocks in (block, rng.permuted(block)):
        shaped = blocks.reshape(labels.shape)
        histograms = [block_histograms(scores[k], shaped[k], edges, num_blocks) for k in (labels, ~labels)]
        low, high = intervals(resampled_metrics(*histograms, weights), 0.6827)["auroc"]
        widths.append((high - low) / 2)
    assert widths[0] == pytest.approx(spread, rel=0.25)
    assert widths[1] < 0.6 * spread


def test_a_difference_is_taken_in_the_same_blocks() -> None:
    """Two submissions that always differ by the same hardly vary in their difference, however much each does."""
    rng = np.random.default_rng(8)
    positives, negatives = rng.integers(1, 9, (30, 9)), rng.integers(1, 99, (30, 9))
    weights = draw_weights(30, num=300, seed=0)
    values = resampled_metrics(positives, negatives, weights)
    assert difference_intervals(values, values, 0.95)["auprc"] == (0, 0)
    worse = {name: value - 0.1 for name, value in values.items()}
    assert difference_intervals(worse, values, 0.95)["auroc"] == pytest.approx((-0.1, -0.1))


def test_resamples_without_a_positive_are_left_out() -> None:
    values = {"auprc": np.array([np.nan, 0.2, 0.4]), "auroc": np.full(3, np.nan)}
    result = intervals(values, 0.5)
    assert result["auprc"] == pytest.approx((0.25, 0.35))
    assert np.isnan(result["auroc"]).all()
