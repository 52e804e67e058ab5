"""Tracks in bins, against a loop over bases."""

from __future__ import annotations

import math
import struct
from pathlib import Path

import numpy as np
import pyBigWig
import pytest
from genome_files import write_bigwig, write_dense_bigwig
from hypothesis import given, settings
from hypothesis import strategies as st

from epilm.errors import GenomeError
from epilm.genome import bigwig
from epilm.genome.bigwig import (
    NanPolicy,
    Statistic,
    TrackSummary,
    bigwig_contigs,
    bigwig_summary,
    bin_track,
    bin_values,
    open_big,
)

NAN = math.nan
LENGTHS = {"chr1": 1013, "chr2": 40, "chr3": 7}


def one_by_one(values: np.ndarray, bin_bp: int, statistic: Statistic, nan_policy: NanPolicy = "keep") -> list[float]:
    """A bin at a time, a base at a time."""
    result = []
    for at in range(0, len(values), bin_bp):
        held = [float(v) for v in values[at : at + bin_bp] if not math.isnan(v)]
        if held:
            result.append({"mean": sum(held) / len(held), "max": max(held), "min": min(held)}[statistic])
        else:
            result.append(0.0 if nan_policy == "zero" else NAN)
    return result


@pytest.fixture(scope="module")
def base_values() -> np.ndarray:
    generator = np.random.default_rng(7)
    values = generator.normal(size=LENGTHS["chr1"]).astype(np.float32)
    values[generator.random(values.size) < 0.3] = np.nan
    values[100:190] = np.nan
    values[-3:] = np.nan
    return values


@pytest.fixture(scope="module")
def track(tmp_path_factory: pytest.TempPathFactory, base_values: np.ndarray) -> str:
    path = tmp_path_factory.mktemp("bigwig") / "x.bw"
    return write_dense_bigwig(path, {"chr1": base_values, "chr2": np.full(40, NAN), "chr3": np.arange(7.0)})


