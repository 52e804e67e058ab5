"""Which bases show which bin, bigWigs and submissions, on literal cases and base by base."""

from __future__ import annotations

import gzip

import numpy as np
import pyBigWig
import pytest

from epilm.labels.grid import BinGrid
from epilm.labels.runs import Runs
from epilm.predict.genome_submission import write_submission
from epilm.predict.genome_tracks import ShownBases, TrackPiece, bigwig_bytes, write_bigwig


def shown(spans, asked=None, *, bin_bp=200, step_bp=50):
    """[(contig, bin start, first base, one past the last)] of the asked bins; all where None."""
    grid = BinGrid.of_spans([(name, *span) for name, span in spans.items()], bin_bp, step_bp)
    asked = grid.all_bins() if asked is None else Runs.of(*np.array(asked).T)
    bins = asked.indices()
    contig, start = grid.locate(bins)
    low, high = ShownBases.of(grid, asked, spans).of_bins(bins, start)
    return list(zip(grid.names[contig], start.tolist(), low.tolist(), high.tolist(), strict=True))


def test_bins_of_a_whole_contig():
    assert shown({"chr1": (0, 330), "chr2": (120, 420)}) == [
        ("chr1", 0, 0, 125),
        ("chr1", 50, 125, 175),
        ("chr1", 100, 175, 330),
        ("chr2", 150, 120, 275),
        ("chr2", 200, 275, 420),
    ]
    assert shown({"chr1": (0, 200)}) == [("chr1", 0, 0, 200)]


def test_bins_of_regions_show_their_own_bases_and_share_what_two_have():
    # bins 2, 3 and 6 of a contig, and the second contig's last: 4 and 5 lie between, whose bases 3 and 6 share
    assert shown({"chr1": (0, 2000), "chr2": (0, 420)}, [(2, 4), (6, 7), (41, 42)]) == [
        ("chr1", 100, 100, 225),
        ("chr1", 150, 225, 325),
        ("chr1", 300, 325, 500),
        ("chr2", 200, 200, 420),
    ]


@pytest.mark.parametrize(("bin_bp", "step_bp"), [(200, 50), (40, 10), (7, 2), (10, 10), (10, 15)])
def test_every_base_shows_the_bin_whose_centre_is_nearest(bin_bp, step_bp):
    start, end = 13, 613
    rows = shown({"c": (start, end)}, bin_bp=bin_bp, step_bp=step_bp)
    assert (rows[0][2], rows[-1][3]) == (start, end)
    assert [row[3] for row in rows[:-1]] == [row[2] for row in rows[1:]]
    centres = np.array([row[1] + bin_bp / 2 for row in rows])
    for _, first, low, high in rows:
        away = np.abs(np.arange(low, high)[:, None] + 0.5 - centres)
        mine = np.abs(np.arange(low, high) + 0.5 - (first + bin_bp / 2))
        assert (mine <= away.min(1) + 1).all()  # odd sizes: half a base either way


def test_a_bigwig_holds_what_was_put_in(tmp_path):
    rng = np.random.default_rng(3)
    # even stretches between two wider ends, a gap, then many short stretches
    edges = [np.array([0, 125]), 125 + 50 * np.arange(1, 40), np.array([2120, 2300])]
    start = np.concatenate([[0], edges[1][:-1], [2075], np.cumsum(rng.integers(30, 90, 50)) + 2500])
    width = np.concatenate([[175], np.full(38, 50), [225], rng.integers(1, 30, 50)])
    pieces = [TrackPiece("chr2", start, start + width, rng.random(len(start), np.float32)) for _ in range(2)]
    pieces[1] = TrackPiece("chr10", pieces[1].start[:40], pieces[1].end[:40], pieces[1].values[:40])
    empty = TrackPiece("chr2", *np.zeros((2, 0), np.int64), np.zeros(0, np.float32))
    path = tmp_path / "x.bw"
    write_bigwig(path, [("chr2", 9000), ("chr1", 5), ("chr10", 4000)], [pieces[0], empty, pieces[1]])
    with pyBigWig.open(str(path)) as track:
        assert list(track.chroms().items()) == [("chr2", 9000), ("chr1", 5), ("chr10", 4000)]
        for piece in pieces:
            expected = np.full(track.chroms(piece.chrom), np.nan, np.float32)
            for low, high, value in zip(piece.start, piece.end, piece.values, strict=True):
                expected[low:high] = value
            np.testing.assert_array_equal(track.values(piece.chrom, 0, len(expected), numpy=True), expected)
        assert track.intervals("chr1") is None


def test_a_bigwig_of_even_bins_stays_within_its_bound(tmp_path):
    num = 200_000
    values = np.random.default_rng(0).random(num, np.float32)  # nothing to compress
    start = np.arange(num) * 50
    write_bigwig(tmp_path / "x.bw", [("c", num * 50)], [TrackPiece("c", start, start + 50, values)])
    assert (tmp_path / "x.bw").stat().st_size < bigwig_bytes(num) / 2


def test_a_submission_is_text_that_says_zero_where_nothing_was_predicted(tmp_path):
    pieces = [
        ("chr1", np.array([0, 50]), np.array([0.25, np.nan], np.float32)),
        ("chr1", np.array([600]), np.array([1e-7], np.float32)),
        ("chr21", np.array([100]), np.array([0.1], np.float32)),
    ]
    for name in ("a", "b"):
        write_submission(tmp_path / name, pieces, bin_bp=200)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    rows = [line.split("\t") for line in gzip.decompress((tmp_path / "a").read_bytes()).decode().splitlines()]
    places = [["chr1", "0", "200"], ["chr1", "50", "250"], ["chr1", "600", "800"], ["chr21", "100", "300"]]
    assert [row[:3] for row in rows] == places
    assert [np.float32(row[3]) for row in rows] == [np.float32(value) for value in (0.25, 0, 1e-7, 0.1)]
