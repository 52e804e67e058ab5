"""Tiles cover each token once, and a reversed window says the same of every base."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from epilm.predict.tiles import (
    count_tokens,
    genomic_starts,
    orient_bins,
    orient_dna,
    plan_tiles,
    span_bp,
)


@given(st.lists(st.integers(1, 700), min_size=1, max_size=12), st.integers(1, 150))
@settings(max_examples=60, deadline=None)
def test_tiles_hold_each_token_once(counts, max_tokens):
    tiles = plan_tiles(np.array(counts), max_tokens)
    for row, count in enumerate(counts):
        mine = tiles.interval == row
        kept = [
            np.arange(first + skip, first + num)
            for first, num, skip in zip(tiles.first_token[mine], tiles.num_tokens[mine], tiles.skip[mine], strict=True)
        ]
        assert np.concatenate(kept).tolist() == list(range(count))
        if count > max_tokens:
            assert set(tiles.num_tokens[mine]) == {max_tokens}  # every window of a long interval is full


def test_tiles_literal():
    tiles = plan_tiles(np.array([3, 10]), 4)
    assert tiles.interval.tolist() == [0, 1, 1, 1]
    assert tiles.first_token.tolist() == [0, 0, 4, 6]
    assert tiles.num_tokens.tolist() == [3, 4, 4, 4]
    assert tiles.skip.tolist() == [0, 0, 0, 2]


def test_token_counts():
    assert count_tokens(np.array([6, 7, 13, 14, 1000]), k=7, stride=7).tolist() == [0, 1, 1, 2, 142]
    assert span_bp(142, k=7, stride=7) == 994
    assert span_bp(994, k=7, stride=1) == 1000


def test_genomic_starts_on_both_strands():
    starts = genomic_starts(
        np.array([100, 100]), np.array([200, 200]), np.array([False, True]), np.array([2, 2]), stride=7, length_bp=21
    )
    assert starts.tolist() == [114, 200 - 14 - 21]


def test_orient_dna_is_an_involution():
    dna = np.random.default_rng(0).integers(0, 5, (6, 33), dtype=np.uint8)
    reverse = np.array([True, False] * 3)
    once = orient_dna(dna, reverse)
    assert np.array_equal(orient_dna(once, reverse), dna)
    assert np.array_equal(once[1], dna[1])
    assert orient_dna(np.array([[0, 1, 2, 3, 4]], np.uint8), np.array([True])).tolist() == [[4, 0, 1, 2, 3]]


@pytest.mark.parametrize("bin_bp", [1, 3, 75, 200])
@pytest.mark.parametrize("length_bp", [1, 7, 149, 200, 994])
def test_reversed_bins_say_the_same_of_every_base(bin_bp, length_bp):
    """Against per-base strings written out one at a time, for every phase."""
    rng = np.random.default_rng(length_bp * 1000 + bin_bp)
    phases = np.arange(bin_bp)
    num_bins = -(-length_bp // bin_bp) + 1
    bins = rng.integers(0, 250, (bin_bp, 2, num_bins), dtype=np.uint8)
    reverse = rng.random(bin_bp) < 0.7
    oriented, phase = orient_bins(bins, phases, reverse, length_bp=length_bp, bin_bp=bin_bp, no_data=255)
    assert oriented.dtype == np.uint8
    assert ((phase >= 0) & (phase < bin_bp)).all()
    for row in range(bin_bp):
        for cell in range(2):
            bases = [int(bins[row, cell, (phases[row] + i) // bin_bp]) for i in range(length_bp)]
            expected = bases[::-1] if reverse[row] else bases
            assert [int(oriented[row, cell, (phase[row] + j) // bin_bp]) for j in range(length_bp)] == expected