@pytest.mark.parametrize("statistic", ["mean", "max", "min"])
@pytest.mark.parametrize("nan_policy", ["keep", "zero"])
@pytest.mark.parametrize("bin_bp", [1, 10, 25, 64, 1000, 1013, 5000])
@pytest.mark.parametrize(("start", "end"), [(0, 1013), (100, 190), (13, 1000), (1000, 1013), (5, 5)])
def test_every_bin_is_over_its_own_bases(
    track: str,
    base_values: np.ndarray,
    statistic: Statistic,
    nan_policy: NanPolicy,
    bin_bp: int,
    start: int,
    end: int,
) -> None:
    bins = bin_track(track, "chr1", start, end, bin_bp, statistic=statistic, nan_policy=nan_policy)
    expected = one_by_one(base_values[start:end], bin_bp, statistic, nan_policy)
    assert bins.dtype == np.float32
    assert bins.shape == (-(-(end - start) // bin_bp),)
    np.testing.assert_allclose(bins, np.array(expected, np.float32), rtol=1e-6, atol=1e-7)


def test_the_same_by_stretches_that_fit_in_memory(
    track: str, base_values: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = bin_track(track, "chr1", 7, 1013, 30)
    monkeypatch.setattr(bigwig, "_BLOCK_BP", 100)
    np.testing.assert_array_equal(bin_track(track, "chr1", 7, 1013, 30), whole)
    np.testing.assert_array_equal(
        bin_track(track, "chr1", 0, 1013, 500), np.array(one_by_one(base_values, 500, "mean"), np.float32)
    )


def test_means_are_those_of_stats_exact(track: str) -> None:
    with pyBigWig.open(track) as handle:
        expected = [handle.stats("chr1", s, s + 50, exact=True)[0] for s in range(0, 1000, 50)]
    np.testing.assert_allclose(bin_track(track, "chr1", 0, 1000, 50), np.array(expected, float), rtol=1e-5)


def test_literal_bins(tmp_path: Path) -> None:
    path = write_bigwig(tmp_path / "x.bw", {"c": 10}, [("c", 0, 2, 4), ("c", 3, 4, 1), ("c", 8, 10, 2)])
    np.testing.assert_array_equal(bin_track(path, "c", 0, 10, 4), [3, NAN, 2])
    np.testing.assert_array_equal(bin_track(path, "c", 0, 10, 4, nan_policy="zero"), [3, 0, 2])
    np.testing.assert_array_equal(bin_track(path, "c", 0, 10, 4, statistic="max"), [4, NAN, 2])
    np.testing.assert_array_equal(bin_track(path, "c", 0, 10, 4, statistic="min"), [1, NAN, 2])
    np.testing.assert_array_equal(bin_track(path, "c", 0, 9, 4), [3, NAN, 2])  # a last bin of one base


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.one_of(st.just(NAN), st.floats(-1000, 1000, width=32)), max_size=40),
    st.integers(1, 12),
    st.sampled_from(["mean", "max", "min"]),
)
def test_bin_values(values: list[float], bin_bp: int, statistic: Statistic) -> None:
    array = np.array(values, np.float32)
    expected = np.array(one_by_one(array, bin_bp, statistic), np.float32)
    np.testing.assert_allclose(bin_values(array, bin_bp, statistic), expected, rtol=1e-5, atol=1e-4)


def test_long_sums_keep_their_precision() -> None:
    values = np.full(1 << 20, np.float32(0.1))
    assert bin_values(values, values.size, "mean").tolist() == [float(np.float32(0.1))]


def test_contigs_and_those_without_any_value(track: str, tmp_path: Path) -> None:
    assert bigwig_contigs(track) == LENGTHS
    assert np.isnan(bin_track(track, "chr2", 0, 40, 8)).all()
    empty = write_bigwig(tmp_path / "e.bw", {"chr1": 50}, [])
    assert bin_track(empty, "chr1", 0, 50, 20, nan_policy="zero").tolist() == [0, 0, 0]


def test_a_summary_is_not_rounded(tmp_path: Path) -> None:
    path = str(tmp_path / "s.bw")
    with pyBigWig.open(path, "w") as track:
        track.addHeader([("I", 100)])
        track.addEntries(["I", "I"], [3, 10], ends=[5, 20], values=[0.25, -0.5])
    assert bigwig_summary(path) == TrackSummary(12, -0.5, 2 * 0.25**2 + 10 * 0.5**2)


def test_what_is_not_in_the_track(track: str) -> None:
    with pytest.raises(GenomeError, match=r"x\.bw has no contig '1'; it has chr1, chr2, chr3"):
        bin_track(track, "1", 0, 10, 5)
    for start, end in ((0, 1014), (-1, 5), (6, 5)):
        with pytest.raises(GenomeError, match=r"chr1:-?\d+-\d+ is not within the contig's 1,013 bp"):
            bin_track(track, "chr1", start, end, 5)
    with pytest.raises(GenomeError, match="bin_bp=0: bins need at least 1 bp"):
        bin_track(track, "chr1", 0, 10, 0)


@pytest.mark.parametrize("zooms", [0, 10])
def test_a_truncated_track_is_refused_or_loses_nothing(tmp_path: Path, zooms: int) -> None:
    entries = [("chr1", i, i + 3, float(i)) for i in range(0, 4000, 5)]
    path = tmp_path / "x.bw"
    write_bigwig(path, {"chr1": 5000}, entries, zooms=zooms)
    data, whole = path.read_bytes(), bin_track(path, "chr1", 0, 5000, 10)
    index = struct.unpack_from("<Q", data, 24)[0]
    for size in range(4, index + 1, 41):
        path.write_bytes(data[:size])
        with pytest.raises(GenomeError, match=r"truncated.*Get "):
            bin_track(path, "chr1", 0, 5000, 10)
    for size in [*range(index + 1, len(data), 41), len(data) - 1]:
        path.write_bytes(data[:size])
        try:  # nothing that a bin needs lies behind the last index
            np.testing.assert_array_equal(bin_track(path, "chr1", 0, 5000, 10), whole)
        except GenomeError:
            continue


def test_a_track_that_ends_before_its_zoom_levels_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.bw"
    write_bigwig(path, {"chr1": 5000}, [("chr1", i, i + 3, float(i)) for i in range(0, 4000, 5)])
    data = path.read_bytes()
    assert struct.unpack_from("<H", data, 6)[0] >= 1
    zoom_index = struct.unpack_from("<Q", data, 64 + 16)[0]
    path.write_bytes(data[:zoom_index])
    with pytest.raises(GenomeError, match=r"x\.bw is truncated: its [\d,]+ bytes end before its index"):
        bin_track(path, "chr1", 0, 5000, 10)


def test_damaged_data_is_told_by_its_file(tmp_path: Path) -> None:
    path = tmp_path / "x.bw"
    write_bigwig(path, {"chr1": 5000}, [("chr1", i, i + 3, float(i)) for i in range(0, 4000, 5)])
    data = bytearray(path.read_bytes())
    start = struct.unpack_from("<Q", data, 16)[0]
    data[start + 10 : start + 60] = bytes(50)
    path.write_bytes(data)
    with pytest.raises(GenomeError, match=r"x\.bw is truncated or damaged: .*Get the bigWig file again"):
        bin_track(path, "chr1", 0, 5000, 10)


def test_a_bigbed_is_no_track(tmp_path: Path) -> None:
    path = tmp_path / "x.track"
    path.write_bytes(bytes.fromhex("ebf28987") + bytes(90))
    with pytest.raises(GenomeError, match="is not a bigWig file, its content is bigBed"), open_big(path, "bigWig"):
        pass
