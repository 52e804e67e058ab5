"""Ranks over submissions by hand, and the paper's tables by themselves."""

from __future__ import annotations

import numpy as np
import pytest

from epilm.evaluate.dream import (
    NUM_FOLDS,
    dream_overall,
    dream_ranks,
    folds_of,
    mean_ranks,
    metric_ranks,
    ranks_of,
    second_best,
)
from epilm.evaluate.references import (
    METRICS,
    MODELS,
    RANKED,
    TABLE_1_OVERALL,
    reference_ranks,
    references,
    references_for,
)
from epilm.evaluate.table import is_comparable


def official_slow(values: np.ndarray) -> np.ndarray:
    """The challenge's scoring, one submission and metric at a time."""
    num = len(values)

    def average_rank(column: list[float], mine: float) -> float:
        better, same = sum(x > mine for x in column), sum(x == mine for x in column)
        return better + (same + 1) / 2

    scores = []
    for row in values:
        ranks = [average_rank(list(values[:, k]), row[k]) for k in range(values.shape[1])]
        scores.append(round(-sum(np.log(rank / (num + 1)) for rank in ranks), 12))
    return np.array([average_rank(scores, score) for score in scores])


def test_official_ranks_equal_a_slow_reference_with_ties() -> None:
    rng = np.random.default_rng(0)
    values = rng.integers(0, 4, (NUM_FOLDS, 6, 4)) / 4.0
    ranks = dream_ranks(values)
    for sample in range(NUM_FOLDS):
        assert ranks[sample].tolist() == official_slow(values[sample]).tolist()


def test_a_missing_submission_has_no_rank_and_does_not_count() -> None:
    rng = np.random.default_rng(1)
    values = rng.random((NUM_FOLDS, 4, 4))
    with_gap = np.insert(values, 2, np.nan, axis=1)
    ranks = dream_ranks(with_gap)
    assert np.isnan(ranks[:, 2]).all()
    assert np.array_equal(np.delete(ranks, 2, axis=1), dream_ranks(values))
    assert np.isnan(second_best(ranks)[2])


def test_an_undefined_metric_ranks_last_in_it() -> None:
    assert ranks_of(np.array([0.2, np.nan, 0.9, np.nan])).tolist() == [2, 3.5, 1, 3.5]


def test_second_best_of_ten() -> None:
    ranks = np.array([[3.0, 1], [1, 1], [2, 1], [3, 4]])
    assert second_best(ranks).tolist() == [2, 1]


def test_overall_by_hand() -> None:
    """Two data sets, one sample: shares are capped at a half, and a missing submission counts a half."""
    ranks = np.array([[[1.0, 2, 3]], [[2.0, 1, np.nan]]])
    overall = dream_overall(ranks)
    assert overall.score.tolist() == pytest.approx([(1 / 4 + 1 / 2) / 2, (2 / 4 + 1 / 3) / 2, 1 / 2])
    assert overall.rank.tolist() == [1, 2, 3]
    assert np.array_equal(overall.score_low, overall.score_high)


def test_overall_bounds_are_those_of_the_samples() -> None:
    ranks = np.array([[[1.0, 2], [2, 1], [1, 2]]])
    overall = dream_overall(ranks)
    assert overall.score_low.tolist() == pytest.approx([1 / 3, 1 / 3])
    assert overall.score_high.tolist() == pytest.approx([1 / 2, 1 / 2])
    assert overall.score.tolist() == pytest.approx([(1 / 3 + 1 / 2 + 1 / 3) / 3, (1 / 2 + 1 / 3 + 1 / 2) / 3])
    assert overall.rank.tolist() == [1, 2]


def test_mean_rank_by_hand() -> None:
    values = np.array([[[0.9, 0.5, 0.1, 0.4], [0.8, 0.6, 0.1, 0.5], [0.1, 0.1, 0.0, 0.1]]])
    # metric ranks: 1 2 1.5 2 | 2 1 1.5 1 | 3 3 3 3
    assert metric_ranks(values).tolist() == [[2, 1, 3]]
    missing = np.concatenate([values, np.where(np.arange(3)[None, :, None] == 1, np.nan, values)])
    ranks = metric_ranks(missing)
    assert np.isnan(ranks[1, 1])
    assert mean_ranks(ranks).tolist() == [(2 + 1) / 2, (1 + 3) / 2, (3 + 2) / 2]


def test_the_papers_overall_row_follows_from_its_ranks() -> None:
    table = np.array([[ranks[name] for name in RANKED] for ranks in reference_ranks().values()], float)
    assert table.shape == (13, 5)
    order = np.argsort(mean_ranks(table), kind="stable")
    assert {RANKED[i]: place + 1 for place, i in enumerate(order)} == TABLE_1_OVERALL


def test_the_papers_medians_follow_from_its_table() -> None:
    rows = references()
    assert len(rows) == 39
    medians = {m: np.median([row.metrics["auprc"] for row in rows if row.model == m]) for m in MODELS}
    assert medians == {"DBERT": 0.1495, "EBERT": 0.4061, "EBERT+": 0.5405}
    assert all(set(row.metrics) == set(METRICS) and max(row.metrics.values()) <= 1 for row in rows)
    assert {(row.cell_type, row.target) for row in rows} == set(reference_ranks())


@pytest.mark.parametrize("cell_type", ["iPSC", "induced_pluripotent_stem_cell", "ipsc"])
def test_references_are_found_under_every_name_of_a_cell_type(cell_type: str) -> None:
    rows = {row.model: row.metrics["auprc"] for row in references_for(cell_type, "CTCF")}
    assert rows == {"DBERT": 0.4669, "EBERT": 0.5113, "EBERT+": 0.7314}
    assert references_for("PC3", "CTCF")
    assert not references_for("HepG2", "CTCF")


def test_folds_are_equal_parts_that_need_no_state() -> None:
    numbers = np.arange(1003)
    folds = folds_of(numbers, seed=5)
    sizes = np.bincount(folds, minlength=NUM_FOLDS)
    assert sizes.max() - sizes.min() <= 1
    assert np.array_equal(folds[400:], folds_of(numbers[400:], seed=5))
    assert (folds != folds_of(numbers, seed=6)).any()
    first = np.bincount(folds_of(np.arange(0, 20_000, 10), 0), minlength=NUM_FOLDS)
    assert first.min() > 140  # the turn of a ten is any of ten: 200 expected, sd 13


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, True),
        ({"spans": [("1", 0, 249_250_621), ("8", 0, 146_364_022), ("21", 0, 48_129_895)]}, True),
        ({"spans": [("chr1", 0, 1_000_000), ("chr8", 0, 146_364_022), ("chr21", 0, 48_129_895)]}, False),
        ({"spans": [("chr8", 0, 146_364_022), ("chr21", 0, 48_129_895)]}, False),
        ({"assembly": "hg38"}, False),
        ({"step_bp": 200}, False),
    ],
)
def test_published_figures_are_comparable_on_the_same_bins_alone(changes, expected) -> None:
    spans = [("chr1", 0, 249_250_621), ("chr8", 0, 146_364_022), ("chr21", 0, 48_129_895)]
    settings = {"assembly": "hg19", "spans": spans, "bin_bp": 200, "step_bp": 50} | changes
    assert is_comparable(settings.pop("assembly"), settings.pop("spans"), **settings) is expected
