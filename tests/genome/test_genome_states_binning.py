"""Segments to bins, against a loop over bases."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from epilm.genome.states.binning import NO_STATE, Segments, bin_segments, run_lengths

CELLS = st.lists(
    st.lists(st.tuples(st.integers(0, 5), st.integers(1, 9), st.integers(0, 3)), max_size=12), min_size=1, max_size=3
)


def segments_of(cells: list[list[tuple[int, int, int]]]) -> Segments:
    """(gap before, width, state) of each segment in turn."""
    columns, first = [], [0]
    for cell in cells:
        at = 0
        for gap, width, state in cell:
            columns.append((at + gap, at + gap + width, state))
            at += gap + width
        first.append(len(columns))
    start, end, state = np.array(columns, np.int64).reshape(-1, 3).T
    return Segments(np.array(first), start, end, state.astype(np.uint8))


def a_base_at_a_time(segments: Segments, start_bp: int, end_bp: int, bin_bp: int) -> list[list[int]]:
    """Each bin's commonest state; no data loses a tie, then the lower state wins."""
    result = []
    for cell in range(segments.num_cells):
        bases = {}
        for row in range(segments.first[cell], segments.first[cell + 1]):
            for base in range(segments.start[row], segments.end[row]):
                bases[base] = int(segments.state[row])
        line = []
        for at in range(start_bp, end_bp, bin_bp):
            held = Counter(bases.get(base, NO_STATE) for base in range(at, min(at + bin_bp, end_bp)))
            line.append(min(held, key=lambda state: (-held[state], state)))
        result.append(line)
    return result


@settings(max_examples=300, deadline=None)
@given(CELLS, st.integers(1, 9), st.integers(0, 6), st.integers(1, 80))
def test_the_state_that_covers_most_of_a_bin_wins(
    cells: list[list[tuple[int, int, int]]], bin_bp: int, first_bin: int, length_bp: int
) -> None:
    segments = segments_of(cells)
    start = first_bin * bin_bp
    bins = bin_segments(segments, start, start + length_bp, bin_bp)
    assert bins.dtype == np.uint8
    assert bins.tolist() == a_base_at_a_time(segments, start, start + length_bp, bin_bp)


def test_literal_bins() -> None:
    segments = segments_of([[(0, 6, 2), (0, 4, 1), (5, 5, 0)], [(0, 10, 3)]])  # 2 to 6, 1 to 10, nothing to 15, 0 to 20
    assert bin_segments(segments, 0, 20, 10).tolist() == [[2, 0], [3, NO_STATE]]
    assert bin_segments(segments, 0, 20, 4).tolist() == [[2, 1, 1, NO_STATE, 0], [3, 3, 3, NO_STATE, NO_STATE]]
    assert bin_segments(segments, 4, 9, 2).tolist() == [[2, 1, 1], [3, 3, 3]]


def test_the_last_bin_is_decided_by_the_bases_that_exist() -> None:
    segments = segments_of([[(0, 10, 1), (0, 10, 2)]])
    assert bin_segments(segments, 8, 13, 8).tolist() == [[2]]
    assert bin_segments(segments, 8, 11, 8).tolist() == [[1]]


def test_nothing_to_bin() -> None:
    assert bin_segments(segments_of([[], []]), 0, 10, 4).tolist() == [[NO_STATE] * 3] * 2
    assert bin_segments(segments_of([[(0, 5, 1)]]), 5, 5, 5).shape == (1, 0)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 2)))
def test_run_lengths(values: list[int]) -> None:
    first, last = run_lengths(np.array(values, np.int64))
    joined = [values[s] for s, e in zip(first, last, strict=True) for _ in range(s, e)]
    assert joined == values
    assert all(values[a] != values[b] for a, b in itertools.pairwise(first))
