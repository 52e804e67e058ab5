"""Where bins lie: whole, on the steps, and numbered through contigs and pieces of contigs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from epilm.errors import CorpusError, RecipeError
from epilm.labels.grid import BinGrid
from epilm.labels.runs import Runs


def test_literal_grid(make_manifest):
    # c is a piece that starts off the steps; short and none are too short for a bin
    grid = BinGrid.of(make_manifest({"a": (0, 301), "short": (0, 199), "c": (120, 575), "none": (10, 210)}))
    assert [(c.name, c.first_bp, c.num_bins, c.offset) for c in grid.contigs] == [
        ("a", 0, 3, 0), ("short", 0, 0, 3), ("c", 150, 5, 3), ("none", 50, 0, 8),
    ]  # fmt: skip
    contig, start = grid.locate(np.arange(8))
    assert contig.tolist() == [0, 0, 0, 2, 2, 2, 2, 2]
    assert start.tolist() == [0, 50, 100, 150, 200, 250, 300, 350]
    assert grid.range_of("c") == (3, 8)
    assert grid.range_of("short") == (3, 3)
    assert grid.select(["c", "none"]).indices().tolist() == [3, 4, 5, 6, 7]
    assert grid.index("c", np.array([100, 120, 150, 151, 350, 400, -50])).tolist() == [-1, -1, 3, -1, 7, -1, -1]
    chroms = np.array(["a", "c", "b", "short"], object)
    assert grid.index(chroms, np.array([50, 200, 0, 0])).tolist() == [1, 4, -1, -1]
    pieces = grid.split(Runs.of(np.array([1]), np.array([5])))
    assert [column.tolist() for column in pieces] == [[0, 2], [50, 150], [2, 2]]


@given(
    st.lists(st.tuples(st.integers(0, 400), st.integers(1, 900)), min_size=1, max_size=4),
    st.integers(1, 120),
    st.integers(1, 60),
)
def test_bins_are_those_that_a_loop_finds(pieces, bin_bp, step_bp):
    spans = [(f"c{i}", start, start + length) for i, (start, length) in enumerate(pieces)]
    wanted = [
        (i, b)
        for i, (_, start, end) in enumerate(spans)
        for b in range(0, end, step_bp)
        if b >= start and b + bin_bp <= end
    ]
    if not wanted:
        with pytest.raises(RecipeError, match="no contig holds a bin"):
            BinGrid.of_spans(spans, bin_bp, step_bp)
        return
    grid = BinGrid.of_spans(spans, bin_bp, step_bp)
    assert grid.num_bins == len(wanted)
    index = np.arange(grid.num_bins)
    contig, start = grid.locate(index)
    assert list(zip(contig.tolist(), start.tolist(), strict=True)) == wanted
    assert grid.index(grid.names[contig], start).tolist() == index.tolist()
    assert grid.index(grid.names[contig], start + 1).tolist() == [
        wanted.index((i, b + 1)) if (i, b + 1) in wanted else -1 for i, b in wanted
    ]
    assert grid.place(*grid.split(grid.all_bins())) == grid.all_bins()


def test_stretches_are_cut_to_the_bins_there_are(make_manifest):
    grid = BinGrid.of(make_manifest({"a": (0, 500), "c": (1000, 1400)}))
    assert grid.num_bins == 7 + 5
    placed = grid.place(np.array([0, 1, 1, -1]), np.array([300, 900, 1200, 0]), np.array([9, 4, 1, 5]))
    assert placed.indices().tolist() == [6, 7, 8, 11]


def test_unknown_contigs_and_bins(make_manifest):
    grid = BinGrid.of(make_manifest({"a": (0, 500)}))
    with pytest.raises(CorpusError, match=r"contig .b. is not in the corpus"):
        grid.select(["b"])
    with pytest.raises(IndexError, match="grid of 7"):
        grid.locate(np.array([7]))
