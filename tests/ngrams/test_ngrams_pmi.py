"""PMI by hand, against every segmentation, and against all 4,096 published rows."""

from __future__ import annotations

from math import log
from pathlib import Path

import numpy as np
import pyarrow.csv as pacsv
import pytest
from slow_ngrams import LETTERS, reverse_complement, slow_counts, slow_pmi, words

from epilm.errors import RecipeError
from epilm.ngrams.counts import count_ngrams
from epilm.ngrams.pmi import (
    both_strands,
    discount,
    dp_pmi,
    naive_pmi,
    rank_npmi,
    reverse_complement_codes,
    score_ngrams,
)


def random_counts(seed: int, length_bp: int, max_n: int) -> tuple[np.ndarray, ...]:
    codes = np.random.default_rng(seed).choice(5, length_bp, p=[0.4, 0.2, 0.1, 0.29, 0.01])
    return count_ngrams(codes.astype(np.uint8), max_n)


def toy_counts() -> list[np.ndarray]:
    """100 bases: A 40, C 20, G 30, T 10; the pairs AC 25 and CG 5; the words ACG 4 and AAA 10."""
    pairs, triples = np.zeros(16, np.int64), np.zeros(64, np.int64)
    pairs[[0b0001, 0b0110]] = [25, 5]
    triples[[0b000110, 0]] = [4, 10]
    return [np.array([40, 20, 30, 10]), pairs, triples]


def test_naive_pmi_by_hand() -> None:
    naive = naive_pmi(toy_counts(), 3, total=100)
    assert naive[0b000110] == pytest.approx(log(0.04) - log(0.4) - log(0.2) - log(0.3))
    assert naive[0] == pytest.approx(log(0.1) - 3 * log(0.4))
    assert np.isnan(naive).sum() == 62
    assert naive_pmi(toy_counts(), 2, total=100)[0b0001] == pytest.approx(log(0.25) - log(0.4) - log(0.2))


def test_dp_pmi_by_hand_takes_the_likeliest_pieces() -> None:
    # AC|G foretells .25 * .3 = .075, A|C|G .4 * .2 * .3 = .024, A|CG .4 * .05 = .02
    dp = dp_pmi(toy_counts(), 3, total=100)
    assert dp[0b000110] == pytest.approx(log(0.04 / 0.075))
    assert dp[0] == pytest.approx(log(0.1 / 0.4**3))  # the pair AA was not counted: three singles
    # twice the total: each piece one factor of two, AC|G has two of them and the word one
    assert dp_pmi(toy_counts(), 3, total=200)[0b000110] == pytest.approx(log(0.04 / 0.075) + log(2))


@pytest.mark.parametrize("total_of", [1, 2])
def test_dp_pmi_is_the_least_over_all_segmentations(total_of: int) -> None:
    counts = random_counts(5, 4_000, 5)
    listed, total = [count.tolist() for count in counts], total_of * int(counts[0].sum())
    for n, step in ((3, 1), (5, 37)):
        naive, dp = naive_pmi(counts, n, total=total), dp_pmi(counts, n, total=total)
        for code in range(0, 4**n, step):
            word = words(n)[code]
            if counts[n - 1][code]:
                assert dp[code] == pytest.approx(slow_pmi(word, listed, total, longest=2)), word
                assert naive[code] == pytest.approx(slow_pmi(word, listed, total, longest=1)), word
            else:
                assert np.isnan(dp[code])
                assert np.isnan(naive[code])


def test_npmi_is_discounted_and_needs_101_occurrences() -> None:
    npmi = discount(np.array([2.0, 2.0, 2.0, np.nan]), np.array([100, 101, 10_000, 500]))
    assert np.isnan(npmi[[0, 3]]).all()
    assert npmi[1] == pytest.approx(1.0)
    assert npmi[2] == pytest.approx(2 * log(10_000) / (log(10_000) + log(101)))
    assert discount(np.array([2.0]), np.array([50]), min_count=50)[0] == pytest.approx(1.0)


def test_ranks_go_down_from_one_with_ties_by_code() -> None:
    rank = rank_npmi(np.array([0.5, np.nan, 2.0, 0.5, -1.0, np.nan]))
    assert rank.tolist() == [2, 0, 1, 3, 4, 0]
    assert rank.dtype == np.int32
    assert rank_npmi(np.full(4, np.nan)).tolist() == [0, 0, 0, 0]
    ties = np.tile([0.0, 1.0], 500)  # long enough that an unstable sort shows
    assert rank_npmi(ties).reshape(500, 2).T.tolist() == [[*range(501, 1001)], [*range(1, 501)]]


