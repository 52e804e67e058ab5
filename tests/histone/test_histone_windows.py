"""Bins round a TSS: where they lie on both strands, and what they hold, against a loop over bases."""

from __future__ import annotations

import math

import numpy as np
import pyBigWig
import pytest

from epilm.config import parse_recipe
from epilm.errors import GenomeError, RecipeError
from epilm.genome.bigwig import open_big
from epilm.histone import windows
from epilm.histone.recipe import BinConfig
from epilm.histone.windows import bin_bases, group_windows, mark_values, read_bases, window_starts

LENGTH_BP = 3_000


def write_track(path, values, contig="chr1"):
    """A bigWig of single bases; NaN bases are left out."""
    kept = np.flatnonzero(~np.isnan(values))
    with pyBigWig.open(str(path), "w") as track:
        track.addHeader([(contig, len(values))])
        track.addEntries(contig, kept.tolist(), values=values[kept].astype(float).tolist(), span=1)
    return str(path)


def slow_bins(values, tss, strand, config):
    """One gene's bins, a base at a time, in the direction of transcription. Bases outside the contig are not there."""
    step = 1 if strand == "+" else -1
    result = []
    for number in range(config.num_bins):
        first = (number - config.num_bins // 2) * config.bin_bp
        held = []
        for offset in range(first, first + config.bin_bp):
            place = tss + step * offset
            value = float(values[place]) if 0 <= place < len(values) else math.nan
            if not math.isnan(value):
                held.append(value)
            elif config.missing != "skip":
                held.append(0.0)
        of = {"sum": math.fsum, "mean": lambda h: math.fsum(h) / len(h), "max": max}[config.statistic]
        value = of(held) if held else 0.0
        result.append(float(round(value)) if config.round else value)
    return result


def read(path, tss, plus, config, contig="chr1"):
    starts = window_starts(np.asarray(tss), np.asarray(plus), config.window_bp)
    order = np.argsort(starts, kind="stable")
    with open_big(path, "bigWig") as track:
        sorted_values = mark_values(track, contig, starts[order], np.asarray(plus)[order], config, source="toy.bw")
    values = np.empty_like(sorted_values)
    values[order] = sorted_values
    return values


@pytest.fixture
def values() -> np.ndarray:
    rng = np.random.default_rng(1)
    values = rng.gamma(1.0, 3.0, LENGTH_BP).astype(np.float32)
    values[rng.random(LENGTH_BP) < 0.2] = np.nan
    values[900:1130] = np.nan
    values[2000:2100] = 0
    return values


@pytest.fixture
def genes() -> tuple[np.ndarray, np.ndarray]:
    """Windows that overlap, that leave the contig at both ends, and one that lies apart; both strands."""
    tss = np.array([0, 10, 299, 300, 301, 301, 1000, 1001, 1400, 2050, 2050, 2995, 2999])
    plus = np.array([True, False, False, True, True, False, True, False, True, True, False, True, False])
    return tss, plus


def test_where_windows_begin():
    starts = window_starts(np.array([1000, 1000, 5]), np.array([True, False, False]), 200)
    assert starts.tolist() == [900, 901, -94]


@pytest.mark.parametrize(("strand", "upstream"), [("+", 499), ("-", 501)])
def test_the_tss_is_the_first_base_of_the_middle_bin(tmp_path, strand, upstream):
    values = np.full(1000, np.nan, np.float32)
    values[500] = 7
    values[upstream] = 3
    path = write_track(tmp_path / "a.bw", values)
    binned = read(path, [500], [strand == "+"], BinConfig(bin_bp=10, num_bins=6))
    assert binned.tolist() == [[0, 0, 3, 7, 0, 0]]
    # the last base of a bin is bin_bp - 1 downstream of its first
    step = 1 if strand == "+" else -1
    values[500 + step * 9] = 2
    values[500 + step * 10] = 5
    values[500 - step * 30] = 4
    values[500 - step * 31] = 100
    values[500 + step * 29] = 6
    values[500 + step * 30] = 100
    path = write_track(tmp_path / "b.bw", values)
    binned = read(path, [500], [strand == "+"], BinConfig(bin_bp=10, num_bins=6))
    assert binned.tolist() == [[4, 0, 3, 9, 5, 6]]


@pytest.mark.parametrize(
    "settings",
    [
        {"statistic": "sum"},
        {"statistic": "sum", "round": True},
        {"statistic": "mean"},
        {"statistic": "mean", "missing": "skip"},
        {"statistic": "max"},
        {"statistic": "sum", "bin_bp": 1, "num_bins": 2},
        {"statistic": "mean", "missing": "skip", "bin_bp": 37, "num_bins": 4},
    ],
    ids=lambda settings: "-".join(map(str, settings.values())),
)
def test_bins_are_those_of_a_loop_over_bases(tmp_path, values, genes, settings):
    config = BinConfig(**{"bin_bp": 100, "num_bins": 6} | settings)
    path = write_track(tmp_path / "toy.bw", values)
    tss, plus = genes
    got = read(path, tss, plus, config)
    expected = [slow_bins(values, t, "+" if p else "-", config) for t, p in zip(tss.tolist(), plus, strict=True)]
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-6)
    assert np.any(got == 0)
    assert np.any(got > 0)


