"""Tiles hold each token of their intervals once, and begin where the strand says."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from epilm.predict.tiles import count_tokens, genomic_starts, plan_tiles, span_bp


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