def test_scores_of_each_length() -> None:
    counts = random_counts(3, 20_000, 4)
    one, two, three, four = score_ngrams(counts, total=int(counts[0].sum()))
    assert np.isnan(one.naive_pmi).all()
    assert not np.isnan(two.naive_pmi).any()
    for short in (one, two):  # a pair would be its own piece
        assert np.isnan(short.dp_pmi).all()
        assert not short.scored.any()
        assert not short.rank.any()
    for scores in (three, four):
        assert np.array_equal(scores.scored, scores.count >= 101)
        assert sorted(scores.rank[scores.scored]) == list(range(1, int(scores.scored.sum()) + 1))
        best = scores.rank.tolist().index(1)
        assert scores.npmi[best] == np.nanmax(scores.npmi)
    assert 0 < four.scored.sum() < 256


def test_nothing_counted_is_refused() -> None:
    with pytest.raises(RecipeError, match="nothing but N"):
        score_ngrams([np.zeros(4**n, np.int64) for n in (1, 2, 3)], total=0)


@pytest.mark.parametrize("n", [1, 2, 3, 6])
def test_reverse_complement_codes(n: int) -> None:
    turned = reverse_complement_codes(n)
    assert [words(n)[code] for code in turned] == [reverse_complement(word) for word in words(n)]
    assert np.array_equal(turned[turned], np.arange(4**n))


def test_both_strands_are_the_counts_of_a_sequence_and_its_reverse_complement() -> None:
    codes = np.random.default_rng(2).choice(5, 3_000, p=[0.4, 0.2, 0.1, 0.2, 0.1]).astype(np.uint8)
    text = "".join(LETTERS[code] for code in codes)
    counts = both_strands(count_ngrams(codes, 4))
    assert [count.tolist() for count in counts] == slow_counts([text, reverse_complement(text)], 4)
    for scores in score_ngrams(counts, total=int(counts[0].sum()), min_count=2):
        turned = reverse_complement_codes(scores.n)
        assert np.array_equal(scores.count, scores.count[turned])
        np.testing.assert_allclose(scores.dp_pmi, scores.dp_pmi[turned], atol=1e-12)
        np.testing.assert_allclose(scores.npmi, scores.npmi[turned], atol=1e-12)


@pytest.mark.real_data
def test_formula_reproduces_every_published_row(shared_data: Path) -> None:
    """All 4,096 rows of the published 6-mer table, from its counts alone.

    The table has no shorter n-grams. Their counts are taken from the 6-mers': a base's (a pair's) is the mean of its
    marginals at the six (five) places in the 6-mer, which differ from the true count by contig ends and gaps alone. That
    leaves no free number but N, and N is known: a least-squares fit of the four base frequencies to ln f - naive_pmi gives
    frequencies that add up to 1/2 where N is twice the number of 6-mers, so N is twice the bases.
    """
    table = pacsv.read_csv(shared_data / "genemask" / "npmi_6mer.csv").to_pandas()
    digits = np.array([["ACGT".index(letter) for letter in kmer] for kmer in table["kmer"]])
    count = np.zeros((4,) * 6, np.int64)
    count[tuple(digits.T)] = table["count"]
    bases = np.mean([count.sum(axis=tuple({*range(6)} - {i})) for i in range(6)], axis=0)
    pairs = np.mean([count.sum(axis=tuple({*range(6)} - {i, i + 1})) for i in range(5)], axis=0).ravel()
    total = 2 * count.sum()

    composition = np.stack([(digits == base).sum(axis=1) for base in range(4)], axis=1).astype(float)
    fitted, *_ = np.linalg.lstsq(composition, np.log(table["count"]) - table["naive_pmi"], rcond=None)
    assert np.exp(fitted - np.log(total) / 6).sum() == pytest.approx(0.5, abs=1e-4)

    counts = [bases, pairs, *(np.zeros(4**n) for n in (3, 4, 5)), count.ravel()]
    scores = score_ngrams(counts, total=total)[5]
    published = np.full((3, 4096), np.nan)
    published[:, digits @ 4 ** np.arange(5, -1, -1)] = table[["naive_pmi", "dp_true_pmi", "npmi"]].to_numpy().T
    for mine, theirs in zip((scores.naive_pmi, scores.dp_pmi, scores.npmi), published, strict=True):
        assert np.abs(mine - theirs).max() < 0.004
    # the discount alone is exact, and so is the order
    by_code = np.argsort(digits @ 4 ** np.arange(5, -1, -1))
    exact = discount(published[1], count.ravel())
    np.testing.assert_allclose(exact, published[2], rtol=1e-12)
    assert np.array_equal(rank_npmi(published[2]), table["rank"].to_numpy()[by_code])
