"""Embeddings of intervals against a reference that walks one base at a time."""

from __future__ import annotations

import numpy as np
import pytest
from slow_reference import reference

from epilm.corpus.gather import ContigReader
from epilm.predict.encode import Intervals, encode_intervals
from epilm.predict.load import load_model
from epilm.storage import Location


def columns(intervals):
    chrom, start, end, strand = zip(*intervals, strict=True)
    return Intervals(np.array(chrom, object), np.array(start), np.array(end), np.array(strand) == "-")


# short, exactly one window, several windows, off both ends of a contig, across an N gap, at a bin's edge
INTERVALS = [
    ("chr1", 100, 190, "+"),
    ("chr1", 100, 190, "-"),
    ("chr2", 33, 80, "-"),
    ("chr1", 401, 688, "-"),
    ("chr1", 395, 800, "+"),
    ("chr1", -37, 50, "+"),
    ("chr1", -37, 150, "-"),
    ("chr2", 1150, 1240, "-"),
    ("chr2", 1100, 1300, "."),
    ("chr2", 40, 44, "-"),
]


@pytest.mark.parametrize(
    ("k", "stride", "states", "batch_size"),
    [(3, 3, True, 1), (3, 3, False, 64), (4, 1, True, 7), (5, 2, True, 64), (5, 2, False, 7), (8, 3, True, 5)],
)
def test_mean_and_tokens_equal_the_slow_reference(toy_corpus, make_model, k, stride, states, batch_size):
    loaded = load_model(Location(str(make_model(k=k, stride=stride, states=states))))
    reader = ContigReader(Location(str(toy_corpus.folder)))
    cells = (2, 0) if states else ()
    chosen = [interval for interval in INTERVALS if interval[2] - interval[1] >= k]
    arguments = {"cells": cells, "batch_size": batch_size}
    mean = encode_intervals(loaded, reader, columns(chosen), pooling="mean", **arguments)
    tokens = encode_intervals(loaded, reader, columns(chosen), pooling="tokens", **arguments)
    assert mean.values.dtype == tokens.values.dtype == np.float32
    row = 0
    for index, interval in enumerate(chosen):
        for cell in cells or (0,):
            hidden, _, known = reference(loaded, toy_corpus, interval, cell)
            assert mean.num_known[index] == known.sum()
            np.testing.assert_allclose(mean.values[row], hidden[known].mean(0), atol=2e-5)
            got = tokens.values[tokens.offsets[row] : tokens.offsets[row + 1]]
            np.testing.assert_allclose(got, hidden, atol=2e-5)
            row += 1
    assert row == len(mean.values) == len(tokens.offsets) - 1


def test_cls(toy_corpus, ebert_folder):
    loaded = load_model(Location(str(ebert_folder)))
    reader = ContigReader(Location(str(toy_corpus.folder)))
    short = [interval for interval in INTERVALS if interval[2] - interval[1] <= 90]
    encoded = encode_intervals(loaded, reader, columns(short), cells=(1,), pooling="cls", batch_size=3)
    for values, interval in zip(encoded.values, short, strict=True):
        np.testing.assert_allclose(values, reference(loaded, toy_corpus, interval, 1)[1], atol=2e-5)


def test_strand_and_state_matter(toy_corpus, ebert_folder):
    """The two strands, and two cells, of one locus differ: the reference test would pass on a model that is deaf."""
    loaded = load_model(Location(str(ebert_folder)))
    reader = ContigReader(Location(str(toy_corpus.folder)))
    both = columns(INTERVALS[:2])
    values = encode_intervals(loaded, reader, both, cells=(0, 2), pooling="mean", batch_size=8).values
    assert np.abs(values[0] - values[1]).max() > 1e-2
    assert np.abs(values[0] - values[2]).max() > 1e-2


def test_interval_without_known_dna_is_nan_and_leaves_others_alone(toy_corpus, dbert_folder):
    loaded = load_model(Location(str(dbert_folder)))
    reader = ContigReader(Location(str(toy_corpus.folder)))
    intervals = columns([("chr1", 510, 600, "+"), ("chr1", 5000, 5300, "-"), ("chr1", 100, 190, "+")])
    encoded = encode_intervals(loaded, reader, intervals, cells=(), pooling="mean", batch_size=2)
    assert encoded.num_known.tolist() == [0, 0, 30]
    assert np.isnan(encoded.values).all(axis=1).tolist() == [True, True, False]


def test_bfloat16_is_close(toy_corpus, ebert_folder):
    reader = ContigReader(Location(str(toy_corpus.folder)))
    exact, rough = (
        encode_intervals(
            load_model(Location(str(ebert_folder)), dtype=dtype),
            reader,
            columns(INTERVALS),
            cells=(0,),
            pooling="mean",
            batch_size=4,
        ).values
        for dtype in ("float32", "bfloat16")
    )
    assert 0 < np.abs(exact - rough).max() < 0.1
