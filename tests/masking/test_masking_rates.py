"""The share that is masked: as asked, whatever the policy, the length of the rows and the stride."""

from pathlib import Path

import numpy as np
import pytest
import torch
from slow_policies import padded_input, random_scores

from epilm.genome.twobit import TwoBit
from epilm.masking.contract import Moment
from epilm.masking.draws import thresholds, words
from epilm.masking.policy import build_policy
from epilm.masking.rates import genemask_rate, genemask_thresholds, kept_centres, span_rate, span_thresholds
from epilm.masking.recipe import DnaMaskConfig
from epilm.ngrams.counts import count_ngrams
from epilm.ngrams.pmi import score_ngrams
from epilm.ngrams.table import KmerScores

START = Moment(0, 1, {})
RATES = (0.10, 0.15, 0.30)
FULL_BP = 515
NUM_ROWS, SHORT_BP = 1200, 80


def probability_of(threshold: int) -> float:
    return (threshold + 2**31) / 2**32


def rows_of(kind: str, dna: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sequences and their lengths: whole windows, GeneMask's mixture (half of them from 10 bp up), or short ones alone."""
    rng = np.random.default_rng(5)
    if kind == "short":
        dna = dna[:, : FULL_BP // SHORT_BP * SHORT_BP].reshape(-1, SHORT_BP)
        return dna, rng.integers(16, SHORT_BP, len(dna))
    whole = np.full(len(dna), FULL_BP)
    return dna, whole if kind == "full" else np.where(
        np.arange(len(dna)) % 2, whole, rng.integers(10, FULL_BP, len(dna))
    )


def masked_share(
    policy: str, rate: float, dna: np.ndarray, length: np.ndarray, stride: int, scores: KmerScores
) -> float:
    batch = padded_input(dna, length, 6, stride)
    config = DnaMaskConfig(policy=policy, rate=rate, table=None if policy == "span" else "scores")
    mask = build_policy(config, scores=scores).mask(batch, START)
    return (mask.sum() / batch.real.sum()).item()


@pytest.fixture(scope="module")
def random_dna() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 4, (NUM_ROWS, FULL_BP), dtype=np.uint8)


@pytest.fixture(scope="module")
def yeast(shared_data: Path) -> tuple[np.ndarray, KmerScores]:
    """Windows of yeast, and the scores of what is counted there."""
    genome = TwoBit(shared_data / "yeast" / "sacCer3.2bit")
    dna = [genome.fetch(i, contig.start_bp, contig.end_bp) for i, contig in enumerate(genome.contigs)]
    joined = np.concatenate([part for codes in dna for part in (codes, [4])]).astype(np.uint8)
    of_six = score_ngrams(count_ngrams(joined, 6), total=float((joined < 4).sum()))[5]
    rank = np.where(of_six.scored, of_six.rank, of_six.scored.sum() + 1).astype(np.int32)
    start = np.random.default_rng(2).integers(0, len(joined) - FULL_BP, NUM_ROWS)
    windows = np.lib.stride_tricks.sliding_window_view(joined, FULL_BP)[start]
    return windows.copy(), KmerScores(6, of_six.count, of_six.npmi, rank, "yeast")


@pytest.mark.parametrize("stride", [1, 6])
@pytest.mark.parametrize("kind", ["full", "half", "short"])
@pytest.mark.parametrize("policy", ["span", "genemask", "global"])
def test_share_of_random_sequence(random_dna, policy, kind, stride):
    for rate in RATES:
        share = masked_share(policy, rate, *rows_of(kind, random_dna), stride, random_scores(6))
        assert share == pytest.approx(rate, abs=0.01)


@pytest.mark.real_data
@pytest.mark.parametrize("stride", [1, 6])
@pytest.mark.parametrize("kind", ["full", "half", "short"])
@pytest.mark.parametrize("policy", ["span", "genemask", "global"])
def test_share_of_a_genome(yeast, policy, kind, stride):
    dna, scores = yeast
    for rate in RATES:
        share = masked_share(policy, rate, *rows_of(kind, dna), stride, scores)
        assert share == pytest.approx(rate, abs=0.01)


@pytest.mark.parametrize("length", [5, 11, 25, 60])
def test_every_length_reaches_the_rate_by_itself(length):
    """Short rows are neither spared nor favoured."""
    rows = 8000
    dna = np.random.default_rng(3).integers(0, 4, (rows, length + 5), dtype=np.uint8)
    for policy in ("span", "genemask", "global"):
        share = masked_share(policy, 0.15, dna, np.full(rows, length + 5), 1, random_scores(6))
        assert share == pytest.approx(0.15, abs=0.012), policy


def test_published_probabilities_are_near_what_the_rate_needs():
    """DNABERT's 0.025 is told to give ~15 % and GeneMask's 0.0176 ~15-17 % (Ji et al. 2021; Roy et al. 2023)."""
    span = probability_of(int(span_thresholds(0.15, None, 6, 1, 510).array[510]))
    genemask = probability_of(int(genemask_thresholds(0.15, None, 6, 1, 510).array[510]))
    assert span == pytest.approx(1 - 0.85 ** (1 / 6), rel=0.01)
    assert 0.025 < span < 0.028
    assert 0.015 < genemask < 0.0176


def test_given_probability_holds_for_every_length():
    table = span_thresholds(0.15, 0.025, 6, 1, 100).array
    assert len(table) == 101
    assert probability_of(int(table[7])) == pytest.approx(0.025, abs=1e-9)
    assert (table == table[0]).all()


@pytest.mark.parametrize("expected", [span_rate, genemask_rate])
def test_expected_share_of_certain_and_of_no_centres(expected):
    assert expected(40, 6, 1)(0.0) == pytest.approx(0)
    assert expected(40, 6, 1)(1.0) == pytest.approx(1)
    assert expected(1, 6, 1)(0.3) == pytest.approx(0.3)


def test_interpolated_lengths_reach_the_rate():
    table = genemask_thresholds(0.15, None, 6, 6, 3000).array
    for length in (3, 47, 133, 700, 2222, 3000):
        assert genemask_rate(length, 6, 6)(probability_of(int(table[length]))) == pytest.approx(0.15, abs=0.002)


@pytest.mark.parametrize("k", [5, 6, 7, 8])
@pytest.mark.parametrize(("table", "expected"), [(span_thresholds, span_rate), (genemask_thresholds, genemask_rate)])
def test_every_length_of_tokens_side_by_side_reaches_the_rate(table, expected, k):
    """Whatever the length leaves over behind the last token, in short rows and in whole windows."""
    wanted = table(0.15, None, k, k, 510).array
    for length in [*range(1, 100), *range(100, 470, 23), *range(510 - k, 511)]:
        share = expected(length, k, k)(probability_of(int(wanted[length])))
        assert share == pytest.approx(0.15, abs=0.002), length


def test_half_of_the_centres_is_kept_from_nine_on():
    numbers = np.arange(13)
    assert kept_centres(numbers).tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 5, 5, 6, 6]
    assert kept_centres(torch.from_numpy(numbers)).tolist() == kept_centres(numbers).tolist()
    assert kept_centres(8) == 8


def test_thresholds_are_probabilities():
    drawn = words(0, 31, torch.arange(500), 2001)
    assert drawn.shape == (500, 2001)
    for probability in (0.0, 0.001, 0.0264, 0.5, 1.0):
        share = (drawn < int(thresholds(probability))).double().mean().item()
        assert share == pytest.approx(probability, abs=4 * np.sqrt(probability * (1 - probability) / 1e6) + 1e-9)
