"""Features of lines against plain loops over genes, tokens and bins."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable
from typing import get_args

import numpy as np
import pytest

from epilm.errors import RecipeError
from epilm.expression import features
from epilm.expression.features import (
    Features,
    contextual_features,
    level_features,
    static_features,
    token_features,
)
from epilm.expression.segments import segment_edges
from epilm.histone.bpe import EncodedLines
from epilm.histone.words import INPUT_LINES, LINES
from epilm.tasks.expression_recipe import Inputs

NUM, NUM_BINS, VOCAB, HIDDEN = 23, 11, 40, 4
MARKS = ("H3K4me3", "H3K27me3", "H3K36me3")
PAD_ID = 39
ALL_INPUTS = get_args(Inputs)


def ragged(seed: int, num: int = NUM, most: int = 4) -> EncodedLines:
    """Random lines, every bin with one token to ``most``."""
    rng = np.random.default_rng(seed)
    tokens_in = rng.integers(1, most + 1, (num, NUM_BINS))
    lengths = tokens_in.sum(axis=1)
    ids = np.full((num, lengths.max()), PAD_ID, np.int32)
    bins = np.full(ids.shape, -1, np.int16)
    for row, length in enumerate(lengths):
        ids[row, :length] = rng.integers(0, VOCAB, length)  # the padding's id among them
        bins[row, :length] = np.repeat(np.arange(NUM_BINS), tokens_in[row])
    return EncodedLines(ids, bins, lengths.astype(np.int32))


@pytest.fixture(scope="module")
def lines() -> dict[str, EncodedLines]:
    return {name: ragged(seed) for seed, name in enumerate(LINES)}


@pytest.fixture(scope="module")
def embedding() -> np.ndarray:
    return np.random.default_rng(9).normal(size=(VOCAB, HIDDEN)).astype(np.float32)


@pytest.fixture(scope="module")
def hidden(lines: dict[str, EncodedLines]) -> dict[str, np.ndarray]:
    """NaN at padding: nobody may read it."""
    rng = np.random.default_rng(10)
    states = {name: rng.normal(size=(*of.ids.shape, HIDDEN)).astype(np.float32) for name, of in lines.items()}
    for name, of in lines.items():
        states[name][of.bins < 0] = np.nan
    return states


@pytest.fixture(scope="module")
def levels() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(11)
    first, second = rng.poisson(3, (2, NUM, NUM_BINS, len(MARKS))).astype(np.float32)
    return first, second


@pytest.fixture(params=[1, 5], ids=["a gene at a time", "five genes at a time"])
def chunk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "_CHUNK", request.param)


def segment_lists(segments: int) -> list[list[int]]:
    edges = segment_edges(NUM_BINS, segments)
    return [list(range(a, b)) for a, b in itertools.pairwise(edges)]


def bin_means(vectors: np.ndarray, bins: np.ndarray, groups: list[list[int]]) -> np.ndarray:
    """Mean over a group's bins of the means over each bin's tokens: [groups, H]."""
    return np.array([np.mean([vectors[bins == b].mean(axis=0) for b in group], axis=0) for group in groups])


def check_columns(got: Features, num: int) -> None:
    width = len(got.names)
    assert got.values.shape == (num, width)
    assert got.values.dtype == np.float32
    assert len(set(got.names)) == width


@pytest.mark.parametrize("inputs", ALL_INPUTS)
@pytest.mark.parametrize("segments", [None, 1, 4, NUM_BINS])
def test_levels(levels, inputs, segments, chunk):
    first, second = levels
    got = level_features(first, second, MARKS, inputs, segments)
    check_columns(got, NUM)
    of = {"first": first, "second": second, "difference": first - second}
    groups = [[b] for b in range(NUM_BINS)] if segments is None else segment_lists(segments)
    assert len(got.names) == len(INPUT_LINES[inputs]) * len(groups) * len(MARKS)
    at = 0
    for line in INPUT_LINES[inputs]:
        for number, group in enumerate(groups):
            for mark, name in enumerate(MARKS):
                expected = [np.mean([gene[b, mark] for b in group]) for gene in of[line]]
                np.testing.assert_allclose(got.values[:, at], expected, rtol=1e-6, atol=1e-7)
                place = f"b{number:03d}" if segments is None else f"s{number:02d}"
                assert got.names[at] == f"{line}.{place}.{name}"
                at += 1


def test_levels_of_whole_numbers_are_kept_as_they_are():
    counts = np.arange(12).reshape(2, 3, 2)
    got = level_features(counts, counts[::-1].copy(), ("a", "b"), "raw")
    np.testing.assert_array_equal(got.values[0], [*range(6), *range(6, 12), *[-6] * 6])


@pytest.mark.parametrize("inputs", ALL_INPUTS)
def test_token_ids(lines, inputs):
    got = token_features(lines, inputs)
    check_columns(got, NUM)
    expected = [
        [
            float(of.ids[gene, t]) if t < of.lengths[gene] else -1.0
            for of in (lines[name] for name in INPUT_LINES[inputs])
            for t in range(of.ids.shape[1])
        ]
        for gene in range(NUM)
    ]
    np.testing.assert_array_equal(got.values, expected)
    assert got.names[1] == f"{INPUT_LINES[inputs][0]}.t0001"


@pytest.mark.parametrize("inputs", ALL_INPUTS)
def test_static_vectors_side_by_side(lines, embedding, inputs, chunk):
    got = static_features(lines, embedding, inputs, NUM_BINS)
    check_columns(got, NUM)
    expected = []
    for gene in range(NUM):
        row: list[np.ndarray] = []
        for of in (lines[name] for name in INPUT_LINES[inputs]):
            for t in range(of.ids.shape[1]):
                row.append(embedding[of.ids[gene, t]] if t < of.lengths[gene] else np.zeros(HIDDEN))
        expected.append(np.concatenate(row))
    np.testing.assert_array_equal(got.values, np.array(expected, np.float32))
    ids = token_features(lines, inputs)
    assert got.names == tuple(f"{name}.e{axis:03d}" for name in ids.names for axis in range(HIDDEN))


@pytest.mark.parametrize("inputs", ALL_INPUTS)
@pytest.mark.parametrize("segments", [1, 4, NUM_BINS])
def test_static_means_over_segments(lines, embedding, inputs, segments, chunk):
    got = static_features(lines, embedding, inputs, NUM_BINS, segments)
    check_columns(got, NUM)
    groups = segment_lists(segments)
    for gene in range(NUM):
        expected = [
            bin_means(embedding[of.ids[gene, : of.lengths[gene]]], of.bins[gene, : of.lengths[gene]], groups)
            for of in (lines[name] for name in INPUT_LINES[inputs])
        ]
        np.testing.assert_allclose(got.values[gene], np.concatenate(expected).ravel(), rtol=1e-5, atol=1e-6)
    assert got.names[-HIDDEN + 2] == f"{INPUT_LINES[inputs][-1]}.s{segments - 1:02d}.e002"


@pytest.mark.parametrize("inputs", ALL_INPUTS)
@pytest.mark.parametrize("segments", [None, 1, 4])
def test_hidden_states_of_bins(lines, hidden, inputs, segments, chunk):
    got = contextual_features(hidden, lines, inputs, NUM_BINS, "bins", segments)
    check_columns(got, NUM)
    groups = [[b] for b in range(NUM_BINS)] if segments is None else segment_lists(segments)
    for gene in range(NUM):
        expected = [
            bin_means(hidden[name][gene], lines[name].bins[gene], groups).ravel() for name in INPUT_LINES[inputs]
        ]
        np.testing.assert_allclose(got.values[gene], np.concatenate(expected), rtol=1e-5, atol=1e-6)
    place = "b001" if segments is None else "s01"
    if len(groups) > 1:
        assert got.names[HIDDEN] == f"{INPUT_LINES[inputs][0]}.{place}.e000"


@pytest.mark.parametrize("inputs", ALL_INPUTS)
def test_hidden_states_of_lines(lines, hidden, inputs, chunk):
    mean, last = (contextual_features(hidden, lines, inputs, NUM_BINS, pooling) for pooling in ("mean", "last"))
    for got, name in ((mean, "mean"), (last, "last")):
        check_columns(got, NUM)
        assert got.names[0] == f"{INPUT_LINES[inputs][0]}.{name}.e000"
    for gene in range(NUM):
        own = [hidden[name][gene, : lines[name].lengths[gene]] for name in INPUT_LINES[inputs]]
        np.testing.assert_allclose(
            mean.values[gene], np.concatenate([h.mean(axis=0) for h in own]), rtol=1e-5, atol=1e-6
        )
        np.testing.assert_array_equal(last.values[gene], np.concatenate([h[-1] for h in own]))


def test_segments_need_pooling_by_bins(lines, hidden):
    with pytest.raises(RecipeError, match="segments=4 need pooling: bins"):
        contextual_features(hidden, lines, "raw", NUM_BINS, "mean", 4)


def test_a_bin_without_a_token_is_a_bug(lines, embedding):
    of = lines["difference"]
    cut = EncodedLines(of.ids[:, :9], of.bins[:, :9], np.minimum(of.lengths, 9).astype(np.int32))
    with pytest.raises(AssertionError, match="a bin without a token"):
        static_features({"difference": cut}, embedding, "raw_d", NUM_BINS, 4)


Make = Callable[[np.ndarray, int], Features]


def makers(lines, embedding, hidden, levels) -> dict[str, Make]:
    """Features of chosen genes, in lines with ``more`` padding behind the end, other ids and numbers in it."""

    def encoded(rows: np.ndarray, more: int) -> dict[str, EncodedLines]:
        grown = {}
        for name, of in lines.items():
            ids = np.pad(of.ids[rows], ((0, 0), (0, more)), constant_values=3)
            bins = np.pad(of.bins[rows], ((0, 0), (0, more)), constant_values=-1)
            if more:
                ids[bins < 0] = 3
            grown[name] = EncodedLines(ids, bins, of.lengths[rows])
        return grown

    def states(rows: np.ndarray, more: int) -> dict[str, np.ndarray]:
        return {name: np.pad(h[rows], ((0, 0), (0, more), (0, 0)), constant_values=1e9) for name, h in hidden.items()}

    first, second = levels
    contextual = {
        pooling: lambda rows, more, pooling=pooling: contextual_features(
            states(rows, more), encoded(rows, more), "raw", NUM_BINS, pooling
        )
        for pooling in ("bins", "mean", "last")
    }
    return {
        "levels": lambda rows, more: level_features(first[rows], second[rows], MARKS, "raw", 4),
        "tokens": lambda rows, more: token_features(encoded(rows, more), "raw"),
        "static": lambda rows, more: static_features(encoded(rows, more), embedding, "raw", NUM_BINS),
        "segments": lambda rows, more: static_features(encoded(rows, more), embedding, "raw", NUM_BINS, 4),
        **contextual,
    }


@pytest.mark.parametrize("kind", ["levels", "tokens", "static", "segments", "bins", "mean", "last"])
def test_a_row_depends_on_its_gene_alone_and_not_on_padding(lines, embedding, hidden, levels, kind):
    make = makers(lines, embedding, hidden, levels)[kind]
    whole = make(np.arange(NUM), 0)
    assert np.isfinite(whole.values).all()
    chosen = np.array([17, 2, 2, 0, 22])
    some = make(chosen, 13)  # tokens of padding are columns behind each line's own
    place = [some.names.index(name) for name in whole.names]
    np.testing.assert_array_equal(some.values[:, place], whole.values[chosen])
    assert some.names == whole.names or kind in ("tokens", "static")
    none = make(np.arange(0), 0)
    assert none.values.shape == (0, len(whole.names))
    assert none.names == whole.names


def test_only_marks_words_and_vectors_enter():
    """No argument through which a target or an expression could come."""
    allowed = {"first", "second", "marks", "lines", "embedding", "hidden"}
    settings = {"inputs", "segments", "num_bins", "pooling"}
    for function in (level_features, token_features, static_features, contextual_features):
        assert set(inspect.signature(function).parameters) <= allowed | settings
