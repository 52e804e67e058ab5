"""The rule of ENCODE-DREAM, on cases whose answer is plain and against a loop over bins."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from epilm.labels.codes import BOUND, EXCLUDED
from epilm.labels.grid import BinGrid, GridContig
from epilm.labels.label_set import LabelSet
from epilm.labels.rule import blacklisted_bins, covered_bins, resized


def label_runs(start, end, contig, *, bin_bp=200, step_bp=50, min_overlap_bp=101):
    """The rule for the peaks of one contig."""
    alone = BinGrid((contig,), bin_bp, step_bp)
    return covered_bins(alone, np.zeros(len(start), np.int64), start, end, min_overlap_bp=min_overlap_bp)


def starts_of(peaks, *, span=(0, 2000), **rule):
    """First bases of the bins that the peaks cover."""
    grid = BinGrid.of_spans([("c", *span)], 200, 50)
    start, end = np.array(peaks, np.int64).reshape(-1, 2).T
    runs = label_runs(start, end, grid.contigs[0], **rule)
    return grid.locate(runs.indices())[1].tolist()


def test_half_of_a_bin_is_not_enough_and_one_base_more_is():
    assert starts_of([(300, 400)]) == []  # 100 bp: no bin can share 101 of them
    assert starts_of([(300, 401)]) == [250, 300]  # 101 bp: the bins that hold all of it: 201 to 300
    assert starts_of([(350, 451)]) == [300, 350]
    assert starts_of([(300, 500)]) == [250, 300, 350]  # 150, 200, 150 bp; 200 and 400 share just 100


def test_the_four_bins_of_a_shifted_peak():
    # 301-501 shares with the bin at 200: 99, 250: 149, 300: 199, 350: 150, 400: 101, 450: 51
    assert starts_of([(301, 501)]) == [250, 300, 350, 400]


def test_touching_peaks_are_not_one():
    assert starts_of([(300, 400), (400, 500)]) == []
    assert starts_of([(300, 401), (401, 500)]) == [250, 300]  # as without the second, which has 99 bp


def test_one_base_is_enough_for_relaxed_peaks():
    assert starts_of([(400, 401)], min_overlap_bp=1) == [250, 300, 350, 400]
    assert starts_of([(399, 400)], min_overlap_bp=1) == [200, 250, 300, 350]


def test_contig_ends():
    assert starts_of([(0, 101)]) == [0]
    assert starts_of([(0, 100)]) == []
    assert starts_of([(1899, 2000)]) == [1800]
    # the last bin of 2,040 bp is 1800-2000: a peak on the odd end covers it by less than half
    assert starts_of([(1901, 2040)], span=(0, 2040)) == []
    assert starts_of([(1899, 5000)], span=(0, 2040)) == [1800]
    assert starts_of([(3000, 3500), (-900, -10)]) == []
    assert starts_of([(-100, 101)]) == [0]


def test_pieces_keep_the_steps_of_the_contig():
    # bins of the piece 1,020-1,700 start at 1050; a peak before them reaches in by 101 bp
    assert starts_of([(900, 1151)], span=(1020, 1700)) == [1050]
    assert starts_of([(900, 1150)], span=(1020, 1700)) == []
    assert starts_of([(0, 5000)], span=(1020, 1300)) == [1050, 1100]


def test_peaks_round_their_summit_or_middle():
    start, end = resized(np.array([500, 500, 500]), np.array([501, 600, 600]), np.array([-1, -1, 10]), resize_bp=200)
    assert list(zip(start.tolist(), end.tolist(), strict=True)) == [(400, 600), (450, 650), (410, 610)]
    start, end = resized(np.array([500]), np.array([501]), np.array([0]), resize_bp=201)
    assert (start.tolist(), end.tolist()) == ([400], [601])  # the base is in the middle, 100 on either side
    assert starts_of([(400, 600)]) == [350, 400, 450]


peaks = st.lists(st.tuples(st.integers(0, 900), st.integers(1, 300)), max_size=8).map(
    lambda rows: [(start, start + length) for start, length in rows]
)


@given(
    peaks, peaks, peaks, st.integers(0, 300), st.integers(0, 800), st.integers(1, 90), st.integers(1, 200), st.data()
)
def test_against_a_loop_over_bins(reference, strong, weak, black, first, length, step_bp, bin_bp, data):
    least = data.draw(st.integers(1, bin_bp))
    span = (first, first + length)
    wanted_starts, wanted = reference(
        span, strong, weak, black, bin_bp=bin_bp, step_bp=step_bp, min_overlap_bp=least
    )  # fmt: skip
    if not wanted:
        return
    # a second contig before it, so that offsets count
    grid = BinGrid.of_spans([("before", 0, 777), ("c", *span)], bin_bp, step_bp)

    def columns(rows):
        start, end = np.array(rows, np.int64).reshape(-1, 2).T
        return np.ones(len(rows), np.int64), start, end

    labels = LabelSet.build(
        grid,
        ["cell"],
        ["TF"],
        bound={("cell", "TF"): covered_bins(grid, *columns(strong), min_overlap_bp=least)},
        ambiguous={("cell", "TF"): covered_bins(grid, *columns(weak), min_overlap_bp=1)},
        excluded=blacklisted_bins(grid, *columns(black)),
    )
    assert labels.dense("c", "cell", "TF").tolist() == wanted
    first_bin, last_bin = grid.range_of("c")
    bins = np.arange(first_bin, last_bin)
    assert grid.locate(bins)[1].tolist() == wanted_starts
    assert labels.codes(bins, np.zeros(len(bins), np.int64))[:, 0].tolist() == wanted
    counts = labels.counts(grid.select(["c"])).iloc[0]
    assert (counts["bound"], counts["excluded"]) == (wanted.count(BOUND), wanted.count(EXCLUDED))


def test_no_bins_no_peaks():
    assert label_runs(np.zeros(0), np.zeros(0), GridContig("c", 0, 5, 0)).size == 0
    assert label_runs(np.array([0]), np.array([500]), GridContig("c", 0, 0, 7)).size == 0


@pytest.mark.parametrize("bin_bp", [100, 50])
def test_a_bin_shorter_than_the_overlap_is_never_bound(bin_bp):
    contig = GridContig("c", 0, 30, 0)
    assert label_runs(np.array([0]), np.array([2000]), contig, bin_bp=bin_bp, min_overlap_bp=101).size == 0
