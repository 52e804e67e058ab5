"""Any interval is read exactly, wherever it lies."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from epilm.corpus.gather import ContigReader
from epilm.errors import CorpusError
from epilm.storage import Location

pytestmark = pytest.mark.ray

BIN = 50


def expected(values: np.ndarray, start: int, length: int, fill: float) -> np.ndarray:
    """values[..., start:start+length], padded with ``fill`` where that is outside."""
    result = np.full((*values.shape[:-1], length), fill, values.dtype)
    for i in range(length):
        if 0 <= start + i < values.shape[-1]:
            result[..., i] = values[..., start + i]
    return result


@pytest.mark.parametrize("length", [1, 37, 100, 950, 1000, 2501])
def test_gather_equals_the_files_at_any_place(toy_corpus, length: int) -> None:
    toy = toy_corpus.toy
    rng = np.random.default_rng(length)
    chroms = np.array(["chr1", "chr2", "chr3", "tiny"], object)[rng.integers(0, 4, 40)]
    starts = rng.integers(-1200, 24_500, 40)
    starts[:4] = [-length, 23_456, 0, 999]
    found = ContigReader(toy_corpus.location).gather(chroms, starts, length)
    num_bins = -(-length // BIN) + 1
    assert found.states is not None
    assert found.signals is not None
    assert found.states.shape == (40, 3, num_bins)
    for i, (chrom, start) in enumerate(zip(chroms, starts.tolist(), strict=True)):
        assert np.array_equal(found.dna[i], expected(toy.dna[chrom], start, length, 4))
        assert np.array_equal(found.states[i], expected(toy.states[chrom], start // BIN, num_bins, 255))
        wanted = expected(toy.track[chrom], start // BIN, num_bins, np.nan)
        assert np.allclose(found.signals[i, 0], wanted, equal_nan=True)
        assert found.phase[i] == start - start // BIN * BIN


def test_order_of_the_intervals_is_kept_and_repeats_are_allowed(toy_corpus) -> None:
    reader = ContigReader(str(toy_corpus.location), cached_chunks=1)
    chroms, starts = ["chr2", "chr1", "chr2", "chr2"], np.array([4000, 20_000, 10, 4000])
    found = reader.gather(chroms, starts, 60)
    for i, chrom in enumerate(chroms):
        assert np.array_equal(found.dna[i], toy_corpus.toy.dna[chrom][starts[i] : starts[i] + 60])
    assert len(reader.gather([], np.zeros(0, np.int64), 60).dna) == 0


def test_reader_travels_by_pickle(toy_corpus) -> None:
    reader = ContigReader(toy_corpus.location)
    reader.gather(["chr1"], np.array([2000]), 10)
    copy = pickle.loads(pickle.dumps(reader))
    assert np.array_equal(copy.gather(["chr1"], np.array([2000]), 10).dna[0], toy_corpus.toy.dna["chr1"][2000:2010])


def test_unknown_contig_and_damaged_file_are_named(toy_corpus, corpus_copy) -> None:
    with pytest.raises(CorpusError, match=r"'chrX' is not in the corpus.*chr1, chr2, chr3, tiny"):
        ContigReader(toy_corpus.location).gather(["chrX"], np.array([0]), 10)
    copy = corpus_copy()
    path = Path(copy.path) / "contigs" / "chr2" / "part-00000.parquet"
    data = bytearray(path.read_bytes())
    data[100:200] = bytes(100)
    path.write_bytes(data)
    with pytest.raises(CorpusError, match=r"corrupted shard .*contigs/chr2/part-00000\.parquet"):
        ContigReader(copy).gather(["chr2"], np.array([0]), 10)


def test_no_corpus_is_said(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="does not exist"):
        ContigReader(Location(str(tmp_path / "none")))