def test_values_do_not_depend_on_what_is_read_together(tmp_path, values, genes, monkeypatch):
    config = BinConfig(bin_bp=100, num_bins=6, statistic="mean")
    path = write_track(tmp_path / "toy.bw", values)
    tss, plus = genes
    together = read(path, tss, plus, config)
    alone = np.concatenate([read(path, tss[i : i + 1], plus[i : i + 1], config) for i in range(len(tss))])
    assert np.array_equal(together, alone)
    monkeypatch.setattr(windows, "_STRETCH_BP", 512)
    monkeypatch.setattr(windows, "_GAP_BP", 0)
    monkeypatch.setattr(windows, "_BASES_AT_A_TIME", 1200)
    assert np.array_equal(read(path, tss, plus, config), together)


def test_windows_are_grouped_where_they_overlap_or_nearly():
    gap = windows._GAP_BP
    starts = np.array([0, 0, 100, 200 + gap, 301 + gap + 3 * gap, 302 + gap + 3 * gap])
    assert group_windows(starts, 100) == [(0, 4), (4, 6)]
    assert group_windows(np.array([0, 100 + gap]), 100) == [(0, 2)]
    assert group_windows(np.array([0, 101 + gap]), 100) == [(0, 1), (1, 2)]
    assert group_windows(np.array([7]), 100) == [(0, 1)]
    assert group_windows(np.array([], np.int64), 100) == []
    # a whole chromosome of overlapping windows is not held at once
    dense = np.arange(0, 3 * windows._STRETCH_BP, 1000)
    groups = group_windows(dense, 20_000)
    assert [first for first, _ in groups] == [0, 4195, 8389]
    assert groups[-1][1] == len(dense)


class Counted:
    """An open track that notes what is read of it."""

    def __init__(self, track):
        self.track, self.reads = track, []

    def chroms(self, contig):
        return self.track.chroms(contig)

    def values(self, contig, start, end, numpy):
        self.reads.append((start, end))
        return self.track.values(contig, start, end, numpy=numpy)


def test_what_lies_between_distant_windows_is_not_read(tmp_path):
    path = tmp_path / "far.bw"
    with pyBigWig.open(str(path), "w") as track:
        track.addHeader([("chr1", 50_000_000)])
        track.addEntries("chr1", [1_000, 40_000_000], values=[1.0, 2.0], span=1)
    config = BinConfig(bin_bp=100, num_bins=4)
    starts = window_starts(np.array([1_000, 1_100, 40_000_000]), np.array([True] * 3), config.window_bp)
    with open_big(path, "bigWig") as track:
        counted = Counted(track)
        values = mark_values(counted, "chr1", starts, np.array([True] * 3), config, source="far.bw")
    assert values.tolist() == [[0, 0, 1, 0], [0, 1, 0, 0], [0, 0, 2, 0]]
    assert counted.reads == [(800, 1_300), (39_999_800, 40_000_200)]


def test_bases_outside_the_contig_have_no_value(tmp_path):
    path = write_track(tmp_path / "toy.bw", np.arange(5, dtype=np.float32))
    with open_big(path, "bigWig") as track:
        assert np.array_equal(read_bases(track, "chr1", -2, 7), [np.nan] * 2 + [0, 1, 2, 3, 4] + [np.nan] * 2, True)
        assert np.isnan(read_bases(track, "chr1", 5, 8)).all()
        assert np.isnan(read_bases(track, "chr1", -4, 0)).all()


def test_rounding_is_to_the_even_whole_number():
    config = BinConfig(bin_bp=2, num_bins=4, statistic="mean", round=True)
    bases = np.array([[0, 1, 1, 2, 2, 3, 0.2, 0.6]], np.float32)
    assert bin_bases(bases, config).tolist() == [[0, 2, 2, 0]]


def test_sums_are_in_double_precision():
    config = BinConfig(bin_bp=3, num_bins=2)
    bases = np.array([[2**24, 1, 1, 0, 0, 0]], np.float32)  # float32 would lose both ones
    assert bin_bases(bases, config).tolist() == [[2**24 + 2, 0]]


def test_negative_and_infinite_values_are_refused_where_windows_hold_them(tmp_path, values):
    config = BinConfig(bin_bp=100, num_bins=2)
    values[1300] = -0.5
    path = write_track(tmp_path / "toy.bw", values)
    # read in one go with what lies between them, but in neither window
    read(path, [1200, 1401], [True, True], config)
    with pytest.raises(GenomeError, match=r"toy\.bw: chr1:1,301 has the value -0\.5"):
        read(path, [1200, 1400], [True, True], config)
    values[1300] = np.inf
    path = write_track(tmp_path / "infinite.bw", values)
    with pytest.raises(GenomeError, match=r"chr1:1,301 has the value inf"):
        read(path, [1299], [False], config)


def test_bases_without_a_value_are_refused_where_asked(tmp_path):
    values = np.ones(1000, np.float32)
    values[[300, 301]] = np.nan
    path = write_track(tmp_path / "toy.bw", values)
    config = BinConfig(bin_bp=100, num_bins=2, missing="error")
    # off the contig there is nothing that could be missing
    assert read(path, [50, 999, 500], [True, True, False], config).tolist() == [[50, 100], [100, 1], [100, 100]]
    with pytest.raises(
        GenomeError, match=r"toy\.bw: chr1:301 has no value, nor have 1 other bases.*Set missing to zero"
    ):
        read(path, [400], [True], config)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_bins": 201}, r"num_bins=201 is odd.*Try 202"),
        ({"missing": "skip"}, r"missing: skip makes no difference to a sum"),
        ({"missing": "skip", "statistic": "max"}, r"no difference to a max"),
        ({"bin_bp": 0}, r"bin_bp"),
        ({"statistic": "median"}, r"'sum', 'mean' or 'max'"),
    ],
)
def test_settings_that_cannot_be(settings, message):
    with pytest.raises(RecipeError, match=message):
        parse_recipe(BinConfig, settings)
